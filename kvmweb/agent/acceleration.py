"""Whether KVM is of use on a host.

That /dev/kvm can be opened says little: in some nested machines everything runs under it, many
times slower than emulated. So firmware is run under both, on a machine without any disk that
SeaBIOS resets at once (``rebootTimeout='0'``) and libvirt then destroys (``on_reboot``).
"""

import contextlib
import time
from collections.abc import Mapping

import libvirt

from kvmweb.models import Acceleration
from kvmweb.spec import probe as document

# Seconds. Firmware alone takes 0.3 s on a good machine, whichever way it is run.
LONGEST, TOLERATED = 8.0, 1.0


def probe(connection: libvirt.virConnect, capabilities: Mapping[str, str]) -> Acceleration:
    """Takes a few seconds. Only x86's firmware resets by itself; elsewhere KVM is trusted."""
    if "kvm" not in capabilities:
        return Acceleration.ABSENT
    if "<arch>x86_64</arch>" not in capabilities["kvm"]:
        return Acceleration.USABLE
    try:
        emulated = _seconds_to_reset(connection, "qemu") if "qemu" in capabilities else 0.0
        accelerated = _seconds_to_reset(connection, "kvm")
    except libvirt.libvirtError:
        return Acceleration.ABSENT
    if accelerated > emulated + TOLERATED:
        return Acceleration.SLOW
    return Acceleration.USABLE


def _seconds_to_reset(connection: libvirt.virConnect, virtualization: str) -> float:
    # Libvirt removes it even if this process is killed meanwhile.
    flags = libvirt.VIR_DOMAIN_START_AUTODESTROY
    dom = connection.createXML(document.firmware_probe(virtualization), flags)
    started = time.monotonic()
    try:
        while dom.isActive() and time.monotonic() - started < LONGEST:
            time.sleep(0.02)  # a short-lived machine; its events would take longer to arrange
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
    seconds = time.monotonic() - started
    _destroy(dom)
    return seconds


def _destroy(dom: libvirt.virDomain) -> None:
    with contextlib.suppress(libvirt.libvirtError):  # it has ended by itself, as it should
        dom.destroy()
