"""Ports that passt brings to a guest, one per line: ``tcp 127.0.0.1:8022 -> 22``.

https://libvirt.org/formatdomain.html#userspace-connection-using-passt.
"""

import ipaddress
import re

from kvmweb.spec.xml import Tree

_FORWARD = re.compile(
    r"(?P<proto>tcp|udp) +(?:(?P<address>\[[0-9a-fA-F:.]+\]|[0-9.]+):)?(?P<start>\d{1,5})"
    r"(?:-(?P<end>\d{1,5}))?(?: *-> *(?P<to>\d{1,5}))?"
)


def forward_of(text: str) -> dict[str, str]:
    """The parts of ``tcp 127.0.0.1:8022 -> 22``. Raises ``ValueError`` with a sentence."""
    found = _FORWARD.fullmatch(" ".join(text.split()))
    if not found:
        raise ValueError(
            f"“{text}” is not a forwarded port, like tcp 8022 -> 22 or udp 127.0.0.1:5000-5010."
        )
    parts = {name: value or "" for name, value in found.groupdict().items()}
    if parts["address"]:
        _check_address(parts["address"].strip("[]"))
    ports = [int(parts[name]) for name in ("start", "end", "to") if parts[name]]
    if not all(1 <= port <= 65535 for port in ports):
        raise ValueError(f"“{text}”: ports are from 1 to 65535.")
    if parts["end"] and int(parts["end"]) < int(parts["start"]):
        raise ValueError(f"“{text}”: the range ends before it begins.")
    return parts


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"“{text}” is not an IP address.") from None


def forward_text(text: str) -> str:
    """The same in the one way we write it."""
    parts = forward_of(text)
    where = f"{parts['address']}:" if parts["address"] else ""
    return _forward(parts["proto"], where, parts["start"], parts["end"], parts["to"])


def text_of_forward(forward: Tree, one: Tree) -> str:
    address = forward.get("address", "")
    where = f"[{address}]:" if ":" in address else f"{address}:" if address else ""
    words = (one.get(name, "") for name in ("start", "end", "to"))
    return _forward(forward.get("proto", ""), where, *words)


def _forward(protocol: str, where: str, start: str, end: str = "", to: str = "") -> str:
    ports = f"{start}-{end}" if end and end != start else start
    target = f" -> {to}" if to and to != start else ""
    return f"{protocol} {where}{ports}{target}"
