"""What can be asked of Open vSwitch beside its state; nothing here changes anything."""

from __future__ import annotations

import re
from typing import Any

from kvmweb.net.calls import call
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.ovs import database
from kvmweb.net.ovs.database import Database, Row
from kvmweb.net.ovs.wanted import TUNNELS

# A bridge answers in the versions it has in ``protocols`` only.
_VERSIONS = ",".join(f"OpenFlow1{number}" for number in range(6))
_FLOW = re.compile(r"(?P<head>.*?)(?P<match>[^ ]*) actions=(?P<actions>.*)")
_NUMBERS = ("n_packets", "n_bytes", "table", "idle_timeout", "hard_timeout")
# Keys of options and other_config whose values are secrets.
_SECRET = re.compile(r"psk|password|secret|private_key")
_HIDDEN = "••••"
_MOST = 1000


@call("ovs.flows")
def flows(context: Context, *, bridge: str) -> list[Row]:
    """The OpenFlow table: match and actions, with counters, in the order of table and priority."""
    found = database.of(context)
    _need_bridge(found, bridge)
    command = ["ovs-ofctl", "-O", _VERSIONS, "--names", "dump-flows"]
    target = f"unix:{found.directory / bridge}.mgmt"
    text = context.run([*command, target], seconds=5)
    rows = [_flow(line) for line in text.splitlines() if " actions=" in line]
    return sorted(rows, key=lambda row: (row["table"], -row["priority"]))


def _flow(line: str) -> Row:
    """``cookie=0x5, duration=1.5s, table=2, ..., send_flow_rem priority=10,ip actions=NORMAL``"""
    parts = _FLOW.fullmatch(line.strip())
    assert parts
    told = dict(one.partition("=")[::2] for one in parts["head"].replace(",", " ").split())
    fields = parts["match"].split(",")
    priority = next((one[9:] for one in fields if one.startswith("priority=")), "32768")
    row: Row = {name: int(told.get(name, 0)) for name in _NUMBERS}
    return row | {
        "cookie": told.get("cookie", "0x0"),
        "seconds": float(told.get("duration", "0s").rstrip("s")),
        "flags": [name for name, value in told.items() if not value],
        "priority": int(priority),
        "match": ",".join(one for one in fields if not one.startswith("priority=")),
        "actions": parts["actions"],
    }


@call("ovs.fdb")
def fdb(context: Context, *, bridge: str) -> list[Row]:
    """The MAC addresses that the bridge has learnt; ``age`` in seconds, None for ever."""
    found = database.of(context)
    numbers = _need_bridge(found, bridge)
    lines = found.control("fdb/show", bridge).splitlines()[1:]
    rows = [line.split() for line in lines if len(line.split()) == 4]
    return [
        {
            "port": bridge if port == "LOCAL" else numbers.get(port, port),
            "vlan": int(vlan),
            "mac": mac,
            "age": int(age) if age.isdigit() else None,
        }
        for port, vlan, mac, age in rows
    ]


def _need_bridge(found: Database, name: str) -> dict[str, str]:
    """The names of its interfaces by their OpenFlow number."""
    tables = found.select(("Bridge", "Port", "Interface"))
    bridge = next((row for row in tables["Bridge"] if row["name"] == name), None)
    if bridge is None:
        raise NetError(f"There is no bridge “{name}” on this host.", field="bridge", kind="missing")
    ports = [row for row in tables["Port"] if row["uuid"] in bridge["ports"]]
    mine = {uuid for port in ports for uuid in port["interfaces"]}
    return {str(row["ofport"]): row["name"] for row in tables["Interface"] if row["uuid"] in mine}


@call("ovs.trace")
def trace(context: Context, *, bridge: str, flow: str) -> str:
    """What would happen to a packet: ``flow`` as in ovs-ofctl(8), ``in_port=p1,tcp,tp_dst=80``."""
    found = database.of(context)
    _need_bridge(found, bridge)
    return found.control("ofproto/trace", bridge, flow)


@call("ovs.bond")
def bond(context: Context, *, port: str) -> Row:
    """Members and LACP, as ovs-appctl tells it; ``text`` is all of that."""
    found = database.of(context)
    text = found.control("bond/show", port)
    members = re.findall(r"^(?:member|slave) (\S+): (\w+)\n((?:  .*\n?)*)", text, re.MULTILINE)
    told = dict(re.findall(r"^(\w[\w -]*): (.*)$", text, re.MULTILINE))
    has_lacp = told.get("lacp_status", "off") != "off"
    return {
        "mode": told.get("bond_mode", ""),
        "lacp": told.get("lacp_status", "off"),
        "members": [
            {"name": name, "is_enabled": state == "enabled", "is_active": "active" in about}
            for name, state, about in members
        ],
        "text": text + (found.control("lacp/show", port) if has_lacp else ""),
    }


@call("ovs.tunnels")
def tunnels(context: Context) -> list[Row]:
    """``problem``: why nothing comes through, as a sentence; "": nothing is known against it."""
    found = database.of(context)
    rows = found.select(("Bridge", "Port", "Interface"))
    interfaces = {row["uuid"]: row for row in rows["Interface"]}
    ports = {row["uuid"]: row for row in rows["Port"]}
    userspace = {row["name"] for row in rows["Bridge"] if row["datapath_type"] == "netdev"}
    there = [
        (bridge["name"], interfaces[interface])
        for bridge in rows["Bridge"]
        for port in bridge["ports"]
        for interface in ports[port]["interfaces"]
    ]
    return [
        _tunnel(found, row, bridge, userspace)
        for bridge, row in sorted(there, key=lambda one: str(one[1]["name"]))
        if row["type"] in TUNNELS
    ]


def _tunnel(found: Database, row: Row, bridge: str, userspace: set[str]) -> Row:
    names = ("name", "type", "error", "link_state", "statistics", "bfd_status")
    return {
        **{name: row[name] for name in names},
        "bridge": bridge,
        "options": _without_secrets(row["options"]),
        "egress": row["status"].get("tunnel_egress_iface", ""),
        "egress_carrier": row["status"].get("tunnel_egress_iface_carrier", ""),
        "problem": row["error"]
        or (_way(found, row["options"], userspace) if bridge in userspace else ""),
    }


def _way(found: Database, options: dict[str, str], userspace: set[str]) -> str:
    """The userspace datapath sends tunnels' packets itself, so it must have the way's bridge."""
    remote = options.get("remote_ip", "flow")
    if remote == "flow":
        return ""
    try:
        told = found.control("ovs/route/lookup", remote)
    except NetError:
        return f"There is no route to {remote}."
    route = dict(re.findall(r"^(src|dev) (\S+)$", told, re.MULTILINE))
    dev = route.get("dev", "")
    if dev in userspace:
        return ""
    address = route.get("src", "The address")
    return (
        f"The way to {remote} leads through {dev}, which the userspace datapath does not have. "
        f"Put {dev} into a bridge of it, as its uplink, so that {address} is on the bridge."
    )


@call("ovs.tables")
def tables(context: Context) -> list[Row]:
    """Every table of OVSDB with its columns and how many rows it has."""
    found = database.of(context)
    names = sorted(found.schema)
    count = [{"op": "select", "table": name, "where": [], "columns": ["_uuid"]} for name in names]
    return [
        {"name": name, "rows": len(rows), "columns": _columns(found.schema[name])}
        for name, rows in zip(names, found.query(count), strict=True)
    ]


def _columns(table: Row) -> list[Row]:
    return [
        {"name": name, "type": _type(column["type"])}
        for name, column in sorted(table["columns"].items())
    ]


def _type(kind: Any) -> str:
    """``string``, ``set of integer``, ``map of string to Queue``"""
    if not isinstance(kind, dict):
        return str(kind)
    if "value" in kind:
        return f"map of {_base(kind['key'])} to {_base(kind['value'])}"
    if kind.get("max", 1) != 1:
        return f"set of {_base(kind['key'])}"
    return _base(kind["key"]) + (" or nothing" if kind.get("min", 1) == 0 else "")


def _base(kind: Any) -> str:
    return str(kind.get("refTable") or kind["type"]) if isinstance(kind, dict) else str(kind)


@call("ovs.table")
def browse(context: Context, *, table: str, limit: int = 100, offset: int = 0) -> Row:
    """A page of its rows, by name. ``names``: of the rows that these refer to, by UUID."""
    found = database.of(context)
    if table not in found.schema:
        raise NetError(f"Open vSwitch has no table “{table}”.", field="table", kind="missing")
    named = sorted(one for one in found.schema if "name" in found.schema[one]["columns"])
    everything = found.select({table, *named})
    rows = sorted(everything[table], key=lambda row: str(row.get("name", row["uuid"])))
    names = {
        row["uuid"]: {"table": one, "name": row["name"]} for one in named for row in everything[one]
    }
    page = rows[max(offset, 0) :][: min(max(limit, 0), _MOST)]
    return {
        "name": table,
        "columns": _columns(found.schema[table]),
        "rows": [{key: _without_secrets(value) for key, value in row.items()} for row in page],
        "total": len(rows),
        "names": {uuid: names[uuid] for uuid in _uuids(page) if uuid in names},
    }


def _uuids(rows: list[Row]) -> set[str]:
    found: set[str] = set()
    for value in (one for row in rows for one in row.values()):
        several = value.values() if isinstance(value, dict) else value
        found |= {
            one
            for one in (several if isinstance(value, (dict, list)) else [value])
            if isinstance(one, str)
        }
    return found


def _without_secrets(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _HIDDEN if _SECRET.search(key) else one for key, one in value.items()}
