"""Addresses and routes that move from one link to another: a NIC's onto its bridge, and back."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvmweb.net import kernel, namespaces
from kvmweb.net import step as ranks
from kvmweb.net.addresses import (
    address_body,
    address_words,
    devices,
    family_words,
    route_body,
    route_words,
)
from kvmweb.net.changes import Values, flush, index_of, ip, queue, touched
from kvmweb.net.context import Context
from kvmweb.net.kernel import Row
from kvmweb.net.rtnetlink import (
    CREATE,
    DELADDR,
    EXCL,
    NEWADDR,
    NEWLINK,
    NEWROUTE,
    REPLACE,
    Message,
    Rtnetlink,
    link_header,
    u32,
)
from kvmweb.net.step import Step, action

_MASTER, _IFF_UP = 10, 1


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
        if here(row) and source in devices(row) and row["protocol"] != "kernel"
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
        ip(namespace, "address", "add", *address_words({**row, "dev": target})) for row in addresses
    ]
    for row in routes:
        words = route_words(_on(row, source, target))
        commands.append(ip(namespace, *family_words(row), "route", "replace", *words))
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
    all_names = names | kernel.names(socket_)
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
