"""Links, addresses, routes, Linux bridges and their ports, in any namespace: as they are.

``read`` gives

- ``links``: each with ``namespace`` ("" is the host), ``name``, ``index``, ``kind`` (the kernel's;
  "physical" for a NIC, "loopback"), ``is_up``, ``operstate``, ``carrier``, ``mtu``, ``mac``,
  ``addresses``, ``master``, ``alias``, ``owner`` ("kvmweb" if we made it), ``is_default`` (a
  default route goes out by it), ``driver``, ``speed`` (Mbit/s), ``duplex``, ``offloads``,
  ``fixed_offloads``, ``counters``; a port of a Linux bridge ``port``; and its kind's own under the
  names of spec/hostnet.py (``parent``, ``peer`` with ``peer_namespace``, ``stp``, ``vlans``, ...)
- ``addresses`` and ``routes`` in full, those of the kernel's local table left out
- ``namespaces``: names; ``features``: what the kernel can do (features.py)
- ``originals``: how physical links were before we changed them (apply.py)
"""

from __future__ import annotations

import os
import struct
from typing import Any

from kvmweb.net import kernel, linkplan, namespaces, originals
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.ethtool import Ethtool
from kvmweb.net.features import features
from kvmweb.net.kernel import Row
from kvmweb.net.rtnetlink import GETNSID, Rtnetlink, attribute, attributes
from kvmweb.net.step import Step

State = dict[str, Any]


def by_name(actual: State, namespace: str = "") -> dict[str, Row]:
    return {one["name"]: one for one in actual["links"] if one["namespace"] == namespace}


def read(context: Context) -> State:
    state: State = {"links": [], "addresses": [], "routes": [], "namespaces": []}
    for namespace in ["", *namespaces.names()]:
        try:
            _read_namespace(context, namespace, state)
        except NetError:
            if not namespace:
                raise
            context.forget(namespace)  # it was removed while we looked
    _name_distant_peers(context, state)
    return state | {"features": dict(features()), "originals": originals.read()}


def _read_namespace(context: Context, namespace: str, state: State) -> None:
    socket_ = context.rtnetlink(namespace)
    rows = kernel.links(socket_)
    for row in rows:
        row["namespace"] = namespace
    kernel.name_links(rows)
    names = {row["index"]: row["name"] for row in rows}
    addresses = kernel.addresses(socket_, names)
    routes = kernel.routes(socket_, names)
    _add_addresses(rows, addresses, routes)
    _add_hardware(socket_, rows)
    state["links"] += rows
    state["addresses"] += [{"namespace": namespace, **row} for row in addresses]
    state["routes"] += [{"namespace": namespace, **row} for row in routes]
    if namespace:
        state["namespaces"].append(namespace)


def _add_addresses(rows: list[Row], addresses: list[Row], routes: list[Row]) -> None:
    known: dict[str, list[str]] = {}
    for address in addresses:
        known.setdefault(address["dev"], []).append(address["address"])
    default = {
        dev
        for route in routes
        if route["to"] == "default" and route["type"] == "unicast"
        for dev in (route["dev"], *(hop["dev"] for hop in route["nexthops"]))
    }
    for row in rows:
        row["addresses"] = known.get(row["name"], [])
        row["is_default"] = row["name"] in default


def _add_hardware(socket_: Rtnetlink, rows: list[Row]) -> None:
    """Speed and driver only of what is hardware, or may stand on it: the rest has none."""
    ethtool = Ethtool(socket_.plain)
    for row in rows:
        name, kind = row["name"], row["kind"]
        is_hardware = kind in ("physical", "bond", "team")
        row["driver"] = ethtool.driver(name) if is_hardware else kind
        row.update(ethtool.speed(name) if is_hardware else {"speed": None, "duplex": None})
        row["offloads"], row["fixed_offloads"] = ethtool.offloads(name)


def _name_distant_peers(context: Context, state: State) -> None:
    """Names of the other ends of links in other namespaces."""
    names = {(row["namespace"], row["index"]): row["name"] for row in state["links"]}
    known: dict[str, dict[int, str]] = {}
    for row in state["links"]:
        number, there = row.pop("_netnsid"), row.pop("_link")
        if number is None:
            continue
        here = row["namespace"]
        if here not in known:
            known[here] = _namespace_ids(context, here, ["", *state["namespaces"]])
        namespace = known[here].get(number)
        key = "peer" if row["kind"] == "veth" else "parent"
        row[key] = names.get((namespace, there)) if namespace is not None else None
        row[f"{key}_namespace"] = namespace


def _namespace_ids(context: Context, here: str, others: list[str]) -> dict[int, str]:
    """The numbers by which the namespace ``here`` knows others."""
    found = {}
    for name in others:
        if name == here:
            continue
        path = namespaces.DIRECTORY / name if name else "/proc/self/ns/net"
        try:
            opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        body = bytes(4) + attribute(3, struct.pack("=I", opened))  # NETNSA_FD
        payload = context.rtnetlink(here).ask(GETNSID, body)
        os.close(opened)
        number = struct.unpack("=i", attributes(payload, 4)[1])[0] if payload else -1
        if number >= 0:
            found[number] = name
    return found


def plan(context: Context, actual: State, desired: State, owned: State) -> list[Step]:
    return linkplan.plan(actual, desired, owned)
