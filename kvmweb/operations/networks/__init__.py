"""What may be done with a virtual network."""

import threading
import uuid
from typing import Annotated

import libvirt
from django.utils.translation import gettext as now
from django.utils.translation import gettext_lazy as _
from pydantic import Field

from kvmweb.mirror import look_again
from kvmweb.models import Host, Job, Network
from kvmweb.models.access import NETWORKS
from kvmweb.operations.networks import checks, users
from kvmweb.operations.networks.applying import apply
from kvmweb.operations.networks.defining import at_field, define, definition, fields
from kvmweb.operations.networks.forwards import add_forward, remove_all, remove_forward
from kvmweb.operations.networks.handles import handle, unless_transient
from kvmweb.operations.networks.reservations import add_reservation, remove_reservation
from kvmweb.operations.networks.restart import restart as restart_network
from kvmweb.operations.networks.wish import Change, Cut, Wish, document_in, wanted
from kvmweb.operations.operation import operation
from kvmweb.spec import network as spec
from kvmweb.spec.network_places import OWN_BRIDGE, AtMode
from kvmweb.spec.subnets import overlap, taken
from kvmweb.spec.xml import parse, text_of
from kvmweb.virt.connections import connection
from kvmweb.virt.errors import OperationError

__all__ = [
    "Change", "Wish", "add_forward", "add_reservation", "create", "delete", "edit",
    "remove_forward", "remove_reservation", "restart", "set_autostart", "start", "stop", "users",
]  # fmt: skip

# Two networks that are made at once must not both find the same subnet free.
_one_at_a_time = threading.Lock()


def _undo_creation(job: Job) -> None:
    """Of a job whose agent died in the middle."""
    opened = connection(job.host_id or 0)
    try:
        _remove(opened.networkLookupByUUIDString(job.result["uuid"]))
    except (KeyError, libvirt.libvirtError):
        return  # nothing was made yet


@operation(
    _("New network"),
    needs=NETWORKS,
    noun="networks",
    icon="plus",
    check=checks.creation,
    undo=_undo_creation,
)
def create(job: Job, host: Host, *, wish: Wish) -> None:
    """Make a network from the fields, or from libvirt's XML."""
    opened = connection(host.pk)
    xml, field = _document(wish)
    network = spec.Network(parse(xml))
    network.uuid = network.uuid or str(uuid.uuid4())
    xml = text_of(network.tree)
    job.write(target_name=network.name)
    with _one_at_a_time:
        _check_free(opened, network, field)
        job.write(result={"uuid": network.uuid, "name": network.name})
        job.ran("virsh", "net-define", "--validate", f"{network.name}.xml")
        with at_field(wish.xml, field):
            net = define(opened, xml)
    try:
        _bring_up(job, net, wish, field)
    except OperationError:
        _remove(net)
        raise


def _document(wish: Wish) -> tuple[str, str]:
    """The document, and the field to blame for what libvirt does not like in it."""
    if wish.xml:
        return wish.xml, "xml"
    return spec.created(wish.name, document_in(wish)), ""


def _check_free(opened: libvirt.virConnect, network: spec.Network, field: str) -> None:
    """``networkDefineXML`` replaces one that has the same name and UUID, without a word; and that
    two have the same subnet it says at the start only.
    """
    known = []
    for net in opened.listAllNetworks():
        if net.name() == network.name:
            raise OperationError(checks.name_is_taken(network.name), field=field or "name")
        if net.UUIDString() == network.uuid:
            raise OperationError(checks.uuid_is_taken(network.uuid, net.name()), field=field)
        by = now("the network “%s”") % net.name()
        found = (taken(one, by) for one in spec.addresses(definition(net)))
        known += [one for one in found if one]
    for number, address in enumerate(spec.addresses(text_of(network.tree))):
        if met := overlap(address, known):
            blamed = field or f"ips.{number}.address"
            raise OperationError(checks.overlaps(str(met)), field=blamed)


def _bring_up(job: Job, net: libvirt.virNetwork, wish: Wish, field: str) -> None:
    with at_field(wish.xml, field):
        if wish.start:
            job.ran("virsh", "net-start", net.name())
            net.create()
        if wish.autostart:
            job.ran("virsh", "net-autostart", net.name())
            net.setAutostart(True)
    look_again(job.host_id or 0, "network", net.UUIDString())


def _remove(net: libvirt.virNetwork) -> None:
    is_persistent = net.isPersistent()
    if net.isActive():
        net.destroy()
    if is_persistent:
        net.undefine()


def _unless_active(network: Network) -> str:
    return now("The network is active already.") if network.is_active else ""


def _unless_inactive(network: Network) -> str:
    return "" if network.is_active else now("The network is not active.")


@operation(_("Start"), needs=NETWORKS, icon="player-play", unless=_unless_active)
def start(job: Job, network: Network) -> None:
    """Make the network's bridge, and give out addresses on it."""
    job.ran("virsh", "net-start", network.name)
    handle(network).create()


def _check_cut(network: Network, arguments: object) -> dict[str, str]:
    return checks.cut(network, is_accepted=bool(getattr(arguments, "cut", False)))


@operation(
    _("Stop"),
    needs=NETWORKS,
    icon="player-stop",
    is_dangerous=True,
    unless=_unless_inactive,
    check=_check_cut,
)
def stop(job: Job, network: Network, *, cut: Cut = False) -> None:
    """Take the network down. Machines on it lose their connection."""
    job.ran("virsh", "net-destroy", network.name)
    handle(network).destroy()


@operation(
    _("Restart"),
    needs=NETWORKS,
    icon="refresh",
    unless=lambda network: _unless_inactive(network) or unless_transient(network),
    check=_check_cut,
)
def restart(job: Job, network: Network, *, cut: Cut = False) -> None:
    """Stop and start the network, so that what was changed comes into force. Running machines are
    plugged in again; they are cut for a moment.
    """
    net = handle(network)
    with at_field("", ""):
        restart_network(job, net)
    look_again(network.host_id, "network", str(network.uuid))


@operation(_("Start when the host boots"), needs=NETWORKS, icon="repeat", unless=unless_transient)
def set_autostart(
    job: Job,
    network: Network,
    *,
    enabled: Annotated[bool, Field(title="Start when the host boots")],
) -> None:
    """Whether libvirt starts the network when the host boots."""
    job.ran("virsh", "net-autostart", *([] if enabled else ["--disable"]), network.name)
    handle(network).setAutostart(enabled)
    look_again(network.host_id, "network", str(network.uuid))


@operation(
    _("Edit"),
    needs=NETWORKS,
    icon="pencil",
    is_partial=True,
    unless=unless_transient,
    check=checks.change,
)
def edit(job: Job, network: Network, *, change: Change) -> None:
    """Change what is given, or the whole XML. What libvirt can, it changes while the network runs;
    the rest comes into force with its next start.
    """
    net = handle(network)
    before = definition(net)
    if change.version and change.version != network.version:
        raise OperationError(checks.changed_meanwhile(network.name), field="version")
    if change.xml:
        xml, field = _completed(change.xml, before), "xml"
    else:
        xml, field = spec.edited(before, wanted(fields(net), change)), ""
    with at_field(change.xml, field):
        apply(job, net, xml, is_restarted=change.restart)
    look_again(network.host_id, "network", str(network.uuid))


def _completed(xml: str, before: str) -> str:
    """With what libvirt would make anew where it is left out, and so change."""
    network, old = spec.Network(checks.pasted(xml).tree), spec.Network(parse(before))
    network.uuid = old.uuid
    if AtMode().get(network.tree) in OWN_BRIDGE:
        network.mac = network.mac or old.mac
        network.bridge = network.bridge or old.bridge
    return text_of(network.tree)


@operation(
    _("Delete"),
    needs=NETWORKS,
    icon="trash",
    is_dangerous=True,
    check=_check_cut,
)
def delete(job: Job, network: Network, *, cut: Cut = False) -> None:
    """Stop the network, and forget it and its port forwards. Machines that use it can't be started
    until they are plugged in elsewhere.
    """
    net = handle(network)
    remove_all(job, network)
    if net.isActive():
        job.ran("virsh", "net-destroy", network.name)
    if net.isPersistent():
        job.ran("virsh", "net-undefine", network.name)
    _remove(net)
