"""Virtual networks -> networks."""

import uuid
from collections.abc import Mapping
from typing import Any

import libvirt

from kvmweb.mirror.rows import Fields, described, reconcile
from kvmweb.models import Host, Network
from kvmweb.models.live import announce
from kvmweb.spec import network


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


def _fields(net: libvirt.virNetwork) -> dict[str, Any]:
    return {
        "name": net.name(),
        "is_active": bool(net.isActive()),
        "is_persistent": bool(net.isPersistent()),
        "is_autostart": bool(net.autostart()),
        "xml": net.XMLDesc(),
    }


def _derive(xml: str) -> dict[str, Any]:
    facts = network.facts(xml)
    return {"forward_mode": facts.forward_mode, "bridge": facts.bridge}


def _save(host: Host, rows: Any, fresh: Mapping[uuid.UUID, Fields]) -> None:
    changed, appeared_or_gone = reconcile(rows, "uuid", fresh, _derive, host=host)
    touched = changed | appeared_or_gone
    announce(*(f"network:{key}" for key in touched), *(["networks"] if touched else []))
