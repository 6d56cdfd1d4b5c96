"""The steps between the switches that are there and those of the document.

In a bridge or port that both name, what the document can say is made so, whoever made it. Removed
is only what bears our mark, and was in the document that was applied last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvmweb.net.changes import set_link
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.ovs import checks, rows, wanted, words
from kvmweb.net.ovs.database import FLOW_EXPORTS, MARK_OFFLOADS, Row, is_empty
from kvmweb.net.ovs.deaf import deafness
from kvmweb.net.ovs.interfaces import interfaces
from kvmweb.net.ovs.offloads import offloads, remember, restored
from kvmweb.net.ovs.rows import Edit
from kvmweb.net.ovs.transact import step
from kvmweb.net.ovs.wanted import names
from kvmweb.net.step import (
    ADD_PORTS,
    ADD_SWITCHES,
    DROP_PORTS,
    DROP_SWITCHES,
    SET_PORTS,
    SET_UP,
    Step,
)

_BRIDGE = (
    "datapath_type", "fail_mode", "stp_enable", "rstp_enable", "mcast_snooping_enable",
    "protocols",
)  # fmt: skip
_PORT = ("tag", "trunks", "vlan_mode", "bond_mode", "lacp")
_INTERFACE = ("type", "ingress_policing_rate", "ingress_policing_burst", "mtu_request")

State = dict[str, Any]


def plan(context: Context, actual: State, desired: State, owned: State) -> list[Step]:
    switches, before = desired.get("switches", []), owned.get("switches", [])
    if not switches and not before:
        return []
    checks.check(actual, desired, owned)
    there = {one["name"]: one for one in _with_links(actual)}
    old = {one["name"]: one for one in before}
    staying = names(switches)
    datapaths = actual["ovs"].get("datapaths", [])
    steps: list[Step] = []
    for name in sorted((old.keys() - staying) & there.keys()):
        steps += _leave(there[name], old[name])
    for spec in switches:
        name, mac = spec["name"], _mac(actual, desired, spec)
        row = wanted.switch(spec, datapaths=datapaths, actual=there.get(name), mac=mac)
        remember(actual, desired, row)
        steps += _reach(row, there.get(name), old.get(name))
    steps += interfaces(actual, desired, owned)
    steps += offloads(actual, desired)
    steps += deafness(actual, desired, owned)
    if steps and not actual["ovs"]["is_running"]:
        raise NetError(actual["ovs"]["problem"], field="switches", kind="missing")
    return steps


def _with_links(actual: State) -> Iterator[Row]:
    """The bridges, and which of their interfaces are up. ovs-vswitchd hears of that later than the
    kernel, and a plan must not change meanwhile.
    """
    ups = {one["name"] for one in actual.get("links", []) if one["is_up"] and not one["namespace"]}
    for bridge in actual["switches"]:
        yield {**bridge, "ports": [_with_state(port, ups) for port in bridge["ports"]]}


def _with_state(port: Row, ups: set[str]) -> Row:
    interfaces = [{**one, "is_up": one["name"] in ups} for one in port["interfaces"]]
    return {**port, "interfaces": interfaces}


def _leave(bridge: Row, spec: dict[str, Any]) -> Iterator[Step]:
    """The bridge left the document."""
    if bridge["is_ours"]:
        yield step(
            rows.drop_bridge(bridge),
            rank=DROP_SWITCHES,
            words=words.drop_bridge(bridge),
            undo=rows.add_bridge(bridge),
            undo_words=words.restore_bridge(bridge),
            then=[one for port in bridge["ports"] for one in _up_again(port)],
            touches=[bridge["name"], *names(bridge["ports"])],
        )
        for port in bridge["ports"]:
            yield from restored(port)
        return
    for mirror in bridge["mirrors"]:
        if mirror["is_ours"] and mirror["name"] in names(spec["mirrors"]):
            yield _drop_mirror(bridge["name"], mirror)
    for port in bridge["ports"]:
        if port["name"] in wanted.specs_of_ports(spec):
            yield from _leave_port(bridge["name"], port)
    for column in FLOW_EXPORTS:
        yield from _edit_flow_export(bridge, {}, column)


def _leave_port(bridge: str, port: Row) -> Iterator[Step]:
    if port["is_ours"]:
        yield _drop_port(bridge, port)
        yield from restored(port)
    else:
        yield from _edit_qos(port, None)


def _mac(actual: State, desired: State, spec: dict[str, Any]) -> str:
    """The uplink's, if that has one of its own: Open vSwitch would take any port's."""
    if not spec["uplink"] or spec["uplink"] in names(desired.get("links", [])):
        return ""
    rows = [one for one in actual.get("links", []) if not one["namespace"]]
    return next((one["mac"] for one in rows if one["name"] == spec["uplink"]), "")


def _reach(row: Row, bridge: Row | None, old: dict[str, Any] | None) -> Iterator[Step]:
    """``old``: the switch in the document that was applied last."""
    if bridge is None:
        bridge = _only_itself(rows.marked(row))
        yield step(
            rows.add_bridge(bridge),
            rank=ADD_SWITCHES,
            words=[words.add_bridge(bridge)],
            undo=rows.drop_bridge(bridge),
            undo_words=words.drop_bridge(bridge),
            touches=[row["name"]],
        )
    else:
        yield from _edit_bridge(bridge, row, old)
    yield from _ports(bridge, row, old)
    yield from _mirrors(bridge, row, old)


def _only_itself(row: Row) -> Row:
    """A new bridge as it is before its ports come."""
    exports = {name: rows.marked(row[name]) for name in FLOW_EXPORTS if name in row}
    own = [rows.marked(one) for one in row["ports"] if one["name"] == row["name"]]
    return {**row, **exports, "ports": own, "mirrors": [], "is_ours": True}


def _edit_bridge(bridge: Row, row: Row, old: dict[str, Any] | None) -> Iterator[Step]:
    before = {*old["other_config"], *(["hwaddr"] if old["uplink"] else [])} if old else set()
    gone = before - row["other_config"].keys()
    edit = _edit("Bridge", bridge, row, _BRIDGE)
    _edit_map(edit, "other_config", bridge, row["other_config"], sorted(gone))
    if edit:
        yield _set(edit, bridge, rank=ADD_SWITCHES, touches=[bridge["name"]])
    if _targets(bridge["controllers"]) != _targets(row["controllers"]):
        yield _set_controllers(bridge, row)
    for column in FLOW_EXPORTS:
        yield from _edit_flow_export(bridge, row, column)


def _targets(controllers: list[Row]) -> set[str]:
    return {one["target"] for one in controllers}


def _set_controllers(bridge: Row, row: Row) -> Step:
    name, had = bridge["name"], {one["target"]: one for one in bridge["controllers"]}
    controllers = [had.get(one["target"], one) for one in row["controllers"]]
    return step(
        rows.set_controllers(name, controllers),
        rank=ADD_SWITCHES,
        words=[words.set_controllers(name, controllers)],
        undo=rows.set_controllers(name, bridge["controllers"]),
        undo_words=[words.set_controllers(name, bridge["controllers"])],
        touches=[name],
    )


def _edit_flow_export(bridge: Row, row: Row, column: str) -> Iterator[Step]:
    name, had, export = bridge["name"], bridge.get(column), row.get(column)
    if export is None and (had is None or not had["is_ours"]):
        return
    if export and had and all(_same(had.get(one), export[one]) for one in export):
        return
    made = rows.marked(export) if export else None
    yield step(
        rows.set_flow_export(name, column, made),
        rank=ADD_SWITCHES,
        words=[words.set_flow_export(name, column, made)],
        undo=rows.set_flow_export(name, column, had),
        undo_words=[words.set_flow_export(name, column, had)],
        touches=[name],
    )


def _ports(bridge: Row, row: Row, old: dict[str, Any] | None) -> Iterator[Step]:
    had = {one["name"]: one for one in bridge["ports"]}
    staying = names(row["ports"])
    before = wanted.specs_of_ports(old) if old else {}
    for port in bridge["ports"]:
        if port["name"] in before and port["name"] not in staying:
            yield from _leave_port(bridge["name"], port)
    for port in row["ports"]:
        name = port["name"]
        if name in had:
            yield from _edit_port(had[name], port, before.get(name))
        else:
            yield _add_port(bridge["name"], rows.marked(port))


def _add_port(bridge: str, port: Row) -> Step:
    name = port["name"]
    return step(
        rows.add_port(bridge, port),
        rank=ADD_PORTS,
        words=[words.add_port(bridge, port)],
        undo=rows.drop_port(bridge, name),
        undo_words=[["del-port", bridge, name]],
        touches=[bridge, name, *names(port["interfaces"])],
    )


def _drop_port(bridge: str, port: Row) -> Step:
    name = port["name"]
    return step(
        rows.drop_port(bridge, name),
        rank=DROP_PORTS,
        words=words.drop_port(bridge, port),
        undo=rows.add_port(bridge, port),
        undo_words=[words.add_port(bridge, port)],
        then=_up_again(port),
        touches=[bridge, name, *names(port["interfaces"])],
    )


def _up_again(port: Row) -> list[Step]:
    """Internal interfaces that were up; addresses and routes come back by themselves (apply.py)."""
    return [
        undo
        for one in port["interfaces"]
        if one["type"] == "internal" and one["is_up"]
        for undo in set_link(one["name"], "", {}, before={"is_up": True}, rank=SET_UP).undo
    ]


def _edit_port(port: Row, row: Row, old: dict[str, Any] | None) -> Iterator[Step]:
    touches = [port["name"], *names(port["interfaces"])]
    edit = _edit("Port", port, row, _PORT)
    if MARK_OFFLOADS not in port.get("external_ids", {}):
        _edit_map(edit, "external_ids", port, row.get("external_ids", {}), [])
    if edit:
        yield _set(edit, port, rank=SET_PORTS, touches=touches)
    had = {one["name"]: one for one in port["interfaces"]}
    yield from _edit_interfaces(port, row, had)
    for interface in row["interfaces"]:
        if interface["name"] in had:
            yield from _edit_interface(had[interface["name"]], interface, old)
    yield from _edit_qos(port, row["qos"])


def _edit_interfaces(port: Row, row: Row, had: dict[str, Row]) -> Iterator[Step]:
    staying = names(row["interfaces"])
    added = [one for one in row["interfaces"] if one["name"] not in had]
    dropped = [one for one in had.values() if one["name"] not in staying]
    if not added and not dropped:
        return
    name = port["name"]
    yield step(
        rows.set_interfaces(name, added=added, dropped=names(dropped)),
        rank=SET_PORTS,
        words=[words.set_interfaces(name, added=added, dropped=names(dropped))],
        undo=rows.set_interfaces(name, added=dropped, dropped=names(added)),
        undo_words=[words.set_interfaces(name, added=dropped, dropped=names(added))],
        touches=[name, *names(added), *names(dropped)],
    )


def _edit_interface(had: Row, interface: Row, old: dict[str, Any] | None) -> Iterator[Step]:
    edit = _edit("Interface", had, interface, _INTERFACE)
    if "mtu_request" not in interface and old and old["mtu"] and had.get("mtu_request"):
        edit.set["mtu_request"] = None
    gone = [key for key in wanted.OPTIONS if key not in interface["options"]]
    _edit_map(edit, "options", had, interface["options"], gone)
    if edit:
        yield _set(edit, had, rank=SET_PORTS, touches=[had["name"]])


def _edit_qos(port: Row, qos: Row | None) -> Iterator[Step]:
    had, name = port.get("qos"), port["name"]
    if qos is None and (had is None or not had["is_ours"]):
        return
    if qos and had and _limits(had) == _limits(qos):
        return
    yield step(
        rows.set_qos(name, qos),
        rank=SET_PORTS,
        words=[words.set_qos(name, qos, port) if qos else words.drop_qos(port)],
        undo=rows.set_qos(name, had),
        undo_words=[words.set_qos(name, had) if had else ["clear", "Port", name, "qos"]],
        touches=[name],
    )


def _limits(qos: Row) -> tuple[Any, ...]:
    queues = {number: one.get("other_config", {}) for number, one in qos["queues"].items()}
    return qos["type"], qos.get("other_config", {}).get("max-rate"), queues


def _mirrors(bridge: Row, row: Row, old: dict[str, Any] | None) -> Iterator[Step]:
    name, had = bridge["name"], {one["name"]: one for one in bridge["mirrors"]}
    staying = names(row["mirrors"])
    before = names(old["mirrors"]) if old else []
    ports = {*names(bridge["ports"]), *names(row["ports"])}
    for mirror in bridge["mirrors"]:
        if mirror["is_ours"] and mirror["name"] in before and mirror["name"] not in staying:
            yield _drop_mirror(name, mirror)
    for mirror in row["mirrors"]:
        yield from _edit_mirror(name, _with_ports(mirror, ports), had.get(mirror["name"]))


def _with_ports(mirror: Row, ports: set[str]) -> Row:
    """Without those that are not there: a machine's come and go with it."""
    selected = {
        column: [port for port in mirror[column] if port in ports]
        for column in ("select_src_port", "select_dst_port")
    }
    output = mirror["output_port"] if mirror["output_port"] in ports else None
    return {**mirror, **selected, "output_port": output}


def _edit_mirror(bridge: str, mirror: Row, had: Row | None) -> Iterator[Step]:
    name = mirror["name"]
    if had and all(_same(had.get(column), mirror[column]) for column in mirror):
        return
    gone = rows.drop_mirror(bridge, name)
    made = rows.marked(mirror)
    yield step(
        [*(gone if had else []), *rows.add_mirror(bridge, made)],
        rank=SET_PORTS,
        words=[
            *([words.drop_mirror(bridge, name)] if had else []),
            words.add_mirror(bridge, made),
        ],
        undo=[*gone, *(rows.add_mirror(bridge, had) if had else [])],
        undo_words=[
            words.drop_mirror(bridge, name),
            *([words.add_mirror(bridge, had)] if had else []),
        ],
        touches=[bridge],
    )


def _drop_mirror(bridge: str, mirror: Row) -> Step:
    gone = rows.drop_mirror(bridge, mirror["name"])
    return step(
        gone,
        rank=DROP_PORTS,
        words=[words.drop_mirror(bridge, mirror["name"])],
        undo=[*gone, *rows.add_mirror(bridge, mirror)],
        undo_words=[words.add_mirror(bridge, mirror)],
        touches=[bridge],
    )


def _set(edit: Edit, before: Row, *, rank: int, touches: list[str]) -> Step:
    return step(
        edit.operations(),
        rank=rank,
        words=[edit.words()],
        undo=edit.inverse(before).operations(),
        undo_words=[edit.inverse(before).words()],
        touches=touches,
    )


def _edit(table: str, had: Row, row: Row, names: tuple[str, ...]) -> Edit:
    changed = {
        name: row[name] for name in names if name in row and not _same(had.get(name), row[name])
    }
    return Edit(table, had["name"], changed)


def _edit_map(edit: Edit, column: str, had: Row, values: dict[str, str], gone: list[str]) -> None:
    before = had.get(column, {})
    if put := {key: one for key, one in values.items() if before.get(key) != one}:
        edit.put[column] = put
    if drop := [key for key in gone if key in before]:
        edit.drop[column] = drop


def _same(one: Any, other: Any) -> bool:
    if is_empty(one) or is_empty(other):
        return is_empty(one) and is_empty(other)
    # The type of an interface; both are a link of the kernel's.
    return bool((one or "system") == (other or "system")) if isinstance(one, str) else one == other
