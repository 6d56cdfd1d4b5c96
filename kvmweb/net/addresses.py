"""Changes to addresses and routes, moving them from one link to another, and putting back what a
link lost; rows are those of kernel.py.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvmweb.net import kernel, namespaces
from kvmweb.net import step as ranks
from kvmweb.net.changes import _BATCH, Values, flush, index_of, ip, queue, touched
from kvmweb.net.context import Context
from kvmweb.net.kernel import MAIN, ROUTE_MARK, Row
from kvmweb.net.rtnetlink import (
    CREATE,
    DELADDR,
    DELROUTE,
    EXCL,
    NEWADDR,
    NEWLINK,
    NEWROUTE,
    REPLACE,
    Message,
    Rtnetlink,
    attribute,
    link_header,
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
        [ip(namespace, "address", "add", *_address_words(row))],
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
                [ip(namespace, "address", "add", *_address_words(row))],
            )
        ],
        touched(namespace, row["dev"]),
    )


def _without_undo(step: Step) -> Step:
    step.undo = []
    return step


def _address_words(row: Row) -> list[str]:
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
        [ip(namespace, *_family_words(row), "route", "add", *_route_words(row))],
        [_without_undo(remove_route(row, namespace=namespace))],
        touches,
    )


def remove_route(row: Row, *, touches: list[str] | None = None, namespace: str = "") -> Step:
    return Step(
        "route.remove",
        {"namespace": namespace, "row": row},
        ranks.DROP_ROUTES,
        [ip(namespace, *_family_words(row), "route", "del", *_route_words(row))],
        [
            Step(
                "route.add",
                {"namespace": namespace, "row": row, "lenient": True},
                ranks.ADD_ROUTES,
                [ip(namespace, *_family_words(row), "route", "add", *_route_words(row))],
            )
        ],
        touched(namespace, row["dev"]) if touches is None else touches,
    )


def _family_words(row: Row) -> list[str]:
    return ["-6"] if row["family"] == 6 else []


def _route_words(row: Row) -> list[str]:
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


def _devices(row: Row) -> list[str]:
    return [
        one for one in (row.get("dev"), *(hop["dev"] for hop in row.get("nexthops", []))) if one
    ]


def _route_message(
    context: Context, namespace: str, row: Row, kind: int, flags: int, *, lenient: bool
) -> Message | None:
    index = {
        dev: index_of(context, namespace, dev, lenient=lenient or kind == DELROUTE)
        for dev in _devices(row)
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


def move_addresses(
    source: str, target: str, *, keep: list[str], actual: Values, joins: str = "",
    namespace: str = "",
) -> Step:  # fmt: skip
    """Give ``target`` the addresses and routes of ``source``, but for the addresses in ``keep`` and
    those of the link itself (fe80::). They are read again as it is done: leases may have changed.

    ``joins``: "in": first ``source`` becomes a port of the bridge ``target`` and that is set up;
    "out": last ``target`` leaves the bridge ``source``; "": neither (a port of Open vSwitch, say).
    """
    moved = _movable(actual, namespace, source, keep)
    arguments = {"namespace": namespace, "source": source, "target": target, "keep": keep}
    back = {
        **arguments,
        "source": target,
        "target": source,
        "keep": _kept(actual, namespace, target),
    }
    opposite = {"in": "out", "out": "in", "": ""}[joins]
    undone = list(_move_words(namespace, *moved, target, source, opposite))
    return Step(
        "addresses.move",
        {**arguments, "joins": joins, "lenient": False},
        ranks.ENSLAVE,
        list(_move_words(namespace, *moved, source, target, joins)),
        [
            Step(
                "addresses.move",
                {**back, "joins": opposite, "lenient": True},
                ranks.ENSLAVE,
                undone,
            )
        ],
        touched(namespace, source, target),
    )


def _kept(actual: Values, namespace: str, dev: str) -> list[str]:
    return [
        row["address"]
        for row in actual["addresses"]
        if row["dev"] == dev and row["namespace"] == namespace
    ]


def _movable(
    actual: Values, namespace: str, source: str, keep: list[str]
) -> tuple[list[Row], list[Row]]:
    def here(row: Row) -> bool:
        return bool(row.get("namespace", namespace) == namespace)

    addresses = [
        row
        for row in actual["addresses"]
        if here(row) and row["dev"] == source and row["address"] not in keep
        and row["scope"] not in ("link", "host")
        and not (row["family"] == 6 and row["flags"] & kernel.TEMPORARY)
    ]  # fmt: skip
    mine = {ipaddress.ip_interface(one).ip for one in keep}
    routes = [
        row
        for row in actual["routes"]
        if here(row) and source in _devices(row) and row["protocol"] != "kernel"
        and not (row["source"] and ipaddress.ip_address(row["source"]) in mine)
    ]  # fmt: skip
    return addresses, routes


def _on(row: Row, source: str, target: str) -> Row:
    hops = [{**hop, "dev": target} if hop["dev"] == source else hop for hop in row["nexthops"]]
    return {**row, "dev": target if row["dev"] == source else row["dev"], "nexthops": hops}


def _move_words(
    namespace: str, addresses: list[Row], routes: list[Row], source: str, target: str, joins: str
) -> list[list[str]]:
    commands = []
    if joins == "in":
        commands.append(ip(namespace, "link", "set", "dev", source, "master", target))
        commands.append(ip(namespace, "link", "set", "dev", target, "up"))
    commands += [
        ip(namespace, "address", "add", *_address_words({**row, "dev": target}))
        for row in addresses
    ]
    for row in routes:
        words = _route_words(_on(row, source, target))
        commands.append(ip(namespace, *_family_words(row), "route", "replace", *words))
    commands += [
        ip(namespace, "address", "del", row["address"], "dev", source) for row in addresses
    ]
    if joins == "out":
        commands.append(ip(namespace, "link", "set", "dev", target, "nomaster"))
    return commands


@action("addresses.move")
def _addresses_move(
    context: Context, namespace: str, source: str, target: str, keep: list[str], *, joins: str,
    lenient: bool,
) -> None:  # fmt: skip
    index = {dev: index_of(context, namespace, dev, lenient=lenient) for dev in (source, target)}
    if not all(index.values()):
        return
    names = {number: name for name, number in index.items()}
    socket_ = context.rtnetlink(namespace)
    all_names = names | _names(socket_)
    actual = {
        "addresses": kernel.addresses(socket_, names),
        "routes": kernel.routes(socket_, all_names),
    }
    addresses, routes = _movable(actual, namespace, source, keep)
    number = context.number
    if joins == "in":
        body = link_header(index=index[source]) + u32(_MASTER, index[target])
        queue(context, namespace, Message(NEWLINK, 0, body, number))
        body = link_header(index=index[target], flags=_IFF_UP, change=_IFF_UP)
        queue(context, namespace, Message(NEWLINK, 0, body, number))
        flush(context)  # a refusal ends it here, before any address has moved
    with _no_doubt(namespace, target):
        _queue_move(context, namespace, addresses, routes, index, all_names)
        if joins == "out":
            body = link_header(index=index[target]) + u32(_MASTER, 0)
            queue(context, namespace, Message(NEWLINK, 0, body, number, may_miss=True))
        flush(context)
        _wait_for_no_doubt(socket_, names, target)


def _wait_for_no_doubt(socket_: Rtnetlink, names: dict[int, str], dev: str) -> None:
    """The kernel takes note of it a moment later, and without a carrier not at all."""
    for _ in range(50):
        rows = kernel.addresses(socket_, names)
        mine = [row for row in rows if row["dev"] == dev and row["scope"] != "link"]
        if not any(row["is_tentative"] for row in mine):
            return
        time.sleep(0.01)


def _names(socket_: Rtnetlink) -> dict[int, str]:
    return {row["index"]: row["name"] for row in kernel.links(socket_)}


def _queue_move(
    context: Context, namespace: str, addresses: list[Row], routes: list[Row],
    index: dict[str, int], names: dict[int, str],
) -> None:  # fmt: skip
    source, target = index
    numbers = {name: number for number, name in names.items()}
    for row in addresses:
        body = address_body({**row, "dev": target}, index[target])
        flags = CREATE | EXCL
        message = Message(NEWADDR, flags, body, context.number, may_exist=True)
        queue(context, namespace, message)
    for row in routes:
        body = route_body(_on(row, source, target), numbers)
        queue(context, namespace, Message(NEWROUTE, CREATE | REPLACE, body, context.number))
    for row in addresses:
        body = address_body({**row, "valid": None}, index[source])
        queue(context, namespace, Message(DELADDR, 0, body, context.number, may_miss=True))


@contextmanager
def _no_doubt(namespace: str, dev: str) -> Iterator[None]:
    """IPv6 addresses that were in use a moment ago need no duplicate address detection, which would
    keep them from being used for a second or two.
    """
    switch = Path("/proc/sys/net/ipv6/conf", dev, "accept_dad")
    with namespaces.entered(namespace):
        try:
            before = switch.read_text()
            switch.write_text("0")
        except OSError:  # without IPv6
            before = ""
    try:
        yield
    finally:
        if before:
            with namespaces.entered(namespace):
                switch.write_text(before)


def snapshot(actual: Values, names: set[str]) -> Values:
    """Addresses and routes of these links of the host, for ``put_back``."""
    return {
        "at": time.monotonic(),
        "addresses": [
            row for row in actual["addresses"] if not row["namespace"] and row["dev"] in names
        ],
        "routes": [
            row for row in actual["routes"] if not row["namespace"] and names & {*_devices(row)}
        ],
    }


def put_back(context: Context, before: Values) -> list[str]:
    """Whatever of a snapshot is missing now is added again; sentences about what can't be.

    The kernel drops addresses and routes by itself as links go down, leave or become ports.
    """
    socket_ = context.rtnetlink()
    age = int(time.monotonic() - before["at"])
    names = _names(socket_)
    index = {name: number for number, name in names.items()}
    problems = []
    there = {(row["dev"], row["address"]) for row in kernel.addresses(socket_, names)}
    for row in before["addresses"]:
        if (row["dev"], row["address"]) not in there and row["scope"] != "link":
            problems += _again(socket_, _address_again(row, index, age), row["address"], row["dev"])
    known = [_comparable(row) for row in kernel.routes(socket_, names)]
    # Those on the link itself first: gateways are reached by them.
    for row in sorted(before["routes"], key=lambda row: bool(row["via"] or row["nexthops"])):
        if _comparable(row) not in known and row["protocol"] != "kernel":
            problems += _again(socket_, _route_again(row, index), row["to"], row["dev"] or "")
    return problems


def _comparable(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in ("expires", "namespace")}


def _again(socket_: Rtnetlink, message: Message | None, what: str, dev: str) -> list[str]:
    if message is None:
        return [f"{dev} is not there any more, so {what} could not be put back."]
    failures = socket_.change([message])
    return [f"{what} on {dev} could not be put back: {one.sentence}." for one in failures]


def _address_again(row: Row, index: dict[str, int], age: int) -> Message | None:
    if row["dev"] not in index:
        return None
    left = {
        key: None if row[key] is None else max(1, row[key] - age) for key in ("valid", "preferred")
    }
    body = address_body({**row, **left}, index[row["dev"]])
    return Message(NEWADDR, CREATE | EXCL, body, may_exist=True)


def _route_again(row: Row, index: dict[str, int]) -> Message | None:
    if not all(dev in index for dev in _devices(row)):
        return None
    return Message(NEWROUTE, CREATE | EXCL, route_body(row, index), may_exist=True)
