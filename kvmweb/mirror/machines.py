"""Domains -> machines."""

import uuid
from collections.abc import Collection, Mapping
from typing import Any

import libvirt

from kvmweb.mirror import nics
from kvmweb.mirror.rows import Fields, described, reconcile
from kvmweb.models import Host, Machine, State
from kvmweb.models.live import announce
from kvmweb.spec import domain, probe
from kvmweb.spec.nics import NicFacts

# https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainState
STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: State.NOSTATE,
    libvirt.VIR_DOMAIN_RUNNING: State.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: State.BLOCKED,
    libvirt.VIR_DOMAIN_PAUSED: State.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: State.SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: State.SHUTOFF,
    libvirt.VIR_DOMAIN_CRASHED: State.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: State.PMSUSPENDED,
}


def read_all(host: Host, connection: libvirt.virConnect) -> None:
    """Five calls for the whole host, and the documents."""
    autostart = _uuids(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)
    persistent = _uuids(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    saved = _uuids(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)
    states = {
        dom.UUID(): STATES[stats["state.state"]]
        for dom, stats in connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, 0)
    }

    def fields(dom: libvirt.virDomain) -> dict[str, Any]:
        key = dom.UUID()
        return _fields(
            dom,
            state=states[key] if key in states else STATES[dom.state()[0]],
            is_persistent=key in persistent,
            is_autostart=key in autostart,
            has_managed_save=key in saved,
        )

    ours = [dom for dom in connection.listAllDomains() if not _is_probe(dom)]
    fresh = described(ours, lambda dom: uuid.UUID(bytes=dom.UUID()), fields)
    _save(host, Machine.objects.filter(host=host), fresh)
    nics.complete(host)


def read(host: Host, connection: libvirt.virConnect, key: str) -> None:
    machine_uuid = uuid.UUID(key)
    try:
        dom = connection.lookupByUUID(machine_uuid.bytes)
        if _is_probe(dom):
            return
        fresh = {
            machine_uuid: _fields(
                dom,
                state=STATES[dom.state()[0]],
                is_persistent=bool(dom.isPersistent()),
                is_autostart=bool(dom.autostart()),
                has_managed_save=_has_managed_save(dom),
            )
        }
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        fresh = {}
    _save(host, Machine.objects.filter(host=host, uuid=machine_uuid), fresh)


def _is_probe(dom: libvirt.virDomain) -> bool:
    """Whether it is ours, of agent/acceleration.py, and nobody's machine."""
    return bool(dom.name().startswith(probe.PREFIX))


def _uuids(connection: libvirt.virConnect, flags: int) -> Collection[bytes]:
    return {dom.UUID() for dom in connection.listAllDomains(flags)}


def _has_managed_save(dom: libvirt.virDomain) -> bool:
    try:
        return bool(dom.hasManagedSaveImage())
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return False


def _fields(dom: libvirt.virDomain, *, state: State, **flags: bool) -> dict[str, Any]:
    xml = dom.XMLDesc()
    inactive = ""
    if flags["is_persistent"] and state not in (State.SHUTOFF, State.CRASHED):
        inactive = dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return {"name": dom.name(), "state": state, "xml": xml, "inactive_xml": inactive, **flags}


def _derive(xml: str, nics_of: dict[str, tuple[NicFacts, ...]]) -> dict[str, Any]:
    facts = domain.facts(xml)
    nics_of[xml] = facts.nics
    return {
        "title": facts.title,
        "description": facts.description,
        "vcpus": facts.vcpus,
        "memory_kib": facts.memory_kib,
        "virtualization": facts.virtualization,
        "graphics": facts.graphics,
        "is_agent_connected": facts.is_agent_connected,
    }


def _save(host: Host, rows: Any, fresh: Mapping[uuid.UUID, Fields]) -> None:
    # Parsed once: most of the time a document takes is that.
    parsed: dict[str, tuple[NicFacts, ...]] = {}
    changed, appeared_or_gone = reconcile(
        rows,
        "uuid",
        fresh,
        lambda xml: _derive(xml, parsed),
        then=lambda machines: nics.save(host, machines, parsed),
        host=host,
    )
    touched = changed | appeared_or_gone
    announce(*(f"machine:{key}" for key in touched), *(["machines"] if touched else []))
    if appeared_or_gone:
        announce(host.topic)
