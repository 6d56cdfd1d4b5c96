"""The steps between the routers that are there and those of the document."""

from __future__ import annotations

from typing import Any

from kvmweb.net import addresses, changes, nftables
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.ground import Ground
from kvmweb.net.routers import checks, dhcp, legs, namespace, rules, state
from kvmweb.net.step import ADD_RULES, DROP_LEGS, DROP_RULES, Step, action

State = dict[str, Any]
Router = dict[str, Any]
Row = dict[str, Any]

_NOTHING: Row = {
    "legs": [], "routes": [], "rules": [], "dhcp": [], "dhcp_conf": "", "dhcp_pid": 0,
}  # fmt: skip


def plan(context: Context, actual: State, desired: State, owned: State) -> list[Step]:
    wanted = {one["name"]: one for one in desired.get("routers", [])}
    before = {one["name"]: one for one in owned.get("routers", [])}
    if not wanted and not before:
        return []
    if "routers" in actual["problems"]:
        raise NetError(actual["problems"]["routers"], field="routers")
    ground = Ground(actual, desired, owned)
    there = {one["name"]: one for one in state.join(actual)}
    bridges = checks.bridges(ground, owned)
    checks.check(context, ground, there, bridges)
    steps: list[Step] = []
    for name, router in before.items():
        if name not in wanted:
            steps += _leave(ground, legs.Place(name, bridges), router, there.get(name))
    for name, router in wanted.items():
        place = legs.Place(name, bridges)
        steps += _reach(ground, place, router, there.get(name), before.get(name))
    return steps


def _leave(ground: Ground, place: legs.Place, router: Router, have: Row | None) -> list[Step]:
    """The router left the document."""
    name = place.router
    if have is None or not have["is_ours"]:
        return [*_no_dhcp(name, have), *_stray_ends(ground, place, router["legs"], but=set())]
    rows = [row for row in ground.actual["links"] if row["namespace"] == name]
    stranger = namespace.strangers(name, rows)
    if stranger:
        raise NetError(stranger, field="routers")
    gone = [leg for leg in have["legs"] if leg["is_ours"]]
    ends = {leg["end"] for leg in gone}
    again = [_set_rules(name, have["rules"], before=[])] if have["rules"] else []
    return [
        *_no_dhcp(name, have),
        *_drop_legs(place, gone, have["routes"]),
        *_stray_ends(ground, place, router["legs"], but=ends),
        namespace.remove(name, forwards=have["forwards"], undo=again),
    ]


def _no_dhcp(name: str, have: Row | None) -> list[Step]:
    have = have if have and have["is_ours"] else _NOTHING
    if not have["dhcp_conf"] and not dhcp.directory(name).exists():
        return []
    return [dhcp.serve(name, "", before=have["dhcp_conf"], pid=have["dhcp_pid"])]


def _stray_ends(
    ground: Ground, place: legs.Place, several: list[Row], *, but: set[str | None]
) -> list[Step]:
    """Ends on the host without a leg: somebody renamed that, moved it, or deleted the namespace
    while a program in it keeps it alive. And ports of Open vSwitch without a link.
    """
    steps = []
    for leg in several:
        end = legs.host_end(place.router, leg["name"])
        if leg["parent"] or end in but:
            continue
        port = state.port_of(ground.actual, end)
        if port and port[0] in place.bridges:
            steps.append(legs.drop_port(*port))
        if ground.is_ours(end):
            steps.append(changes.remove_link(end, undo=[]))
            steps[-1].rank = DROP_LEGS
    return steps


def _drop_legs(place: legs.Place, gone: list[Row], routes: list[Row]) -> list[Step]:
    """VLANs before what they are on; routes go with the leg they leave by."""
    steps = []
    for leg in sorted(gone, key=lambda leg: leg["parent"] is None):
        lost = [
            addresses.add_route(row, touches=[], namespace=place.router)
            for row in routes
            if row["dev"] == leg["name"]
        ]
        steps += legs.drop(place, leg, lost)
    return steps


def _reach(
    ground: Ground, place: legs.Place, router: Router, have: Row | None, old: Router | None
) -> list[Step]:
    """``old``: the router in the document that was applied last."""
    name, steps = place.router, []
    if have is None:
        steps.append(namespace.add(name, forwards=router["forwards"]))
        have = _NOTHING
    elif have["forwards"] != router["forwards"]:
        steps.append(namespace.forward(name, forwards=router["forwards"]))
    gone = _gone(router, have, old)
    steps += _drop_legs(place, [leg for leg in have["legs"] if leg["name"] in gone], have["routes"])
    known = gone | {leg["name"] for leg in router["legs"]}
    ends = {leg["end"] for leg in have["legs"] if leg["name"] in known}
    steps += _stray_ends(ground, place, router["legs"], but=ends)
    steps += _legs(place, router, have, old, gone)
    steps += _routes(name, router, [row for row in have["routes"] if row["dev"] not in gone])
    steps += _rules(name, router, have)
    return [*steps, *_dhcp(name, router, have)]


def _gone(router: Router, have: Row, old: Router | None) -> set[str]:
    """Legs that are removed: not wanted any more, or to be made again in another way; and VLANs on
    them.
    """
    wanted = {leg["name"]: leg for leg in router["legs"]}
    before = {leg["name"] for leg in (old or {}).get("legs", [])}
    gone = {
        leg["name"]
        for leg in have["legs"]
        if leg["is_ours"]
        and (
            leg["name"] in before - wanted.keys()
            or (leg["name"] in wanted and _differs_for_good(leg, wanted[leg["name"]]))
        )
    }
    return gone | {leg["name"] for leg in have["legs"] if leg["parent"] in gone}


def _differs_for_good(have: Row, leg: Row) -> bool:
    if (have["parent"], have["vlan"]) != (leg["parent"], leg["vlan"]):
        return True
    return not leg["parent"] and have["end"] is None


def _legs(
    place: legs.Place, router: Router, have: Row, old: Router | None, gone: set[str]
) -> list[Step]:
    cidrs, before = rules.addresses(router), rules.addresses(old) if old else {}
    there = {leg["name"]: leg for leg in have["legs"] if leg["name"] not in gone}
    last = {leg["name"]: leg for leg in (old or {}).get("legs", [])}
    steps = []
    # What VLANs are on comes first.
    for leg in sorted(router["legs"], key=lambda leg: leg["parent"] is not None):
        name = leg["name"]
        if name in there:
            given = {**last[name], "addresses": before[name]} if name in last else None
            steps += legs.change(place, there[name], leg, given, cidrs[name])
        else:
            steps += legs.make(place, leg, cidrs[name])
    return steps


def _routes(name: str, router: Router, have: list[Row]) -> list[Step]:
    wanted = [addresses.plain_route(one) for one in router["routes"]]
    steps = [
        addresses.remove_route(row, touches=[], namespace=name)
        for row in have
        if not any(_is_same(row, one) for one in wanted)
    ]
    return steps + [
        addresses.add_route(one, touches=[], namespace=name)
        for one in wanted
        if not any(_is_same(row, one) for row in have)
    ]


def _is_same(row: Row, wanted: Row) -> bool:
    """A route of the document need not name its leg; IPv6's usual metric is 1024."""
    usual = 1024 if wanted["family"] == 6 else 0
    return (
        (row["family"], row["to"], row["via"]) == (wanted["family"], wanted["to"], wanted["via"])
        and row["dev"] == (wanted["dev"] or row["dev"])
        and row["metric"] == (wanted["metric"] or usual)
    )


def _rules(name: str, router: Router, have: Row) -> list[Step]:
    objects = rules.objects(router)
    if [nftables.text(one) for one in objects] == [nftables.text(one) for one in have["rules"]]:
        return []
    return [_set_rules(name, objects, before=have["rules"])]


def _set_rules(name: str, objects: list[nftables.Object], *, before: list[nftables.Object]) -> Step:
    rank = ADD_RULES if objects else DROP_RULES
    again = {"name": name, "objects": before, "lenient": True}
    back = Step("router.rules", again, rank, _rule_words(name, before, before=objects))
    commands = _rule_words(name, objects, before=before)
    return Step("router.rules", {"name": name, "objects": objects}, rank, commands, [back])


def _rule_words(
    name: str, objects: list[nftables.Object], *, before: list[nftables.Object]
) -> list[list[str]]:
    told = nftables.commands(rules.TABLE, objects, before=before)
    return [["ip", "netns", "exec", name, *words] for words in told]


@action("router.rules")
def _router_rules(
    context: Context, name: str, objects: list[nftables.Object], *, lenient: bool = False
) -> None:
    if lenient and not namespace.is_there(name):
        return
    nftables.replace(context, rules.TABLE, objects, namespace=name)


def _dhcp(name: str, router: Router, have: Row) -> list[Step]:
    text = dhcp.conf(router)
    if text == have["dhcp_conf"] and bool(text) == bool(have["dhcp_pid"]):
        return []
    return [dhcp.serve(name, text, before=have["dhcp_conf"], pid=have["dhcp_pid"])]
