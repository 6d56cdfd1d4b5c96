"""Links in userspace bridges that the kernel's own stack is not to hear.

The userspace datapath gets a copy of what a link receives; the kernel goes on to handle it as well.
So the host gets everything twice whose bridge has its uplink's MAC, and answers ARP on ports of
VLANs that it has no part in. An ingress chain that drops all comes behind the copy
(__netif_receive_skb_core), which is what Open vSwitch's documentation does by iptables
(Documentation/intro/install/userspace.rst). One chain per link, in a table of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kvmweb.net import nftables
from kvmweb.net.context import Context
from kvmweb.net.ovs import kernel
from kvmweb.net.ovs.database import Row
from kvmweb.net.ovs.offloads import userspace_links
from kvmweb.net.step import ADD_RULES, DROP_RULES, Step, action, batch

State = dict[str, Any]

TABLE = "kvmweb_ovs"
_FAMILY = "netdev"
_TABLE = {"family": _FAMILY, "name": TABLE}
_BATCH = "ovs.deaf"
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")


def read() -> list[str]:
    """Names of our chains."""
    return sorted(kernel.chains(TABLE))


def deafness(actual: State, desired: State, owned: State) -> Iterator[Step]:
    there = actual["ovs"].get("deaf", [])
    needed = _needed(actual, desired)
    wanted = {name for name in userspace_links(actual, desired) if name not in needed}
    for name in sorted(wanted):
        if _chain(name) not in there:
            yield deafen(name)
    for name in sorted(set(userspace_links(actual, owned)) - wanted):
        if _chain(name) in there:
            yield let_hear(name)


def _needed(actual: State, desired: State) -> set[str]:
    """Links the host's own stack goes on to use: with an address that stays, or below another."""
    links = [one for one in actual.get("links", []) if not one["namespace"]]
    above = {one["parent"] for one in (*links, *desired.get("links", [])) if one.get("parent")}
    said = {one["name"] for one in desired.get("links", []) if one["addresses"]}
    has = {row["dev"] for row in actual.get("addresses", []) if _is_lasting(row)}
    moves = {one["uplink"] for one in desired.get("switches", [])}
    return above | said | (has - moves)


def _is_lasting(row: Row) -> bool:
    return not row["namespace"] and row["scope"] == "global"


def _chain(name: str) -> str:
    return f"in_{name if _PLAIN.fullmatch(name) else name.encode().hex()}"


def deafen(name: str) -> Step:
    return _step(name, is_on=True, rank=ADD_RULES)


def let_hear(name: str) -> Step:
    """Also of a link that is removed: its chain would stay."""
    return _step(name, is_on=False, rank=DROP_RULES)


def _step(name: str, *, is_on: bool, rank: int) -> Step:
    back = Step("ovs.deafen", {"name": name, "is_on": not is_on}, rank, touches=[name])
    return Step(
        "ovs.deafen",
        {"name": name, "is_on": is_on},
        rank,
        commands=_words(name) if is_on else [["nft", "delete", "chain", *_address(name)]],
        undo=[back],
        touches=[name],
    )


def _address(name: str) -> list[str]:
    return [_FAMILY, TABLE, _chain(name)]


def _words(name: str) -> list[list[str]]:
    hook = ["type", "filter", "hook", "ingress", "device", f'"{name}"', "priority", "0", ";"]
    rule = ["{", *hook, "policy", "drop", ";", "}"]
    return [
        ["nft", "add", "table", _FAMILY, TABLE],
        ["nft", "add", "chain", *_address(name), *rule],
    ]


@action("ovs.deafen", batch=_BATCH)
def _queue(context: Context, name: str, *, is_on: bool) -> None:
    context.queues[_BATCH].append((name, is_on))


@batch(_BATCH)
def _carry_out(context: Context) -> None:
    """All of them at once: a call of nft takes 4 ms."""
    there = set(read())
    orders: list[Row] = []
    for name, is_on in context.queues.pop(_BATCH, []):
        if is_on != (_chain(name) in there):
            orders += _orders(name, is_on=is_on)
            there ^= {_chain(name)}
    if orders and not there:
        orders.append({"delete": {"table": _TABLE}})
    if orders:
        nftables.carry_out(context, orders)


def _orders(name: str, *, is_on: bool) -> list[Row]:
    chain = {"family": _FAMILY, "table": TABLE, "name": _chain(name)}
    if not is_on:
        return [{"delete": {"chain": chain}}]
    hook = {"type": "filter", "hook": "ingress", "dev": name, "prio": 0, "policy": "drop"}
    return [{"add": {"table": _TABLE}}, {"add": {"chain": {**chain, **hook}}}]
