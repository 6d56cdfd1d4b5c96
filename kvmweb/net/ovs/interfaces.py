"""Bridges and internal ports as interfaces of the host: up, with addresses, and with those that an
uplink had.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvmweb.net import addresses, changes, moves, step
from kvmweb.net.ground import Networks
from kvmweb.net.kernel import TEMPORARY
from kvmweb.net.ovs import wanted
from kvmweb.net.ovs.database import Row
from kvmweb.net.step import Step

State = dict[str, Any]


def interfaces(actual: State, desired: State, owned: State) -> Iterator[Step]:
    """Addresses and routes of what is removed come back by themselves (apply.py)."""
    if "links" not in actual:
        return
    links = {one["name"]: one for one in actual["links"] if not one["namespace"]}
    yield from _released_uplinks(actual, desired, owned)
    yield from _dropped_addresses(actual, desired, owned)
    networks = Networks(actual, desired)
    ours = {
        (one["name"], port["name"]): port["is_ours"]
        for one in actual["switches"]
        for port in one["ports"]
    }
    for number, spec in enumerate(desired.get("switches", [])):
        is_moving = _moves(actual, spec)
        if is_moving:
            yield moves.move_addresses(spec["uplink"], spec["name"], keep=[], actual=actual)
        for name, one, field in _internal(spec, f"switches.{number}"):
            is_bridge = name == spec["name"]
            is_up = spec["is_up"] if is_bridge else True
            rank = step.ADD_LEGS if is_bridge and is_moving else step.SET_UP
            # One that moves here from another bridge is made again.
            link = links.get(name) if (spec["name"], name) in ours else None
            if is_bridge or ours.get((spec["name"], name), True):
                yield from _up(name, link, is_up=is_up, rank=rank)
            yield from _addresses(name, one, link, networks, field)


def _internal(spec: dict[str, Any], field: str) -> Iterator[tuple[str, list[str], str]]:
    """Each internal interface with its addresses and the field that says them."""
    yield spec["name"], _of_bridge(spec), f"{field}.addresses"
    for number, port in enumerate(spec["ports"]):
        if port["kind"] == "internal" and port["name"] != spec["name"]:
            yield port["name"], port["addresses"], f"{field}.ports.{number}.addresses"


def _of_bridge(spec: dict[str, Any]) -> list[str]:
    own = next((one for one in spec["ports"] if one["name"] == spec["name"]), None)
    return [*spec["addresses"], *(own["addresses"] if own else [])]


def _up(name: str, link: Row | None, *, is_up: bool, rank: int) -> Iterator[Step]:
    now = bool(link and link["is_up"])
    if now != is_up:
        before = {"is_up": now} if link else {}
        yield changes.set_link(name, "", {"is_up": is_up}, before=before, rank=rank)


def _addresses(
    name: str, wanted: list[str], link: Row | None, networks: Networks, field: str
) -> Iterator[Step]:
    now = link["addresses"] if link else []
    for at, address in enumerate(wanted):
        if address not in now:
            networks.refuse_overlap(name, address, field=f"{field}.{at}")
            yield addresses.add_address(addresses.plain_address(name, address))


def _given(document: State) -> dict[str, list[str]]:
    return {
        name: several
        for spec in document.get("switches", [])
        for name, several, _ in _internal(spec, "")
    }


def _dropped_addresses(actual: State, desired: State, owned: State) -> Iterator[Step]:
    """Of interfaces that stay; with the others they go."""
    ours, stays = _given(owned), _given(desired)
    foreign = {one["name"] for one in actual["switches"] if not one["is_ours"]}
    for row in actual["addresses"]:
        name = row["dev"]
        is_ours = not row["namespace"] and row["address"] in ours.get(name, [])
        stays_there = name in stays or name in foreign
        if is_ours and stays_there and row["address"] not in stays.get(name, []):
            yield addresses.remove_address(_plain(row))


def _plain(row: Row) -> Row:
    """Without what passes: a plan made a second later is to be the same."""
    return {key: row[key] for key in ("dev", "family", "address", "peer", "broadcast", "scope")}


def _moves(actual: State, spec: dict[str, Any]) -> bool:
    """The uplink has addresses: it is no port yet, or the host was started again meanwhile."""
    return bool(spec["uplink"]) and any(
        row["dev"] == spec["uplink"]
        and not row["namespace"]
        and row["scope"] == "global"
        and not row["flags"] & TEMPORARY
        for row in actual["addresses"]
    )


def _released_uplinks(actual: State, desired: State, owned: State) -> Iterator[Step]:
    """A NIC gets back what its bridge took over, but not what the document gave the bridge."""
    there = {one["name"]: one for one in actual["switches"]}
    now = {one["name"]: one for one in desired.get("switches", [])}
    for spec in owned.get("switches", []):
        name, uplink = spec["name"], spec["uplink"]
        stays = name in now and now[name]["uplink"] == uplink
        if uplink and not stays and _is_our_port(there.get(name), uplink):
            keep = [*_of_bridge(spec), *(_of_bridge(now[name]) if name in now else [])]
            back = moves.move_addresses(name, uplink, keep=keep, actual=actual)
            back.rank = step.RELEASE_UPLINKS
            yield back


def _is_our_port(bridge: Row | None, name: str) -> bool:
    return bridge is not None and any(
        port["is_ours"] and name in wanted.names(port["interfaces"]) for port in bridge["ports"]
    )
