"""A Switch of the document (spec/hostnet.py) as the rows that it should be, like state.py's.

Only what the document can say is in them, so an actual row may have more.
"""

from __future__ import annotations

from typing import Any

from kvmweb.net.ovs.database import MARK, MARK_PORT, Row

# The keys of Interface.options and of QoS.other_config that are the document's to set.
OPTIONS = ("peer", "remote_ip", "local_ip", "key", "dst_port")
TUNNELS = ("gre", "vxlan", "geneve")


def switch(spec: dict[str, Any], *, datapaths: list[str], actual: Row | None, mac: str = "") -> Row:
    """``actual``: the bridge as it is; its datapath type stays where the document names none.
    ``mac``: the uplink's, which the network around knows the host by.
    """
    found = {
        "name": spec["name"],
        "datapath_type": spec["datapath_type"] or _datapath(datapaths, actual),
        "fail_mode": spec["fail_mode"],
        "stp_enable": spec["stp"],
        "rstp_enable": spec["rstp"],
        "mcast_snooping_enable": spec["mcast_snooping"],
        "protocols": sorted(spec["protocols"]),
        "other_config": {**({"hwaddr": mac} if mac else {}), **spec["other_config"]},
        "controllers": [{"target": target} for target in sorted(set(spec["controllers"]))],
        "ports": [port(one) for one in specs_of_ports(spec).values()],
        "mirrors": [mirror(one) for one in spec["mirrors"]],
    }
    exports = {"netflow": netflow, "sflow": sflow, "ipfix": ipfix}
    return found | {name: make(spec[name]) for name, make in exports.items() if spec[name]}


def _datapath(datapaths: list[str], actual: Row | None) -> str:
    if actual:
        return str(actual["datapath_type"])
    return "system" if "system" in datapaths else "netdev"


def names(found: list[Row]) -> list[str]:
    return [one["name"] for one in found]


def specs_of_ports(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name: those in the document, the bridge's own, and its uplink."""
    found: dict[str, dict[str, Any]] = {one["name"]: one for one in spec["ports"]}
    own = {**_NO_PORT, "name": spec["name"], "kind": "internal", **found.get(spec["name"], {})}
    found[spec["name"]] = {**own, "mtu": own["mtu"] or spec["mtu"]}
    if spec["uplink"]:
        found.setdefault(spec["uplink"], {**_NO_PORT, "name": spec["uplink"]})
    return found


# Port's defaults in spec/hostnet.py, which is pydantic's and not at hand on a host.
_NO_PORT: dict[str, Any] = {
    "kind": "system", "interfaces": [], "tag": None, "trunks": [], "vlan_mode": None,
    "bond_mode": None, "lacp": None, "peer": None, "remote_ip": None, "local_ip": None,
    "key": None, "dst_port": None, "addresses": [], "mtu": None, "qos": None,
    "policing_rate": 0, "policing_burst": 0,
}  # fmt: skip


def port(spec: dict[str, Any]) -> Row:
    """A tag with trunks and no mode is a trunk whose native VLAN is the tag, as ovs-vswitchd has it
    too (ovs-vswitchd.conf.db(5), VLAN Configuration).
    """
    return {
        "name": spec["name"],
        "tag": spec["tag"],
        "trunks": sorted(set(spec["trunks"])),
        "vlan_mode": spec["vlan_mode"],
        "bond_mode": spec["bond_mode"],
        "lacp": spec["lacp"],
        "interfaces": [_interface(spec, name) for name in spec["interfaces"] or [spec["name"]]],
        "qos": qos(spec["qos"], spec["name"]) if spec["qos"] else None,
    }


def _interface(spec: dict[str, Any], name: str) -> Row:
    found: Row = {
        "name": name,
        "type": "" if spec["kind"] == "system" else spec["kind"],
        "ingress_policing_rate": spec["policing_rate"],
        "ingress_policing_burst": spec["policing_burst"],
        "options": {key: str(spec[key]) for key in OPTIONS if spec[key] is not None},
    }
    return {**found, "mtu_request": spec["mtu"]} if spec["mtu"] else found


def qos(spec: dict[str, Any], name: str) -> Row:
    ids = {MARK: "1", MARK_PORT: name}
    return {
        "type": spec["type"],
        "other_config": {"max-rate": str(spec["max_rate"])},
        "external_ids": ids,
        "is_ours": True,
        "queues": {
            str(queue["id"]): {"other_config": _rates(queue), "external_ids": ids}
            for queue in spec["queues"]
        },
    }


def _rates(queue: dict[str, Any]) -> dict[str, str]:
    keys = {"min-rate": "min_rate", "max-rate": "max_rate", "priority": "priority"}
    return {key: str(queue[name]) for key, name in keys.items() if queue[name] is not None}


def mirror(spec: dict[str, Any]) -> Row:
    return {
        "name": spec["name"],
        "select_all": spec["select_all"],
        "select_src_port": sorted(set(spec["select_src_ports"])),
        "select_dst_port": sorted(set(spec["select_dst_ports"])),
        "select_vlan": sorted(set(spec["select_vlans"])),
        "output_port": spec["output_port"],
        "output_vlan": spec["output_vlan"],
    }


def netflow(spec: dict[str, Any]) -> Row:
    return {"targets": sorted(spec["targets"]), "active_timeout": spec["active_timeout"] or 0}


def sflow(spec: dict[str, Any]) -> Row:
    names = ("agent", "sampling", "polling", "header")
    return {"targets": sorted(spec["targets"]), **{name: spec[name] for name in names}}


def ipfix(spec: dict[str, Any]) -> Row:
    return {"targets": sorted(spec["targets"]), "sampling": spec["sampling"]}
