"""Gratuitous ARP, RFC 5227: neighbours who knew a leg's address by another MAC learn at once.

Else they would talk to the old one until they ask again, which takes a minute. For IPv6 the kernel
does it by itself, told so by ndisc_notify (namespace.py).
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct

from kvmweb.net import namespaces
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.step import SET_UP, Step, action

_RANK = SET_UP + 1
_ETH_P_ARP, _ETH_P_IP, _ETHERNET, _REQUEST = 0x0806, 0x0800, 1, 1
_EVERYBODY = b"\xff" * 6


def announce(namespace: str, name: str, cidrs: list[str]) -> list[Step]:
    """Of ``cidrs`` those of IPv4."""
    addresses = [cidr.partition("/")[0] for cidr in cidrs if ":" not in cidr]
    prefix = ["ip", "netns", "exec", namespace, "arping", "-U", "-c", "1", "-I", name]
    arguments = {"namespace": namespace, "name": name, "addresses": addresses}
    commands = [[*prefix, address] for address in addresses]
    return [Step("router.announce", arguments, _RANK, commands)] if addresses else []


@action("router.announce")
def _announce(context: Context, namespace: str, name: str, addresses: list[str]) -> None:
    # Nothing depends on it: the link may be down, or gone again by an undo.
    with contextlib.suppress(OSError, NetError), namespaces.entered(namespace):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC)
        with wire:
            wire.bind((name, _ETH_P_ARP))
            mac = wire.getsockname()[4]
            for address in addresses:
                wire.send(_frame(mac, ipaddress.ip_address(address).packed))


def _frame(mac: bytes, address: bytes) -> bytes:
    ethernet = _EVERYBODY + mac + struct.pack(">H", _ETH_P_ARP)
    head = struct.pack(">HHBBH", _ETHERNET, _ETH_P_IP, 6, 4, _REQUEST)
    return ethernet + head + mac + address + bytes(6) + address
