"""Which network cards a host's emulator has.

Libvirt hands any model on to QEMU and does not tell which there are, not even in its domain
capabilities. So QEMU itself is asked, on the monitor of a machine that is ours alone and whose
processor never runs a step: ``info qdm`` lists its devices by category.
"""

import contextlib

import libvirt
import libvirt_qemu

from kvmweb.models import Host
from kvmweb.spec import probe as document


def is_news(host: Host) -> bool:
    """Whether the host has a QEMU that was not asked yet."""
    known = host.nic_models.get(host.architecture, {})
    return host.driver == "QEMU" and known.get("version") != host.driver_version


def nic_models(connection: libvirt.virConnect, host: Host) -> list[str]:
    """As ``<model type=>`` takes them; empty where QEMU can't be asked. Takes a second."""
    virtualization = "qemu" if "qemu" in host.domain_capabilities else "kvm"
    try:
        # Libvirt removes it even if this process is killed meanwhile.
        dom = connection.createXML(
            document.device_probe(virtualization, host.architecture),
            libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY,
        )
    except libvirt.libvirtError:
        return []
    try:
        flags = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        return document.nic_models(libvirt_qemu.qemuMonitorCommand(dom, "info qdm", flags))
    except libvirt.libvirtError:
        return []
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            dom.destroy()
