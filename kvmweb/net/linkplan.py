"""Steps between the links that are there and those that are wanted."""

from __future__ import annotations

from typing import Any

from kvmweb.net import addresses, changes, linkchecks
from kvmweb.net import step as ranks
from kvmweb.net.errors import NetError
from kvmweb.net.ground import Document, Ground, Row
from kvmweb.net.kinds import KINDS
from kvmweb.net.step import Step

_PORT_VALUES = ("cost", "priority", "is_isolated", "is_hairpin")
# What a link of ours gets back when the document does not name it any more.
_USUAL_MTU = {"bridge": 1500, "veth": 1500, "dummy": 1500, "bond": 1500, "tap": 1500}


def plan(actual: Document, desired: Document, owned: Document) -> list[Step]:
    ground = Ground(actual, desired, owned)
    linkchecks.check(ground)
    gone = _gone(ground)
    order = _order(ground)
    steps = _dropped_routes(ground) + _released_uplinks(ground) + _dropped_addresses(ground, gone)
    steps += _removals(ground, gone)
    for name in order:
        steps += _made(ground, name, gone)
    for name in order:
        steps += _changed(ground, name, gone)
    for name in [one for one in ground.owned if one not in ground.wanted]:
        steps += _put_back(ground, name, gone)
    return steps + _added_routes(ground)


def _gone(ground: Ground) -> set[str]:
    """What is removed: what is not wanted any more, or can only be changed by making it again; and
    what stands on that, for the kernel removes it too.
    """
    gone = {
        name
        for name, link in ground.owned.items()
        if name not in ground.wanted and ground.is_made(link) and ground.is_ours(name)
    }
    gone |= {name for name in ground.wanted if _must_be_made_again(ground, name)}
    waiting = list(gone)
    while waiting:
        for name in _leaving_with(ground, waiting.pop()):
            if name not in gone:
                gone.add(name)
                waiting.append(name)
    for name in gone:
        _check_removal(ground, name, gone)
    return gone


def _must_be_made_again(ground: Ground, name: str) -> bool:
    link, row = ground.wanted[name], ground.there.get(name)
    if row is None or not ground.is_made(link):
        return False
    if row["kind"] != link["kind"]:
        return True
    return any(_differs_for_good(link, row, part) for part in KINDS[link["kind"]].fixed)


def _differs_for_good(link: Row, row: Row, part: str) -> bool:
    if part == "lacp_rate" and link.get(part) is None:
        return False
    return bool(link.get(part) != row.get(part))


def _leaving_with(ground: Ground, name: str) -> list[str]:
    """The other end of a pair, and what stands on a link."""
    found = [
        row["name"]
        for row in ground.there.values()
        if row.get("parent") == name and not row.get("parent_namespace")
    ]
    row = ground.there[name]
    if row["kind"] == "veth" and row.get("peer") and not row["peer_namespace"]:
        found.append(row["peer"])
    return found


def _check_removal(ground: Ground, name: str, gone: set[str]) -> None:
    def refuse(sentence: str) -> None:
        raise NetError(sentence, field=ground.field(name, "name"))

    row = ground.there[name]
    if not ground.is_ours(name):
        refuse(f"{name} was not made here, but stands on what would be removed. Remove it first.")
    if row["kind"] == "tap" and row["carrier"]:
        refuse(f"{name} is in use by a machine. Shut that down, or take its card out, first.")
    strangers = [
        port
        for port in ground.ports.get(name, [])
        if port not in gone and name not in (ground.owned_master(port), ground.master(port))
        and not _is_end_of_leg(ground.there[port])
    ]  # fmt: skip
    if strangers:
        refuse(f"{name} is in use: {_listed(strangers)} in it. Take that out first.")
    for router in ground.desired.get("routers", []):
        if any(leg.get("switch") == name for leg in router.get("legs", [])):
            refuse(f"{name} is in use: the router {router['name']} stands on it.")
    if name in ground.wanted_switch_of and name not in ground.wanted:
        refuse(f"{name} is in use: it is a port of {ground.wanted_switch_of[name]}.")


def _is_end_of_leg(row: Row) -> bool:
    """Of a router of ours; routers.py takes it away."""
    return bool(row["owner"] and row.get("peer_namespace"))


def _listed(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"


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


def _removals(ground: Ground, gone: set[str]) -> list[Step]:
    """Members before bridges, what stands on a link before that."""

    def depth(name: str) -> int:
        row, found = ground.there[name], 0
        while row and found < 10:
            below = row.get("parent") or row.get("dev") or row["master"]
            row, found = ground.there.get(below or "", {}), found + 1
        return found

    steps: list[Step] = []
    done: set[str] = set()
    for name in sorted(gone, key=lambda name: (-depth(name), name)):
        row = ground.there[name]
        if name in done or row.get("parent") in gone:
            continue
        peer = row["peer"] if row["kind"] == "veth" and row["peer"] in gone else None
        done |= {name, peer or name}
        above = [one for one in gone if ground.there[one].get("parent") == name]
        undo = [one for each in [name, *above] for one in _made_again(ground, each, gone)]
        steps.append(changes.remove_link(name, undo=undo))
        steps[-1].touches += [one for one in (peer, row["master"], *above) if one]
    return steps


def _made_again(ground: Ground, name: str, gone: set[str]) -> list[Step]:
    """How a removed link comes back; its addresses and routes do with ``put_back`` (apply.py)."""
    row = ground.there[name]
    ends = [row]
    if row["kind"] == "veth" and row["peer"] in gone:
        ends.append(ground.there[row["peer"]])
    peer = ends[1] if len(ends) > 1 else None
    steps = [changes.add_link(row, peer=peer)]
    for end in ends:
        steps += _membership_again(end)
        if end["is_up"]:
            up = {"is_up": True}
            steps.append(_lenient(end["name"], end["kind"], up))
    for port in ground.ports.get(name, []):
        if port not in gone and ground.owned_uplinks.get(port) != name:
            steps += _membership_again(ground.there[port])
    if row["kind"] == "bridge" and row.get("vlans"):
        steps.append(changes.set_vlans(name, changes.vlans_of(row), before={}, itself=True))
    if row["kind"] == "bond" and row["primary"]:
        steps.append(_lenient(name, "bond", {"primary": row["primary"]}))
    for one in steps:
        one.undo = []
    return steps


def _lenient(name: str, kind: str, values: dict[str, Any]) -> Step:
    """The undo of a change: it forgives that the link is missing."""
    return changes.set_link(name, kind, {}, before=values, rank=ranks.SET_LINKS).undo[0]


def _membership_again(row: Row) -> list[Step]:
    if not row["master"]:
        return []
    name = row["name"]
    steps = changes.set_master(name, None, before=row["master"]).undo
    port = row.get("port")
    if port:
        values = {part: port[part] for part in _PORT_VALUES}
        steps = steps + changes.set_port(name, {}, before=values).undo
        if port["pvid"] or port["vlans"] or port["untagged"]:
            vlans = changes.vlans_of(port)
            steps = steps + changes.set_vlans(name, {"1": "pvid untagged"}, before=vlans).undo
    return steps


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
    steps += _port(ground, name, row, gone)
    steps += _vlans(ground, name, row, gone)
    steps += _own_vlans(ground, name, row)
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
    return [addresses.move_addresses(uplink, name, keep=[], actual=ground.actual, joins="in")]


def _released_uplinks(ground: Ground) -> list[Step]:
    """A NIC gets back what its bridge took over, but not what the document gave the bridge."""
    steps = []
    for uplink, bridge in ground.owned_uplinks.items():
        is_in = ground.there.get(uplink, {}).get("master") == bridge and ground.is_ours(bridge)
        if is_in and ground.uplinks.get(uplink) != bridge:
            keep = [*ground.owned[bridge]["addresses"]]
            keep += ground.wanted.get(bridge, {}).get("addresses", [])
            step = addresses.move_addresses(
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


def _is_in_bridge(ground: Ground, name: str) -> bool:
    master = ground.master(name)
    return bool(master) and ground.kind(master or "") == "bridge"


def _port(ground: Ground, name: str, row: Row | None, gone: set[str]) -> list[Step]:
    if not _is_in_bridge(ground, name):
        return []
    wanted = ground.wanted[name]["port"]
    now = _port_now(ground, name, row, gone)
    values = {
        part: wanted[part]
        for part in _PORT_VALUES
        if wanted.get(part) is not None and wanted[part] != now.get(part, False)
    }
    if not values:
        return []
    before = {part: now[part] for part in values if part in now}
    return [changes.set_port(name, values, before=before)]


def _port_now(ground: Ground, name: str, row: Row | None, gone: set[str]) -> Row:
    """Of the bridge it stays in; of another one nothing is known yet."""
    master = ground.master(name)
    if row and row["master"] == master and master not in gone:
        port: Row = row.get("port", {})
        return port
    return {}


def _vlans(ground: Ground, name: str, row: Row | None, gone: set[str]) -> list[Step]:
    """Exactly those the document names, if it names any; else the bridge's default."""
    if not _is_in_bridge(ground, name):
        return []
    wanted = changes.vlans_of(ground.wanted[name]["port"])
    master = ground.master(name) or ""
    usual = _usual_vlans(ground, master)
    if not wanted and not _names_vlans(ground.owned.get(name, {})):
        return []
    port = _port_now(ground, name, row, gone)
    now = changes.vlans_of(port) if port else usual
    if (wanted or usual) == now:
        return []
    return [changes.set_vlans(name, wanted or usual, before=now)]


def _names_vlans(link: Row) -> bool:
    port = link.get("port", {})
    return bool(port.get("pvid") or port.get("vlans"))


def _usual_vlans(ground: Ground, bridge: str) -> changes.Vlans:
    """What a new port gets, and the bridge itself."""
    row = ground.wanted.get(bridge) or ground.there.get(bridge, {})
    default = row.get("default_pvid")
    if default is None:
        default = ground.there.get(bridge, {}).get("default_pvid")
    number = 1 if default is None else default
    return {str(number): "pvid untagged"} if number else {}


def _own_vlans(ground: Ground, name: str, row: Row | None) -> list[Step]:
    """Tagged ones on a bridge itself; those that somebody else added stay."""
    link = ground.wanted[name]
    if link["kind"] != "bridge":
        return []
    now = changes.vlans_of(row) if row else _usual_vlans(ground, name)
    wanted = {str(vlan) for vlan in link["vlans"]}
    drop = {str(vlan) for vlan in ground.owned.get(name, {}).get("vlans", [])} - wanted
    after = {vlan: how for vlan, how in now.items() if vlan not in drop or how}
    after |= {vlan: "" for vlan in sorted(wanted, key=int) if vlan not in after}
    return [changes.set_vlans(name, after, before=now, itself=True)] if after != now else []


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
            steps.append(addresses.remove_address(_lasting(row)))
    return steps


def _wanted_addresses(ground: Ground, name: str) -> list[str]:
    found: list[str] = ground.wanted.get(name, {}).get("addresses", [])
    return found


def _lasting(row: Row) -> Row:
    """Without what passes: a plan made a second later is to be the same."""
    passing = (
        "valid",
        "preferred",
        "expires",
        "namespace",
        "flags",
        "is_permanent",
        "is_tentative",
    )
    return {key: value for key, value in row.items() if key not in passing}


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


def _dropped_routes(ground: Ground) -> list[Step]:
    wanted = [_route_key(addresses.plain_route(one)) for one in ground.desired.get("routes", [])]
    return [
        addresses.remove_route(_lasting(row))
        for row in ground.actual["routes"]
        if not row["namespace"] and row["protocol"] == "kvmweb" and _route_key(row) not in wanted
        and not any(_is_same_route(row, key) for key in wanted)
    ]  # fmt: skip


def _added_routes(ground: Ground) -> list[Step]:
    rows = [row for row in ground.actual["routes"] if not row["namespace"]]
    default = [row["name"] for row in ground.there.values() if row["is_default"]]
    steps = []
    for one in ground.desired.get("routes", []):
        row = addresses.plain_route(one)
        if not any(_is_same_route(there, _route_key(row)) for there in rows):
            touches = default if row["to"] == "default" else []
            touches = [*touches, *([row["dev"]] if row["dev"] else [])]
            steps.append(addresses.add_route(row, touches=touches))
    return steps


_Key = tuple[int, str, str | None, str | None, int]


def _route_key(row: Row) -> _Key:
    usual = 1024 if row["family"] == 6 else 0
    return row["family"], row["to"], row["via"], row["dev"], row["metric"] or usual


def _is_same_route(row: Row, key: _Key) -> bool:
    """A route of the document need not name its interface."""
    mine = _route_key(row)
    return mine == key or (key[3] is None and mine == (*key[:3], row["dev"], key[4]))
