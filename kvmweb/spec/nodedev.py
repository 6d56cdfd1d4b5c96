"""The document of a host's device: https://libvirt.org/formatnode.html."""

from dataclasses import dataclass

from kvmweb.spec.xml import Element, Field, parse


class NodeDevice(Element):
    name = Field("name")
    parent = Field("parent")
    capability = Field("capability/@type")
    product = Field("capability/product")
    vendor = Field("capability/vendor")


@dataclass(frozen=True, slots=True)
class NodeDeviceFacts:
    """What the mirror keeps in columns of ``models.NodeDevice``."""

    name: str
    parent: str
    capability: str


def facts(xml: str) -> NodeDeviceFacts:
    """Of a document that libvirt gave. Raises ``XmlError``."""
    device = NodeDevice(parse(xml))
    return NodeDeviceFacts(name=device.name, parent=device.parent, capability=device.capability)
