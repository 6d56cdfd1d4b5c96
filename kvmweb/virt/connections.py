"""The door to libvirt: one connection per host, opened by the agent, found here by everyone in its
process who holds something that lives on a host.
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


_connections: dict[int, libvirt.virConnect] = {}
_loop_started = threading.Lock()


def connection(host_id: int) -> libvirt.virConnect:
    """The open connection of a host. Raises ``OperationError`` while there is none."""
    try:
        return _connections[host_id]
    except KeyError:
        raise OperationError(
            "The host is not connected. Look at its page for the reason, then try again."
        ) from None


def domain(machine: OnHost) -> libvirt.virDomain:
    """The libvirt handle of a machine."""
    return connection(machine.host_id).lookupByUUID(machine.uuid.bytes)


def keep(host_id: int, opened: libvirt.virConnect) -> None:
    """Make this the host's connection."""
    _connections[host_id] = opened


def forget(host_id: int, opened: libvirt.virConnect) -> None:
    """Stop handing this connection out; a newer one stays."""
    if _connections.get(host_id) is opened:
        del _connections[host_id]


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
