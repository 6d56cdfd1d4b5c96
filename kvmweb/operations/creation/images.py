"""Disk images by their path on the host, as libvirt sees them."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

import libvirt
from django.utils.translation import gettext as _
from lxml import etree

from kvmweb.spec.storage import Pool, Volume
from kvmweb.spec.xml import parse
from kvmweb.virt.errors import OperationError

# QEMU's own names of formats; libvirt's others (iso, dmg, ...) are raw bytes to it.
_FORMATS = ("qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "vhdx", "parallels", "luks", "cloop")
_MAX_CHAIN = 50


@dataclass(frozen=True)
class Image:
    path: str
    format: str
    is_block: bool


def image(opened: libvirt.virConnect, path: str, *, field: str) -> Image:
    """What lies at this path, its format found by libvirt and not believed from anybody.

    Raises ``OperationError`` at ``field`` where there is nothing a machine could use.
    """
    if path.startswith("/dev/"):
        return Image(path, "raw", is_block=True)
    top = found = _volume(opened, path, field)
    seen = {path}
    while found.backing_path:
        if found.backing_path in seen or len(seen) > _MAX_CHAIN:
            raise OperationError(_("The backing files of %s go in a circle.") % path, field=field)
        seen.add(found.backing_path)
        if not found.backing_path.startswith("/"):
            break  # on a server: only QEMU can look there
        found = _backing(opened, found, field)
    return Image(path, top.format if top.format in _FORMATS else "raw", is_block=False)


def _backing(opened: libvirt.virConnect, overlay: Volume, field: str) -> Volume:
    try:
        return _volume(opened, overlay.backing_path, field)
    except OperationError as error:
        raise OperationError(
            _("%(path)s is an overlay, and the image below it can't be used: %(reason)s")
            % {"path": overlay.path, "reason": error.sentence},
            field=field,
            detail=error.detail,
        ) from error


def _volume(opened: libvirt.virConnect, path: str, field: str) -> Volume:
    try:
        found = _document(opened, path)
    except libvirt.libvirtError as error:
        raise _explained(error, path, field) from error
    if found.type == "dir" or found.format == "dir":
        raise OperationError(_("%s is a directory. Enter the path of a file.") % path, field=field)
    return found


def _explained(error: libvirt.libvirtError, path: str, field: str) -> OperationError:
    message = error.get_error_message()
    folder = PurePosixPath(path).parent
    if "Permission denied" in message:
        sentence = _("Libvirt may not look into %s. Move the file into a storage pool.") % folder
    elif "Storage source conflict" in message:
        sentence = _("The storage pool at %s is not active. Start it, then try again.") % folder
    else:
        sentence = _("There is no file %s on the host.") % path
    return OperationError(sentence, field=field, detail=message)


def _document(opened: libvirt.virConnect, path: str) -> Volume:
    """Libvirt looks only into pools: for a path in none, one is made for the moment."""
    try:
        return Volume(parse(opened.storageVolLookupByPath(path).XMLDesc()))
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise
    place = PurePosixPath(path)
    with _pool_at(opened, str(place.parent)) as pool:
        return Volume(parse(pool.storageVolLookupByName(place.name).XMLDesc()))


@contextmanager
def _pool_at(opened: libvirt.virConnect, folder: str) -> Iterator[libvirt.virStoragePool]:
    for pool in opened.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
        if Pool(parse(pool.XMLDesc())).target_path == folder:
            pool.refresh()
            yield pool
            return
    document = Pool.new("pool", type="dir", name=f"kvmweb-look-{uuid.uuid4().hex[:8]}")
    document.target_path = folder
    pool = opened.storagePoolCreateXML(etree.tostring(document.tree, encoding="unicode"))
    try:
        yield pool
    finally:
        pool.destroy()
