"""The action of all our steps on Open vSwitch: operations, those of neighbouring steps together in
one transaction. It has ended when ovs-vswitchd has done what the database then says.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.ovs import database, rpc
from kvmweb.net.ovs.database import APPLY, NAME, VSWITCHD
from kvmweb.net.ovs.rows import ROW, Operations
from kvmweb.net.step import Step, StepError, action, batch

_NAMED = ("Bridge", "Port", "Interface")


def step(
    operations: Operations,
    *,
    rank: int,
    words: list[list[str]],
    undo: Operations,
    undo_words: list[list[str]],
    touches: list[str],
    then: Iterable[Step] = (),
) -> Step:
    """The words of each command follow ``ovs-vsctl``; ``then``: what is undone after the rest."""
    back = Step("ovs.transact", {"operations": undo, "is_undo": True}, rank, _vsctl(undo_words))
    return Step(
        "ovs.transact",
        {"operations": operations},
        rank,
        _vsctl(words),
        [back, *then],
        touches,
    )


def _vsctl(words: list[list[str]]) -> list[list[str]]:
    return [["ovs-vsctl", *one] for one in words if one]


@dataclass
class _Queued:
    number: int
    operations: Operations
    is_undo: bool


@action("ovs.transact", batch="ovs")
def queue(context: Context, operations: Operations, *, is_undo: bool = False) -> None:
    """``is_undo``: what is there already, or not there any more, is no error."""
    context.queues["ovs"].append(_Queued(context.number, operations, is_undo))


@batch("ovs")
def commit(context: Context) -> None:
    queued: list[_Queued] = context.queues.pop("ovs", [])
    found = database.of(context)
    is_undo = all(one.is_undo for one in queued)
    numbers = frozenset(one.number for one in queued)
    try:
        is_running = _is_running(found, is_required=not is_undo)
        operations = _Resolver(found).resolve(queued)
        connection = found.connect()
    except NetError as error:
        raise StepError(error.sentence, untouched=numbers) from None
    with connection:
        try:
            _carry_out(connection, operations, waits=is_running)
        except rpc.Refused as error:
            raise StepError(error.sentence, untouched=numbers) from None
        except NetError as error:
            raise StepError(error.sentence) from None
    if not is_undo:
        _check(context, queued)


def _is_running(found: database.Database, *, is_required: bool) -> bool:
    try:
        found.version()
    except NetError:
        if is_required:
            raise
        return False
    return True


def _carry_out(connection: rpc.Connection, operations: Operations, *, waits: bool) -> None:
    number = _transact(connection, operations)
    if waits:
        _wait(connection, number)


def _transact(connection: rpc.Connection, operations: Operations) -> int:
    """Returns the number that ovs-vswitchd's ``cur_cfg`` reaches when it has done it all."""
    root = {"table": "Open_vSwitch", "where": []}
    count = {**root, "op": "mutate", "mutations": [["next_cfg", "+=", 1]]}
    tell = {**root, "op": "select", "columns": ["next_cfg"]}
    results = database.transact(connection.call, [*operations, count, tell])
    return int(results[-1]["rows"][0]["next_cfg"])


def _wait(connection: rpc.Connection, number: int) -> None:
    end = time.monotonic() + APPLY
    connection.allow(APPLY + rpc.ANSWER)
    while (current := _current(connection)) < number:
        left = end - time.monotonic()
        if left <= 0:
            raise StepError(f"{VSWITCHD} did not do it within {APPLY:g} s.")
        connection.call("transact", [NAME, _changes(current, within=left)])


def _changes(current: int, *, within: float) -> dict[str, Any]:
    """The server answers as soon as it is another number, or when so many seconds have passed."""
    return {
        "op": "wait",
        "table": "Open_vSwitch",
        "where": [],
        "columns": ["cur_cfg"],
        "until": "!=",
        "rows": [{"cur_cfg": current}],
        "timeout": int(within * 1000),
    }


def _current(connection: rpc.Connection) -> int:
    tell = {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["cur_cfg"]}
    return int(database.transact(connection.call, [tell])[0]["rows"][0]["cur_cfg"])


def _check(context: Context, queued: list[_Queued]) -> None:
    """Raises what ovs-vswitchd made of the interfaces that were set, with the step to blame."""
    numbers = {
        _interface(one): step.number
        for step in queued
        for one in step.operations
        if one["table"] == "Interface"
    }
    if not numbers:
        return
    tell = {"op": "select", "table": "Interface", "where": []}
    columns = ["name", "error", "ofport", "ingress_policing_rate"]
    for row in database.of(context).query([{**tell, "columns": columns}])[0]:
        if row["name"] in numbers:
            problem = _problem(context, row)
            if problem:
                raise StepError(problem, number=numbers[row["name"]])


def _interface(operation: dict[str, Any]) -> str:
    where = operation.get("where") or [["name", "==", operation.get("row", {}).get("name", "")]]
    return str(where[0][2])


def _problem(context: Context, row: dict[str, Any]) -> str:
    name = row["name"]
    if row["error"]:
        return f"Open vSwitch can't use {name}: {row['error']}."
    if not row["ofport"]:
        return f"{VSWITCHD} made no port of {name}; its log says why."
    if row["ingress_policing_rate"] and not _is_policed(context, name):
        return f"This host's kernel can't police {name} (modules “act_police” and “cls_basic”)."
    return ""


def _is_policed(context: Context, name: str) -> bool:
    """Where the kernel can't, ovs-vswitchd only writes that into its log."""
    return bool(context.run(["tc", "filter", "show", "dev", name, "parent", "ffff:"]).strip())


@dataclass
class _Resolver:
    """Turns references by name into UUIDs, in the order of the operations: what one inserts is
    there for those behind it, what one drops is not.
    """

    found: database.Database
    there: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    same: dict[str, list[str]] = field(default_factory=dict)
    is_undo: bool = False

    def __post_init__(self) -> None:
        names = {"op": "select", "where": [], "columns": ["_uuid", "name"]}
        tables = [{**names, "table": table} for table in (*_NAMED, "Mirror")]
        tables[0]["columns"] = ["_uuid", "name", "mirrors"]
        *named, mirrors = self.found.query(tables)
        for table, rows in zip(_NAMED, named, strict=True):
            self.there |= {(table, row["name"]): ["uuid", row["uuid"]] for row in rows}
        name_of = {row["uuid"]: row["name"] for row in mirrors}
        for row in named[0]:
            for uuid in row["mirrors"]:
                self.there["Mirror", row["name"], name_of[uuid]] = ["uuid", uuid]

    def resolve(self, queued: list[_Queued]) -> Operations:
        resolved = []
        for one in queued:
            self.is_undo = one.is_undo
            resolved += [self._operation(operation) for operation in one.operations]
        return [operation for operation in resolved if operation]

    def _operation(self, operation: dict[str, Any]) -> dict[str, Any] | None:
        if operation["op"] == "insert":
            return self._insert(operation)
        if operation["op"] in ("update", "mutate") and not self._exists(operation):
            return None
        if operation["op"] == "mutate":
            mutations = [self._mutation(one) for one in operation["mutations"]]
            return {**operation, "mutations": [one for one in mutations if one[2] != ["set", []]]}
        if operation["op"] == "update":
            return {**operation, "row": self._values(operation["row"])}
        return operation

    def _insert(self, operation: dict[str, Any]) -> dict[str, Any] | None:
        row, name = operation["row"], operation["uuid-name"]
        key = (operation["table"], row.get("name", ""))
        if self.is_undo and key in self.there and key[0] in _NAMED:
            self.same[name] = self.there[key]
            return None
        self.same.pop(name, None)
        self.there[key] = ["named-uuid", name]
        return {**operation, "row": self._values(row)}

    def _exists(self, operation: dict[str, Any]) -> bool:
        if not operation["where"]:
            return True
        key = (operation["table"], operation["where"][0][2])
        if key not in self.there and not self.is_undo:
            raise rpc.Refused(_missing(key))
        return key in self.there

    def _mutation(self, mutation: list[Any]) -> list[Any]:
        column, kind, value = mutation
        if kind != "delete" or not _references(value):
            return [column, kind, self._value(value)]
        gone = [self.there.pop(tuple(one[1:]), None) for one in value[1]]
        return [column, kind, ["set", [one for one in gone if one]]]

    def _values(self, row: dict[str, Any]) -> dict[str, Any]:
        return {column: self._value(value) for column, value in row.items()}

    def _value(self, value: Any) -> Any:
        if not isinstance(value, list) or not value:
            return value
        if value[0] == ROW:
            return self._row(tuple(value[1:]))
        if value[0] == "named-uuid":
            return self.same.get(value[1], value)
        resolved = [self._value(one) for one in value]
        return [one for one in resolved if one is not None]

    def _row(self, key: tuple[str, ...]) -> list[str] | None:
        if key not in self.there and not self.is_undo:
            raise rpc.Refused(_missing(key))
        return self.there.get(key)


def _references(value: Any) -> bool:
    return bool(value[1]) and value[1][0][0] == ROW


def _missing(key: tuple[str, ...]) -> str:
    return f"The {key[0].lower()} {key[-1]} is not there any more."
