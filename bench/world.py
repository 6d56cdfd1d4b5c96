"""What the benches share: many defined machines, and one line of JSON at the end."""

import json
import sys
import uuid
from typing import Any

import libvirt
from lxml import etree
from lxml.builder import E


def machine(number: int) -> str:
    """A domain document of ordinary size that is never started."""
    tree = E.domain(
        E.name(f"machine-{number:05}"),
        E.uuid(str(uuid.UUID(int=number + (1 << 96)))),
        E.memory("512", unit="MiB"),
        E.vcpu("2"),
        E.os(E.type("hvm", arch="x86_64", machine="q35"), E.boot(dev="hd")),
        E.features(E.acpi(), E.apic()),
        E.devices(
            E.disk(
                E.driver(name="qemu", type="qcow2"),
                E.source(file=f"/var/lib/libvirt/images/machine-{number:05}.qcow2"),
                E.target(dev="vda", bus="virtio"),
                type="file",
                device="disk",
            ),
            E.interface(E.source(bridge="br0"), E.model(type="virtio"), type="bridge"),
            E.serial(type="pty"),
            E.channel(E.target(type="virtio", name="org.qemu.guest_agent.0"), type="unix"),
            E.graphics(E.listen(type="none"), type="vnc"),
            E.video(E.model(type="virtio")),
            E.rng(E.backend("/dev/urandom", model="random"), model="virtio"),
        ),
        type="qemu",
    )
    return etree.tostring(tree, encoding="unicode")


def define(uri: str, count: int) -> None:
    """Define this many machines in a libvirtd of the bench's own."""
    connection = libvirt.open(uri)
    for number in range(count):
        connection.defineXML(machine(number))
    connection.close()


def report(figures: dict[str, Any], *, ok: bool) -> None:
    """The last line, and the exit code."""
    print(json.dumps({**figures, "ok": ok}))
    sys.exit(0 if ok else 1)
