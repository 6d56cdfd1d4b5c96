"""What is there: the rows of OVSDB, put together as bridges with their ports and interfaces.

Columns have OVSDB's names (ovs-vswitchd.conf.db(5)); those that are empty are left out. What a
person or program sets stands in the row itself; what ovs-vswitchd tells (link state, counters,
errors) under ``live``. So a row without ``live`` is what has to be inserted to have it again.

    {"switches": [{"name", "datapath_type", ..., "is_ours", "controllers": [...], "mirrors": [...],
                   "netflow": {...}, "ports": [{"name", "tag", ..., "is_ours", "qos": {...},
                   "interfaces": [{"name", "type", "options", ..., "live": {...}}]}]}],
     "ovs": {"present", "is_running", "problem", "version", "datapaths", ...}}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.ovs import database, deaf, rpc
from kvmweb.net.ovs.database import FLOW_EXPORTS, MARK, Database, Row, is_empty
from kvmweb.net.ovs.kernel import has_datapath

TABLES = (
    "Open_vSwitch", "Manager", "Bridge", "Port", "Interface", "Mirror", "QoS", "Queue",
    "Controller", "NetFlow", "sFlow", "IPFIX",
)  # fmt: skip
# Written by ovs-vswitchd, though the schema does not call them ephemeral.
_TOLD = {
    "Bridge": {"datapath_version"},
    "Port": {"bond_active_slave"},
    "Interface": {"error", "ofport", "cfm_flap_count"},
}


def read(context: Context) -> dict[str, Any]:
    """All of it in one transaction: 7 ms for 100 ports."""
    found = database.of(context)
    try:
        tables = found.select(TABLES)
    except rpc.Absent as error:
        return {"switches": [], "ovs": _absent(error)}
    except NetError as error:
        problem = {"present": True, "is_running": False, "problem": error.sentence}
        return {"switches": [], "ovs": problem}
    rows = _Rows(found, tables)
    switches = [_switch(rows, row) for row in rows.sorted("Bridge")]
    about = _ovs(rows)
    if any(one["datapath_type"] == "netdev" for one in switches):
        about["deaf"] = deaf.read()
    return {"switches": switches, "ovs": about}


def _absent(error: NetError) -> dict[str, Any]:
    problem = error.sentence if database.installed() else "Open vSwitch is not installed."
    return {"present": False, "is_running": False, "problem": problem}


class _Rows:
    """Rows of all tables by their UUID, with what is set apart from what is told."""

    def __init__(self, found: Database, tables: dict[str, list[Row]]) -> None:
        self.database = found
        self.tables = tables
        self._by_uuid = {row["uuid"]: (table, row) for table in tables for row in tables[table]}
        self._columns = {table: _columns(found.schema[table], table) for table in tables}

    def sorted(self, table: str) -> list[Row]:
        return sorted(self.tables[table], key=lambda row: str(row["name"]))

    def get(self, uuids: Iterable[str]) -> list[Row]:
        """Those rows, by name."""
        rows = [self._by_uuid[one][1] for one in uuids if one in self._by_uuid]
        return sorted(rows, key=lambda row: str(row.get("name", row["uuid"])))

    def names(self, uuids: Iterable[str]) -> list[str]:
        return [str(row["name"]) for row in self.get(uuids)]

    def build(self, table: str, row: Row) -> Row:
        """Without references."""
        is_set, is_told = self._columns[table]
        built: Row = {"uuid": row["uuid"]}
        built |= {name: row[name] for name in is_set if not is_empty(row.get(name))}
        if "external_ids" in row:
            built["is_ours"] = row["external_ids"].get(MARK) == "1"
        live = {name: row[name] for name in is_told if not is_empty(row.get(name))}
        return {**built, "live": live} if live else built


def _columns(table: dict[str, Any], name: str) -> tuple[list[str], list[str]]:
    """Names of what is set, and of what is told; references are in neither."""
    columns = {
        column: one for column, one in table["columns"].items() if "refTable" not in str(one)
    }
    told = {column for column, one in columns.items() if one.get("ephemeral")}
    told |= _TOLD.get(name, set()) & columns.keys()
    return sorted(columns.keys() - told), sorted(told)


def _switch(rows: _Rows, row: Row) -> Row:
    built = rows.build("Bridge", row)
    built["datapath_type"] = row["datapath_type"] or "system"
    built["controllers"] = [
        rows.build("Controller", one)
        for one in sorted(rows.get(row["controller"]), key=lambda one: str(one["target"]))
    ]
    built["ports"] = [_port(rows, port) for port in rows.get(row["ports"])]
    built["mirrors"] = [_mirror(rows, mirror) for mirror in rows.get(row["mirrors"])]
    for column, table in FLOW_EXPORTS.items():
        if row.get(column):
            built[column] = rows.build(table, rows.get([row[column]])[0])
    return built


def _port(rows: _Rows, row: Row) -> Row:
    built = rows.build("Port", row)
    built["interfaces"] = [
        rows.build("Interface", interface) for interface in rows.get(row["interfaces"])
    ]
    if peer := built["interfaces"][0].get("options", {}).get("peer"):
        built["peer"] = peer
    if row["qos"]:
        built["qos"] = _qos(rows, rows.get([row["qos"]])[0])
    return built


def _qos(rows: _Rows, row: Row) -> Row:
    queues = {
        number: rows.build("Queue", rows.get([uuid])[0]) for number, uuid in row["queues"].items()
    }
    return {**rows.build("QoS", row), "queues": queues}


def _mirror(rows: _Rows, row: Row) -> Row:
    built = rows.build("Mirror", row)
    for column in ("select_src_port", "select_dst_port"):
        built[column] = rows.names(row[column])
    if row["output_port"]:
        built["output_port"] = rows.names([row["output_port"]])[0]
    return built


def _ovs(rows: _Rows) -> dict[str, Any]:
    about = {"present": True, "is_running": False, "socket": str(rows.database.socket)}
    row = next(iter(rows.tables["Open_vSwitch"]), None)
    if row is None:
        return {**about, "problem": f"{database.VSWITCHD} was never started on this host."}
    about |= _versions(row)
    about["managers"] = [rows.build("Manager", one) for one in rows.tables["Manager"]]
    try:
        version = rows.database.version()
    except NetError as error:
        return {**about, "problem": error.sentence}
    return {**about, "is_running": True, "problem": "", "version": version}


def _versions(row: Row) -> dict[str, Any]:
    types = row.get("datapath_types") or ["netdev"]
    return {
        "version": row["ovs_version"] or "",
        "db_version": row["db_version"] or "",
        "system": " ".join(filter(None, (row["system_type"], row["system_version"]))),
        # It names “system” wherever it was built for Linux, with or without the kernel's part.
        "datapaths": [one for one in types if one != "system" or has_datapath()],
        "interface_types": row.get("iface_types", []),
        "other_config": row["other_config"],
        "external_ids": row["external_ids"],
    }
