"""Ports of the host sent on to guests behind libvirt networks.

A table of ours in nftables translates what is sent to the host's own addresses, from outside
(prerouting) and by the host itself (output); loopback excepted, for what comes from 127.0.0.0/8
can't leave the host. What a guest of the same network sends to the forwarded port gets the bridge's
address as its source: else the answer would go to it directly, and it would not know the sender.
gates.py lets the connections past libvirt's own rules.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from kvmweb.net import gates, nftables, sockets
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.step import ADD_RULES, DROP_RULES, Step, action

TABLE = "kvmweb_forwards"
_CHAINS = [
    nftables.chain("prerouting", kind="nat", hook="prerouting", priority=-100),
    nftables.chain("output", kind="nat", hook="output", priority=-100),
    nftables.chain("postrouting", kind="nat", hook="postrouting", priority=100),
]
_LOCAL = nftables.match({"fib": {"result": "type", "flags": ["daddr"]}}, "local")
_LOOPBACK = {"ip": "127.0.0.0/8", "ip6": "::1"}
# A libvirt network's own default; used while the network is down, for then nobody knows.
_PREFIX = {"ip": 24, "ip6": 64}
# netfilter keeps up to 128 bytes of a rule's comment.
_COMMENT = 100

Forward = dict[str, Any]


def read(context: Context) -> dict[str, Any]:
    """``forwards`` with ``is_open`` (it gets past libvirt's rules) and ``listener``: a process that
    has the port too, and gets nothing from outside. ``forward_rules``: what ``plan`` compares.
    """
    objects = nftables.read(context, TABLE)
    found = gates.read(context) if objects else []
    return {
        "forwards": [_seen(one, found) for one in _forwards(objects)],
        "forward_rules": {"objects": objects, "gates": found},
    }


def _forwards(objects: list[nftables.Object]) -> list[Forward]:
    rules = [one["rule"] for one in objects if "rule" in one]
    return [_forward(rule) for rule in rules if rule["chain"] == "prerouting"]


def _forward(rule: dict[str, Any]) -> Forward:
    found = nftables.facts(rule)
    return {
        "network": rule.get("comment", ""),
        "protocol": found.get("l4proto", ""),
        "address": found.get("daddr"),
        "port": found.get("dport", 0),
        "to": found.get("to") or "",
        "to_port": found.get("to_port") or 0,
    }


def _seen(one: Forward, found: list[gates.Gate]) -> Forward:
    return {**one, "is_open": gates.is_open(found, _pass(one)), "listener": _listener(one)}


def _listener(one: Forward) -> str:
    return sockets.listener(
        one["protocol"], one["port"], one["address"], family=nftables.family(one["to"])
    )


def _pass(one: Forward) -> gates.Pass:
    return [one["protocol"], one["to"], one["to_port"]]


def plan(
    context: Context, actual: dict[str, Any], desired: dict[str, Any], owned: dict[str, Any]
) -> list[Step]:
    wanted: list[Forward] = desired.get("forwards", [])
    if not wanted and not owned.get("forwards"):
        return []
    if "forwards" in actual["problems"]:
        raise NetError(actual["problems"]["forwards"], field="forwards")
    _check(wanted, actual["forwards"])
    before = actual["forward_rules"]["objects"]
    objects = _objects(wanted, actual)
    passes = [_pass(one) for one in wanted]
    # They are not read where there was no table of ours.
    found = actual["forward_rules"]["gates"] or gates.read(context)
    told = [command for gate in found for command in gates.commands(gate, passes)]
    if _texts(objects) != _texts(before):
        told = nftables.commands(TABLE, objects, before=before) + told
    return [_step(objects, passes, before, told)] if told else []


def _step(
    objects: list[nftables.Object],
    passes: list[gates.Pass],
    before: list[nftables.Object],
    commands: list[list[str]],
) -> Step:
    rank = ADD_RULES if objects else DROP_RULES
    old = {"objects": before, "passes": [_pass(one) for one in _forwards(before)]}
    undo = Step("forwards.set", old, rank, nftables.commands(TABLE, before, before=objects))
    return Step("forwards.set", {"objects": objects, "passes": passes}, rank, commands, [undo])


@action("forwards.set")
def set_forwards(
    context: Context, *, objects: list[nftables.Object], passes: list[gates.Pass]
) -> None:
    """The way in is opened before anybody is sent there, and closed after nobody is any more."""
    if objects:
        gates.put(context, passes)
    nftables.replace(context, TABLE, objects)
    if not objects:
        gates.put(context, passes)


def _check(wanted: list[Forward], there: list[Forward]) -> None:
    known = {_key(one) for one in there}
    for number, one in enumerate(wanted):
        _check_addresses(one, f"forwards.{number}")
        for other in wanted[:number]:
            if _meet(one, other):
                raise NetError(
                    f"Port {one['port']} ({one['protocol']}) already goes to {other['to']}.",
                    field=f"forwards.{number}.port",
                )
        owner = "" if _key(one) in known else _listener(one)
        if owner:
            raise NetError(
                f"Port {one['port']} ({one['protocol']}) of this host is in use by {owner}, which "
                "would get nothing any more.",
                field=f"forwards.{number}.port",
            )


def _check_addresses(one: Forward, field: str) -> None:
    to, address = ipaddress.ip_address(one["to"]), one["address"]
    if to.is_loopback or to.is_unspecified or to.is_multicast:
        raise NetError(f"{to} is not a guest's address.", field=f"{field}.to")
    if address is None:
        return
    at = ipaddress.ip_address(address)
    if at.version != to.version:
        raise NetError(
            f"{address} can't be forwarded to {to}: both must be IPv4, or both IPv6.",
            field=f"{field}.address",
        )
    if at.is_loopback:
        raise NetError(
            f"{address} is loopback: nobody reaches it from outside, nor from there a guest.",
            field=f"{field}.address",
        )


def _key(one: Forward) -> tuple[Any, ...]:
    return one["protocol"], one["address"], one["port"], nftables.family(one["to"])


def _meet(one: Forward, other: Forward) -> bool:
    (protocol, address, *rest), (protocol2, address2, *rest2) = _key(one), _key(other)
    same = protocol == protocol2 and rest == rest2
    return same and (address == address2 or None in (address, address2))


def _objects(wanted: list[Forward], actual: dict[str, Any]) -> list[nftables.Object]:
    if not wanted:
        return []
    rules = [_translation(chain, one) for chain in ("prerouting", "output") for one in wanted]
    return [*_CHAINS, *rules, *(_hairpin(one, _subnet(one["to"], actual)) for one in wanted)]


def _translation(chain: str, one: Forward) -> nftables.Object:
    family = nftables.family(one["to"])
    at = (
        [nftables.destination(one["address"])]
        if one["address"]
        else [_LOCAL, nftables.destination(_LOOPBACK[family], op="!=")]
    )
    return nftables.rule(
        chain,
        *at,
        nftables.port(one["protocol"], one["port"]),
        nftables.translate("dnat", one["to"], one["to_port"]),
        comment=_comment(one["network"]),
    )


def _comment(network: str) -> str:
    return network.encode()[:_COMMENT].decode(errors="ignore")


def _hairpin(one: Forward, subnet: str) -> nftables.Object:
    return nftables.rule(
        "postrouting",
        nftables.source(subnet),
        nftables.destination(one["to"]),
        nftables.port(one["protocol"], one["to_port"]),
        nftables.is_dnated(),
        {"masquerade": None},
        comment=_comment(one["network"]),
    )


def _subnet(to: str, actual: dict[str, Any]) -> str:
    """Of the bridge the guest is behind; else what it was when the rule was made."""
    address = ipaddress.ip_address(to)
    bridges = [
        ipaddress.ip_interface(cidr).network
        for link in actual["links"]
        if link["namespace"] == ""
        for cidr in link["addresses"]
    ]
    known = [
        ipaddress.ip_network(nftables.facts(one["rule"])["saddr"])
        for one in actual["forward_rules"]["objects"]
        if one.get("rule", {}).get("chain") == "postrouting"
    ]
    for network in [*bridges, *known]:
        if address in network and network.prefixlen not in (0, network.max_prefixlen):
            return str(network)
    return str(ipaddress.ip_network(f"{to}/{_PREFIX[nftables.family(to)]}", strict=False))


def _texts(objects: list[nftables.Object]) -> list[str]:
    return [nftables.text(one) for one in objects]
