"""The document of a machine: https://libvirt.org/formatdomain.html."""

from dataclasses import dataclass
from uuid import UUID

from kvmweb.spec.nics import NicFacts, nics
from kvmweb.spec.xml import Element, Field, Flag, Number, Size, parse


class Domain(Element):
    type = Field("@type")
    name = Field("name")
    uuid = Field("uuid")
    title = Field("title")
    description = Field("description")
    memory_bytes = Size("memory")
    current_memory_bytes = Size("currentMemory")
    vcpus_maximum = Number("vcpu")
    vcpus_current = Number("vcpu/@current")
    architecture = Field("os/type/@arch")
    machine = Field("os/type/@machine")
    os_type = Field("os/type")
    firmware = Field("os/@firmware")
    kernel = Field("os/kernel")
    initrd = Field("os/initrd")
    kernel_line = Field("os/cmdline")
    cpu_mode = Field("cpu/@mode")
    graphics = Field("devices/graphics/@type")
    has_acpi = Flag("features/acpi")
    has_apic = Flag("features/apic")

    @property
    def vcpus(self) -> int:
        return self.vcpus_current or self.vcpus_maximum

    @property
    def is_agent_connected(self) -> bool:
        """Known while the machine runs: formatdomain.html#channel."""
        found = self.tree.find("devices/channel/target[@name='org.qemu.guest_agent.0']")
        return found is not None and found.get("state") == "connected"


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """What the mirror keeps in columns of ``models.Machine``."""

    name: str
    uuid: UUID
    title: str
    description: str
    vcpus: int
    memory_kib: int
    virtualization: str
    graphics: str
    is_agent_connected: bool
    nics: tuple[NicFacts, ...]


def facts(xml: str) -> DomainFacts:
    """Of a document that libvirt gave. Raises ``XmlError``."""
    domain = Domain(parse(xml))
    return DomainFacts(
        name=domain.name,
        uuid=UUID(domain.uuid),
        title=domain.title,
        description=domain.description,
        vcpus=domain.vcpus,
        memory_kib=domain.memory_bytes // 1024,
        virtualization=domain.type,
        graphics=domain.graphics,
        is_agent_connected=domain.is_agent_connected,
        nics=tuple(nics(domain.tree)),
    )
