"""The database of Open vSwitch and its daemon's control socket, on the host this runs on.

Rows are plain here: an optional column is None or a value, a set is a list, a map is a dict, a
reference is a UUID. On the wire (RFC 7047, 5.1) they look different: ``plain`` and ``wire``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.ovs import rpc

NAME = "Open_vSwitch"
OVSDB, VSWITCHD = "ovsdb-server", "ovs-vswitchd"
# Where distributions put the sockets, and where a build from source does (ovs-vswitchd(8)).
DIRECTORIES = ("/run/openvswitch", "/var/run/openvswitch", "/usr/local/var/run/openvswitch")
# Seconds for ovs-vswitchd to do what the database says. 100 new ports take 0.2 s, but it waits for
# a lock that the whole kernel has once (RTNL), and others may be busy with theirs.
APPLY = 30.0

# Columns of a bridge, and the tables they refer to.
FLOW_EXPORTS = {"netflow": "NetFlow", "sflow": "sFlow", "ipfix": "IPFIX"}
# Keys of external_ids. On what we made; on a QoS and its queues, which have no name: whose they
# are; on a port: which offloads of its links we switched off.
MARK, MARK_PORT, MARK_OFFLOADS = "kvmweb", "kvmweb-port", "kvmweb-offloads"

Row = dict[str, Any]


class Database:
    """``directory`` holds the sockets; None: where they are on most systems, or ``OVS_RUNDIR``."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or _directory()
        self.socket = self.directory / "db.sock"
        self._schema: dict[str, Any] = {}
        self._kinds: dict[str, dict[str, str]] = {}

    def call(self, method: str, params: list[Any], *, seconds: float = rpc.ANSWER) -> Any:
        return rpc.call(self.socket, OVSDB, method, params, seconds=seconds)

    def connect(self) -> rpc.Connection:
        return rpc.Connection(self.socket, OVSDB)

    @property
    def schema(self) -> dict[str, Any]:
        """Its tables; asked once: it changes only with another version of Open vSwitch."""
        if not self._schema:
            self._schema = self.call("get_schema", [NAME])["tables"]
        return self._schema

    def select(self, tables: Iterable[str]) -> dict[str, list[Row]]:
        """All rows of those tables that this version has, at one moment."""
        known = [table for table in tables if table in self.schema]
        return dict(zip(known, self.query([_select(table) for table in known]), strict=True))

    def query(self, operations: list[dict[str, Any]]) -> list[list[Row]]:
        """The plain rows of each select."""
        results = transact(self.call, operations)
        return [
            [self._plain(operation["table"], row) for row in result["rows"]]
            for operation, result in zip(operations, results, strict=True)
        ]

    def _plain(self, table: str, row: Row) -> Row:
        kinds = self._kinds_of(table)
        found = {name: plain(kinds[name], value) for name, value in row.items() if name in kinds}
        return {"uuid": row["_uuid"][1], **found} if "_uuid" in row else found

    def _kinds_of(self, table: str) -> dict[str, str]:
        if table not in self._kinds:
            columns = self.schema[table]["columns"]
            self._kinds[table] = {name: _kind(column["type"]) for name, column in columns.items()}
        return self._kinds[table]

    def control(self, *words: str, seconds: float = rpc.ANSWER) -> str:
        """What ``ovs-appctl WORDS`` prints; raises ``NetError``."""
        return str(
            rpc.call(self.control_socket(), VSWITCHD, words[0], [*words[1:]], seconds=seconds)
        )

    def control_socket(self) -> Path:
        """Of ovs-vswitchd, named after its process."""
        try:
            pid = (self.directory / f"{VSWITCHD}.pid").read_text().strip()
        except OSError:
            raise rpc.Absent(f"{VSWITCHD} does not run on this host.") from None
        return self.directory / f"{VSWITCHD}.{pid}.ctl"

    def version(self) -> str:
        """ovs-vswitchd's own. Raises ``NetError`` when it would not do what the database says."""
        try:
            return self.control("version", seconds=2).split()[-1]
        except NetError as error:
            stays = "Bridges and ports stay as they are until it is started again."
            raise NetError(f"{error.sentence} {stays}", kind=error.kind) from None


def of(context: Context) -> Database:
    """The context's own."""
    if context.ovs is None:
        context.ovs = Database()
    found: Database = context.ovs
    return found


def transact(call: Any, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All of them or none; raises ``Refused`` with the server's reason (RFC 7047, 4.1.3)."""
    results = call("transact", [NAME, *operations])
    for result in results:
        if result and result.get("error"):
            raise rpc.Refused(f"{OVSDB}: {result.get('details') or result['error']}")
    return list(results)


def installed() -> bool:
    return shutil.which(VSWITCHD, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def _directory() -> Path:
    names = [os.environ["OVS_RUNDIR"]] if os.environ.get("OVS_RUNDIR") else DIRECTORIES
    return next((Path(name) for name in names if Path(name).is_dir()), Path(names[0]))


def _select(table: str) -> dict[str, Any]:
    return {"op": "select", "table": table, "where": []}


def _kind(type_: Any) -> str:
    """Of a column with that type in the schema: one, set or map."""
    if not isinstance(type_, dict):
        return "one"
    if "value" in type_:
        return "map"
    return "one" if type_.get("max", 1) == 1 else "set"


def plain(kind: str, value: Any) -> Any:
    if kind == "map":
        return {str(_atom(key)): _atom(one) for key, one in value[1]}
    several = value[1] if isinstance(value, list) and value[0] == "set" else [value]
    if kind == "set":
        return sorted(_atom(one) for one in several)
    return _atom(several[0]) if several else None


def _atom(value: Any) -> Any:
    return value[1] if isinstance(value, list) else value


def is_empty(value: Any) -> bool:
    """As a column without a value is: not 0, False or ""."""
    return value is None or value == [] or value == {}


def wire(value: Any) -> Any:
    """A plain value that holds no reference."""
    if isinstance(value, dict):
        return ["map", [[key, one] for key, one in sorted(value.items())]]
    if isinstance(value, list):
        return ["set", value]
    return ["set", []] if value is None else value
