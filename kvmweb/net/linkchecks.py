"""What can't be, said before anything is done: each a sentence and the field to blame."""

from __future__ import annotations

from kvmweb.net import features
from kvmweb.net.errors import NetError
from kvmweb.net.ground import Ground, Row

_MASTERS = ("bridge", "bond")


def check(ground: Ground) -> None:
    """``NetError`` for the first thing that is wrong."""
    for name, link in ground.wanted.items():
        _check_name(ground, name, link)
        _check_kernel(ground, name, link)
        _check_below(ground, name, link)
        _check_bond(ground, name, link)
        _check_port(ground, name, link)
        _check_addresses(ground, name, link)
    for uplink, bridge in ground.uplinks.items():
        _check_uplink(ground, uplink, bridge)
    for at, route in enumerate(ground.desired.get("routes", [])):
        _check_route(ground, at, route)


def _check_name(ground: Ground, name: str, link: Row) -> None:
    if not ground.is_made(link):
        if name not in ground.there:
            raise ground.refuse(name, "name", f"There is no interface “{name}” on this host.")
        return
    if name in ground.there and not ground.is_ours(name):
        raise ground.refuse(
            name, "name", f"“{name}” is there already and was not made here. Choose another name."
        )


def _check_kernel(ground: Ground, name: str, link: Row) -> None:
    known = ground.actual.get("features", {})
    if known.get(link["kind"]) is False:
        raise ground.refuse(name, "kind", features.missing(link["kind"]))
    if link.get("vlan_filtering") and known.get("vlan_filtering") is False:
        raise ground.refuse(name, "vlan_filtering", features.missing("vlan_filtering"))


def _check_below(ground: Ground, name: str, link: Row) -> None:
    """What it stands on: a VLAN's parent, a VXLAN's device, a veth's other end."""
    for part in ("parent", "dev"):
        below = link.get(part)
        if below and (below == name or not ground.will_be(below)):
            raise ground.refuse(name, part, f"There is no interface “{below}” for {name}.")
    if link["kind"] == "veth":
        other = ground.wanted.get(link["peer"], {})
        if other.get("kind") != "veth" or other["peer"] != name:
            raise ground.refuse(
                name, "peer", f"The other end of {name}, “{link['peer']}”, must be in the document."
            )
    if link["kind"].startswith("mac") and ground.kind(link["parent"]) in ("loopback", "tap"):
        raise ground.refuse(name, "parent", f"{link['parent']} can't carry a {link['kind']}.")


def _check_bond(ground: Ground, name: str, link: Row) -> None:
    if link["kind"] != "bond":
        return
    if link.get("lacp_rate") and link["mode"] != "802.3ad":
        raise ground.refuse(name, "lacp_rate", "Only bonds of mode 802.3ad have a LACP rate.")
    primary = link.get("primary")
    if primary and ground.master(primary) != name:
        raise ground.refuse(name, "primary", f"{primary} is not a member of {name}.")
    if primary and link["mode"] not in ("active-backup", "balance-tlb", "balance-alb"):
        raise ground.refuse(
            name, "primary", f"A bond of mode {link['mode']} has no primary member."
        )


def _check_port(ground: Ground, name: str, link: Row) -> None:
    master = link.get("master")
    if not master:
        return
    if master in ground.switches:
        raise ground.refuse(
            name, "master", f"{master} is an Open vSwitch bridge: add {name} to its ports."
        )
    if not ground.will_be(master) or ground.kind(master) not in _MASTERS:
        raise ground.refuse(name, "master", f"There is no bridge or bond “{master}” on this host.")
    if ground.kind(name) == "bridge" and ground.kind(master) == "bridge":
        raise ground.refuse(name, "master", "A bridge can't be a port of another bridge.")
    if ground.kind(name) == "loopback":
        raise ground.refuse(name, "master", f"{name} can't be a port of a bridge or bond.")
    _check_circle(ground, name)
    _check_loop(ground, name, link, master)
    _check_free(ground, name, master, "master")
    _check_vlans(ground, name, link, master)


def _check_circle(ground: Ground, name: str) -> None:
    seen, at = {name}, ground.master(name)
    while at:
        if at in seen:
            raise ground.refuse(name, "master", f"{name} would be a port of itself.")
        seen.add(at)
        at = ground.master(at)


def _check_loop(ground: Ground, name: str, link: Row, master: str) -> None:
    """Frames would go round for ever, and take the host's processors with them."""
    peer = link.get("peer") or ground.there.get(name, {}).get("peer")
    bridge = ground.wanted.get(master) or ground.there.get(master, {})
    if peer and ground.master(peer) == master and not bridge.get("stp"):
        raise ground.refuse(
            name, "master",
            f"{name} and {peer} are the two ends of one pair: both in {master} would be a loop.",
        )  # fmt: skip


def _check_free(ground: Ground, name: str, master: str, part: str) -> None:
    """It is not in another bridge by somebody else's doing."""
    now = ground.there.get(name, {}).get("master")
    switch = ground.switch_of.get(name)
    owner = master if part == "uplink" else name
    if switch and ground.wanted_switch_of.get(name) != switch:
        raise ground.refuse(
            owner, part, f"{name} is a port of the Open vSwitch bridge {switch}. Take it out first."
        )
    mine = (master, ground.owned_master(name))
    if now and now not in mine and not ground.is_ours(name):
        raise ground.refuse(owner, part, f"{name} is a port of {now} already. Take it out first.")


def _check_vlans(ground: Ground, name: str, link: Row, master: str) -> None:
    if not (link["port"].get("pvid") or link["port"].get("vlans")):
        return
    bridge = ground.wanted.get(master) or ground.there.get(master, {})
    if not bridge.get("vlan_filtering"):
        raise ground.refuse(
            name, "port.pvid" if link["port"].get("pvid") else "port.vlans",
            f"{master} does not tell VLANs apart. Switch its VLAN filtering on first.",
        )  # fmt: skip


def _check_addresses(ground: Ground, name: str, link: Row) -> None:
    bridge = ground.uplinks.get(name)
    if bridge and link["addresses"]:
        raise ground.refuse(
            name, "addresses", f"{name} is the uplink of {bridge}: give the addresses to {bridge}."
        )
    has_now = ground.there.get(name, {}).get("addresses", [])
    for at, address in enumerate(link["addresses"]):
        if address not in has_now:
            field = ground.field(name, f"addresses.{at}")
            ground.networks.refuse_overlap(name, address, field=field)


def _check_uplink(ground: Ground, uplink: str, bridge: str) -> None:
    def refuse(sentence: str) -> None:
        raise ground.refuse(bridge, "uplink", sentence)

    if not ground.will_be(uplink):
        refuse(f"There is no interface “{uplink}” on this host.")
    if uplink in ground.switches or uplink in ground.wanted_switch_of:
        refuse(f"{uplink} belongs to Open vSwitch: it can't be the uplink of {bridge}.")
    if ground.kind(uplink) in ("loopback", "bridge"):
        refuse(f"{uplink} can't be a port of a bridge.")
    given = ground.wanted.get(uplink, {}).get("master")
    if given and given != bridge:
        refuse(f"{uplink} is wanted as a port of {given} as well.")
    several = [
        one["name"]
        for one in [*ground.desired.get("links", []), *ground.desired.get("switches", [])]
        if one.get("uplink") == uplink
    ]
    if len(several) > 1:
        refuse(f"{uplink} is wanted as the uplink of {several[0]} and of {several[1]}.")
    _check_free(ground, uplink, bridge, "uplink")


def _check_route(ground: Ground, at: int, route: Row) -> None:
    def refuse(part: str, sentence: str) -> None:
        raise NetError(sentence, field=f"routes.{at}.{part}")

    if not route.get("via") and not route.get("dev"):
        refuse("via", "A route needs a gateway, or the interface it goes out by.")
    if route.get("dev") and not ground.will_be(route["dev"]):
        refuse("dev", f"There is no interface “{route['dev']}” on this host.")
    if route.get("via") and not ground.networks.reaches(route["via"], route.get("dev")):
        refuse("via", f"{route['via']} is on none of the networks of this host's interfaces.")
    for row in ground.actual["routes"]:
        if _is_rival(row, route) and row["protocol"] != "kvmweb":
            refuse(
                "to",
                f"There is a route to {route['to']} by {row['via'] or row['dev']} already. "
                "Give this one another metric, or remove that one first.",
            )


def _is_rival(row: Row, route: Row) -> bool:
    """The same place at the same cost by another way. IPv6's default metric is 1024."""
    version = 6 if ":" in f"{route['to']}{route.get('via') or ''}" else 4
    metric = route.get("metric") or (1024 if version == 6 else 0)
    same = (row["namespace"], row["to"], row["family"], row["metric"], row["table"])
    if same != ("", route["to"], version, metric, 254):
        return False
    return bool(row["via"] != route.get("via") or route.get("dev") not in (None, row["dev"]))
