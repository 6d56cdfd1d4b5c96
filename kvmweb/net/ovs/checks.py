"""What can't be, as a sentence at the field that says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvmweb.net.errors import NetError
from kvmweb.net.ovs import wanted
from kvmweb.net.ovs.database import Row

State = dict[str, Any]


def check(actual: State, desired: State, owned: State) -> None:
    """Raises ``NetError`` for the first that is wrong."""
    _present(actual, desired)
    _unused(actual, desired, owned)
    _once(desired)
    ground = _Ground(actual, desired, owned)
    for number, spec in enumerate(desired.get("switches", [])):
        field = f"switches.{number}"
        _bridge(ground, spec, field)
        _interfaces_are_free(ground, spec, field)
        _limits(actual, spec, field)


def _present(actual: State, desired: State) -> None:
    found = actual.get("ovs", {})
    if "datapaths" not in found and desired.get("switches"):
        problem = found.get("problem") or actual.get("problems", {}).get("ovs", "")
        raise NetError(problem, field="switches", kind="missing")


def _unused(actual: State, desired: State, owned: State) -> None:
    """A bridge that is to be removed. Ports of machines are libvirt's, others may be a person's:
    they would be cut off.
    """
    staying = wanted.names(desired.get("switches", []))
    leaving = {name for name in wanted.names(owned.get("switches", [])) if name not in staying}
    for bridge in actual["switches"]:
        foreign = [port for port in bridge["ports"] if not port["is_ours"]]
        if bridge["name"] in leaving and bridge["is_ours"] and foreign:
            are_machines = any(_machine(port) for port in foreign)
            whose = "machines are plugged in" if are_machines else "it has ports of somebody else"
            raise NetError(
                f"The bridge {bridge['name']} can't be removed while {whose}: "
                f"{', '.join(wanted.names(foreign))}.",
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
    if spec["uplink"] and spec["uplink"] not in wanted.names(spec["ports"]):
        yield spec["uplink"], f"{field}.uplink"


class _Ground:
    """``links``: the host's, as they will be when ports are added; None: they were not read."""

    def __init__(self, actual: State, desired: State, owned: State) -> None:
        self.datapaths = actual["ovs"].get("datapaths", [])
        self.bridges = wanted.names(actual["switches"])
        self.bridge_of = _bridge_of(actual, _ports(owned) - _ports(desired))
        self.links = _links(actual, desired, owned) if "links" in actual else None


def _bridge_of(actual: State, leaving: set[tuple[str, str]]) -> dict[str, str]:
    """Bridges by interface, without those ports of ours that leave theirs."""
    return {
        interface["name"]: bridge["name"]
        for bridge in actual["switches"]
        for port in bridge["ports"]
        if not (port["is_ours"] and (bridge["name"], port["name"]) in leaving)
        for interface in port["interfaces"]
    }


def _ports(document: State) -> set[tuple[str, str]]:
    return {
        (spec["name"], name)
        for spec in document.get("switches", [])
        for name in wanted.specs_of_ports(spec)
    }


def _links(actual: State, desired: State, owned: State) -> dict[str, Row]:
    found = {one["name"]: one for one in actual["links"] if not one["namespace"]}
    kept = wanted.names(desired.get("links", []))
    for one in owned.get("links", []):
        if one["kind"] != "physical" and one["name"] not in kept:
            found.pop(one["name"], None)
    return found | {one["name"]: one for one in desired.get("links", [])}


def _bridge(ground: _Ground, spec: dict[str, Any], field: str) -> None:
    if spec["datapath_type"] and spec["datapath_type"] not in ground.datapaths:
        raise NetError(
            "This host's kernel has no part of Open vSwitch (module “openvswitch”): use netdev.",
            field=f"{field}.datapath_type",
            kind="missing",
        )
    name = spec["name"]
    if name not in ground.bridges and name in (ground.links or {}):
        raise NetError(f"There is an interface “{name}” already.", field=f"{field}.name")


def _interfaces_are_free(ground: _Ground, spec: dict[str, Any], field: str) -> None:
    kinds = {one["name"]: one["kind"] for one in spec["ports"] if not one["interfaces"]}
    for name, at in _interfaces(spec, field):
        other = ground.bridge_of.get(name)
        if other and other != spec["name"]:
            raise NetError(f"“{name}” is a port of {other}: take it out there first.", field=at)
        if not other and kinds.get(name, "system") == "system" and ground.links is not None:
            _link(ground.links, name, at)


def _link(links: dict[str, Row], name: str, field: str) -> None:
    if name not in links:
        raise NetError(f"There is no interface “{name}” on this host.", field=field, kind="missing")
    master = links[name].get("master")
    # The kernel's datapath is one link, the master of all its ports.
    if master and master != "ovs-system":
        raise NetError(f"“{name}” is a port of {master}: take it out there first.", field=field)


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
