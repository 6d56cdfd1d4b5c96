"""The machines by which the agent finds out whether KVM serves (agent/acceleration.py), and what
devices QEMU has (agent/emulator.py).
"""

import re
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


def device_probe(virtualization: str, architecture: str = "x86_64") -> str:
    """A transient domain that is never let run."""
    machine = _MACHINES.get(architecture, "")
    tree = E.domain(
        E.name(f"{PREFIX}devices-{uuid.uuid4().hex[:8]}"),
        E.memory("16", unit="MiB"),
        E.vcpu("1"),
        E.os(E.type("hvm", arch=architecture, **({"machine": machine} if machine else {}))),
        E.devices(E.controller(type="usb", model="none"), E.memballoon(model="none")),
        type=virtualization,
    )
    return etree.tostring(tree, encoding="unicode")


_MACHINES = {"x86_64": "q35", "aarch64": "virt", "riscv64": "virt"}
_LINE = re.compile(r'name "(?P<name>[^"]+)", bus (?P<bus>[^,\s]+)')
# Buses on which libvirt finds a place for a NIC.
_BUSES = ("PCI", "usb-bus", "virtual-css-bus", "spapr-vio-bus")
# Libvirt has its own word for virtio, whatever bus it is on, and drives these itself or not at all.
_VIRTIO = re.compile(r"virtio-net-(pci|ccw|device)")
_NO_CARDS = ("pvrdma", "rocker")  # they carry a second device's ports, and want its properties


def nic_models(devices: str) -> list[str]:
    """Of QEMU's ``info qdm`` the network devices that can be an <interface>'s model."""
    section = devices.partition("Network devices:")[2].partition("\n\n")[0].partition("\r\n\r\n")[0]
    found = {match["name"] for match in _LINE.finditer(section) if match["bus"] in _BUSES}
    cards = {name for name in found if not _VIRTIO.match(name) and name not in _NO_CARDS}
    virtio = ["virtio"] if any(map(_VIRTIO.match, found)) else []
    if "virtio-net-pci-transitional" in found:
        virtio += ["virtio-transitional", "virtio-non-transitional"]
    return [*virtio, *sorted(cards)]
