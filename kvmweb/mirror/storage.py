"""Storage pools and their volumes."""

import uuid
from collections.abc import Mapping
from typing import Any

import libvirt

from kvmweb.mirror.rows import Fields, described, reconcile
from kvmweb.models import Host, Pool
from kvmweb.models.live import announce
from kvmweb.spec import storage


def read_all(host: Host, connection: libvirt.virConnect) -> None:
    found = {uuid.UUID(bytes=pool.UUID()): pool for pool in connection.listAllStoragePools()}
    fresh = described(found.values(), lambda pool: uuid.UUID(bytes=pool.UUID()), _fields)
    _save(host, Pool.objects.filter(host=host), fresh)
    for key in fresh:
        _save_volumes(host, key, found[key])


def read(host: Host, connection: libvirt.virConnect, key: str) -> None:
    """Read a pool and its volumes: libvirt tells of a change in a pool, not of which volume."""
    pool_uuid = uuid.UUID(key)
    rows = Pool.objects.filter(host=host, uuid=pool_uuid)
    try:
        pool = connection.storagePoolLookupByUUID(pool_uuid.bytes)
        fresh = {pool_uuid: _fields(pool)}
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
            raise
        _save(host, rows, {})
        return
    _save(host, rows, fresh)
    _save_volumes(host, pool_uuid, pool)


def _fields(pool: libvirt.virStoragePool) -> dict[str, Any]:
    _state, capacity, allocation, available = pool.info()
    return {
        "name": pool.name(),
        "is_active": bool(pool.isActive()),
        "is_persistent": bool(pool.isPersistent()),
        "is_autostart": bool(pool.autostart()),
        "capacity_bytes": capacity,
        "allocation_bytes": allocation,
        "available_bytes": available,
        "xml": pool.XMLDesc(),
    }


def _derive(xml: str) -> dict[str, Any]:
    facts = storage.pool_facts(xml)
    return {"type": facts.type, "target_path": facts.target_path}


def _save(host: Host, rows: Any, fresh: Mapping[uuid.UUID, Fields]) -> None:
    changed, appeared_or_gone = reconcile(rows, "uuid", fresh, _derive, host=host)
    _announce(*(changed | appeared_or_gone))


def _save_volumes(host: Host, key: uuid.UUID, pool: libvirt.virStoragePool) -> None:
    row = Pool.objects.filter(host=host, uuid=key).first()
    if row is None:
        return
    volumes = pool.listAllVolumes() if row.is_active else []
    fresh = described(volumes, lambda volume: volume.name(), _volume_fields)
    changed, appeared_or_gone = reconcile(
        row.volumes.all(), "name", fresh, _derive_volume, pool=row
    )
    if changed or appeared_or_gone:
        _announce(key)


def _volume_fields(volume: libvirt.virStorageVol) -> dict[str, Any]:
    return {"xml": volume.XMLDesc()}


def _derive_volume(xml: str) -> dict[str, Any]:
    facts = storage.volume_facts(xml)
    return {
        "path": facts.path,
        "format": facts.format,
        "capacity_bytes": facts.capacity_bytes,
        "allocation_bytes": facts.allocation_bytes,
    }


def _announce(*keys: object) -> None:
    announce(*(f"pool:{key}" for key in keys), *(["pools"] if keys else []))
