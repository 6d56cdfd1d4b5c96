"""Virtual networks -> networks."""

import ipaddress
import uuid
from collections.abc import Mapping
from typing import Any

import libvirt

from kvmweb.mirror.rows import Fields, described, reconcile
from kvmweb.models import Host, Network
from kvmweb.models.live import announce
from kvmweb.spec import network
from kvmweb.spec.network_updates import is_same

# The test driver has neither leases nor a second document.
_LACKING = (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG)


def read_all(host: Host, connection: libvirt.virConnect) -> None:
    networks = connection.listAllNetworks()
    fresh = described(networks, lambda net: uuid.UUID(bytes=net.UUID()), _fields)
    _save(host, Network.objects.filter(host=host), fresh)


def read(host: Host, connection: libvirt.virConnect, key: str) -> None:
    network_uuid = uuid.UUID(key)
    try:
        fresh = {network_uuid: _fields(connection.networkLookupByUUID(network_uuid.bytes))}
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
            raise
        fresh = {}
    _save(host, Network.objects.filter(host=host, uuid=network_uuid), fresh)


def read_leases(host: Host, connection: libvirt.virConnect) -> None:
    """Libvirt tells nobody when a guest gets an address: this is read on a clock."""
    active = connection.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE)
    networks = {uuid.UUID(bytes=net.UUID()): net for net in active}
    touched = []
    for row in Network.objects.filter(host=host, is_active=True):
        net = networks.get(row.uuid)
        found = _leases(net, row.xml) if net else row.leases
        if found != row.leases:
            Network.objects.filter(pk=row.pk).update(leases=found)
            touched.append(row.topic)
    announce(*touched)


def _fields(net: libvirt.virNetwork) -> dict[str, Any]:
    xml = net.XMLDesc()
    is_active, is_persistent = bool(net.isActive()), bool(net.isPersistent())
    return {
        "name": net.name(),
        "is_active": is_active,
        "is_persistent": is_persistent,
        "is_autostart": bool(net.autostart()),
        "xml": xml,
        "inactive_xml": _inactive(net, xml) if is_active and is_persistent else "",
        "leases": _leases(net, xml) if is_active else [],
    }


def _inactive(net: libvirt.virNetwork, xml: str) -> str:
    """What the next start uses, where that is something else."""
    try:
        inactive: str = net.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _LACKING:
            raise
        return ""
    return "" if is_same(xml, inactive) else inactive


def _leases(net: libvirt.virNetwork, xml: str) -> list[dict[str, Any]]:
    """By address. ``expires`` in seconds since 1970, 0: never."""
    if "<dhcp>" not in xml:
        return []
    try:
        found = net.DHCPLeases()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (*_LACKING, libvirt.VIR_ERR_OPERATION_INVALID):
            raise
        return []  # no driver for it, or stopped while we looked
    leases = [
        {
            "mac": lease["mac"] or "",
            "address": lease["ipaddr"],
            "prefix": lease["prefix"],
            "name": lease["hostname"] or "",
            "expires": lease["expirytime"],
            "iaid": lease["iaid"] or "",
            "client": lease["clientid"] or "",
        }
        for lease in found
    ]
    return sorted(leases, key=lambda lease: (":" in lease["address"], _order(lease["address"])))


def _order(address: str) -> int:
    return int(ipaddress.ip_address(address))


def _derive(xml: str) -> dict[str, Any]:
    facts = network.facts(xml)
    return {"forward_mode": facts.forward_mode, "bridge": facts.bridge}


def _save(host: Host, rows: Any, fresh: Mapping[uuid.UUID, Fields]) -> None:
    changed, appeared_or_gone = reconcile(rows, "uuid", fresh, _derive, host=host)
    touched = changed | appeared_or_gone
    announce(*(f"network:{key}" for key in touched), *(["networks"] if touched else []))
