"""The words of ovs-vsctl for the operations of rows.py; ``together`` makes one command of them."""

from __future__ import annotations

from typing import Any

from kvmweb.net.ovs.database import FLOW_EXPORTS, Row
from kvmweb.net.ovs.rows import assignments, atom, columns, together

# What a new row has anyway.
_DEFAULTS: tuple[Any, ...] = (None, "", 0, False, [], {})


def _values(row: Row, *besides: str) -> list[str]:
    told = {name: value for name, value in columns(row).items() if value not in _DEFAULTS}
    return assignments({name: told[name] for name in told if name not in ("name", *besides)})


def add_bridge(bridge: Row) -> list[str]:
    """Of a new one: its own port is the only one."""
    name = bridge["name"]
    parts = [["add-br", name], ["set", "Bridge", name, *_values(bridge)]]
    for port in bridge["ports"]:
        parts += _of_port(port)
    if bridge["controllers"]:
        parts.append(set_controllers(name, bridge["controllers"]))
    parts += [set_flow_export(name, one, bridge[one]) for one in FLOW_EXPORTS if one in bridge]
    return together(*parts)


def restore_bridge(bridge: Row) -> list[list[str]]:
    """With everything that is in it."""
    name = bridge["name"]
    own = [port for port in bridge["ports"] if port["name"] == name]
    found = [add_bridge({**bridge, "ports": own})]
    found += [add_port(name, port) for port in bridge["ports"] if port["name"] != name]
    return found + [add_mirror(name, mirror) for mirror in bridge["mirrors"]]


def _of_port(port: Row) -> list[list[str]]:
    name = port["name"]
    settings = [["set", "Port", name, *_values(port)]]
    settings += [
        ["set", "Interface", one["name"], *_values(one, "type")] for one in port["interfaces"]
    ]
    settings = [words for words in settings if len(words) > 3]
    return settings + ([set_qos(name, port["qos"])] if port.get("qos") else [])


def add_port(bridge: str, port: Row) -> list[str]:
    name, interfaces = port["name"], port["interfaces"]
    names = [one["name"] for one in interfaces]
    values = _values(port)
    if names == [name]:
        parts = [["add-port", bridge, name, *values]]
    elif len(names) > 1:
        parts = [["add-bond", bridge, name, *names, *values]]
    else:  # ovs-vsctl has no command for a port whose only interface is called otherwise
        made = ["--id=@i", "create", "Interface", f"name={atom(names[0])}"]
        parts = [made, ["--id=@p", "create", "Port", f"name={atom(name)}", "interfaces=@i"]]
        parts[1] += values
        parts.append(["add", "Bridge", bridge, "ports", "@p"])
    parts += [
        ["set", "Interface", one["name"], *values] for one in interfaces if (values := _values(one))
    ]
    return together(*parts, *([set_qos(name, port["qos"])] if port.get("qos") else []))


def drop_port(bridge: str, port: Row) -> list[list[str]]:
    """Two commands: ovs-vsctl does not let go of what a row that it deletes referred to."""
    limits = together(*_destroy_qos(port))
    return [*([limits] if limits else []), ["del-port", bridge, port["name"]]]


def drop_bridge(bridge: Row) -> list[list[str]]:
    limits = together(*(words for port in bridge["ports"] for words in _destroy_qos(port)))
    return [*([limits] if limits else []), ["del-br", bridge["name"]]]


def _destroy_qos(port: Row) -> list[list[str]]:
    qos = port.get("qos")
    if not qos or not qos["is_ours"]:
        return []
    queues = [queue["uuid"] for queue in qos["queues"].values()]
    parts = [["clear", "Port", port["name"], "qos"], ["destroy", "QoS", qos["uuid"]]]
    return parts + ([["destroy", "Queue", *queues]] if queues else [])


def set_interfaces(port: str, *, added: list[Row], dropped: list[str]) -> list[str]:
    parts = []
    for number, one in enumerate(added):
        made = ["create", "Interface", f"name={atom(one['name'])}", *_values(one)]
        parts.append([f"--id=@i{number}", *made])
        parts.append(["add", "Port", port, "interfaces", f"@i{number}"])
    for number, name in enumerate(dropped):
        parts.append([f"--id=@o{number}", "get", "Interface", name])
        parts.append(["remove", "Port", port, "interfaces", f"@o{number}"])
    return together(*parts)


def set_qos(port: str, qos: Row, before: Row | None = None) -> list[str]:
    """``before``: the port as it is, with what it has."""
    numbers = list(qos["queues"])
    named = [f"queues:{number}=@q{number}" for number in numbers]
    parts = [["set", "Port", port, "qos=@qos"]]
    parts.append(["--id=@qos", "create", "QoS", *_values(qos), *named])
    for number in numbers:
        values = _values(qos["queues"][number])
        parts.append([f"--id=@q{number}", "create", "Queue", *values])
    return together(*_destroy_qos(before or {}), *parts)


def drop_qos(port: Row) -> list[str]:
    return together(*_destroy_qos(port))


def add_mirror(bridge: str, mirror: Row) -> list[str]:
    ports = {*mirror["select_src_port"], *mirror["select_dst_port"], mirror.get("output_port")}
    ids = {port: f"@p{number}" for number, port in enumerate(sorted(filter(None, ports)))}
    parts = [[f"--id={ids[port]}", "get", "Port", port] for port in ids]
    values = _values(mirror)
    for column in ("select_src_port", "select_dst_port"):
        if mirror[column]:
            values.append(f"{column}={','.join(ids[port] for port in mirror[column])}")
    if mirror.get("output_port"):
        values.append(f"output_port={ids[mirror['output_port']]}")
    parts.append(["--id=@m", "create", "Mirror", f"name={atom(mirror['name'])}", *values])
    return together(*parts, ["add", "Bridge", bridge, "mirrors", "@m"])


def drop_mirror(bridge: str, name: str) -> list[str]:
    return together(
        ["--id=@m", "get", "Mirror", name], ["remove", "Bridge", bridge, "mirrors", "@m"]
    )


def set_flow_export(bridge: str, column: str, export: Row | None) -> list[str]:
    if export is None:
        return ["clear", "Bridge", bridge, column]
    made = [f"--id=@{column}", "create", FLOW_EXPORTS[column], *_values(export)]
    return together(made, ["set", "Bridge", bridge, f"{column}=@{column}"])


def set_controllers(bridge: str, controllers: list[dict[str, Any]]) -> list[str]:
    targets = [one["target"] for one in controllers]
    return ["set-controller", bridge, *targets] if targets else ["del-controller", bridge]
