"""What a creation has made so far, so that it can be taken back.

Each thing is written down in ``job.result["made"]`` *before* it is made: an agent that is killed
leaves at most a note too many, never a thing too many.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import libvirt
from django.utils.translation import gettext as _

from kvmweb.mirror import look_again
from kvmweb.models import Job, JobState
from kvmweb.spec.devices.disk import disks
from kvmweb.spec.domain import Domain
from kvmweb.spec.xml import parse
from kvmweb.virt.connections import connection
from kvmweb.virt.errors import OperationError, explain

Thing = dict[str, Any]
# Seconds a failed creation waits for a host that went away, to clean up after itself.
HOST_RETURNS_IN = 60
# The tiny guest's files are shared, and jobs of one host run side by side in one process: none may
# remove them between another's look that finds them and the definition that holds on to them.
shared = threading.RLock()
_ALREADY_THERE = (
    libvirt.VIR_ERR_STORAGE_VOL_EXIST,
    libvirt.VIR_ERR_DOM_EXIST,
    libvirt.VIR_ERR_NETWORK_EXIST,
)


@contextmanager
def noted(job: Job, kind: str, **thing: str) -> Iterator[None]:
    """Around the one call that makes this thing."""
    made = [*job.result.get("made", []), {"kind": kind, **thing}]
    job.write(result={**job.result, "made": made})
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() in _ALREADY_THERE:
            # Somebody else got there first: it is theirs, and stays.
            job.write(result={**job.result, "made": made[:-1]})
        raise


def keep(job: Job) -> None:
    """The creation is complete: nothing is to be taken back any more."""
    job.write(result={name: value for name, value in job.result.items() if name != "made"})


def undo_failed(job: Job) -> None:
    """Remove what a job has made that fails just now, for which it has a reason of its own. What
    can't be removed stays noted, and ``undo_left`` tries again."""
    end = time.monotonic() + HOST_RETURNS_IN
    while job.result.get("made"):
        try:
            undo(job)
        except OperationError as error:
            if time.monotonic() > end:
                job.say(error.sentence)
                return
            time.sleep(0.5)


def undo_left(job: Job) -> None:
    """Remove what earlier creations on this host could not take back themselves."""
    ended = (JobState.FAILED, JobState.CANCELLED, JobState.LOST)
    for earlier in Job.objects.filter(
        kind=job.kind, host=job.host_id, state__in=ended, result__has_key="made"
    ):
        with suppress(OperationError):
            undo(earlier)


def undo(job: Job) -> None:
    """Remove what the job has made, the last first. Raises ``OperationError`` where that can't be
    done now; what is left then stays noted."""
    _undo_all(job)
    keep(job)


def _undo_all(job: Job) -> None:
    assert job.host_id is not None
    opened = connection(job.host_id)
    while job.result.get("made"):
        *earlier, thing = job.result["made"]
        job.say(_("Taking back: %(kind)s %(name)s") % thing)
        try:
            _UNDO[thing["kind"]](opened, thing)
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _GONE:
                job.say(explain(error).sentence)
                raise OperationError(
                    _("%(kind)s %(name)s is left over and could not be removed.") % thing,
                    detail=str(error),
                ) from error
        if thing["kind"] in ("volume", "upload"):
            look_again(job.host_id, "pool", thing["pool"])
        job.write(result={**job.result, "made": earlier})


_GONE = (
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_STORAGE_VOL,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
    libvirt.VIR_ERR_NO_NETWORK,
)


def _undo_machine(opened: libvirt.virConnect, thing: Thing) -> None:
    dom = opened.lookupByUUIDString(thing["uuid"])
    if dom.isActive():
        dom.destroy()
    undefine(dom)


def undefine(dom: libvirt.virDomain) -> None:
    try:
        dom.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (
            libvirt.VIR_ERR_NO_SUPPORT,
            libvirt.VIR_ERR_INVALID_ARG,
        ):
            raise
        dom.undefine()  # the test driver knows no more


def _undo_volume(opened: libvirt.virConnect, thing: Thing) -> None:
    pool = opened.storagePoolLookupByUUIDString(thing["pool"])
    # A volume whose creation was cut off is only found by looking again.
    pool.refresh()
    volume = pool.storageVolLookupByName(thing["name"])
    if not is_used(opened, volume.path()):
        volume.delete()


def _undo_upload(opened: libvirt.virConnect, thing: Thing) -> None:
    with shared:
        _undo_volume(opened, thing)


def is_used(opened: libvirt.virConnect, path: str) -> bool:
    """Whether a machine needs the file: as a disk, kernel or initrd."""
    for dom in opened.listAllDomains():
        xml = dom.XMLDesc()
        if path not in xml:
            continue
        domain = Domain(parse(xml))
        if path in (domain.kernel, domain.initrd, *(disk.source for disk in disks(xml))):
            return True
    return False


def _undo_pool(opened: libvirt.virConnect, thing: Thing) -> None:
    pool = opened.storagePoolLookupByUUIDString(thing["uuid"])
    if any(thing["path"] + "/" in dom.XMLDesc() for dom in opened.listAllDomains()):
        return  # meanwhile another machine was created in it
    if pool.isActive():
        pool.destroy()
    pool.undefine()


def _undo_pool_start(opened: libvirt.virConnect, thing: Thing) -> None:
    opened.storagePoolLookupByUUIDString(thing["uuid"]).destroy()


def _undo_network_start(opened: libvirt.virConnect, thing: Thing) -> None:
    network = opened.networkLookupByName(thing["name"])
    # Other machines may have plugged in since.
    if network.isActive() and not network.listAllPorts():
        network.destroy()


_UNDO: dict[str, Callable[[libvirt.virConnect, Thing], None]] = {
    "machine": _undo_machine,
    "volume": _undo_volume,
    "upload": _undo_upload,
    "pool": _undo_pool,
    "pool start": _undo_pool_start,
    "network start": _undo_network_start,
}
