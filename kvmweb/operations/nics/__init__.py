"""What may be done with a machine's NICs."""

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Annotated, Any

import libvirt
from django.utils.translation import gettext as now
from django.utils.translation import gettext_lazy as _
from pydantic import Field

from kvmweb.mirror import look_again
from kvmweb.models import Job, Machine
from kvmweb.models.access import EDIT, OPERATE
from kvmweb.operations.nics import cards, checks, macs, sources
from kvmweb.operations.nics.cards import CANNOT, CONFIG, LIVE
from kvmweb.operations.nics.settings import BANDWIDTH, Change, NewNic, settings_of, write
from kvmweb.operations.operation import operation
from kvmweb.spec.devices.interface import Interface
from kvmweb.spec.nics import interfaces, usb_port
from kvmweb.spec.xml import parse
from kvmweb.virt.connections import domain
from kvmweb.virt.errors import OperationError

__all__ = ["Change", "NewNic", "add", "edit", "remove", "set_link"]

Changes = dict[str, Any]
NicKey = Annotated[str, Field(title="NIC", description="Its MAC address.", max_length=20)]

# What qemuDomainChangeNet() can change in a running machine. Where a card is plugged into, only
# as long as it stays on Linux bridges; the VLAN only on Open vSwitch.
MOVES = ("source", "portgroup", "macvtap_mode", "vlan", "trunks", "native_mode")
AT_ONCE = (
    *MOVES, *BANDWIDTH, "is_link_up", "filter", "filter_parameters", "is_isolated",
    "trusts_guest_filters", "coalesce_frames",
)  # fmt: skip


@operation(_("Add NIC"), needs=EDIT, icon="plus", check=checks.new, deadline=90)
def add(job: Job, machine: Machine, *, nic: NewNic) -> None:
    """Plug in one more network card, in the running machine too."""
    dom = domain(machine)
    changes = {"model": sources.default_model(machine), **nic.changes}
    changes["source"] = nic.source or sources.default_source(machine.host)
    changes |= _automatic(job, machine, changes)
    with macs.claimed(_owner(machine), [nic.mac or ""], field="mac") as (mac,):
        card = Interface.new("interface")
        write(card, {**changes, "mac": mac})
        _check_own(dom, mac)
        with cards.blaming(changes), cards.taken_back() as undo:
            if dom.isActive() and not nic.at_next_start:
                cards.attach(job, dom, _placed(dom, card), LIVE)
                undo.append(lambda: cards.detach(job, dom, card, LIVE))
                card = _with_address(card, cards.current(dom, mac))
            if machine.is_persistent:
                cards.attach(job, dom, _placed(dom, card), CONFIG)
        _look_again(job, machine, nic=mac)


@operation(_("Edit NIC"), needs=EDIT, icon="edit", check=checks.edited, deadline=90)
def edit(job: Job, machine: Machine, *, change: Change) -> None:
    """Change a network card, now where that can be done and in the machine's definition."""
    dom = domain(machine)
    current = cards.current(dom, change.nic) if dom.isActive() else None
    kept = cards.kept(dom, change.nic) if machine.is_persistent else None
    base = kept or current
    if base is None:
        raise OperationError(checks.no_such(machine, change.nic), field="nic")
    changes = change.changes
    changes |= _automatic(job, machine, changes, base)
    pending: set[str] = set()
    with _claim(machine, dom, base, changes):
        with cards.blaming(changes), cards.taken_back() as undo:
            if current is not None and change.apply != "next_start":
                waiting = _waiting(current, kept) if kept is not None else {}
                wanted = {**waiting, **changes}
                pending = _edit_current(job, dom, change, current, wanted, undo)
            elif current is not None:
                pending = set(_differing(current, changes))
            if kept is not None and changes:
                _edit_kept(job, dom, kept, changes)
        _look_again(job, machine, nic=changes.get("mac", base.mac))
    if pending and kept is not None:
        job.result["pending"] = sorted(pending)
        job.result["note"] = now("Part of it takes effect at the next start of the machine.")


@operation(
    _("Remove NIC"),
    needs=EDIT,
    icon="trash",
    is_dangerous=True,
    check=checks.known,
    confirm=_("The guest loses this network card, and what it set up for it no longer fits."),
    deadline=90,
)
def remove(
    job: Job,
    machine: Machine,
    *,
    nic: NicKey,
    at_next_start: Annotated[
        bool, Field(title="Only at the next start", description="The running machine keeps it.")
    ] = False,
) -> None:
    """Unplug a network card; a running guest has to let go of it."""
    dom = domain(machine)
    current = cards.current(dom, nic) if dom.isActive() else None
    kept = cards.kept(dom, nic) if machine.is_persistent else None
    if current is None and kept is None:
        raise OperationError(checks.no_such(machine, nic), field="nic")
    if current is not None and not at_next_start:
        cards.detach(job, dom, current, LIVE)
    if kept is not None:
        cards.detach(job, dom, kept, CONFIG)
    _look_again(job, machine)


@operation(_("Set the link of a NIC"), needs=OPERATE, icon="plug", check=checks.known)
def set_link(
    job: Job,
    machine: Machine,
    *,
    nic: NicKey,
    up: Annotated[bool, Field(title="Link up", description="false: its cable is unplugged.")],
) -> None:
    """Plug a network card's cable in, or unplug it; now and for the next start."""
    dom = domain(machine)
    found = [
        (LIVE, cards.current(dom, nic) if dom.isActive() else None),
        (CONFIG, cards.kept(dom, nic) if machine.is_persistent else None),
    ]
    if not any(card for _where, card in found):
        raise OperationError(checks.no_such(machine, nic), field="nic")
    for where, card in found:
        if card is not None:
            words = ["--config"] if where == CONFIG else []
            state = "up" if up else "down"
            job.ran("virsh", "domif-setlink", machine.name, card.mac, state, *words)
            card.is_link_up = up
            dom.updateDeviceFlags(cards.text(card.tree), where)
    _look_again(job, machine)


def _owner(machine: Machine) -> macs.Owner:
    return macs.Owner(machine.host, machine.uuid, machine.name)


def _look_again(job: Job, machine: Machine, **result: Any) -> None:
    job.result = {**job.result, **result}
    look_again(machine.host_id, "machine", str(machine.uuid))


def _automatic(
    job: Job, machine: Machine, changes: Changes, old: Interface | None = None
) -> Changes:
    """What a new source asks of the card where the person says nothing of it; what the old one
    asked for goes with it.
    """
    model = changes.get("model") or (old.model if old else "")
    if "source" not in changes or not model.startswith("virtio"):
        return {}
    asked = sources.asked(machine.host, changes["source"])
    for reason in asked.reasons:
        job.say(reason)
    has = settings_of(old) if old else {}
    before = sources.asked(machine.host, old.source).settings if old else {}
    is_as_asked = all(has[name] == value for name, value in before.items())
    gone = dict.fromkeys(before, None) if is_as_asked else {}
    asks = {
        name: value
        for name, value in asked.settings.items()
        if name in gone or has.get(name) is None
    }
    return {name: value for name, value in (gone | asks).items() if name not in changes}


def _check_own(dom: libvirt.virDomain, mac: str) -> None:
    """Another card of this machine, in either document, is not in anybody's way but its own."""
    for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        if any(one.mac.lower() == mac for one in interfaces(parse(dom.XMLDesc(flags)))):
            raise OperationError(
                now("This machine has a NIC with the MAC address %s already.") % mac, field="mac"
            )


def _claim(
    machine: Machine, dom: libvirt.virDomain, base: Interface, changes: Changes
) -> AbstractContextManager[Any]:
    mac = changes.get("mac", base.mac)
    if mac == base.mac.lower():
        return nullcontext()
    _check_own(dom, mac)
    return macs.claimed(_owner(machine), [mac], field="mac")


def _placed(dom: libvirt.virDomain, card: Interface) -> Interface:
    """Libvirt finds a slot for a card on PCI, none on USB."""
    if card.model == "usb-net" and card.tree.find("address") is None:
        usb_port(parse(dom.XMLDesc()), card.tree)
    return card


def _with_address(card: Interface, made: Interface | None) -> Interface:
    """In the slot that it has now, so that the guest finds it under the same name again."""
    copy = Interface(deepcopy(card.tree))
    address = made.tree.find("address") if made is not None else None
    if address is not None and copy.tree.find("address") is None:
        copy.tree.append(deepcopy(address))
    return copy


def _changed(card: Interface, changes: Changes) -> Interface:
    copy = Interface(deepcopy(card.tree))
    write(copy, changes)
    return copy


def _edit_current(
    job: Job,
    dom: libvirt.virDomain,
    change: Change,
    current: Interface,
    changes: Changes,
    undo: list[cards.Undo],
) -> set[str]:
    """Returns the names of what the running machine did not take."""
    differing = _differing(current, changes)
    possible = {name: value for name, value in differing.items() if name in AT_ONCE}
    staying = {name: value for name, value in possible.items() if name not in MOVES}
    if change.apply == "replug" and len(possible) < len(differing):
        _replug(job, dom, current, changes, undo)
        return set()
    for tried in (possible, staying):
        try:
            _update_current(job, dom, change.nic, current, tried)
        except libvirt.libvirtError as error:
            if error.get_error_code() not in CANNOT or tried == staying:
                raise
            if change.apply == "replug":
                _replug(job, dom, current, changes, undo)
                return set()
        else:
            undo.append(lambda: cards.update(job, dom, current, LIVE))
            return differing.keys() - tried.keys()
    raise AssertionError("the second attempt succeeds or raises")


def _waiting(current: Interface, kept: Interface) -> Changes:
    """What earlier changes have left for the next start."""
    has, wanted = settings_of(current), settings_of(kept)
    return {name: value for name, value in wanted.items() if has[name] != value}


def _differing(card: Interface, changes: Changes) -> Changes:
    has, wanted = settings_of(card), settings_of(_changed(card, changes))
    return {name: changes[name] for name in changes if has[name] != wanted[name]}


def _update_current(
    job: Job, dom: libvirt.virDomain, key: str, current: Interface, changes: Changes
) -> None:
    limits = {name for name in changes if name in BANDWIDTH}
    others = {name: value for name, value in changes.items() if name not in limits}
    if others:
        cards.update(job, dom, _changed(current, others), LIVE)
    if limits:
        wanted = _changed(current, changes)
        cards.set_bandwidth(job, dom, key, wanted, {name.partition("_")[0] for name in limits})


def _replug(
    job: Job,
    dom: libvirt.virDomain,
    current: Interface,
    changes: Changes,
    undo: list[cards.Undo],
) -> None:
    """Unplug the card and plug it in as it is wanted."""
    wanted = _placed(dom, _changed(current, changes))
    job.say(now("A running machine can't take this as it is: the card is unplugged for a moment."))
    cards.detach(job, dom, current, LIVE)
    undo.append(lambda: cards.attach(job, dom, current, LIVE))
    cards.attach(job, dom, wanted, LIVE)
    undo.append(lambda: cards.detach(job, dom, wanted, LIVE))


def _edit_kept(job: Job, dom: libvirt.virDomain, kept: Interface, changes: Changes) -> None:
    wanted = _changed(kept, changes)
    if wanted.mac == kept.mac:
        cards.update(job, dom, _placed(dom, wanted), CONFIG)
        return
    # A card is known by its address: with another one it is another card.
    cards.detach(job, dom, kept, CONFIG)
    try:
        cards.attach(job, dom, _placed(dom, wanted), CONFIG)
    except libvirt.libvirtError:
        cards.attach(job, dom, kept, CONFIG)
        raise
