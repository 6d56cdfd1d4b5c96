"""Network filters. Libvirt tells nobody when they change: they are read on the clock, and after
what we do ourselves.
"""

import uuid
from collections.abc import Mapping
from typing import Any

import libvirt

from kvmweb.mirror.rows import Fields, described, reconcile
from kvmweb.models import Host, NwFilter
from kvmweb.models.live import announce
from kvmweb.spec import nwfilter


def read_all(host: Host, connection: libvirt.virConnect) -> None:
    filters = _listed(connection)
    _note(host, has_filters=filters is not None)
    fresh = described(filters or [], lambda one: uuid.UUID(bytes=one.UUID()), _fields)
    _save(host, NwFilter.objects.filter(host=host), fresh)


def read(host: Host, connection: libvirt.virConnect, key: str) -> None:
    filter_uuid = uuid.UUID(key)
    try:
        fresh = {filter_uuid: _fields(connection.nwfilterLookupByUUID(filter_uuid.bytes))}
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_NWFILTER:
            raise
        fresh = {}
    _save(host, NwFilter.objects.filter(host=host, uuid=filter_uuid), fresh)


def _listed(connection: libvirt.virConnect) -> list[libvirt.virNWFilter] | None:
    """None where the driver has no filters: the test driver, Xen, a user's own QEMU."""
    try:
        return list(connection.listAllNWFilters())
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return None


def _note(host: Host, *, has_filters: bool) -> None:
    rows = Host.objects.filter(pk=host.pk).exclude(has_filters=has_filters)
    if rows.update(has_filters=has_filters):
        announce(host.topic, "filters")


def _fields(one: libvirt.virNWFilter) -> dict[str, Any]:
    return {"name": one.name(), "xml": one.XMLDesc()}


def _derive(xml: str) -> dict[str, Any]:
    facts = nwfilter.facts(xml)
    return {"chain": facts.chain, "references": facts.references}


def _save(host: Host, rows: Any, fresh: Mapping[uuid.UUID, Fields]) -> None:
    changed, appeared_or_gone = reconcile(rows, "uuid", fresh, _derive, host=host)
    touched = changed | appeared_or_gone
    announce(*(f"nwfilter:{key}" for key in touched), *(["filters"] if touched else []))
