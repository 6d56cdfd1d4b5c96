"""The NICs of a machine's document."""

from dataclasses import dataclass
from typing import Any

from lxml import etree

from kvmweb.spec.devices.interface import NAMED_BY, Interface, pci_text
from kvmweb.spec.xml import Tree, parse


@dataclass(frozen=True, slots=True)
class NicFacts:
    """What the mirror keeps in columns of ``models.Nic``."""

    mac: str
    kind: str
    source: str
    model: str
    tap: str
    bridge: str
    filter: str
    vlans: list[int]
    is_link_up: bool


def nics(root: Tree) -> list[NicFacts]:
    """Of every NIC of a machine's document. Quick: a host's machines are all read at once."""
    return [_facts(tree) for tree in root.iterfind("devices/interface")]


_NOTHING: dict[str, str] = {}


def _facts(tree: Tree) -> NicFacts:
    parts: dict[Any, Any] = {}
    for part in tree:
        parts.setdefault(part.tag, part.attrib)
    source, kind = parts.get("source", _NOTHING), tree.get("type", "")
    name = source.get("network") or (source.get(NAMED_BY[kind]) if kind in NAMED_BY else "")
    return NicFacts(
        mac=parts.get("mac", _NOTHING).get("address", "").lower(),
        kind="network" if "network" in source else kind,
        source=name or (pci_text(tree) if kind == "hostdev" else ""),
        model=parts.get("model", _NOTHING).get("type", ""),
        tap=parts.get("target", _NOTHING).get("dev", ""),
        bridge=source.get("bridge", ""),
        filter=parts.get("filterref", _NOTHING).get("filter", ""),
        vlans=[int(tag.get("id", "0")) for tag in tree.iterfind("vlan/tag")],
        is_link_up=parts.get("link", _NOTHING).get("state") != "down",
    )


def interfaces(root: Tree) -> list[Interface]:
    return [Interface(tree) for tree in root.iterfind("devices/interface")]


def interface_of(root: Tree, mac: str) -> Interface | None:
    """The NIC with this MAC address; of several ``mac@2`` is the second."""
    wanted, _at, number = mac.lower().partition("@")
    found = [one for one in interfaces(root) if one.mac.lower() == wanted]
    place = int(number) - 1 if number.isascii() and number.isdigit() else 0
    return found[place] if 0 <= place < len(found) else None


def key_of(root: Tree, interface: Interface) -> str:
    """What ``interface_of`` finds it by."""
    same = [one.tree for one in interfaces(root) if one.mac.lower() == interface.mac.lower()]
    place = same.index(interface.tree) + 1
    return interface.mac.lower() + (f"@{place}" if place > 1 else "")


def macs(xml: str) -> list[str]:
    """Every MAC address of a machine's document. Raises ``XmlError``."""
    return [one.mac.lower() for one in interfaces(parse(xml)) if one.mac]


def usb_port(root: Tree, interface: Tree) -> None:
    """Give it the first free port of the first USB controller: libvirt does not, for a NIC."""
    taken = {
        one.get("port")
        for one in root.iterfind("devices/*/address[@type='usb']")
        if one.get("bus") == "0"
    }
    port = next(str(number) for number in range(1, 255) if str(number) not in taken)
    etree.SubElement(interface, "address", type="usb", bus="0", port=port)
