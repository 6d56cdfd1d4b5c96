"""Steps between the links that are there and those that are wanted."""

from __future__ import annotations

from typing import Any

from kvmweb.net import (
    addresses,
    changes,
    linkchecks,
    linkremovals,
    moves,
    portplan,
    routeplan,
)
from kvmweb.net import step as ranks
from kvmweb.net.ground import Document, Ground, Row
from kvmweb.net.kinds import KINDS
from kvmweb.net.step import Step

# What a link of ours gets back when the document does not name it any more.
_USUAL_MTU = {"bridge": 1500, "veth": 1500, "dummy": 1500, "bond": 1500, "tap": 1500}


def plan(actual: Document, desired: Document, owned: Document) -> list[Step]:
    ground = Ground(actual, desired, owned)
    linkchecks.check(ground)
    gone = linkremovals.gone(ground)
    order = _order(ground)
    steps = routeplan.dropped(ground) + _released_uplinks(ground) + _dropped_addresses(ground, gone)
    steps += linkremovals.steps(ground, gone)
    for name in order:
        steps += _made(ground, name, gone)
    for name in order:
        steps += _changed(ground, name, gone)
    for name in [one for one in ground.owned if one not in ground.wanted]:
        steps += _put_back(ground, name, gone)
    return steps + routeplan.added(ground)


def _order(ground: Ground) -> list[str]:
    """Wanted links, each behind what it stands on."""
    order: dict[str, None] = {}

    def put(name: str, above: frozenset[str]) -> None:
        if name in order or name not in ground.wanted:
            return
        if name in above:
            raise ground.refuse(name, "parent", f"{name} would stand on itself.")
        for part in ("parent", "dev"):
            put(ground.wanted[name].get(part) or "", above | {name})
        order[name] = None

    for name in ground.wanted:
        put(name, frozenset())
    return list(order)


def _made(ground: Ground, name: str, gone: set[str]) -> list[Step]:
    link = ground.wanted[name]
    if not ground.is_made(link) or (name in ground.there and name not in gone):
        return []
    if link["kind"] == "veth":
        peer = ground.wanted[link["peer"]]
        is_second = ground.places[peer["name"]] < ground.places[name]
        return [] if is_second else [changes.add_link(link, peer=peer)]
    step = changes.add_link(_like_its_uplink(ground, link))
    if {link.get("parent"), link.get("dev")} & (ground.switches | {*ground.wanted_switch_of}):
        step.rank = ranks.ADD_LEGS  # it stands on what Open vSwitch makes
    return [step]


def _like_its_uplink(ground: Ground, link: Row) -> Row:
    """A bridge shows the MAC of the NIC whose addresses it takes over, or the network around, which
    knows that, loses the host (leases, port security).
    """
    uplink = ground.there.get(link.get("uplink") or "")
    if not uplink:
        return link
    return {**link, "mac": link["mac"] or uplink["mac"], "mtu": link["mtu"] or uplink["mtu"]}


def _changed(ground: Ground, name: str, gone: set[str]) -> list[Step]:
    row = ground.there.get(name) if name not in gone else None
    steps = _values(ground, name, row) if row else []
    steps += _offloads(ground, name, row)
    steps += _membership(ground, name, row, gone)
    steps += _primary(ground, name, row)
    steps += portplan.port(ground, name, row, gone)
    steps += portplan.vlans(ground, name, row, gone)
    steps += portplan.own_vlans(ground, name, row)
    steps += _addresses(ground, name, row)
    return steps + _up(ground, name, row, gone)


def _values(ground: Ground, name: str, row: Row) -> list[Step]:
    """MTU, MAC and what the kind has, of a link that is there."""
    link = _mac_of_uplink(ground, name, row)
    wanted = {part: _wanted(ground, name, part, row) for part in ("mtu", "mac")}
    wanted["mac"] = link["mac"] or wanted["mac"]
    if ground.is_made(link):
        kind = KINDS[link["kind"]]
        names = [one.name for one in kind.attributes if one.name not in kind.fixed]
        wanted |= {part: link.get(part) for part in names if part != "primary"}
    values = {
        part: value for part, value in wanted.items() if value is not None and value != row[part]
    }
    if not values:
        return []
    before = {part: row[part] for part in values}
    return [changes.set_link(name, row["kind"], values, before=before, rank=ranks.SET_LINKS)]


def _mac_of_uplink(ground: Ground, name: str, row: Row) -> Row:
    link = ground.wanted[name]
    uplink = link.get("uplink") or ""
    joins = uplink in ground.there and ground.there[uplink]["master"] != name
    return {**link, "mac": link["mac"] or ground.there[uplink]["mac"]} if joins else link


def _wanted(ground: Ground, name: str, part: str, row: Row) -> Any:
    """What is said, or what was before we said something."""
    link = ground.wanted.get(name, {})
    if link.get(part) is not None:
        return link[part]
    ours = ground.owned.get(name, {}).get(part)
    if ours is None or row[part] != ours:
        return None
    if ground.is_made(link or ground.owned[name]):
        return _USUAL_MTU.get(row["kind"]) if part == "mtu" else None
    return ground.actual.get("originals", {}).get(name, {}).get(part)


def _offloads(ground: Ground, name: str, row: Row | None) -> list[Step]:
    wanted = dict(ground.wanted.get(name, {}).get("offloads", {}))
    original = ground.actual.get("originals", {}).get(name, {}).get("offloads", {})
    for feature in ground.owned.get(name, {}).get("offloads", {}):
        if feature not in wanted and feature in original:
            wanted[feature] = original[feature]
    now = row["offloads"] if row else {}
    values = {feature: is_on for feature, is_on in wanted.items() if now.get(feature) != is_on}
    if not values:
        return []
    if row:
        _check_offloads(ground, name, row, values)
    before = {feature: now[feature] for feature in values if feature in now}
    return [changes.set_offloads(name, values, before=before)]


def _check_offloads(ground: Ground, name: str, row: Row, values: dict[str, bool]) -> None:
    for feature in values:
        if feature in row["fixed_offloads"]:
            state = "on" if row["offloads"][feature] else "off"
            raise ground.refuse(
                name, f"offloads.{feature}", f"{name} has {feature} {state} and can't change it."
            )


def _membership(ground: Ground, name: str, row: Row | None, gone: set[str]) -> list[Step]:
    master = ground.master(name)
    now = row["master"] if row and row["master"] not in gone else None
    if master == now:
        return []
    if not master:
        return _release(ground, name, now)
    if ground.uplinks.get(name) == master and row:
        return []  # below, with its addresses
    is_bond = ground.kind(master) == "bond"
    was_up = bool(row and row["is_up"])
    return [changes.set_master(name, master, before=now, is_bond=is_bond, was_up=was_up)]


def _release(ground: Ground, name: str, now: str | None) -> list[Step]:
    """Out of a bridge or bond that we put it into; what another did is his affair, unless the link
    is ours. What Open vSwitch or a router has of ours is theirs.
    """
    if not now or ground.there.get(now, {}).get("kind") not in ("bridge", "bond"):
        return []
    link = ground.wanted.get(name) or ground.owned[name]
    is_made = ground.is_made(link) and ground.is_ours(name)
    if (ground.owned_master(name) != now and not is_made) or ground.owned_uplinks.get(name) == now:
        return []
    original = ground.actual.get("originals", {}).get(name, {}).get("master")
    back = original if not is_made and original in ground.there and original != now else None
    step = changes.set_master(name, back, before=now)
    step.rank = ranks.DROP_PORTS
    return [step]


def _uplink(ground: Ground, name: str) -> list[Step]:
    """The bridge ``name`` takes over what its uplink has."""
    uplink = ground.wanted[name].get("uplink") or ""
    row = ground.there.get(uplink)
    if not row or row["master"] == name:
        return []
    return [moves.move_addresses(uplink, name, keep=[], actual=ground.actual, joins="in")]


def _released_uplinks(ground: Ground) -> list[Step]:
    """A NIC gets back what its bridge took over, but not what the document gave the bridge."""
    steps = []
    for uplink, bridge in ground.owned_uplinks.items():
        is_in = ground.there.get(uplink, {}).get("master") == bridge and ground.is_ours(bridge)
        if is_in and ground.uplinks.get(uplink) != bridge:
            keep = [*ground.owned[bridge]["addresses"]]
            keep += ground.wanted.get(bridge, {}).get("addresses", [])
            step = moves.move_addresses(
                bridge, uplink, keep=keep, actual=ground.actual, joins="out"
            )
            step.rank = ranks.RELEASE_UPLINKS
            steps.append(step)
    return steps


def _primary(ground: Ground, name: str, row: Row | None) -> list[Step]:
    link = ground.wanted[name]
    if link["kind"] != "bond":
        return []
    now = row["primary"] if row else None
    if link.get("primary") == now:
        return []
    values = {"primary": link.get("primary")}
    return [changes.set_link(name, "bond", values, before={"primary": now}, rank=ranks.SET_PORTS)]


def _addresses(ground: Ground, name: str, row: Row | None) -> list[Step]:
    now = row["addresses"] if row else []
    return _uplink(ground, name) + [
        addresses.add_address(addresses.plain_address(name, one))
        for one in ground.wanted[name]["addresses"]
        if one not in now
    ]


def _dropped_addresses(ground: Ground, gone: set[str]) -> list[Step]:
    steps = []
    for row in ground.actual["addresses"]:
        name = row["dev"]
        if row["namespace"] or name in gone:
            continue
        ours = ground.owned.get(name, {}).get("addresses", [])
        if row["address"] in ours and row["address"] not in _wanted_addresses(ground, name):
            steps.append(addresses.remove_address(routeplan.lasting(row)))
    return steps


def _wanted_addresses(ground: Ground, name: str) -> list[str]:
    found: list[str] = ground.wanted.get(name, {}).get("addresses", [])
    return found


def _up(ground: Ground, name: str, row: Row | None, gone: set[str]) -> list[Step]:
    wanted, now = ground.wanted[name]["is_up"], bool(row and row["is_up"])
    now = now and not _leaves_bond(ground, name, gone)
    master = ground.master(name) or ""
    joins_bond = ground.kind(master) == "bond" and (not row or row["master"] != master)
    taken_over = name in ground.uplinks.values() and bool(_uplink(ground, name))
    if wanted and (joins_bond or taken_over):
        return []  # that sets it up
    if wanted == now:
        return []
    return [
        changes.set_link(
            name, "", {"is_up": wanted}, before={"is_up": now} if row else {}, rank=ranks.SET_UP
        )
    ]


def _leaves_bond(ground: Ground, name: str, gone: set[str]) -> bool:
    """A bond leaves its former members down."""
    master = ground.there[name]["master"]
    is_bond = ground.there.get(master or "", {}).get("kind") == "bond"
    return is_bond and (master in gone or ground.master(name) != master)


def _put_back(ground: Ground, name: str, gone: set[str]) -> list[Step]:
    """A link that we did not make and that left the document."""
    row = ground.there.get(name)
    if ground.is_made(ground.owned[name]) or not row:
        return []
    values = {part: _wanted(ground, name, part, row) for part in ("mtu", "mac")}
    values = {part: value for part, value in values.items() if value not in (None, row[part])}
    steps = _offloads(ground, name, row)
    if values:
        before = {part: row[part] for part in values}
        steps.append(
            changes.set_link(name, row["kind"], values, before=before, rank=ranks.SET_LINKS)
        )
    if row["master"] not in gone:
        steps += _release(ground, name, row["master"])
    was_up = ground.actual.get("originals", {}).get(name, {}).get("is_up")
    is_up = row["is_up"] and not _leaves_bond(ground, name, gone)
    ours = row["is_up"] == ground.owned[name]["is_up"]
    if was_up is not None and ours and is_up != was_up:
        up = {"is_up": was_up}
        steps.append(changes.set_link(name, "", up, before={"is_up": is_up}, rank=ranks.SET_UP))
    return steps
