"""nftables in libnftables' JSON, libnftables-json(5): rules are data, and the text of names in them
can't become a rule of its own. A table of ours is replaced as a whole, in one transaction.

An object here is one of ``{"chain": {...}}`` and ``{"rule": {...}}`` as nft lists them, without the
family, table and handle.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from kvmweb.net.context import Context

Object = dict[str, Any]
Expression = dict[str, Any]

FAMILY = "inet"
_NOT_OURS = ("family", "table", "handle")
# What “reject” alone means, as nft lists it.
_PLAIN_REJECT = {"type": "icmpx", "expr": "port-unreachable"}


def chain(name: str, *, kind: str, hook: str, priority: int) -> Object:
    return {
        "chain": {"name": name, "type": kind, "hook": hook, "prio": priority, "policy": "accept"}
    }


def rule(chain: str, *expressions: Expression, comment: str = "") -> Object:
    found: Object = {"chain": chain, "expr": list(expressions)}
    return {"rule": {**found, "comment": comment} if comment else found}


def family(address: str) -> str:
    """``ip`` or ``ip6``."""
    return "ip6" if ":" in address else "ip"


def match(left: Expression, right: Any, *, op: str = "==") -> Expression:
    return {"match": {"op": op, "left": left, "right": right}}


def source(network: str, *, op: str = "==") -> Expression:
    return _ip(network, "saddr", op)


def destination(network: str, *, op: str = "==") -> Expression:
    return _ip(network, "daddr", op)


def _ip(network: str, name: str, op: str) -> Expression:
    found = ipaddress.ip_network(network, strict=False)
    address = str(found.network_address)
    # As nft lists it: a prefix that is a whole address goes without its length.
    one = found.prefixlen == found.max_prefixlen
    right = address if one else {"prefix": {"addr": address, "len": found.prefixlen}}
    return match({"payload": {"protocol": family(address), "field": name}}, right, op=op)


def interface(key: str, name: str) -> Expression:
    """``key`` is iifname or oifname. A name that ends in “*” would be a pattern."""
    return match({"meta": {"key": key}}, name[:-1] + "\\*" if name.endswith("*") else name)


def port(protocol: str, number: int) -> Expression:
    return match({"payload": {"protocol": protocol, "field": "dport"}}, number)


def protocol(name: str) -> Expression:
    return match({"meta": {"key": "l4proto"}}, "ipv6-icmp" if name == "icmpv6" else name)


def is_dnated() -> Expression:
    return match({"ct": {"key": "status"}}, "dnat", op="in")


def translate(verb: str, address: str, number: int | None = None) -> Expression:
    """``verb`` is snat or dnat."""
    found: dict[str, Any] = {"family": family(address), "addr": address}
    return {verb: found if number is None else {**found, "port": number}}


def replace(context: Context, table: str, objects: list[Object], *, namespace: str = "") -> None:
    """The table holds exactly that afterwards; without objects there is none. All or nothing."""
    ours = {"family": FAMILY, "name": table}
    # It is added first as only what is there can be deleted.
    orders: list[Object] = [{"add": {"table": ours}}, {"delete": {"table": ours}}]
    if objects:
        orders.append({"add": {"table": ours}})
        orders += [
            {"add": {kind: {"family": FAMILY, "table": table, **what}}}
            for one in objects
            for kind, what in one.items()
        ]
    carry_out(context, orders, namespace=namespace)


def carry_out(context: Context, orders: list[Object], *, namespace: str = "") -> None:
    """All of the orders (``{"add": {"rule": ...}}``) or, with ``StepError``, none."""
    text = json.dumps({"nftables": orders})
    context.run(["nft", "-j", "-f", "-"], namespace=namespace, stdin=text)


def read(context: Context, table: str, *, namespace: str = "") -> list[Object]:
    """What the table holds; nothing if there is none."""
    tables = listed(context, ["list", "tables", FAMILY], namespace=namespace)
    if not any(one.get("table", {}).get("name") == table for one in tables):
        return []
    return within(listed(context, ["list", "table", FAMILY, table], namespace=namespace), table)


def within(found: list[Object], table: str) -> list[Object]:
    """What is in that table, of what was listed."""
    return [
        {kind: {key: value for key, value in what.items() if key not in _NOT_OURS}}
        for one in found
        for kind, what in one.items()
        if (what.get("family"), what.get("table")) == (FAMILY, table)
    ]


def listed(context: Context, words: list[str], *, namespace: str = "") -> list[Object]:
    """What ``nft list ...`` lists."""
    answer = context.run(["nft", "-j", *words], namespace=namespace)
    return list(json.loads(answer)["nftables"]) if answer.strip() else []


def commands(
    table: str, objects: list[Object], *, before: list[Object] | None = None
) -> list[list[str]]:
    """What a person would type to have these in the table, which held ``before``."""
    found = [["nft", "delete", "table", FAMILY, table]] if before else []
    if not objects:
        return found
    found.append(["nft", "add", "table", FAMILY, table])
    for one in objects:
        for kind, what in one.items():
            found.append(["nft", "add", kind, FAMILY, table, *_definition(kind, what)])
    return found


def _definition(kind: str, what: dict[str, Any]) -> list[str]:
    if kind == "chain":
        hook = ["type", what["type"], "hook", what["hook"], "priority", str(what["prio"]), ";"]
        return [what["name"], "{", *hook, "policy", what["policy"], ";", "}"]
    if kind == "rule":
        return [what["chain"], *rule_words(what)]
    return [json.dumps(what)]


def text(one: Object) -> str:
    """One line per object: two objects with the same text do the same."""
    return " ".join(
        [word for kind, what in one.items() for word in (kind, *_definition(kind, what))]
    )


def rule_words(what: dict[str, Any]) -> list[str]:
    words = [word for expression in what["expr"] for word in _words(expression)]
    return words + (["comment", f'"{what["comment"]}"'] if what.get("comment") else [])


def _words(expression: Expression) -> list[str]:
    ((kind, what),) = expression.items()
    if kind == "match":
        op = [] if what["op"] in ("==", "in") else [what["op"]]
        return [*_left(what["left"]), *op, *_right(what["left"], what["right"])]
    if kind in ("snat", "dnat") and "addr" in what:
        return [kind, what["family"], "to", _target(what)]
    if kind == "reject" and what in (None, _PLAIN_REJECT):
        return ["reject"]
    return [kind] if what is None else [json.dumps(expression, sort_keys=True)]


def _target(what: dict[str, Any]) -> str:
    if "port" not in what:
        return str(what["addr"])
    address = f"[{what['addr']}]" if what["family"] == "ip6" else what["addr"]
    return f"{address}:{what['port']}"


def _left(left: Expression) -> list[str]:
    ((kind, what),) = left.items()
    if kind == "payload":
        return [what["protocol"], what["field"]]
    if kind == "meta":
        return [what["key"]] if what["key"].endswith("ifname") else ["meta", what["key"]]
    if kind == "ct":
        return ["ct", *([what["dir"]] if "dir" in what else []), *what["key"].split()]
    if kind == "fib":
        flags = what["flags"]
        return ["fib", *([flags] if isinstance(flags, str) else flags), what["result"]]
    return [json.dumps(left, sort_keys=True)]


def _right(left: Expression, right: Any) -> list[str]:
    if left.get("meta", {}).get("key", "").endswith("ifname"):
        return [f'"{right}"']
    if isinstance(right, dict) and "prefix" in right:
        return [f"{right['prefix']['addr']}/{right['prefix']['len']}"]
    if isinstance(right, list):
        return [",".join(str(one) for one in right)]
    return [str(right) if isinstance(right, (str, int)) else json.dumps(right, sort_keys=True)]


def facts(what: dict[str, Any]) -> dict[str, Any]:
    """A rule's matches and what it does, by name; ``{}`` if there is more to it than we write.

    saddr, daddr, !daddr (not to), iifname, oifname, l4proto, dport, fib, status; ``verb`` with
    ``to`` and ``to_port``.
    """
    found: dict[str, Any] = {}
    for expression in what["expr"]:
        ((kind, inside),) = expression.items()
        if kind == "match":
            found.update(_fact(inside))
        else:
            target = inside if isinstance(inside, dict) else {}
            found.update(verb=kind, to=target.get("addr"), to_port=target.get("port"))
    mine = rule_words({"expr": what["expr"]})
    return found if not any(word.startswith("{") for word in mine) else {}


def _fact(inside: dict[str, Any]) -> dict[str, Any]:
    ((kind, what),) = inside["left"].items()
    name = what.get("field") or what.get("key") or kind
    right = inside["right"]
    if isinstance(right, dict) and "prefix" in right:
        right = f"{right['prefix']['addr']}/{right['prefix']['len']}"
    if name == "dport":
        return {"dport": right, "l4proto": what["protocol"]}
    if name.endswith("ifname"):
        right = right.replace("\\*", "*")
    return {("!" if inside["op"] == "!=" else "") + name: right}
