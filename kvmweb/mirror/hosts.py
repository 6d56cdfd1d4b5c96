"""What a host is and can do, and how the agent stands with it."""

from typing import Any

import libvirt
from django.utils import timezone

from kvmweb.models import Host, HostState
from kvmweb.models.live import announce
from kvmweb.spec import capabilities

_Q35 = {"x86_64": "q35", "i686": "q35", "aarch64": "virt", "riscv64": "virt"}


def read(host: Host, connection: libvirt.virConnect) -> None:
    """The host's facts."""
    xml = connection.getCapabilities()
    facts = capabilities.host_facts(xml)
    info = connection.getInfo()
    _write(
        host,
        hostname=connection.getHostname(),
        driver=connection.getType(),
        driver_version=_version(connection.getVersion()),
        libvirt_version=_version(connection.getLibVersion()),
        architecture=facts.architecture,
        cpu_model=facts.cpu_model,
        cpus=info[2],
        memory_kib=_memory_kib(connection, info),
        capabilities_xml=xml,
        domain_capabilities=_domain_capabilities(connection, facts.architecture),
    )


def write_state(host: Host, state: HostState, reason: str = "") -> None:
    """How the agent stands with the host, and why, as a sentence. Connected: just read whole."""
    changes: dict[str, Any] = {"state": state, "state_reason": reason}
    if state == HostState.CONNECTED:
        Host.objects.filter(pk=host.pk).update(mirrored=timezone.now())
    if host.state != state:
        changes["state_since"] = timezone.now()
    if _write(host, **changes):
        # Whether a machine's buttons can be pressed depends on it.
        announce("machines", *(f"machine:{key}" for key in _machine_uuids(host)))


def write_usage(host: Host, usage: dict[str, float]) -> None:
    """The last sample. It has a topic of its own: few look at it, and it changes all the time."""
    host.usage = usage
    Host.objects.filter(pk=host.pk).update(usage=usage)
    announce(f"usage:{host.pk}")


def write_acceleration(host: Host, acceleration: str) -> None:
    """What ``agent.acceleration`` found."""
    _write(host, acceleration=acceleration)


def write_nic_models(host: Host, models: list[str]) -> None:
    """What ``agent.emulator`` found, of the version of QEMU that the host has now."""
    known = {"version": host.driver_version, "models": models}
    _write(host, nic_models={**host.nic_models, host.architecture: known})


def _write(host: Host, **fields: Any) -> bool:
    differing = {name: value for name, value in fields.items() if getattr(host, name) != value}
    if not differing:
        return False
    for name, value in differing.items():
        setattr(host, name, value)
    if Host.objects.filter(pk=host.pk).update(**differing):
        announce(host.topic, "hosts")
    return True


def _machine_uuids(host: Host) -> Any:
    return host.machines.values_list("uuid", flat=True)


def _memory_kib(connection: libvirt.virConnect, info: list[Any]) -> int:
    """``getInfo`` counts in MiB; the statistics are exact where the driver has them."""
    try:
        total = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)["total"]
    except libvirt.libvirtError:
        return int(info[1]) * 1024
    return int(total)


def _domain_capabilities(connection: libvirt.virConnect, architecture: str) -> dict[str, str]:
    found = {}
    for virtualization in ("kvm", "qemu", "xen"):
        try:
            found[virtualization] = connection.getDomainCapabilities(
                None, architecture, _Q35.get(architecture), virtualization
            )
        except libvirt.libvirtError:
            continue  # this host has no emulator for it
    return found


def _version(number: int) -> str:
    """1002003 -> 1.2.3, https://libvirt.org/html/libvirt-libvirt-host.html#virConnectGetVersion."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
