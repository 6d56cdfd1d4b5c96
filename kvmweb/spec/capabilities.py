"""What a host can do: https://libvirt.org/formatcaps.html and formatdomaincaps.html."""

from dataclasses import dataclass

from kvmweb.spec.xml import Element, Field, parse


class HostCapabilities(Element):
    architecture = Field("host/cpu/arch")
    cpu_model = Field("host/cpu/model")
    cpu_vendor = Field("host/cpu/vendor")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the mirror keeps in columns of ``models.Host``."""

    architecture: str
    cpu_model: str


def host_facts(xml: str) -> HostFacts:
    """Of ``virConnectGetCapabilities``. Raises ``XmlError``."""
    host = HostCapabilities(parse(xml))
    return HostFacts(architecture=host.architecture, cpu_model=host.cpu_model)
