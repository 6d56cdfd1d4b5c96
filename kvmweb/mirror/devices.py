"""Node devices."""

from collections.abc import Mapping
from typing import Any

import libvirt

from kvmweb.mirror.rows import Fields, described, reconcile
from kvmweb.models import Host, NodeDevice
from kvmweb.models.live import announce
from kvmweb.spec import nodedev


def read_all(host: Host, connection: libvirt.virConnect) -> None:
    fresh = described(connection.listAllDevices(), lambda device: device.name(), _fields)
    _save(host, NodeDevice.objects.filter(host=host), fresh)


def read(host: Host, connection: libvirt.virConnect, key: str) -> None:
    try:
        fresh = {key: _fields(connection.nodeDeviceLookupByName(key))}
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_NODE_DEVICE:
            raise
        fresh = {}
    _save(host, NodeDevice.objects.filter(host=host, name=key), fresh)


def _fields(device: libvirt.virNodeDevice) -> dict[str, Any]:
    return {"xml": device.XMLDesc()}


def _derive(xml: str) -> dict[str, Any]:
    facts = nodedev.facts(xml)
    return {"parent": facts.parent, "capability": facts.capability}


def _save(host: Host, rows: Any, fresh: Mapping[str, Fields]) -> None:
    changed, appeared_or_gone = reconcile(rows, "name", fresh, _derive, host=host)
    if changed or appeared_or_gone:
        announce(f"devices:{host.pk}")
