"""Routers as they are: every namespace of the host with a name, ours or not.

``read`` gives of each ``name`` and ``is_ours``, and of ours also ``forwards``, ``rules`` (objects
of nftables), ``snat``, ``dnat`` and ``filters`` in the document's words, ``other_tables``,
``dhcp``, ``dhcp_conf``, ``dhcp_pid`` and ``leases``. ``join`` adds ``legs`` and ``routes`` from
what the other parts read.
"""

from __future__ import annotations

from typing import Any

from kvmweb.net import changes, links, namespaces, nftables, ovs
from kvmweb.net.calls import call
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.kernel import MAIN, MARK, PASSING
from kvmweb.net.routers import dhcp, namespace, rules

State = dict[str, Any]
Row = dict[str, Any]

_CHECKSUM = "tx-checksumming"
# Of a leg, what nobody looks at; of a route, what somebody does.
_INNER, _ROUTE = {"rows", "port", "vlans"}, ("to", "via", "dev", "metric")


def read(context: Context) -> State:
    found, daemons = [], dhcp.daemons()
    for name in namespaces.names():
        try:
            found.append(_look(context, name, daemons))
        except (NetError, OSError):
            if (namespaces.DIRECTORY / name).exists():
                raise
            context.forget(name)  # it was removed while we looked
    return {"routers": found}


def _look(context: Context, name: str, daemons: dict[str, list[int]]) -> Row:
    if not namespace.is_ours(context, name):
        return {"name": name, "is_ours": False}
    with namespaces.entered(name):
        listed = nftables.listed(context, ["list", "ruleset"])
    objects = nftables.within(listed, rules.TABLE)
    tables = [one["table"] for one in listed if "table" in one]
    return {
        "name": name,
        "is_ours": True,
        "forwards": namespace.forwards(name),
        "rules": objects,
        **rules.documents(objects),
        "other_tables": [
            f"{one['family']} {one['name']}"
            for one in tables
            if (one["family"], one["name"]) != (nftables.FAMILY, rules.TABLE)
        ],
        **dhcp.read(name, daemons),
    }


def complete(context: Context, state: State) -> None:
    """Put ``legs`` and ``routes`` into what was read. ``state`` may be of few parts."""
    others = {} if "links" in state else {**links.read(context), **ovs.read(context)}
    for router, joined in zip(state["routers"], join({**others, **state}), strict=True):
        legs = [{key: leg[key] for key in leg if key not in _INNER} for leg in joined["legs"]]
        routes = [{key: row[key] for key in _ROUTE} for row in joined["routes"]]
        router.update(legs=legs, routes=routes)


def join(actual: State) -> list[Row]:
    """The routers with ``legs`` and ``routes``.

    A leg is as in the document, and has more: ``is_ours``, ``is_up``, ``end`` (its end on the
    host), ``end_is_up``, ``end_mtu``, ``port`` (its row in Open vSwitch), ``vlans`` (on its port of
    a Linux bridge), ``rows`` of its addresses, ``has_checksums_left``: for others to finish.
    """
    ports = _ports(actual)
    rows = {(row["namespace"], row["name"]): row for row in actual["links"]}
    found = []
    for router in actual["routers"]:
        legs = [
            _leg(actual, row, rows, ports)
            for (where, name), row in rows.items()
            if where == router["name"] and name not in {namespace.LOOPBACK, *namespace.FALLBACK}
        ]
        found.append({**router, "legs": legs, "routes": _routes(actual, router["name"])})
    return found


def _ports(actual: State) -> dict[str, tuple[str, Row]]:
    """Ports of Open vSwitch, with their bridge's name, by interface."""
    return {
        interface["name"]: (switch["name"], port)
        for switch in actual.get("switches", [])
        for port in switch["ports"]
        for interface in port["interfaces"]
    }


def port_of(actual: State, interface: str) -> tuple[str, Row] | None:
    return _ports(actual).get(interface)


def _leg(
    actual: State, row: Row, links: dict[tuple[str, str], Row], ports: dict[str, tuple[str, Row]]
) -> Row:
    end: Row = {}
    if row["kind"] == "veth" and row["peer_namespace"] == "":
        end = links.get(("", row["peer"] or ""), {})
    switch, port = ports.get(end.get("name", ""), (end.get("master"), None))
    rows = [
        {key: value for key, value in one.items() if key not in PASSING}
        for one in actual["addresses"]
        if one["namespace"] == row["namespace"] and one["dev"] == row["name"]
        and one["is_permanent"] and one["scope"] != "link"
    ]  # fmt: skip
    return {
        "name": row["name"],
        "kind": row["kind"],
        "is_ours": bool(row["owner"]),
        "is_up": row["is_up"],
        "switch": switch,
        **_vlans(end, port),
        "parent": row["parent"] if row["kind"] == "vlan" else None,
        "vlan": row["id"] if row["kind"] == "vlan" else None,
        "addresses": [one["address"] for one in rows],
        "mac": row["mac"],
        "mtu": row["mtu"],
        "end": end.get("name"),
        "end_is_up": end.get("is_up"),
        "end_mtu": end.get("mtu"),
        "port": port,
        "rows": rows,
        "has_checksums_left": any(one.get("offloads", {}).get(_CHECKSUM) for one in (row, end)),
    }


def _vlans(end: Row, port: Row | None) -> Row:
    if port:
        return {"tag": port.get("tag"), "trunks": port.get("trunks") or [], "vlans": {}}
    found = end.get("port") or {}
    return {
        "tag": found.get("pvid"),
        "trunks": found.get("vlans", []),
        "vlans": changes.vlans_of(found),
    }


def _routes(actual: State, name: str) -> list[Row]:
    return [
        {key: value for key, value in row.items() if key not in PASSING}
        for row in actual["routes"]
        if row["namespace"] == name and row["protocol"] == MARK and row["table"] == MAIN
    ]


def document(router: Row) -> Row:
    """A router of ``join`` in the words of spec/hostnet.py, to be taken over into the document."""
    claimed = {one["address"] for one in router["dnat"]} | {one["to"] for one in router["snat"]}
    keys = ("name", "tag", "trunks", "switch", "parent", "vlan", "mac", "mtu")
    legs = [
        {
            **{key: leg[key] for key in keys},
            "addresses": [one for one in leg["addresses"] if not _is_claim(one, claimed)],
        }
        for leg in router["legs"]
        if leg["is_ours"]
    ]
    routes = [{key: row[key] or None for key in _ROUTE} for row in router["routes"]]
    same = ("name", "forwards", "snat", "dnat", "filters", "dhcp")
    return {**{key: router[key] for key in same}, "legs": legs, "routes": routes}


def _is_claim(cidr: str, claimed: set[Any]) -> bool:
    """Added for a translation: it is not the leg's own."""
    address, _, length = cidr.partition("/")
    return address in claimed and length in ("32", "128")


@call("router.leases")
def leases(context: Context, *, router: str) -> list[Row]:
    """What dnsmasq leased, whether it runs now or not."""
    return dhcp.leases(router)
