"""The door to libvirt. The agent keeps a host's first connection, on which it hears events; whoever
else in its process talks to that host gets one for its thread.

One thread per connection, because libvirt's client is not safe otherwise: when keepalive gives a
silent host up, only one of the threads that wait for an answer is told, the next is left waiting
and, should the host come back, the process ends in a segmentation fault (libvirt 9.0; reproduced
by two calls at once on a connection to a frozen libvirtd). docs/decisions has the whole story.
"""

import contextlib
import threading
import time
from typing import Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import UUID

import libvirt

from kvmweb.virt.errors import OperationError, explain

# Seconds between keepalive messages, and how many may stay unanswered: a host that says nothing
# for INTERVAL * (COUNT + 1) seconds is given up, and every call that waits for it fails.
KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 3, 3
OPEN_DEADLINE = 10.0


class OnHost(Protocol):
    """Anything that lives on a host and that libvirt knows by UUID."""

    host_id: int
    uuid: UUID


class Door:
    """A connected host. Connections that no thread holds wait here, at most ``SPARE`` of them."""

    SPARE = 4

    def __init__(self, uri: str, first: libvirt.virConnect) -> None:
        self.first = first
        self._uri = uri
        self._idle: list[libvirt.virConnect] = []
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def is_in_process(self) -> bool:
        """Whether the driver runs in our own process, as test:/// does. Then there is no client
        to be careful with, and every connection may even be a world of its own.
        """
        return self._uri.startswith("test:")

    def take(self) -> libvirt.virConnect:
        """A connection that no other thread uses. Raises ``OperationError``."""
        while True:
            with self._lock:
                spare = self._idle.pop() if self._idle else None
            if spare is None:
                return open_connection(self._uri)
            if spare.isAlive():
                return spare

    def give_back(self, used: libvirt.virConnect) -> None:
        with self._lock:
            if not self._is_closed and len(self._idle) < self.SPARE and used.isAlive():
                self._idle.append(used)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._idle.clear()


class _Held:
    """A thread's connection; it goes back when the thread ends, which drops its ``_mine``."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.connection = door.take()

    def __del__(self) -> None:
        if hasattr(self, "connection"):
            self.door.give_back(self.connection)


class _Mine(threading.local):
    def __init__(self) -> None:
        self.held: dict[int, _Held] = {}


_doors: dict[int, Door] = {}
_mine = _Mine()
_loop_started = threading.Lock()


def connection(host_id: int) -> libvirt.virConnect:
    """This thread's connection to a host. Raises ``OperationError`` while the host has none."""
    door = _doors.get(host_id)
    if door is None:
        raise OperationError(
            "The host is not connected. Look at its page for the reason, then try again."
        )
    if door.is_in_process:
        return door.first
    held = _mine.held.get(host_id)
    if held is None or held.door is not door or not held.connection.isAlive():
        held = _mine.held[host_id] = _Held(door)
    return held.connection


def is_connected(host_id: int) -> bool:
    """Whether this process has the host; takes no connection for it."""
    return host_id in _doors


def domain(machine: OnHost) -> libvirt.virDomain:
    """The libvirt handle of a machine."""
    return connection(machine.host_id).lookupByUUID(machine.uuid.bytes)


def keep(host_id: int, uri: str, first: libvirt.virConnect) -> None:
    """The host is connected: hand out connections to it."""
    _doors[host_id] = Door(uri, first)


def forget(host_id: int, first: libvirt.virConnect) -> None:
    """Stop handing out connections beside this one; those of a newer one stay."""
    door = _doors.get(host_id)
    if door and door.first is first:
        del _doors[host_id]
        door.close()


class Opening(threading.Thread):
    """One attempt to open a URI. ``virConnectOpen`` has no time limit of its own: a peer that takes
    the connection and never answers would hold its caller forever, so it holds this thread.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(name=f"open {uri}", daemon=True)
        start_event_loop()
        self.uri = uri
        self.started = time.monotonic()
        self._opened: libvirt.virConnect | None = None
        self._error: libvirt.libvirtError | None = None
        self._is_abandoned = False
        self._lock = threading.Lock()
        self.start()

    def run(self) -> None:
        try:
            opened = libvirt.openAuth(_unattended(self.uri), _NO_CREDENTIALS, 0)
        except libvirt.libvirtError as error:
            self._error = error
            return
        with self._lock:
            self._opened = watched(opened)
            if self._is_abandoned:
                opened.close()

    def wait(self, seconds: float = OPEN_DEADLINE) -> libvirt.virConnect:
        """The connection. Raises ``OperationError``; after a time-out one may wait again."""
        self.join(seconds)
        if self._error is not None:
            raise explain(self._error)
        if self._opened is None:
            raise OperationError(
                "The host took the connection but does not answer. Libvirt's daemon there hangs, "
                "or something else listens at that address. Restart the daemon, or correct the URI."
            )
        return self._opened

    def abandon(self) -> None:
        """Nobody waits any more: what is still opened is closed at once."""
        with self._lock:
            self._is_abandoned = True
            if self._opened is not None:
                self._opened.close()


def open_connection(uri: str) -> libvirt.virConnect:
    """A new connection with keepalive. Raises ``OperationError`` saying what to fix."""
    opening = Opening(uri)
    try:
        return opening.wait()
    except OperationError:
        opening.abandon()
        raise


def watched(opened: libvirt.virConnect) -> libvirt.virConnect:
    """Have libvirt itself notice when the other side falls silent."""
    # Drivers in our own process, such as test:///, have no other side.
    with contextlib.suppress(libvirt.libvirtError):
        opened.setKeepAlive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT)
    return opened


def start_event_loop() -> None:
    """Run libvirt's event loop in a thread, once; must come before the first connection."""
    if not _loop_started.acquire(blocking=False):
        return
    # Without this every error is printed to stderr as well as raised.
    libvirt.registerErrorHandler(lambda context, error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_events, name="libvirt events", daemon=True).start()


def _run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _unattended(uri: str) -> str:
    """The URI with ``no_tty=1`` where ssh would otherwise ask at the site's own terminal."""
    parts = urlsplit(uri)
    query = parse_qsl(parts.query, keep_blank_values=True)
    if not parts.scheme.endswith("+ssh") or any(name == "no_tty" for name, _ in query):
        return uri
    return urlunsplit(parts._replace(query=urlencode([*query, ("no_tty", "1")])))


def _refuse(credentials: list[list[object]], opaque: object) -> int:
    return -1


_NO_CREDENTIALS = [
    [libvirt.VIR_CRED_AUTHNAME, libvirt.VIR_CRED_PASSPHRASE],
    _refuse,
    None,
]
