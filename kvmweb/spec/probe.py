"""The machine by which the agent finds out whether KVM serves (agent/acceleration.py)."""

import uuid

from lxml import etree
from lxml.builder import E

PREFIX = "kvmweb-probe-"


def firmware_probe(virtualization: str) -> str:
    """A transient domain that ends by itself as soon as SeaBIOS finds nothing to boot."""
    tree = E.domain(
        E.name(f"{PREFIX}{virtualization}-{uuid.uuid4().hex[:8]}"),
        E.memory("16", unit="MiB"),
        E.vcpu("1"),
        E.os(E.type("hvm", arch="x86_64", machine="q35"), E.bios(rebootTimeout="0")),
        E.features(E.acpi()),
        E.on_poweroff("destroy"),
        E.on_reboot("destroy"),
        E.devices(
            E.controller(type="usb", model="none"),
            E.memballoon(model="none"),
            E.video(E.model(type="none")),
        ),
        type=virtualization,
    )
    return etree.tostring(tree, encoding="unicode")
