"""The tiny guest's kernel and initrd on the host: uploaded once, shared by all tiny machines."""

import hashlib
from pathlib import Path

import libvirt
from django.utils.translation import gettext as _
from lxml import etree

from kvmweb import tiny_guest
from kvmweb.mirror import look_again
from kvmweb.models import Job
from kvmweb.operations.creation.draft import tiny_directory, tiny_volume_name
from kvmweb.operations.creation.made import noted
from kvmweb.spec.storage import Volume
from kvmweb.virt.errors import OperationError

CHUNK = 256 * 1024


def tiny_guest_files(job: Job, pool: libvirt.virStoragePool) -> tuple[str, str]:
    """The paths of kernel and initrd on the host."""
    try:
        guest = tiny_guest.build(tiny_directory(), say=lambda text: job.progress(None, text))
    except tiny_guest.BuildError as error:
        raise OperationError(str(error)) from error
    kernel, initrd = (_uploaded(job, pool, file) for file in (guest.kernel, guest.initrd))
    return kernel, initrd


def _uploaded(job: Job, pool: libvirt.virStoragePool, file: Path) -> str:
    name = tiny_volume_name(file)
    content = file.read_bytes()
    volume = _found(pool, name) or _created(job, pool, name, len(content))
    # Its name says what should be in it; an upload that was cut off left something else.
    if _digest(volume, len(content)) != hashlib.sha256(content).hexdigest():
        job.progress(None, _("Uploading the tiny guest's %s to the host") % file.name)
        job.ran("virsh", "vol-upload", "--pool", pool.name(), name, str(file))
        _send(job, volume, content)
    look_again(job.host_id or 0, "pool", pool.UUIDString())
    return str(volume.path())


def _found(pool: libvirt.virStoragePool, name: str) -> libvirt.virStorageVol | None:
    try:
        return pool.storageVolLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise
        return None


def _created(job: Job, pool: libvirt.virStoragePool, name: str, size: int) -> libvirt.virStorageVol:
    document = Volume.new("volume", name=name, capacity_bytes=size, format="raw")
    # QEMU reads it as another user than the one libvirt writes it as.
    document.mode = "0644"
    job.ran("virsh", "vol-create-as", pool.name(), name, str(size), "--format", "raw")
    with noted(job, "upload", pool=pool.UUIDString(), name=name):
        return pool.createXML(etree.tostring(document.tree, encoding="unicode"))


def _send(job: Job, volume: libvirt.virStorageVol, content: bytes) -> None:
    stream = volume.connect().newStream()
    volume.upload(stream, 0, len(content))
    try:
        for start in range(0, len(content), CHUNK):
            job.check_cancelled()
            rest = content[start : start + CHUNK]
            while rest:
                rest = rest[stream.send(rest) :]
    except BaseException:
        stream.abort()
        raise
    stream.finish()


def _digest(volume: libvirt.virStorageVol, size: int) -> str:
    if volume.info()[1] < size:
        return ""
    stream = volume.connect().newStream()
    volume.download(stream, 0, size)
    digest = hashlib.sha256()
    while received := stream.recv(CHUNK):
        digest.update(received)
    stream.finish()
    return digest.hexdigest()
