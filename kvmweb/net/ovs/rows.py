"""Operations on OVSDB's rows (RFC 7047, 5.2) as plain data for steps, and the words of ovs-vsctl
for the same.

Rows are named, not numbered: ``[ROW, "Port", "p1"]`` stands where a UUID has to, and becomes one
when the step is carried out (transact.py), for a row may be new by then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kvmweb.net.ovs.database import FLOW_EXPORTS, MARK, MARK_PORT, Row, wire

Operations = list[dict[str, Any]]
ROW = "kvmweb-row"
# Of a row of state.py, what is no column that can be set.
_OURS = {
    "uuid", "live", "is_ours", "is_up", "peer", "ports", "interfaces", "mirrors", "controllers",
    "qos", "queues", "select_src_port", "select_dst_port", "output_port", *FLOW_EXPORTS,
}  # fmt: skip
# ovs-vsctl(8): other strings need double quotes.
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def row(table: str, *names: str) -> list[str]:
    """A reference to an existing row; a mirror is known by its bridge's name and its own."""
    return [ROW, table, *names]


def new(table: str, *names: str) -> list[str]:
    """A reference to a row that the same transaction inserts."""
    return ["named-uuid", identifier(table, *names)]


def identifier(table: str, *names: str) -> str:
    return "_".join([table, *(name.encode().hex() for name in names)])


def columns(found: Row) -> Row:
    """What can be set of a row of state.py."""
    return {name: value for name, value in found.items() if name not in _OURS}


def _set(references: Iterable[Any]) -> list[Any]:
    return ["set", list(references)]


def insert(table: str, *names: str, values: Row, references: Row | None = None) -> dict[str, Any]:
    """``references`` are on the wire's form already."""
    wired = {name: wire(value) for name, value in columns(values).items()}
    return {
        "op": "insert",
        "table": table,
        "uuid-name": identifier(table, *names),
        "row": {**wired, **(references or {})},
    }


def _where(name: str) -> list[Any]:
    return [["name", "==", name]]


def update(table: str, name: str, **references: Any) -> dict[str, Any]:
    return {"op": "update", "table": table, "where": _where(name), "row": references}


def _mutate(table: str, name: str, *mutations: list[Any]) -> dict[str, Any]:
    return {"op": "mutate", "table": table, "where": _where(name), "mutations": [*mutations]}


def _root(*mutations: list[Any]) -> dict[str, Any]:
    return {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [*mutations]}


def add_bridge(bridge: Row) -> Operations:
    """With everything that is in it."""
    name = bridge["name"]
    ports = [operation for port in bridge["ports"] for operation in _insert_port(port)]
    references: Row = {"ports": _set(new("Port", port["name"]) for port in bridge["ports"])}
    made = insert("Bridge", name, values=bridge, references=references)
    joined = _root(["bridges", "insert", _set([new("Bridge", name)])])
    rest = [operation for mirror in bridge["mirrors"] for operation in add_mirror(name, mirror)]
    for column in FLOW_EXPORTS:
        if column in bridge:
            rest += set_flow_export(name, column, bridge[column])
    if bridge["controllers"]:
        rest += set_controllers(name, bridge["controllers"])
    return [*ports, made, joined, *rest]


def drop_bridge(bridge: Row) -> Operations:
    """What is in it goes with it, but for what rate limits its ports have of us."""
    limits = [one for port in bridge["ports"] for one in _drop_qos(port["name"])]
    return [*limits, _root(["bridges", "delete", _set([row("Bridge", bridge["name"])])])]


def add_port(bridge: str, port: Row) -> Operations:
    joined = _mutate("Bridge", bridge, ["ports", "insert", _set([new("Port", port["name"])])])
    return [*_insert_port(port), joined]


def drop_port(bridge: str, name: str) -> Operations:
    left = _mutate("Bridge", bridge, ["ports", "delete", _set([row("Port", name)])])
    return [*_drop_qos(name), left]


def _insert_port(port: Row) -> Operations:
    name = port["name"]
    interfaces = [insert("Interface", one["name"], values=one) for one in port["interfaces"]]
    references = {"interfaces": _set(new("Interface", one["name"]) for one in port["interfaces"])}
    made = insert("Port", name, values=port, references=references)
    return [*interfaces, made, *(set_qos(name, port["qos"]) if port.get("qos") else [])]


def set_interfaces(port: str, *, added: Iterable[Row], dropped: Iterable[str]) -> Operations:
    added = list(added)
    inserts = [insert("Interface", one["name"], values=one) for one in added]
    mutations = [
        ["interfaces", "insert", _set(new("Interface", one["name"]) for one in added)],
        ["interfaces", "delete", _set(row("Interface", name) for name in dropped)],
    ]
    return [*inserts, _mutate("Port", port, *mutations)]


def set_qos(port: str, qos: Row | None) -> Operations:
    """In place of what it has. One that we made goes; another's is only let go of."""
    gone = _drop_qos(port)
    if qos is None:
        return gone
    if not qos.get("is_ours"):
        return [*gone, update("Port", port, qos=["uuid", qos["uuid"]])]
    queues = [
        insert("Queue", port, number, values=queue) for number, queue in qos["queues"].items()
    ]
    pairs = [[int(number), new("Queue", port, number)] for number in qos["queues"]]
    made = insert("QoS", port, values=qos, references={"queues": ["map", pairs]})
    return [*gone, *queues, made, update("Port", port, qos=new("QoS", port))]


def _drop_qos(port: str) -> Operations:
    """A port that goes still counts as a reference, so it lets go first."""
    mark = ["external_ids", "includes", wire({MARK: "1", MARK_PORT: port})]
    gone = [{"op": "delete", "table": table, "where": [mark]} for table in ("QoS", "Queue")]
    return [update("Port", port, qos=_set([])), *gone]


def add_mirror(bridge: str, mirror: Row) -> Operations:
    name = mirror["name"]
    references = {
        column: _set(row("Port", port) for port in mirror[column])
        for column in ("select_src_port", "select_dst_port")
    }
    if mirror.get("output_port"):
        references["output_port"] = _set([row("Port", mirror["output_port"])])
    made = insert("Mirror", bridge, name, values=mirror, references=references)
    return [
        made,
        _mutate("Bridge", bridge, ["mirrors", "insert", _set([new("Mirror", bridge, name)])]),
    ]


def drop_mirror(bridge: str, name: str) -> Operations:
    return [_mutate("Bridge", bridge, ["mirrors", "delete", _set([row("Mirror", bridge, name)])])]


def set_flow_export(bridge: str, column: str, export: Row | None) -> Operations:
    if export is None:
        return [update("Bridge", bridge, **{column: _set([])})]
    table = FLOW_EXPORTS[column]
    made = insert(table, bridge, values=export)
    return [made, update("Bridge", bridge, **{column: new(table, bridge)})]


def set_controllers(bridge: str, controllers: Iterable[Row]) -> Operations:
    """In place of those it has."""
    targets = [(one, one["target"]) for one in controllers]
    made = [insert("Controller", bridge, target, values=one) for one, target in targets]
    references = _set(new("Controller", bridge, target) for _, target in targets)
    return [*made, update("Bridge", bridge, controller=references)]


@dataclass
class Edit:
    """What changes in the row ``name``: columns that are set, keys of maps put in and dropped."""

    table: str
    name: str
    set: Row = field(default_factory=dict)
    put: dict[str, dict[str, str]] = field(default_factory=dict)
    drop: dict[str, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.set or self.put or self.drop)

    def operations(self) -> Operations:
        found: Operations = []
        if self.set:
            wired = {name: wire(value) for name, value in self.set.items()}
            found.append(update(self.table, self.name, **wired))
        mutations = [[column, "delete", _set(keys)] for column, keys in self._gone().items()]
        mutations += [[column, "insert", wire(values)] for column, values in self.put.items()]
        return [*found, _mutate(self.table, self.name, *mutations)] if mutations else found

    def _gone(self) -> dict[str, list[str]]:
        """Inserting does not replace what a key has (RFC 7047, 5.1, <mutation>)."""
        return {
            column: [*self.drop.get(column, []), *self.put.get(column, {})]
            for column in {**self.drop, **self.put}
        }

    def inverse(self, before: Row) -> Edit:
        """What brings back the row as it was ``before``."""
        back = Edit(self.table, self.name, {column: before.get(column) for column in self.set})
        for column, keys in self._gone().items():
            had = before.get(column) or {}
            if kept := {key: had[key] for key in keys if key in had}:
                back.put[column] = kept
            if fresh := [key for key in keys if key not in had]:
                back.drop[column] = fresh
        return back

    def words(self) -> list[str]:
        """Of ovs-vsctl, in one command."""
        parts = [
            ["clear", self.table, self.name, column]
            for column, value in self.set.items()
            if value is None or value == []
        ]
        parts += [
            ["remove", self.table, self.name, column, *map(atom, keys)]
            for column, keys in self.drop.items()
        ]
        values = assignments({**self.set, **self.put})
        if values:
            parts.append(["set", self.table, self.name, *values])
        return together(*parts)


def assignments(values: Row) -> list[str]:
    """``column=value`` for each that has one, ``column:key=value`` for each of a map's."""
    found: list[str] = []
    for column, value in values.items():
        if isinstance(value, dict):
            found += [f"{column}:{atom(key)}={atom(one)}" for key, one in value.items()]
        elif isinstance(value, list):
            found += [f"{column}={','.join(map(atom, value))}"] if value else []
        elif value is not None:
            found.append(f"{column}={atom(value)}")
    return found


def atom(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or _BARE.fullmatch(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def together(*parts: list[str]) -> list[str]:
    """Commands of ovs-vsctl as one, which is one transaction."""
    found: list[str] = []
    for part in parts:
        found += ["--", *part] if found else part
    return found


def marked(values: Row) -> Row:
    """The row with our mark."""
    return {**values, "external_ids": {**values.get("external_ids", {}), MARK: "1"}}
