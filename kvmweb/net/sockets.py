"""Which process of the host listens on a port: /proc/net/tcp and its likes, proc(5)."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

PROC = Path("/proc")
# include/net/tcp_states.h: TCP_LISTEN; a UDP socket that is not connected is in TCP_CLOSE.
_WAITING = {"tcp": "0A", "udp": "07"}


def listener(protocol: str, port: int, address: str | None, *, family: str) -> str:
    """Who gets what comes to the port now: “sshd” (process 812); "" if nobody does.

    ``address`` None: any of the host's but loopback. ``family`` is ip or ip6.
    """
    for bound, inode in _waiting(protocol, port):
        if _meets(bound, address, family):
            return _owner(inode)
    return ""


def _waiting(protocol: str, port: int) -> list[tuple[str, str]]:
    """Addresses listened on, and the sockets' inodes."""
    found = []
    for name in (protocol, f"{protocol}6"):
        try:
            lines = (PROC / "thread-self/net" / name).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without IPv6
        for line in lines:
            words = line.split()
            address, _, number = words[1].partition(":")
            if int(number, 16) == port and words[3] == _WAITING[protocol]:
                found.append((_address(address), words[9]))
    return found


def _address(digits: str) -> str:
    """Words of 32 bits, each as this machine keeps it in memory."""
    words = [
        int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8)
    ]
    address = ipaddress.ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def _meets(bound: str, address: str | None, family: str) -> bool:
    """[::] takes IPv4 too, unless IPV6_V6ONLY is set, which can't be seen from here."""
    at = ipaddress.ip_address(bound)
    if bound == "::":
        return True
    if at.version != (6 if family == "ip6" else 4):
        return False
    if at.is_unspecified:
        return True
    return not at.is_loopback if address is None else bound == address


def _owner(inode: str) -> str:
    for entry in PROC.glob("[0-9]*"):
        try:
            if any(str(one.readlink()) == f"socket:[{inode}]" for one in (entry / "fd").iterdir()):
                return f"“{(entry / 'comm').read_text().strip()}” (process {entry.name})"
        except OSError:
            continue  # it ended meanwhile, or a file of it was closed
    return "a process"
