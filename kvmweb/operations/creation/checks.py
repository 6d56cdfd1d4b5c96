"""What is wrong with a wish, told from the mirror before there is a job.

Libvirt is the judge: these save the person a wait, and put the sentence at its field.
"""

from collections.abc import Iterator
from uuid import UUID
from xml.sax.saxutils import escape

from django.utils.translation import gettext as _
from pydantic import ValidationError

from kvmweb.models import Host, Machine, Network
from kvmweb.models.machines import ACTIVE
from kvmweb.operations.creation.draft import (
    BLOCK_POOLS,
    FILE_POOLS,
    capabilities_of,
    chosen_network,
    chosen_pool,
)
from kvmweb.operations.creation.wish import Wish
from kvmweb.operations.nics import macs
from kvmweb.operations.operation import sentences
from kvmweb.spec.creation import Firmware, Source
from kvmweb.spec.devices.disk import disks
from kvmweb.spec.domain import Domain
from kvmweb.spec.nics import interfaces
from kvmweb.spec.xml import XmlError, parse

# The tiny guest's kernel finds no room for its initrd in less.
TINY_MEMORY_MIB = 96
Found = Iterator[tuple[str, str]]


def check(host: Host, wish: Wish) -> dict[str, str]:
    """A sentence per field; the first where there are several."""
    if host.absence:
        return {"host": str(host.absence)}
    found: dict[str, str] = {}
    for field, sentence in _xml(host, wish.xml) if wish.xml else _fields(host, wish):
        found.setdefault(field, sentence)
    return found


def _fields(host: Host, wish: Wish) -> Found:
    yield from name(host, wish)
    yield from source(host, wish)
    yield from resources(host, wish)
    yield from storage(host, wish)
    yield from network(host, wish)
    yield from firmware(host, wish)


def name(host: Host, wish: Wish) -> Found:
    if not wish.name:
        yield "name", _("Give the machine a name.")
    elif Machine.objects.filter(host=host, name=wish.name).exists():
        yield "name", name_is_taken(wish.name)


def name_is_taken(text: str) -> str:
    return _("A machine with the name “%s” is already there. Choose another name.") % text


def source(host: Host, wish: Wish) -> Found:
    if not wish.source:
        yield "source", _("Choose where the operating system comes from.")
    if wish.source == Source.ISO and not wish.iso:
        yield "iso", _("Choose an ISO image, or enter its path on the host.")
    if wish.source == Source.IMPORT and not wish.disk_path:
        yield "disk_path", _("Choose a disk image, or enter its path on the host.")
    if wish.source == Source.PXE and chosen_network(host, wish.network) == "none":
        yield "network", _("To boot from the network the machine needs one. Choose it.")


def resources(host: Host, wish: Wish) -> Found:
    host_mib = host.memory_kib // 1024
    if host_mib and wish.memory_mib > host_mib:
        yield (
            "memory_mib",
            _("The host has %(host)d MiB in all. Enter at most that much.") % {"host": host_mib},
        )
    if wish.source == Source.TINY and wish.memory_mib < TINY_MEMORY_MIB:
        yield "memory_mib", _("The tiny guest needs %d MiB or more.") % TINY_MEMORY_MIB
    most = capabilities_of(host).vcpus_maximum
    if most and wish.vcpus > most:
        yield "vcpus", _("A machine on this host has at most %d CPUs.") % most


def storage(host: Host, wish: Wish) -> Found:
    if wish.disk_path:
        yield from _in_use(host, wish.disk_path)
        if wish.disk_gib:
            yield "disk_gib", _("Either a new disk or an existing one: set this to 0.")
    if wish.disk_gib or wish.source == Source.TINY:
        yield from _pool(host, wish)


def _in_use(host: Host, path: str) -> Found:
    """QEMU locks its images too, but says so only at the start, and less clearly."""
    for machine in Machine.objects.filter(host=host, state__in=ACTIVE, xml__contains=escape(path)):
        users = [disk for disk in disks(machine.xml) if disk.source == path]
        if any(not (disk.is_read_only or disk.is_shareable) for disk in users):
            yield (
                "disk_path",
                _("The running machine “%s” uses this disk. Shut it down first, or choose another.")
                % machine.name,
            )


def _pool(host: Host, wish: Wish) -> Found:
    pool = chosen_pool(host, wish.pool)
    if pool is None:
        if wish.pool:
            yield "pool", _("There is no storage pool “%s” on this host.") % wish.pool
        return
    if wish.pool and not pool.is_active:
        yield (
            "pool",
            _("The storage pool “%s” is not active. Start it, or choose another.") % (pool.name),
        )
    if wish.source == Source.TINY and pool.type not in FILE_POOLS:
        yield "pool", _("The tiny guest's files need a pool of files, not “%s”.") % pool.name
    elif pool.type not in FILE_POOLS + BLOCK_POOLS:
        yield (
            "pool",
            _("Disks in pools of the type “%s” can't be created here yet. Choose another pool.")
            % (pool.type),
        )


def network(host: Host, wish: Wish) -> Found:
    if wish.mac and (sentence := macs.taken(wish.mac)):
        yield "mac", sentence
    kind, _colon, wanted = chosen_network(host, wish.network).partition(":")
    if kind != "network":
        return
    row = Network.objects.filter(host=host, name=wanted).first()
    if row is None:
        yield "network", _("There is no virtual network “%s” on this host.") % wanted
    elif wish.start and not row.is_active and not wish.start_network:
        yield (
            "network",
            _("The virtual network “%s” is not active. Let it be started too, or choose another.")
            % wanted,
        )


def firmware(host: Host, wish: Wish) -> Found:
    known = capabilities_of(host)
    if wish.firmware == Firmware.BIOS or known.virtualization == "test":
        return
    if wish.source == Source.TINY:
        yield "firmware", _("The tiny guest starts with BIOS only.")
    elif not known.has_uefi:
        yield "firmware", _("This host has no UEFI firmware. Install it there (package ovmf).")
    elif wish.firmware == Firmware.UEFI_SECURE and not known.has_secure_boot:
        yield "firmware", _("This host has no UEFI firmware with Secure Boot.")


def _xml(host: Host, xml: str) -> Found:
    try:
        domain = pasted(xml)
    except XmlError as error:
        yield "xml", str(error)
        return
    rows = Machine.objects.filter(host=host)
    if rows.filter(name=domain.name).exists():
        yield "xml", name_is_taken(domain.name)
    if domain.uuid and (other := rows.filter(uuid=domain.uuid).first()):
        yield "xml", uuid_is_taken(domain.uuid, other.name)
    yield from (("xml", sentence) for mac in macs_of(domain) if (sentence := macs.taken(mac)))


def macs_of(domain: Domain) -> list[str]:
    return [nic.mac for nic in interfaces(domain.tree) if nic.mac]


def uuid_is_taken(uuid: str, other: str) -> str:
    return _(
        "The machine “%(other)s” has the UUID %(uuid)s already. Remove <uuid> from the document "
        "and a new one is made."
    ) % {"uuid": uuid, "other": other}


def pasted(xml: str) -> Domain:
    """The document with what libvirt would not say clearly checked. Raises ``XmlError``."""
    domain = Domain(parse(xml))
    if domain.tree.tag != "domain":
        raise XmlError(
            _("This is a <%s>. A machine's document starts with <domain>.") % domain.tree.tag
        )
    if not domain.type:
        raise XmlError(_("The hypervisor is missing: <domain type='kvm'> or another."))
    if not domain.name:
        raise XmlError(_("The machine has no name: <name>web1</name> is missing."))
    try:
        Wish(name=domain.name)
    except ValidationError as error:
        raise XmlError(sentences(error)["name"]) from None
    _check_uuid(domain)
    return domain


def _check_uuid(domain: Domain) -> None:
    try:
        if domain.uuid:
            domain.uuid = str(UUID(domain.uuid))
    except ValueError:
        raise XmlError(_("“%s” is not a UUID.") % domain.uuid) from None
