"""The ways to a machine's VNC server from the process that holds the connection to its host."""

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol, TypeVar
from uuid import UUID

import libvirt

from kvmweb.console import ssh
from kvmweb.virt import connections
from kvmweb.virt.displays import Listening, Way, route, vnc_index, vnc_listening
from kvmweb.virt.errors import OperationError, explain

T = TypeVar("T")
DEADLINE = 10.0


class Dialled(Protocol):
    """What it takes to find a machine's display: ``OpenConsole`` is one."""

    @property
    def host_id(self) -> int: ...
    @property
    def agent(self) -> str:
        """The name of the one that holds the host."""

    @property
    def uri(self) -> str: ...
    @property
    def machine_uuid(self) -> UUID: ...


def dial_here(wanted: Dialled) -> socket.socket:
    """Through this process's connection to the host; blocks for as long as libvirt does."""
    way = route(wanted.uri)
    try:
        domain = connections.connection(wanted.host_id).lookupByUUID(wanted.machine_uuid.bytes)
        xml = domain.XMLDesc()
        if not domain.isActive():
            raise OperationError("The machine is not running.")
        if way.way is Way.DESCRIPTOR:
            return _descriptor(domain, vnc_index(xml))
    except libvirt.libvirtError as error:
        raise explain(error) from error
    if way.way is Way.SSH:
        return ssh.dial(way, vnc_listening(xml), DEADLINE)
    if way.way is Way.LOOPBACK:
        return _on_this_computer(wanted.machine_uuid, vnc_listening(xml))
    raise OperationError(
        "The console would cross the network unencrypted. Connect this host by qemu+ssh."
    )


def _descriptor(domain: libvirt.virDomain, index: int) -> socket.socket:
    """Wherever the VNC server listens, if at all: QEMU gets one end of a socket pair. Who was let
    in by us needs no VNC password.
    """
    flags = libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH
    return socket.socket(fileno=domain.openGraphicsFD(index, flags))


def _on_this_computer(machine: UUID, listening: Listening) -> socket.socket:
    """Libvirt over TCP at a loopback address may be a tunnel to elsewhere, where the same port is
    another machine's display. So its QEMU must run here, in our network namespace.
    """
    if not _has_qemu(machine):
        raise OperationError(
            "The console would cross the network unencrypted. Connect this host by qemu+ssh."
        )
    try:
        if listening.path:
            made = socket.socket(socket.AF_UNIX)
            made.settimeout(DEADLINE)
            made.connect(listening.path)
            return made
        if listening.port:
            return socket.create_connection((listening.address, listening.port), DEADLINE)
    except OSError as error:
        raise OperationError(f"The display does not take the connection: {error}.") from error
    raise OperationError("The display listens nowhere. Give it an address, or a socket.")


def _has_qemu(machine: UUID) -> bool:
    ours = Path("/proc/self/ns/net").readlink()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(machine).encode() in (process / "cmdline").read_bytes().split(b"\0"):
                return (process / "ns/net").readlink() == ours
        except OSError:
            continue  # it has ended, or is another user's
    return False


def within(seconds: float, work: Callable[[], T], *, undo: Callable[[T], object]) -> T:
    """What ``work`` returns. It is left to itself after ``seconds``, and what it brings after that
    is undone: a libvirt that is frozen keeps a thread, and nobody else.
    """
    answer: Future[T] = Future()
    threading.Thread(
        target=_answer, args=[answer, work, undo], name="console dial", daemon=True
    ).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        if answer.cancel():
            raise OperationError("The host does not answer. Try again when it does.") from None
        return answer.result()  # it came just now


def _answer(answer: "Future[T]", work: Callable[[], T], undo: Callable[[T], object]) -> None:
    try:
        found = work()
    except (OperationError, OSError) as error:
        if answer.set_running_or_notify_cancel():
            answer.set_exception(error)
        return
    if answer.set_running_or_notify_cancel():
        answer.set_result(found)
    else:
        undo(found)
