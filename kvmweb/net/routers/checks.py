"""What can't be of the routers in a document, as sentences, before anything is done."""

from __future__ import annotations

import ipaddress
import re
import shutil
from collections.abc import Callable
from typing import Any

from kvmweb.net import namespaces
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError, StepError
from kvmweb.net.features import missing
from kvmweb.net.ground import Ground
from kvmweb.net.ovs import wanted
from kvmweb.net.routers import dhcp, legs, rules

Router = dict[str, Any]
Row = dict[str, Any]
Refuse = Callable[[str, str], NetError]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def check(
    context: Context, ground: Ground, there: dict[str, Row], bridges: dict[str, legs.Bridge]
) -> None:
    """``there``: the namespaces by name; ``bridges``: those that will be there."""
    ends: dict[str, str] = {}
    for number, router in enumerate(ground.desired.get("routers", [])):

        def refuse(part: str, sentence: str, at: int = number) -> NetError:
            return NetError(sentence, field=f"routers.{at}.{part}")

        name = router["name"]
        if not _NAME.fullmatch(name):
            raise refuse("name", f"“{name}” can't be a router's name.")
        _check_namespace(ground, router, there.get(name), refuse)
        _check_legs(ground, router, there.get(name), refuse, ends)
        _check_switches(ground, router, bridges, refuse)
        _check_networks(router, refuse)
        _check_routes(router, refuse)
        _check_rules(router, refuse)
        _check_dhcp(context, router, refuse, there.get(name, {}).get("dhcp_conf", ""))


def _check_namespace(ground: Ground, router: Router, row: Row | None, refuse: Refuse) -> None:
    name = router["name"]
    if not ground.actual.get("features", {}).get("netns", True):
        raise refuse("name", missing("netns"))
    if row and not row["is_ours"]:
        raise refuse(
            "name",
            f"There is a network namespace “{name}” on this host that was not made here. "
            "Choose another name.",
        )
    if not row and (namespaces.DIRECTORY / name).exists():
        raise refuse("name", f"“{name}” is the namespace this host lives in. Choose another name.")


def _check_legs(
    ground: Ground, router: Router, row: Row | None, refuse: Refuse, ends: dict[str, str]
) -> None:
    have = {leg["name"]: leg for leg in (row or {}).get("legs", [])}
    names = [leg["name"] for leg in router["legs"]]
    parents = {leg["name"] for leg in router["legs"] if not leg["parent"]}
    for number, leg in enumerate(router["legs"]):
        name, at = leg["name"], f"legs.{number}"
        if name == "lo" or names.index(name) != number:
            raise refuse(f"{at}.name", f"There is a leg {name} already.")
        if name in have and not have[name]["is_ours"]:
            raise refuse(f"{at}.name", f"There is an interface {name} in {router['name']} already.")
        if leg["parent"]:
            _check_vlan(ground, leg, parents, refuse, at)
        else:
            _check_end(ground, router, leg, have.get(name), refuse, at, ends)


def _check_switches(
    ground: Ground, router: Router, bridges: dict[str, legs.Bridge], refuse: Refuse
) -> None:
    for number, leg in enumerate(router["legs"]):
        if not leg["parent"]:
            _check_switch(ground, leg, bridges, refuse, f"legs.{number}")


def _check_vlan(ground: Ground, leg: Row, parents: set[str], refuse: Refuse, at: str) -> None:
    if leg["parent"] not in parents:
        raise refuse(f"{at}.parent", f"There is no leg {leg['parent']} for {leg['name']} to be on.")
    if leg["switch"] or leg["tag"] or leg["trunks"]:
        raise refuse(
            f"{at}.switch", f"{leg['name']} is a VLAN on {leg['parent']}, not on a bridge."
        )
    if not ground.actual["features"].get("vlan", True):
        raise refuse(
            f"{at}.vlan",
            f"{missing('vlan')} Give the router a leg of its own in VLAN {leg['vlan']} "
            "of the bridge instead.",
        )


def _check_end(
    ground: Ground, router: Router, leg: Row, have: Row | None, refuse: Refuse, at: str,
    ends: dict[str, str],
) -> None:  # fmt: skip
    end = legs.host_end(router["name"], leg["name"])
    whose = f"{leg['name']} of {router['name']}"
    taken = end in ends or end in ground.wanted or end in ground.switches
    row = ground.there.get(end)
    if taken or (row and not row["owner"] and (have or {}).get("end") != end):
        raise refuse(
            f"{at}.name",
            f"The end of {whose} on the host would be called {end}, and that name is taken"
            f"{f' by {ends[end]}' if end in ends else ''}. Choose another one for the leg.",
        )
    ends[end] = whose


def _check_switch(
    ground: Ground, leg: Row, bridges: dict[str, legs.Bridge], refuse: Refuse, at: str
) -> None:
    name = leg["switch"]
    if name is None:
        if leg["tag"] or leg["trunks"]:
            raise refuse(f"{at}.switch", f"A VLAN of {leg['name']} needs a bridge that it is in.")
        return
    bridge = bridges.get(name)
    if bridge is None:
        raise refuse(f"{at}.switch", f"There is no bridge {name} on this host.")
    if bridge.kind == "linux" and (leg["tag"] or leg["trunks"]) and not bridge.filters_vlans:
        if not ground.actual["features"].get("vlan_filtering", True):
            raise refuse(f"{at}.tag", missing("vlan_filtering"))
        raise refuse(f"{at}.tag", f"{name} does not filter VLANs. Switch that on for it first.")


def bridges(ground: Ground, owned: dict[str, Any]) -> dict[str, legs.Bridge]:
    """Those that will be there when all is done."""
    names = {*ground.there, *ground.wanted}
    found = {
        name: _linux(ground, name)
        for name in names
        if ground.kind(name) == "bridge" and ground.will_be(name)
    }
    return found | _switches(ground, {one["name"] for one in owned.get("switches", [])})


def _linux(ground: Ground, name: str) -> legs.Bridge:
    now, said = ground.there.get(name, {}), ground.wanted.get(name, {})
    # A bridge that somebody else made is “physical” in the document.
    row = said if said.get("kind") == "bridge" else now
    pvid = row["default_pvid"]
    if pvid is None:
        pvid = now.get("default_pvid", 1)
    return legs.Bridge(name, "linux", bool(row["vlan_filtering"]), pvid or None)


def _switches(ground: Ground, owned: set[str]) -> dict[str, legs.Bridge]:
    there = {one["name"]: one for one in ground.actual.get("switches", [])}
    specs = {one["name"]: one for one in ground.desired.get("switches", [])}
    leaving = owned - specs.keys()
    kept = {name: row for name, row in there.items() if not (name in leaving and row["is_ours"])}
    datapaths = ground.actual.get("ovs", {}).get("datapaths", [])
    made = {
        name: wanted.switch(spec, datapaths=datapaths, actual=there.get(name))
        for name, spec in specs.items()
    }
    return {
        name: legs.Bridge(name, "ovs", is_userspace=row["datapath_type"] == "netdev")
        for name, row in {**kept, **made}.items()
    }


def _check_networks(router: Router, refuse: Refuse) -> None:
    """Two legs in one network can't both be the way into it."""
    seen: list[tuple[Any, str]] = []
    for number, leg in enumerate(router["legs"]):
        for cidr in leg["addresses"]:
            network = ipaddress.ip_interface(cidr).network
            for other, name in seen:
                is_other = name != leg["name"] and other.version == network.version
                if is_other and network.overlaps(other):
                    sentence = f"{cidr} overlaps {other}, where {name} is."
                    raise refuse(f"legs.{number}.addresses", sentence)
            seen.append((network, leg["name"]))


def _check_routes(router: Router, refuse: Refuse) -> None:
    names = {leg["name"] for leg in router["legs"]}
    seen = set()
    for number, route in enumerate(router["routes"]):
        at = f"routes.{number}"
        if not route["via"] and not route["dev"]:
            raise refuse(f"{at}.via", f"The way to {route['to']} needs a gateway or a leg.")
        if route["dev"] and route["dev"] not in names:
            raise refuse(f"{at}.dev", f"{router['name']} has no leg {route['dev']}.")
        if route["via"] and not route["dev"] and not rules.network_of(router, route["via"]):
            raise refuse(
                f"{at}.via", f"{route['via']} is in no network of {router['name']}'s legs."
            )
        version = ipaddress.ip_address(route["via"]).version if route["via"] else 0
        key = (route["to"], version, route["metric"])
        if key in seen:
            raise refuse(f"{at}.to", f"There is a way to {route['to']} already.")
        seen.add(key)


def _check_rules(router: Router, refuse: Refuse) -> None:
    names = {leg["name"] for leg in router["legs"]}
    for part in ("snat", "dnat", "filters"):
        for number, one in enumerate(router[part]):
            at = f"{part}.{number}"
            for key in ("into", "out"):
                if one.get(key) and one[key] not in names:
                    raise refuse(f"{at}.{key}", f"{router['name']} has no leg {one[key]}.")
            keys = ("source", "except_to", "to", "address")
            given = [one[key] for key in keys if one.get(key) not in (None, "default")]
            if len({":" in text for text in given}) > 1:
                raise refuse(f"{at}.to", f"{' and '.join(given)}: use IPv4 or IPv6, not both.")
            if one.get("port") and one["protocol"] not in ("tcp", "udp", "sctp"):
                raise refuse(f"{at}.port", "Only tcp, udp and sctp have ports: choose one of them.")
            if one.get("to_port") and one["port"] is None:
                raise refuse(f"{at}.port", "Say which port is sent on to that one.")
            if part == "dnat" and one["protocol"] is None and one["address"] is None:
                raise refuse(f"{at}.address", "Say which address, or which port, is sent on.")


def _check_dhcp(context: Context, router: Router, refuse: Refuse, have: str) -> None:
    """Finally by dnsmasq itself, unless it ran by that very file already: ``have``."""
    names = {leg["name"] for leg in router["legs"]}
    if not router["dhcp"]:
        return
    if not shutil.which(dhcp.PROGRAM):
        raise refuse("dhcp", "The program “dnsmasq” is missing on this host.")
    for number, one in enumerate(router["dhcp"]):
        at = f"dhcp.{number}"
        if one["leg"] not in names:
            raise refuse(f"{at}.leg", f"{router['name']} has no leg {one['leg']}.")
        if not dhcp.is_plain(one):
            raise refuse(
                at,
                "dnsmasq takes letters, digits, “.”, “_” and “-” in names and domains, and no "
                "quotes or line ends in options.",
            )
        _check_range(router, one, refuse, at)
        _check_reservations(one, refuse, at)
    text = dhcp.conf(router)
    if text == have:
        return
    try:
        dhcp.test(context, text)
    except StepError as error:
        raise refuse("dhcp", error.sentence) from None


def _check_range(router: Router, one: Row, refuse: Refuse, at: str) -> None:
    network = dhcp.network(router, one)
    if network is None:
        raise refuse(f"{at}.start", f"{one['start']} is in no network of the leg {one['leg']}.")
    start, end = ipaddress.ip_address(one["start"]), ipaddress.ip_address(one["end"])
    if end not in ipaddress.ip_network(network) or int(end) < int(start):
        raise refuse(f"{at}.end", f"The range must end behind {start}, in {network}.")


def _check_reservations(one: Row, refuse: Refuse, at: str) -> None:
    for key in ("mac", "address"):
        seen: set[str] = set()
        for number, guest in enumerate(one["reservations"]):
            if guest[key] in seen:
                raise refuse(f"{at}.reservations.{number}.{key}", f"{guest[key]} is there twice.")
            seen.add(guest[key])
