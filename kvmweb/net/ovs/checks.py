"""What can't be, as a sentence at the field that says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvmweb.net.errors import NetError
from kvmweb.net.ovs import wanted
from kvmweb.net.ovs.database import Row

State = dict[str, Any]
# Of Port.kind, those whose interface has to be there before.
_IS_LINK = "system"


def check(actual: State, desired: State, owned: State) -> None:
    """Raises ``NetError`` for the first that is wrong."""
    _present(actual, desired)
    there = {one["name"]: one for one in actual["switches"]}
    staying = [one["name"] for one in desired.get("switches", [])]
    for spec in owned.get("switches", []):
        if spec["name"] in there and spec["name"] not in staying:
            _unused(there[spec["name"]], actual)
    links = _links(actual, desired, owned)
    _once(desired)
    for number, spec in enumerate(desired.get("switches", [])):
        field = f"switches.{number}"
        _bridge(actual, spec, there, links, field)
        for name, one in _interfaces(spec, field):
            _interface(name, one, spec, there, links, _leaving(actual, desired, owned))
        _limits(actual, spec, field)


def _present(actual: State, desired: State) -> None:
    found = actual.get("ovs", {})
    if "datapaths" not in found and desired.get("switches"):
        problem = found.get("problem") or actual.get("problems", {}).get("ovs", "")
        raise NetError(problem, field="switches", kind="missing")


def _unused(bridge: Row, actual: State) -> None:
    """A machine's ports are libvirt's, others may be a person's: they would be cut off."""
    if not bridge["is_ours"]:
        return
    foreign = [port for port in bridge["ports"] if not port["is_ours"]]
    if foreign:
        names = ", ".join(port["name"] for port in foreign)
        machines = any(_machine(port) for port in foreign)
        whose = "machines are plugged in" if machines else "it has ports that we did not make"
        raise NetError(
            f"The bridge {bridge['name']} can't be removed while {whose}: {names}.",
            field="switches",
        )


def _machine(port: Row) -> str:
    """The UUID of the machine whose port it is, by libvirt's virnetdevopenvswitch.c."""
    ids = port["interfaces"][0].get("external_ids", {})
    return str(ids.get("vm-id") or ids.get("vm-uuid") or "")


def _once(desired: State) -> None:
    seen: dict[str, str] = {}
    for number, spec in enumerate(desired.get("switches", [])):
        for name, field in _interfaces(spec, f"switches.{number}"):
            if name in seen:
                raise NetError(f"“{name}” is a port of {seen[name]} already.", field=field)
            seen[name] = spec["name"]


def _interfaces(spec: dict[str, Any], field: str) -> Iterator[tuple[str, str]]:
    """Each interface of each port, with the field that names it."""
    for number, port in enumerate(spec["ports"]):
        at = f"{field}.ports.{number}"
        if port["interfaces"]:
            for index, name in enumerate(port["interfaces"]):
                yield name, f"{at}.interfaces.{index}"
        else:
            yield port["name"], f"{at}.name"
    if spec["uplink"] and spec["uplink"] not in {port["name"] for port in spec["ports"]}:
        yield spec["uplink"], f"{field}.uplink"


def _links(actual: State, desired: State, owned: State) -> dict[str, Row] | None:
    """The host's links as they will be when ports are added; None: they were not read."""
    if "links" not in actual:
        return None
    found = {one["name"]: one for one in actual["links"] if one["namespace"] == ""}
    kept = {one["name"] for one in desired.get("links", [])}
    for one in owned.get("links", []):
        if one["kind"] != "physical" and one["name"] not in kept:
            found.pop(one["name"], None)
    return found | {one["name"]: one for one in desired.get("links", [])}


def _leaving(actual: State, desired: State, owned: State) -> set[str]:
    """Ports that are ours and leave the bridge they are in."""
    staying = {
        (one["name"], name)
        for one in desired.get("switches", [])
        for name in wanted.specs_of_ports(one)
    }
    before = {
        (one["name"], name)
        for one in owned.get("switches", [])
        for name in wanted.specs_of_ports(one)
    }
    return {
        interface["name"]
        for bridge in actual["switches"]
        for port in bridge["ports"]
        for interface in port["interfaces"]
        if port["is_ours"] and (bridge["name"], port["name"]) in before - staying
    }


def _bridge(
    actual: State, spec: dict[str, Any], there: dict[str, Row], links: Any, field: str
) -> None:
    datapaths = actual["ovs"]["datapaths"]
    if spec["datapath_type"] and spec["datapath_type"] not in datapaths:
        raise NetError(
            "This host's kernel has no part of Open vSwitch (module “openvswitch”): use netdev.",
            field=f"{field}.datapath_type",
            kind="missing",
        )
    if spec["name"] not in there and spec["name"] in (links or {}):
        raise NetError(f"There is an interface “{spec['name']}” already.", field=f"{field}.name")


def _interface(
    name: str,
    field: str,
    spec: dict[str, Any],
    there: dict[str, Row],
    links: dict[str, Row] | None,
    leaving: set[str],
) -> None:
    other = _bridge_of(name, there)
    if other and other != spec["name"] and name not in leaving:
        raise NetError(f"“{name}” is a port of {other}: take it out there first.", field=field)
    port = wanted.specs_of_ports(spec).get(name)
    is_link = port is None or port["kind"] == _IS_LINK
    if other or links is None or not is_link:
        return
    if name not in links:
        raise NetError(f"There is no interface “{name}” on this host.", field=field, kind="missing")
    master = links[name].get("master")
    if master and master != "ovs-system":
        raise NetError(f"“{name}” is a port of {master}: take it out there first.", field=field)


def _bridge_of(interface: str, there: dict[str, Row]) -> str:
    for bridge in there.values():
        for port in bridge["ports"]:
            if any(one["name"] == interface for one in port["interfaces"]):
                return str(bridge["name"])
    return ""


def _limits(actual: State, spec: dict[str, Any], field: str) -> None:
    """A rate limit needs the kernel's scheduler; Open vSwitch would only log that it is missing."""
    for number, port in enumerate(spec["ports"]):
        discipline = port["qos"] and port["qos"]["type"].removeprefix("linux-")
        if discipline and actual.get("features", {}).get(f"qdisc:{discipline}") is False:
            raise NetError(
                f"This host's kernel can't limit rates by {discipline}"
                f" (module “sch_{discipline}”).",
                field=f"{field}.ports.{number}.qos",
                kind="missing",
            )
