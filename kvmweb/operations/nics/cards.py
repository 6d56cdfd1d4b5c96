"""NICs as libvirt has them now: in the running machine, and in the definition of its next start."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import libvirt
from django.utils.translation import gettext as _
from lxml import etree

from kvmweb.models import Job
from kvmweb.spec.devices.interface import Interface
from kvmweb.spec.nics import interface_of
from kvmweb.spec.xml import Tree, parse
from kvmweb.virt.errors import OperationError, explain

LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
WORDS = {LIVE: "--live", CONFIG: "--config"}
# Seconds that a guest has to let go of a card, and between two requests: on PCIe a second press of
# the attention button within five takes the first one back.
UNPLUGGED_WITHIN, ASK_AGAIN_AFTER = 40.0, 12.0
# What libvirt answers where this can't be changed in a running machine.
CANNOT = (
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
)


def current(dom: libvirt.virDomain, key: str) -> Interface | None:
    """The NIC of the running machine, written as its definition would be: no tap, no alias."""
    found = interface_of(parse(dom.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)), key)
    live = interface_of(parse(dom.XMLDesc()), key)
    if found is None or live is None:
        return None
    port = live.tree.find("virtualport")
    if port is not None and found.tree.find("virtualport") is None:
        # Of a network on Open vSwitch. Without its interfaceid libvirt takes it for another port,
        # and refuses even to set the link.
        found.tree.append(deepcopy(port))
    return found


def kept(dom: libvirt.virDomain, key: str) -> Interface | None:
    """The NIC of the next start."""
    return interface_of(parse(dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)), key)


def tap_of(dom: libvirt.virDomain, key: str) -> str:
    live = interface_of(parse(dom.XMLDesc()), key)
    return live.tap if live is not None else ""


def attach(job: Job, dom: libvirt.virDomain, card: Interface, where: int) -> None:
    job.ran("virsh", "attach-device", dom.name(), "nic.xml", WORDS[where])
    dom.attachDeviceFlags(text(card.tree), where)


def update(job: Job, dom: libvirt.virDomain, card: Interface, where: int) -> None:
    job.ran("virsh", "update-device", dom.name(), "nic.xml", WORDS[where])
    dom.updateDeviceFlags(text(card.tree), where)


def detach(job: Job, dom: libvirt.virDomain, card: Interface, where: int) -> None:
    """Returns when it is gone; a running guest has to agree. Raises ``OperationError``."""
    job.ran("virsh", "detach-interface", dom.name(), card.type, "--mac", card.mac, WORDS[where])
    if where == CONFIG:
        dom.detachDeviceFlags(text(card.tree), CONFIG)
    else:
        _unplug(job, dom, card)


def _unplug(job: Job, dom: libvirt.virDomain, card: Interface) -> None:
    started = time.monotonic()
    asked = -ASK_AGAIN_AFTER
    while _is_there(dom, card):
        waited = time.monotonic() - started
        if waited > UNPLUGGED_WITHIN:
            raise OperationError(
                _(
                    "The guest has not let go of the card %(mac)s within %(seconds)d s. It may "
                    "still be booting, or know no hot-plugging. Try again, shut it down first, "
                    "or choose “at the next start”."
                )
                % {"mac": card.mac, "seconds": UNPLUGGED_WITHIN}
            )
        if waited - asked >= ASK_AGAIN_AFTER:
            asked = waited
            _ask_to_unplug(dom, card)
            # Not ``progress``: once it is asked for it may happen, so nobody can cancel it.
            job.write(percent=None, message=_("Waiting for the guest to let go of the card"))
        time.sleep(0.1)


def _ask_to_unplug(dom: libvirt.virDomain, card: Interface) -> None:
    try:
        dom.detachDeviceFlags(text(card.tree), LIVE)
    except libvirt.libvirtError as error:
        # QEMU since 6.1: “already in the process of unplug”; and it may have gone meanwhile.
        if (
            "in the process of unplug" not in error.get_error_message()
            and error.get_error_code() != libvirt.VIR_ERR_DEVICE_MISSING
        ):
            raise


def _is_there(dom: libvirt.virDomain, card: Interface) -> bool:
    address = card.tree.find("address")
    for one in parse(dom.XMLDesc()).iterfind("devices/interface"):
        other = one.find("address")
        is_same = address is None or other is None or dict(address.attrib) == dict(other.attrib)
        if Interface(one).mac == card.mac and is_same:
            return True
    return False


def set_bandwidth(
    job: Job, dom: libvirt.virDomain, key: str, card: Interface, ways: set[str]
) -> None:
    """At once; ``ways``: in, out or both, as ``card`` has them."""
    parameters: dict[str, int] = {}
    command = ["virsh", "domiftune", dom.name(), tap_of(dom, key) or card.mac, "--live"]
    for way in sorted(ways):
        values = [getattr(card, f"{way}_{part}") for part in ("average", "peak", "burst")]
        bound = {"in": "inbound", "out": "outbound"}[way]
        parameters |= {
            f"{bound}.{part}": value
            for part, value in zip(("average", "peak", "burst"), values, strict=True)
            if value or part == "average"  # an average of 0 takes the limit away
        }
        command += [f"--{bound}", ",".join(str(value or "") for value in values).rstrip(",") or "0"]
    if "in" in ways and card.in_floor:
        parameters["inbound.floor"] = card.in_floor
    job.ran(*command)
    dom.setInterfaceParameters(card.mac, parameters, LIVE)


def text(tree: Tree) -> str:
    return etree.tostring(tree, encoding="unicode", with_tail=False)


@contextmanager
def blaming(changes: dict[str, Any]) -> Iterator[None]:
    """Put libvirt's complaint at the field it is about."""
    try:
        yield
    except libvirt.libvirtError as error:
        explained = explain(error)
        field = _blamed(error.get_error_message() or "", changes)
        raise OperationError(explained.sentence, field=field, detail=explained.detail) from error


# What libvirt's messages speak of, by the field that is behind it.
_SIGNS: tuple[tuple[str, str], ...] = (
    ("mtu", "mtu"),
    ("filter", "filter"),
    ("queue", "queues"),
    ("vhost", "driver"),
    ("boot", "boot_order"),
    ("vlan", "vlan"),
    ("bandwidth", "in_average"),
    ("tc qdisc", "in_average"),
    ("alias", "alias"),
    ("model", "model"),
    ("is not a valid device model name", "model"),
    ("portForward", "port_forwards"),
    ("MAC", "mac"),
    ("network", "source"),
    ("bridge", "source"),
    ("passt", "source"),
    ("interface", "source"),
)


def _blamed(message: str, changes: dict[str, Any]) -> str:
    lower = message.lower()
    for sign, field in _SIGNS:
        if sign.lower() in lower and field in changes:
            return field
    return next(iter(changes)) if len(changes) == 1 else ""


Undo = Callable[[], None]


@contextmanager
def taken_back() -> Iterator[list[Undo]]:
    """Where the block fails, what was appended is done, the last first."""
    undo: list[Undo] = []
    try:
        yield undo
    except (OperationError, libvirt.libvirtError):
        for step in reversed(undo):
            step()
        raise
