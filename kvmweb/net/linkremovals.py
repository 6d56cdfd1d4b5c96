"""Links that are removed, with what stands on them, and how they come back if that is undone."""

from __future__ import annotations

from typing import Any

from kvmweb.net import changes
from kvmweb.net import step as ranks
from kvmweb.net.errors import NetError
from kvmweb.net.ground import Ground, Row
from kvmweb.net.kinds import KINDS
from kvmweb.net.portplan import PORT_VALUES
from kvmweb.net.step import Step


def gone(ground: Ground) -> set[str]:
    """What is removed: what is not wanted any more, or can only be changed by making it again; and
    what stands on that, for the kernel removes it too.
    """
    found = {
        name
        for name, link in ground.owned.items()
        if name not in ground.wanted and ground.is_made(link) and ground.is_ours(name)
    }
    found |= {name for name in ground.wanted if _must_be_made_again(ground, name)}
    waiting = list(found)
    while waiting:
        for name in _leaving_with(ground, waiting.pop()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    for name in found:
        _check_removal(ground, name, found)
    return found


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


def steps(ground: Ground, gone: set[str]) -> list[Step]:
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
        values = {part: port[part] for part in PORT_VALUES}
        steps = steps + changes.set_port(name, {}, before=values).undo
        if port["pvid"] or port["vlans"] or port["untagged"]:
            vlans = changes.vlans_of(port)
            steps = steps + changes.set_vlans(name, {"1": "pvid untagged"}, before=vlans).undo
    return steps
