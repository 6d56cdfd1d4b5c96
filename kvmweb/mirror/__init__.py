"""Libvirt -> models: the only writer of mirrored fields.

``everything`` reads a host whole, ``read`` reads one thing again. Both save what differs and
announce the names of what they saved.
"""

from collections.abc import Callable

import libvirt

from kvmweb.mirror import devices, filters, hosts, machines, networks, storage
from kvmweb.mirror.names import Name, look_again
from kvmweb.models import Host

__all__ = ["everything", "look_again", "read"]

_READ_ONE: dict[str, Callable[[Host, libvirt.virConnect, str], None]] = {
    "machine": machines.read,
    "network": networks.read,
    "leases": lambda host, connection, key: networks.read_leases(host, connection),
    "pool": storage.read,
    "device": devices.read,
    "nwfilter": filters.read,
    "host": lambda host, connection, key: hosts.read(host, connection),
    "everything": lambda host, connection, key: everything(host, connection),
}


def everything(host: Host, connection: libvirt.virConnect) -> None:
    """Read all that is mirrored of a host. Machines first: they are what people wait for."""
    machines.read_all(host, connection)
    for noun in (
        hosts.read,
        networks.read_all,
        storage.read_all,
        devices.read_all,
        filters.read_all,
    ):
        noun(host, connection)


def read(host: Host, connection: libvirt.virConnect, name: Name) -> None:
    """Look at one thing again. What libvirt does not know any more is removed."""
    _READ_ONE[name.kind](host, connection, name.key)
