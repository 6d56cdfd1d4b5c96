"""Steps for ports of Linux bridges, and for VLANs on both."""

from __future__ import annotations

from kvmweb.net import changes
from kvmweb.net.ground import Ground, Row
from kvmweb.net.step import Step

PORT_VALUES = ("cost", "priority", "is_isolated", "is_hairpin")


def _is_in_bridge(ground: Ground, name: str) -> bool:
    master = ground.master(name)
    return bool(master) and ground.kind(master or "") == "bridge"


def port(ground: Ground, name: str, row: Row | None, gone: set[str]) -> list[Step]:
    if not _is_in_bridge(ground, name):
        return []
    wanted = ground.wanted[name]["port"]
    now = _port_now(ground, name, row, gone)
    values = {
        part: wanted[part]
        for part in PORT_VALUES
        if wanted.get(part) is not None and wanted[part] != now.get(part, False)
    }
    if not values:
        return []
    before = {part: now[part] for part in values if part in now}
    return [changes.set_port(name, values, before=before)]


def _port_now(ground: Ground, name: str, row: Row | None, gone: set[str]) -> Row:
    """Of the bridge it stays in; of another one nothing is known yet."""
    master = ground.master(name)
    if row and row["master"] == master and master not in gone:
        port: Row = row.get("port", {})
        return port
    return {}


def vlans(ground: Ground, name: str, row: Row | None, gone: set[str]) -> list[Step]:
    """Exactly those the document names, if it names any; else the bridge's default."""
    if not _is_in_bridge(ground, name):
        return []
    wanted = changes.vlans_of(ground.wanted[name]["port"])
    master = ground.master(name) or ""
    usual = _usual_vlans(ground, master)
    if not wanted and not _names_vlans(ground.owned.get(name, {})):
        return []
    port = _port_now(ground, name, row, gone)
    now = changes.vlans_of(port) if port else usual
    if (wanted or usual) == now:
        return []
    return [changes.set_vlans(name, wanted or usual, before=now)]


def _names_vlans(link: Row) -> bool:
    port = link.get("port", {})
    return bool(port.get("pvid") or port.get("vlans"))


def _usual_vlans(ground: Ground, bridge: str) -> changes.Vlans:
    """What a new port gets, and the bridge itself."""
    row = ground.wanted.get(bridge) or ground.there.get(bridge, {})
    default = row.get("default_pvid")
    if default is None:
        default = ground.there.get(bridge, {}).get("default_pvid")
    number = 1 if default is None else default
    return {str(number): "pvid untagged"} if number else {}


def own_vlans(ground: Ground, name: str, row: Row | None) -> list[Step]:
    """Tagged ones on a bridge itself; those that somebody else added stay."""
    link = ground.wanted[name]
    if link["kind"] != "bridge":
        return []
    now = changes.vlans_of(row) if row else _usual_vlans(ground, name)
    wanted = {str(vlan) for vlan in link["vlans"]}
    drop = {str(vlan) for vlan in ground.owned.get(name, {}).get("vlans", [])} - wanted
    after = {vlan: how for vlan, how in now.items() if vlan not in drop or how}
    after |= {vlan: "" for vlan in sorted(wanted, key=int) if vlan not in after}
    return [changes.set_vlans(name, after, before=now, itself=True)] if after != now else []
