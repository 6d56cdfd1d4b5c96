"""Creating a machine: everything is checked, then made, and taken back where a step fails."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import libvirt
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from lxml import etree

from kvmweb.mirror import look_again
from kvmweb.models import Host, Job
from kvmweb.models.access import CREATE
from kvmweb.operations.creation import made, uploads
from kvmweb.operations.creation.checks import check, name_is_taken, pasted, uuid_is_taken
from kvmweb.operations.creation.draft import (
    DEFAULT_POOL,
    FILE_POOLS,
    chosen_network,
    chosen_pool,
    default_pool_path,
    draft,
)
from kvmweb.operations.creation.images import image
from kvmweb.operations.creation.wish import Wish
from kvmweb.operations.nics import macs
from kvmweb.operations.operation import operation
from kvmweb.spec.creation import (
    Choices,
    DiskChoice,
    Source,
    document,
    virt_install_command,
    volume_name,
)
from kvmweb.spec.domain import Domain
from kvmweb.spec.nics import interfaces
from kvmweb.spec.storage import Pool, Volume
from kvmweb.spec.xml import XmlError, text_of
from kvmweb.virt.connections import connection
from kvmweb.virt.errors import OperationError, explain

__all__ = ["Wish", "create"]


@operation(
    gettext_lazy("Create"),
    needs=CREATE,
    noun="machines",
    icon="plus",
    deadline=300,
    check=check,
    undo=made.undo,
)
def create(job: Job, host: Host, *, wish: Wish) -> None:
    """Make a machine from the wizard's fields, or from libvirt's XML."""
    opened = connection(host.pk)
    made.undo_left(job)
    for field, sentence in check(host, wish).items():
        raise OperationError(sentence, field=field)
    is_complete = False
    if wish.name:
        job.write(target_name=wish.name)
    try:
        if wish.xml:
            _from_xml(job, opened, host, wish)
        else:
            _from_choices(job, opened, host, wish)
        made.keep(job)
        is_complete = True
    finally:
        if not is_complete:
            made.undo_failed(job)


def _from_xml(job: Job, opened: libvirt.virConnect, host: Host, wish: Wish) -> None:
    try:
        domain = pasted(wish.xml)
    except XmlError as error:
        raise OperationError(str(error), field="xml") from error
    domain.uuid = domain.uuid or str(uuid.uuid4())
    job.write(target_name=domain.name)
    _check_free(opened, domain, field="xml")
    nics = interfaces(domain.tree)
    owner = macs.Owner(host, uuid.UUID(domain.uuid), domain.name)
    with macs.claimed(owner, [nic.mac for nic in nics], field="xml") as claimed:
        for nic, mac in zip(nics, claimed, strict=True):
            nic.mac = mac
        _define(job, opened, domain.name, domain.uuid, text_of(domain.tree), field="xml")
    if wish.start:
        _start(job, opened, domain.uuid, Wish(xml=wish.xml))


def _from_choices(job: Job, opened: libvirt.virConnect, host: Host, wish: Wish) -> None:
    job.progress(5, _("Checking the choices"))
    choices = draft(host, wish, uuid=str(uuid.uuid4()))
    _check_free(opened, _domain_named(choices), field="name")
    choices = _checked_images(opened, choices)
    if wish.start_network:
        _start_network(job, opened, chosen_network(host, wish.network))
    with _tiny_files(job) if choices.source == Source.TINY else nullcontext():
        choices = _with_storage(job, opened, host, wish, choices)
        choices = _defined(job, opened, host, choices)
    if choices.start:
        _start(job, opened, choices.uuid, wish)
    if choices.is_real:
        job.ran(*virt_install_command(choices))


@contextmanager
def _tiny_files(job: Job) -> Iterator[None]:
    """While nobody else adds or removes the files that all tiny guests share."""
    if not made.shared.acquire(blocking=False):
        job.progress(None, _("Waiting for another tiny guest"))
        while not made.shared.acquire(timeout=0.2):
            job.check_cancelled()
    try:
        yield
    finally:
        made.shared.release()


def _defined(job: Job, opened: libvirt.virConnect, host: Host, choices: Choices) -> Choices:
    """With a MAC address that no other machine has."""
    owner = macs.Owner(host, uuid.UUID(choices.uuid), choices.name)
    wanted = [choices.mac] if choices.network_kind != "none" else []
    with macs.claimed(owner, wanted, field="mac") as claimed:
        choices = replace(choices, mac=claimed[0] if claimed else "")
        _define(job, opened, choices.name, choices.uuid, document(choices), field="name")
    return choices


def _domain_named(choices: Choices) -> Domain:
    return Domain.new("domain", name=choices.name, uuid=choices.uuid)


def _check_free(opened: libvirt.virConnect, domain: Domain, *, field: str) -> None:
    """``defineXML`` replaces a machine that has the same name and UUID, without a word."""
    for dom in opened.listAllDomains():
        if dom.name() == domain.name:
            raise OperationError(name_is_taken(domain.name), field=field)
        if dom.UUIDString() == domain.uuid:
            raise OperationError(uuid_is_taken(domain.uuid, dom.name()), field=field)


def _checked_images(opened: libvirt.virConnect, choices: Choices) -> Choices:
    if choices.iso and choices.is_real:
        image(opened, choices.iso, field="iso")
    disk = choices.disk
    if disk is None or disk.create_gib or not choices.is_real:
        return choices
    found = image(opened, disk.path, field="disk_path")
    return replace(
        choices, disk=DiskChoice(path=disk.path, format=found.format, is_block=found.is_block)
    )


def _start_network(job: Job, opened: libvirt.virConnect, chosen: str) -> None:
    kind, _colon, name = chosen.partition(":")
    if kind != "network":
        return
    try:
        network = opened.networkLookupByName(name)
        if not network.isActive():
            job.progress(10, _("Starting the network %s") % name)
            job.ran("virsh", "net-start", name)
            with made.noted(job, "network start", name=name):
                network.create()
    except libvirt.libvirtError as error:
        raise _at(error, "network") from error


def _with_storage(
    job: Job, opened: libvirt.virConnect, host: Host, wish: Wish, choices: Choices
) -> Choices:
    disk = choices.disk if choices.disk and choices.disk.create_gib else None
    if not disk and choices.source != Source.TINY:
        return choices
    try:
        pool = _pool(job, opened, host, wish.pool)
        if choices.source == Source.TINY:
            kernel, initrd = uploads.tiny_guest_files(job, pool)
            choices = replace(choices, kernel=kernel, initrd=initrd)
        if disk:
            choices = replace(choices, disk=_created_disk(job, pool, disk, choices.name))
    except libvirt.libvirtError as error:
        raise _at(error, "pool") from error
    return choices


def _pool(job: Job, opened: libvirt.virConnect, host: Host, name: str) -> libvirt.virStoragePool:
    """The chosen pool, active; on a host that has none, its first one."""
    row = chosen_pool(host, name)
    if row is None:
        return _first_pool(job, opened, default_pool_path(host))
    pool = opened.storagePoolLookupByUUIDString(str(row.uuid))
    if not pool.isActive():
        job.ran("virsh", "pool-start", row.name)
        with made.noted(job, "pool start", name=row.name, uuid=str(row.uuid)):
            pool.create()
    elif row.type in FILE_POOLS:
        pool.refresh()  # files may have come into it past libvirt
    return pool


def _first_pool(job: Job, opened: libvirt.virConnect, path: str) -> libvirt.virStoragePool:
    job.progress(15, _("Creating the storage pool %s") % DEFAULT_POOL)
    key = str(uuid.uuid4())
    document = Pool.new("pool", type="dir", name=DEFAULT_POOL, uuid=key, target_path=path)
    job.ran("virsh", "pool-define-as", DEFAULT_POOL, "dir", "--target", path)
    with made.noted(job, "pool", name=DEFAULT_POOL, uuid=key, path=path):
        pool = opened.storagePoolDefineXML(etree.tostring(document.tree, encoding="unicode"))
        job.ran("virsh", "pool-build", DEFAULT_POOL)
        pool.build()
        job.ran("virsh", "pool-start", DEFAULT_POOL)
        pool.create()
        job.ran("virsh", "pool-autostart", DEFAULT_POOL)
        pool.setAutostart(True)
    return pool


def _created_disk(
    job: Job, pool: libvirt.virStoragePool, disk: DiskChoice, machine: str
) -> DiskChoice:
    suffix = "" if disk.is_block else disk.format
    name = volume_name(machine, taken=pool.listVolumes(), suffix=suffix)
    job.progress(40, _("Creating the disk %s") % name)
    wanted = Volume.new("volume", name=name, capacity_bytes=disk.create_gib * 2**30)
    if not disk.is_block:
        wanted.allocation_bytes = 0
        wanted.format = disk.format
    size = f"{disk.create_gib}GiB"
    job.ran("virsh", "vol-create-as", pool.name(), name, size, "--format", disk.format)
    with made.noted(job, "volume", pool=pool.UUIDString(), name=name):
        volume = pool.createXML(etree.tostring(wanted.tree, encoding="unicode"))
    look_again(job.host_id or 0, "pool", pool.UUIDString())
    return replace(disk, path=volume.path())


def _define(
    job: Job, opened: libvirt.virConnect, name: str, key: str, xml: str, *, field: str
) -> None:
    job.progress(70, _("Defining the machine"))
    job.write(result={**job.result, "uuid": key, "name": name})
    job.ran("virsh", "define", f"{name}.xml")
    try:
        with made.noted(job, "machine", name=name, uuid=key):
            opened.defineXML(xml)
    except libvirt.libvirtError as error:
        raise _at(error, field) from error


def _start(job: Job, opened: libvirt.virConnect, key: str, wish: Wish) -> None:
    job.progress(85, _("Starting the machine"))
    dom = opened.lookupByUUIDString(key)
    job.ran("virsh", "start", dom.name())
    try:
        dom.create()
    except libvirt.libvirtError as error:
        raise _at(error, _blamed(error, wish)) from error


def _blamed(error: libvirt.libvirtError, wish: Wish) -> str:
    """The field whose value libvirt's message is about."""
    message = error.get_error_message()
    network = wish.network.partition(":")[2]
    if wish.xml:
        return "xml"
    if wish.iso and wish.iso in message:
        return "iso"
    if wish.disk_path and wish.disk_path in message:
        return "disk_path"
    if "memory" in message:
        return "memory_mib"
    is_about_network = error.get_error_domain() == libvirt.VIR_FROM_NETWORK or (
        network and f"'{network}'" in message
    )
    return "network" if is_about_network else ""


def _at(error: libvirt.libvirtError, field: str) -> OperationError:
    explained = explain(error)
    return OperationError(explained.sentence, field=field, detail=explained.detail)
