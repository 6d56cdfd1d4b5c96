"""A router's translations and filters as rules of nftables in its namespace, and back.

One table, ``inet kvmweb``. Besides what the document says:

- A floating IP (a Dnat without protocol) works both ways: what its guest sends out by the leg that
  has the address gets it as its source.
- Who is on a guest's own network and asks for it by a translated address gets his answer by way of
  the router: his source becomes the router's (“hairpin”).
- Filters decide on new connections; answers of what was let through pass.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from kvmweb.net import nftables
from kvmweb.net.nftables import Expression, Object

Router = dict[str, Any]

TABLE = "kvmweb"
FLOATING, HAIRPIN, ANSWERS = "floating", "hairpin", "answers"
_CHAINS = [
    nftables.chain("prerouting", kind="nat", hook="prerouting", priority=-100),
    nftables.chain("postrouting", kind="nat", hook="postrouting", priority=100),
    nftables.chain("forward", kind="filter", hook="forward", priority=0),
]
_LOCAL = nftables.match({"fib": {"result": "type", "flags": ["daddr"]}}, "local")
_ANSWERS = nftables.match({"ct": {"key": "state"}}, ["established", "related"], op="in")


def objects(router: Router) -> list[Object]:
    """Nothing where nothing is translated or filtered."""
    rules = [
        *(_dnat(one) for one in router["dnat"]),
        *(_floating(router, one) for one in router["dnat"] if _floats(router, one)),
        *(_hairpin(router, one) for one in router["dnat"] if _is_hairpin(router, one)),
        *(_snat(one) for one in router["snat"]),
    ]
    if router["filters"]:
        answers = nftables.rule("forward", _ANSWERS, {"accept": None}, comment=ANSWERS)
        rules += [answers, *(_filter(one) for one in router["filters"])]
    return [*_CHAINS, *rules] if rules else []


def _dnat(one: dict[str, Any]) -> Object:
    return nftables.rule(
        "prerouting",
        *_interfaces(one),
        nftables.destination(one["address"]) if one["address"] else _LOCAL,
        *_port(one["protocol"], one["port"]),
        nftables.translate("dnat", one["to"], one["to_port"]),
    )


def _interfaces(one: dict[str, Any]) -> list[Expression]:
    keys = {"into": "iifname", "out": "oifname"}
    return [nftables.interface(keys[key], one[key]) for key in keys if one.get(key)]


def _port(protocol: str | None, port: int | None) -> list[Expression]:
    if protocol is None:
        return []
    return [nftables.protocol(protocol) if port is None else nftables.port(protocol, port)]


def _floats(router: Router, one: dict[str, Any]) -> bool:
    is_whole = one["protocol"] is None and one["address"] is not None
    return is_whole and leg_of(router, one["address"], one["into"]) is not None


def _floating(router: Router, one: dict[str, Any]) -> Object:
    leg = leg_of(router, one["address"], one["into"])
    return nftables.rule(
        "postrouting",
        nftables.interface("oifname", str(leg)),
        nftables.source(one["to"]),
        nftables.translate("snat", one["address"]),
        comment=FLOATING,
    )


def _is_hairpin(router: Router, one: dict[str, Any]) -> bool:
    return one["into"] is None and network_of(router, one["to"]) is not None


def _hairpin(router: Router, one: dict[str, Any]) -> Object:
    return nftables.rule(
        "postrouting",
        nftables.source(str(network_of(router, one["to"]))),
        nftables.destination(one["to"]),
        *_port(one["protocol"], one["to_port"] or one["port"]),
        nftables.is_dnated(),
        {"masquerade": None},
        comment=HAIRPIN,
    )


def _snat(one: dict[str, Any]) -> Object:
    except_to = one["except_to"]
    return nftables.rule(
        "postrouting",
        *_interfaces(one),
        *([] if one["source"] == "default" else [nftables.source(one["source"])]),
        *([nftables.destination(except_to, op="!=")] if except_to else []),
        nftables.translate("snat", one["to"]) if one["to"] else {"masquerade": None},
    )


def _filter(one: dict[str, Any]) -> Object:
    ends = [
        make(one[key])
        for key, make in (("source", nftables.source), ("to", nftables.destination))
        if one[key] and one[key] != "default"
    ]
    verdict = {"reject": {"type": "icmpx", "expr": "port-unreachable"}, "drop": None}
    return nftables.rule(
        "forward",
        *_interfaces(one),
        *ends,
        *_port(one["protocol"], one["port"]),
        {one["action"]: verdict.get(one["action"])},
    )


def leg_of(router: Router, address: str, named: str | None) -> str | None:
    """The leg that an address belongs on: the one that is named, or in whose network it is."""
    if named:
        return named
    at = ipaddress.ip_address(address)
    for leg in router["legs"]:
        for cidr in leg["addresses"]:
            if at in ipaddress.ip_interface(cidr).network:
                return str(leg["name"])
    return None


def network_of(router: Router, address: str) -> str | None:
    """The network of a leg that has the address in it."""
    at = ipaddress.ip_address(address)
    networks = [
        ipaddress.ip_interface(cidr).network for leg in router["legs"] for cidr in leg["addresses"]
    ]
    return next((str(network) for network in networks if at in network), None)


def addresses(router: Router) -> dict[str, list[str]]:
    """By leg, what it has, and those the router must answer for (ARP, neighbour discovery) because
    it translates from or to them; each of these on its own: 203.0.113.121/32.
    """
    found = {leg["name"]: list(leg["addresses"]) for leg in router["legs"]}
    known = {ipaddress.ip_interface(cidr).ip for several in found.values() for cidr in several}
    claims = [(one["address"], one["into"]) for one in router["dnat"]]
    claims += [(one["to"], one["out"]) for one in router["snat"]]
    for address, named in claims:
        leg = leg_of(router, address, named) if address else None
        if leg in found and ipaddress.ip_address(address) not in known:
            known.add(ipaddress.ip_address(address))
            found[leg].append(str(ipaddress.ip_interface(address)))
    return found


def documents(found: list[Object]) -> dict[str, list[dict[str, Any]]]:
    """What the rules say in the document's words; those of others' making are left out."""
    rules = [one["rule"] for one in found if "rule" in one]
    told: dict[str, list[dict[str, Any]]] = {"snat": [], "dnat": [], "filters": []}
    for rule in rules:
        facts = nftables.facts(rule)
        if facts and rule.get("comment") not in (FLOATING, HAIRPIN, ANSWERS):
            _TELL.get(facts.get("verb", ""), _tell_nothing)(told, facts)
    return told


def _tell_nothing(told: dict[str, list[dict[str, Any]]], facts: dict[str, Any]) -> None:
    """A rule that we would not write."""


def _tell_snat(told: dict[str, list[dict[str, Any]]], facts: dict[str, Any]) -> None:
    told["snat"].append(
        {
            "source": _network(facts.get("saddr")) or "default",
            "except_to": _network(facts.get("!daddr")),
            "out": facts.get("oifname"),
            "to": facts["to"],
        }
    )


def _tell_dnat(told: dict[str, list[dict[str, Any]]], facts: dict[str, Any]) -> None:
    told["dnat"].append(
        {
            "protocol": facts.get("l4proto"),
            "address": facts.get("daddr"),
            "port": facts.get("dport"),
            "to": facts["to"],
            "to_port": facts["to_port"],
            "into": facts.get("iifname"),
        }
    )


def _tell_filter(told: dict[str, list[dict[str, Any]]], facts: dict[str, Any]) -> None:
    protocol = facts.get("l4proto")
    told["filters"].append(
        {
            "action": facts["verb"],
            "source": _network(facts.get("saddr")),
            "to": _network(facts.get("daddr")),
            "protocol": "icmpv6" if protocol == "ipv6-icmp" else protocol,
            "port": facts.get("dport"),
            "into": facts.get("iifname"),
            "out": facts.get("oifname"),
        }
    )


_TELL = {
    "snat": _tell_snat,
    "masquerade": _tell_snat,
    "dnat": _tell_dnat,
    **dict.fromkeys(("accept", "drop", "reject"), _tell_filter),
}


def _network(text: str | None) -> str | None:
    """nftables drops the length of a whole address."""
    return str(ipaddress.ip_network(text)) if text else None
