"""The door to libvirt: one connection per host, opened by the agent, found here by everyone in its
process who holds a host or something that lives on one.
"""

from collections.abc import Callable
from typing import Protocol
from uuid import UUID

import libvirt

from kvmweb.virt.errors import OperationError

# Seconds between keepalive messages, and how many may stay unanswered: a host that says nothing
# for INTERVAL * (COUNT + 1) seconds is given up, and every call that waits for it fails.
KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 3, 3


class OnHost(Protocol):
    """Anything that lives on a host and that libvirt knows by UUID."""

    host_id: int
    uuid: UUID


_connections: dict[int, libvirt.virConnect] = {}


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


def forget(host_id: int) -> None:
    _connections.pop(host_id, None)
