"""The document of a virtual network: https://libvirt.org/formatnetwork.html."""

from dataclasses import dataclass
from uuid import UUID

from kvmweb.spec.xml import Element, Field, parse


class Network(Element):
    name = Field("name")
    uuid = Field("uuid")
    title = Field("title")
    forward_mode = Field("forward/@mode")
    forward_device = Field("forward/@dev")
    bridge = Field("bridge/@name")
    address = Field("ip/@address")
    netmask = Field("ip/@netmask")
    prefix = Field("ip/@prefix")
    dhcp_start = Field("ip/dhcp/range/@start")
    dhcp_end = Field("ip/dhcp/range/@end")

    @property
    def mode(self) -> str:
        """``nat``, ``route``, ``bridge``, ...; empty for an isolated network."""
        # A bare <forward/> means NAT: formatnetwork.html#connectivity.
        is_forwarding = self.tree.find("forward") is not None
        return self.forward_mode or ("nat" if is_forwarding else "")


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What the mirror keeps in columns of ``models.Network``."""

    name: str
    uuid: UUID
    forward_mode: str
    bridge: str


def facts(xml: str) -> NetworkFacts:
    """Of a document that libvirt gave. Raises ``XmlError``."""
    network = Network(parse(xml))
    return NetworkFacts(
        name=network.name,
        uuid=UUID(network.uuid),
        forward_mode=network.mode,
        bridge=network.bridge,
    )
