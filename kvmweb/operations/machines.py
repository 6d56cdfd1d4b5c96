"""What may be done with a machine. Creating one is in ``creation``."""

import time
from typing import Annotated

import libvirt
from django.utils.translation import gettext_lazy as _
from pydantic import Field

from kvmweb.mirror import look_again
from kvmweb.models import Job, Machine, Volume
from kvmweb.models.access import DELETE, OPERATE
from kvmweb.models.machines import ACTIVE, CRASHED, PAUSED, PMSUSPENDED, RUNNING, SHUTOFF
from kvmweb.operations.operation import operation
from kvmweb.spec.devices.disk import disks
from kvmweb.virt.connections import connection, domain
from kvmweb.virt.errors import OperationError

# Seconds a guest has to shut down, and between two presses of its power button: one that comes
# before the guest listens is lost.
SHUT_DOWN_SECONDS, PRESS_EVERY = 120, 15


@operation(
    _("Start"),
    needs=OPERATE,
    when=[SHUTOFF, CRASHED],
    otherwise=_("The machine is already on."),
    icon="player-play",
)
def start(job: Job, machine: Machine) -> None:
    """Boot the machine, or restore it where a saved state exists."""
    job.ran("virsh", "start", machine.name)
    domain(machine).create()


@operation(
    _("Resume"),
    needs=OPERATE,
    when=[PAUSED, PMSUSPENDED],
    otherwise=_("Only a paused machine can be resumed."),
    icon="player-track-next",
)
def resume(job: Job, machine: Machine) -> None:
    """Let a paused machine go on; wake one that has put itself to sleep."""
    if machine.state == PMSUSPENDED:
        job.ran("virsh", "dompmwakeup", machine.name)
        domain(machine).pMWakeup()
    else:
        job.ran("virsh", "resume", machine.name)
        domain(machine).resume()


@operation(
    _("Pause"),
    needs=OPERATE,
    when=[RUNNING],
    otherwise=_("Only a running machine can be paused."),
    icon="player-pause",
)
def pause(job: Job, machine: Machine) -> None:
    """Stop the machine's processors; its memory stays as it is."""
    job.ran("virsh", "suspend", machine.name)
    domain(machine).suspend()


@operation(
    _("Shut down"),
    needs=OPERATE,
    when=[RUNNING],
    otherwise=_("Only a running machine can be shut down."),
    icon="power",
)
def shut_down(job: Job, machine: Machine) -> None:
    """Ask the guest to shut down, and wait until it has."""
    job.ran("virsh", "shutdown", machine.name)
    dom = domain(machine)
    started = time.monotonic()
    pressed = -float(PRESS_EVERY)
    while _is_active(dom):
        waited = time.monotonic() - started
        if waited > SHUT_DOWN_SECONDS:
            raise OperationError(
                _(
                    "The guest has not shut down within %d s. It may not listen to the power "
                    "button. Shut it down from inside, or use Force off."
                )
                % SHUT_DOWN_SECONDS
            )
        if waited - pressed >= PRESS_EVERY:
            dom.shutdown()
            pressed = waited
            job.progress(None, _("Waiting for the guest to shut down"))
        job.check_cancelled()
        time.sleep(0.1)


@operation(
    _("Reboot"),
    needs=OPERATE,
    when=[RUNNING],
    otherwise=_("Only a running machine can be rebooted."),
    icon="refresh",
)
def reboot(job: Job, machine: Machine) -> None:
    """Ask the guest to reboot."""
    job.ran("virsh", "reboot", machine.name)
    domain(machine).reboot()


@operation(
    _("Force off"),
    needs=OPERATE,
    when=ACTIVE,
    otherwise=_("The machine is off already."),
    confirm=_(
        "This powers the machine off at once, without shutting down its operating system. "
        "Unsaved data in the guest is lost."
    ),
    icon="plug-off",
    is_dangerous=True,
    overrules=["machines.shut_down", "machines.reboot"],
)
def force_off(job: Job, machine: Machine) -> None:
    """Cut the machine's power."""
    job.ran("virsh", "destroy", machine.name)
    domain(machine).destroy()


@operation(
    _("Force reset"),
    needs=OPERATE,
    when=[RUNNING, PAUSED],
    otherwise=_("Only a running machine can be reset."),
    confirm=_(
        "This resets the machine at once, as its reset button would, without shutting down its "
        "operating system. Unsaved data in the guest is lost."
    ),
    icon="bolt",
    is_dangerous=True,
    overrules=["machines.shut_down", "machines.reboot"],
)
def force_reset(job: Job, machine: Machine) -> None:
    """Press the machine's reset button."""
    job.ran("virsh", "reset", machine.name)
    domain(machine).reset()


@operation(_("Start when the host boots"), needs=OPERATE, icon="repeat")
def set_autostart(
    job: Job,
    machine: Machine,
    *,
    enabled: Annotated[bool, Field(title="Start when the host boots")],
) -> None:
    """Whether libvirt starts the machine when the host boots."""
    if not machine.is_persistent:
        raise OperationError(
            _("The machine is transient: it is gone once it is off, so nothing can start it."),
            field="enabled",
        )
    job.ran("virsh", "autostart", *([] if enabled else ["--disable"]), machine.name)
    domain(machine).setAutostart(enabled)
    look_again(machine.host_id, "machine", str(machine.uuid))


@operation(
    _("Delete"),
    needs=DELETE,
    icon="trash",
    is_dangerous=True,
    overrules=["machines.shut_down", "machines.reboot"],
)
def delete(
    job: Job,
    machine: Machine,
    *,
    volumes: Annotated[
        list[str], Field(title="Disks to delete too", description="Paths of the machine's disks.")
    ] = [],  # noqa: B006 - pydantic copies defaults
    confirm_name: Annotated[
        str,
        Field(
            title="Name of the machine",
            description="Must be typed when disks are deleted too.",
        ),
    ] = "",
) -> None:
    """Force the machine off, forget it, and delete those of its disks that were chosen."""
    if volumes and confirm_name != machine.name:
        raise OperationError(
            _("Type the machine's name, %s, to confirm that its data is deleted.") % machine.name,
            field="confirm_name",
        )
    handles = [_deletable(machine, path) for path in volumes]
    dom = domain(machine)
    if dom.isActive():
        job.progress(10, _("Forcing the machine off"))
        job.ran("virsh", "destroy", machine.name)
        dom.destroy()
    if machine.is_persistent:
        job.progress(30, _("Forgetting the machine"))
        _undefine(job, dom)
    for number, volume in enumerate(handles):
        job.progress(50 + 50 * number // len(handles), _("Deleting %s") % volume.path())
        job.ran("virsh", "vol-delete", volume.path())
        volume.delete()
        look_again(machine.host_id, "pool", volume.storagePoolLookupByVolume().UUIDString())


def _deletable(machine: Machine, path: str) -> libvirt.virStorageVol:
    """The volume at this path, if it is a disk of this machine and nobody else's."""
    if path not in paths(machine):
        raise OperationError(_("%s is not a disk of this machine.") % path, field="volumes")
    for other in Machine.objects.filter(host=machine.host_id).exclude(pk=machine.pk):
        if path in paths(other):
            raise OperationError(
                _("The machine %(name)s uses %(path)s too. Leave the disk, or remove it there.")
                % {"name": other.name, "path": path},
                field="volumes",
            )
    try:
        return connection(machine.host_id).storageVolLookupByPath(path)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise
        raise OperationError(
            _("%s is in no storage pool, so it can't be deleted from here. Leave the box empty.")
            % path,
            field="volumes",
        ) from None


def paths(machine: Machine) -> set[str]:
    """Where the machine's disks lie on its host, now and after its next start."""
    found: set[str] = set()
    for disk in disks(machine.xml) + disks(machine.inactive_xml or machine.xml):
        if disk.pool:
            volumes = Volume.objects.filter(
                pool__host=machine.host_id, pool__name=disk.pool, name=disk.source
            )
            found.update(volumes.values_list("path", flat=True))
        elif disk.source:
            found.add(disk.source)
    return found


# What an undefine must take along, or libvirt refuses; older libvirts lack the last.
_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


def _undefine(job: Job, dom: libvirt.virDomain) -> None:
    job.ran(
        "virsh", "undefine", dom.name(), "--managed-save", "--snapshots-metadata",
        "--checkpoints-metadata", "--nvram",
    )  # fmt: skip
    try:
        dom.undefineFlags(_UNDEFINE)
    except libvirt.libvirtError as error:
        # The test driver and some others know only the plain call.
        if error.get_error_code() not in (
            libvirt.VIR_ERR_NO_SUPPORT,
            libvirt.VIR_ERR_INVALID_ARG,
            libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
        ):
            raise
        dom.undefine()


def _is_active(dom: libvirt.virDomain) -> bool:
    try:
        return bool(dom.isActive())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return False  # a transient machine goes with its last breath
        raise
