"""Changes to addresses and routes: steps and their actions. Rows are those of kernel.py."""

from __future__ import annotations

import ipaddress
import socket
import struct

from kvmweb.net import kernel
from kvmweb.net import step as ranks
from kvmweb.net.changes import _BATCH, Values, index_of, ip, queue, touched
from kvmweb.net.context import Context
from kvmweb.net.kernel import MAIN, ROUTE_MARK, Row
from kvmweb.net.rtnetlink import (
    CREATE,
    DELADDR,
    DELROUTE,
    EXCL,
    NEWADDR,
    NEWROUTE,
    Message,
    attribute,
    text,
    u32,
)
from kvmweb.net.step import Step, action

_FOREVER = 0xFFFFFFFF
_SCOPES = {name: number for number, name in kernel.SCOPES.items()}
_PROTOCOLS = {name: number for number, name in kernel.PROTOCOLS.items()}
_TYPES = {name: number for number, name in kernel.ROUTE_TYPES.items()}
_MASTER, _IFNAME = 10, 3
_IFF_UP, _ONLINK = 1, 4


def plain_address(dev: str, address: str) -> Row:
    """A row for an address that is to be there for ever; IPv4 gets its broadcast address."""
    one = ipaddress.ip_interface(address)
    has_broadcast = one.version == 4 and one.network.prefixlen < 31
    return {
        "dev": dev,
        "family": one.version,
        "address": address,
        "broadcast": str(one.network.broadcast_address) if has_broadcast else None,
    }


def add_address(row: Row, *, namespace: str = "") -> Step:
    return Step(
        "address.add",
        {"namespace": namespace, "row": row, "lenient": False},
        ranks.ADD_ADDRESSES,
        [ip(namespace, "address", "add", *address_words(row))],
        [_without_undo(remove_address(row, namespace=namespace))],
        touched(namespace, row["dev"]),
    )


def remove_address(row: Row, *, namespace: str = "") -> Step:
    return Step(
        "address.remove",
        {"namespace": namespace, "row": row},
        ranks.DROP_ADDRESSES,
        [ip(namespace, "address", "del", row["address"], "dev", row["dev"])],
        [
            Step(
                "address.add",
                {"namespace": namespace, "row": row, "lenient": True},
                ranks.ADD_ADDRESSES,
                [ip(namespace, "address", "add", *address_words(row))],
            )
        ],
        touched(namespace, row["dev"]),
    )


def _without_undo(step: Step) -> Step:
    step.undo = []
    return step


def address_words(row: Row) -> list[str]:
    words = [row["address"]]
    if row.get("peer"):
        words = [row["address"].partition("/")[0], "peer", _with_prefix(row)]
    if row.get("broadcast"):
        words += ["broadcast", row["broadcast"]]
    if row.get("scope") not in (None, "global"):
        words += ["scope", row["scope"]]
    return [*words, "dev", row["dev"]]


def _with_prefix(row: Row) -> str:
    return f"{row['peer']}/{row['address'].partition('/')[2]}"


def address_body(row: Row, index: int) -> bytes:
    one = ipaddress.ip_interface(row["address"])
    family = socket.AF_INET if one.version == 4 else socket.AF_INET6
    scope = _scope(row.get("scope") or "global")
    flags = row.get("flags", 0) & ~(kernel.PERMANENT | kernel.TENTATIVE | kernel.DADFAILED)
    other = ipaddress.ip_address(row["peer"]).packed if row.get("peer") else one.ip.packed
    parts = [
        struct.pack("=BBBBI", family, one.network.prefixlen, flags & 0xFF, scope, index),
        attribute(2, one.ip.packed),
        attribute(1, other),
    ]
    if row.get("broadcast"):
        parts.append(attribute(4, ipaddress.ip_address(row["broadcast"]).packed))
    if row.get("label") and row["label"].startswith(row["dev"]):
        parts.append(text(3, row["label"]))
    if row.get("valid") is not None:
        preferred = _FOREVER if row["preferred"] is None else row["preferred"]
        parts.append(attribute(6, struct.pack("=IIII", preferred, row["valid"], 0, 0)))
    if row.get("metric"):
        parts.append(u32(9, row["metric"]))
    if flags:
        parts.append(u32(8, flags))
    return b"".join(parts)


def _scope(name: str) -> int:
    return _SCOPES[name] if name in _SCOPES else int(name)


@action("address.add", batch=_BATCH)
def _address_add(context: Context, namespace: str, row: Row, *, lenient: bool) -> None:
    index = index_of(context, namespace, row["dev"], lenient=lenient)
    if index:
        body = address_body(row, index)
        message = Message(
            NEWADDR, CREATE | EXCL, body, context.number, may_exist=lenient, may_miss=lenient
        )
        queue(context, namespace, message)


@action("address.remove", batch=_BATCH)
def _address_remove(context: Context, namespace: str, row: Row) -> None:
    index = index_of(context, namespace, row["dev"], lenient=True)
    if index:
        body = address_body({**row, "valid": None}, index)
        queue(context, namespace, Message(DELADDR, 0, body, context.number, may_miss=True))


def plain_route(route: Values) -> Row:
    """A row for a route of the document, with our mark."""
    given = ipaddress.ip_network(route["to"]) if route["to"] != "default" else None
    via = ipaddress.ip_address(route["via"]) if route.get("via") else None
    return {
        "family": (given or via or ipaddress.ip_address("0.0.0.0")).version,  # noqa: S104
        "to": route["to"],
        "via": route.get("via"),
        "dev": route.get("dev"),
        "metric": route.get("metric") or 0,
        "protocol": kernel.MARK,
    }


def add_route(row: Row, *, touches: list[str], namespace: str = "") -> Step:
    return Step(
        "route.add",
        {"namespace": namespace, "row": row, "lenient": False},
        ranks.ADD_ROUTES,
        [ip(namespace, *family_words(row), "route", "add", *route_words(row))],
        [_without_undo(remove_route(row, namespace=namespace))],
        touches,
    )


def remove_route(row: Row, *, touches: list[str] | None = None, namespace: str = "") -> Step:
    return Step(
        "route.remove",
        {"namespace": namespace, "row": row},
        ranks.DROP_ROUTES,
        [ip(namespace, *family_words(row), "route", "del", *route_words(row))],
        [
            Step(
                "route.add",
                {"namespace": namespace, "row": row, "lenient": True},
                ranks.ADD_ROUTES,
                [ip(namespace, *family_words(row), "route", "add", *route_words(row))],
            )
        ],
        touched(namespace, row["dev"]) if touches is None else touches,
    )


def family_words(row: Row) -> list[str]:
    return ["-6"] if row["family"] == 6 else []


def route_words(row: Row) -> list[str]:
    words = [row["to"]] if row.get("type", "unicast") == "unicast" else [row["type"], row["to"]]
    for key, word in (("via", "via"), ("dev", "dev"), ("source", "src"), ("metric", "metric")):
        if row.get(key):
            words += [word, str(row[key])]
    if row.get("table", MAIN) != MAIN:
        words += ["table", str(row["table"])]
    # ip knows the others by name too (/etc/iproute2/rt_protos).
    words += ["proto", str(ROUTE_MARK) if row["protocol"] == kernel.MARK else row["protocol"]]
    for hop in row.get("nexthops", []):
        words += ["nexthop", *(["via", hop["via"]] if hop["via"] else []), "dev", hop["dev"]]
    return words + (["onlink"] if row.get("is_onlink") else [])


def _protocol(name: str) -> int:
    return _PROTOCOLS[name] if name in _PROTOCOLS else int(name)


def route_body(row: Row, index: dict[str, int]) -> bytes:
    """``index``: numbers of the links it names."""
    family = socket.AF_INET if row["family"] == 4 else socket.AF_INET6
    to = None if row["to"] == "default" else ipaddress.ip_network(row["to"])
    table = row.get("table", MAIN)
    has_gateway = bool(row.get("via") or row.get("nexthops"))
    scope = row.get("scope") or ("global" if has_gateway or row["family"] == 6 else "link")
    head = struct.pack(
        "=BBBBBBBBI", family, to.prefixlen if to else 0, 0, row.get("tos", 0),
        table if table < 256 else 0, _protocol(row["protocol"]), _scope(scope),
        _TYPES[row.get("type", "unicast")], _ONLINK if row.get("is_onlink") else 0,
    )  # fmt: skip
    parts = [head, u32(15, table)]
    if to:
        parts.append(attribute(1, to.network_address.packed))
    if row.get("dev"):
        parts.append(u32(4, index[row["dev"]]))
    parts += _gateway(family, row.get("via"))
    if row.get("metric"):
        parts.append(u32(6, row["metric"]))
    if row.get("source"):
        parts.append(attribute(7, ipaddress.ip_address(row["source"]).packed))
    if row.get("metrics"):
        parts.append(attribute(8, bytes.fromhex(row["metrics"])))
    if row.get("preference") is not None:
        parts.append(attribute(20, bytes([row["preference"]])))
    if row.get("expires"):
        parts.append(u32(23, row["expires"]))
    if row.get("nexthops"):
        parts.append(attribute(9, b"".join(_nexthop(hop, index) for hop in row["nexthops"])))
    return b"".join(parts)


def _gateway(family: int, via: str | None) -> list[bytes]:
    if not via:
        return []
    address = ipaddress.ip_address(via)
    if address.version == 6 and family == socket.AF_INET:
        return [attribute(18, struct.pack("=H", socket.AF_INET6) + address.packed)]
    return [attribute(5, address.packed)]


def _nexthop(hop: Row, index: dict[str, int]) -> bytes:
    family = socket.AF_INET if hop["via"] and "." in hop["via"] else socket.AF_INET6
    parts = b"".join(_gateway(family, hop["via"]))
    flags = _ONLINK if hop["is_onlink"] else 0
    return struct.pack("=HBBi", 8 + len(parts), flags, hop["weight"] - 1, index[hop["dev"]]) + parts


def devices(row: Row) -> list[str]:
    return [
        one for one in (row.get("dev"), *(hop["dev"] for hop in row.get("nexthops", []))) if one
    ]


def _route_message(
    context: Context, namespace: str, row: Row, kind: int, flags: int, *, lenient: bool
) -> Message | None:
    index = {
        dev: index_of(context, namespace, dev, lenient=lenient or kind == DELROUTE)
        for dev in devices(row)
    }
    if not all(index.values()):
        return None
    body = route_body(row, index)
    return Message(
        kind, flags, body, context.number, may_exist=lenient, may_miss=lenient or kind == DELROUTE
    )


@action("route.add", batch=_BATCH)
def _route_add(context: Context, namespace: str, row: Row, *, lenient: bool) -> None:
    # Several routes to one place differ by their metric in IPv4; IPv6 wants EXCL to refuse.
    message = _route_message(context, namespace, row, NEWROUTE, CREATE | EXCL, lenient=lenient)
    if message:
        queue(context, namespace, message)


@action("route.remove", batch=_BATCH)
def _route_remove(context: Context, namespace: str, row: Row) -> None:
    message = _route_message(context, namespace, row, DELROUTE, 0, lenient=True)
    if message:
        queue(context, namespace, message)
