"""A NIC: https://libvirt.org/formatdomain.html#network-interfaces.

``source`` is one text for the element's type and what it is plugged into: ``network:default``,
``bridge:br0``, ``ovs:br-int`` (an Open vSwitch bridge), ``direct:eth0`` (macvtap), ``user``,
``passt``, ``hostdev:0000:03:10.1``, ``vdpa:/dev/vhost-vdpa-0``, ``vhostuser:/run/socket``, else
libvirt's type alone.
"""

import re
from collections.abc import Iterator

from lxml import etree

from kvmweb.spec.devices.device import Device
from kvmweb.spec.passt import forward_of, text_of_forward
from kvmweb.spec.xml import Element, Field, Flag, Number, Tree, make

_SOURCES = {
    "network": "Virtual network",
    "bridge": "Bridge",
    "ovs": "Open vSwitch bridge",
    "direct": "Macvtap device",
    "user": "User mode (SLiRP)",
    "passt": "User mode (passt)",
    "hostdev": "Passed-through device",
    "vdpa": "vDPA device",
    "vhostuser": "vhost-user",
    "ethernet": "Tap device",
    "internal": "Internal",
}
# Where each of libvirt's types says what it is plugged into.
NAMED_BY = {
    "network": "network",
    "bridge": "bridge",
    "direct": "dev",
    "vdpa": "dev",
    "vhostuser": "path",
    "internal": "name",
}
# virnetdevtap.h and virnetdevmacvlan.h: libvirt gives such names itself, and forgets ours.
LIBVIRTS_TAP = re.compile(r"(vnet|vif|macvtap|macvlan)\d*")
_PCI = re.compile(r"([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")
# What each end of a virtio NIC may leave to the other: checksums and the cutting of large packets.
HOST_OFFLOADS = (
    "host_csum", "host_gso", "host_tso4", "host_tso6", "host_ecn", "host_ufo", "host_mrg_rxbuf",
)  # fmt: skip
GUEST_OFFLOADS = ("guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo")
OFFLOADS = HOST_OFFLOADS + GUEST_OFFLOADS
# On Open vSwitch's userspace datapath packets carry whatever checksum the sender wrote: with
# these off, that is a whole one.
OFF_ON_NETDEV = tuple(name for name in OFFLOADS if name != "host_mrg_rxbuf")
# Those whose libvirt type may have <vlan>; Linux bridges since 11.0: formatdomain.html.
TAKES_VLANS = ("network", "ovs", "hostdev", "direct")
# The one name libvirt lets a person choose for a device begins with it.
OWN_ALIAS = "ua-"


class _Yes(Field):
    """An attribute that says yes or no; None where it is not there."""

    def __get__(self, element: Element, owner: type) -> bool | None:  # type: ignore[override]
        text = super().__get__(element, owner)
        return text == "yes" if text else None

    def shown(self, element: Element) -> str:
        return Field.__get__(self, element, type(element))

    def __set__(self, element: Element, value: object) -> None:
        super().__set__(element, value if value is None else "yes" if value else "no")


class _FilterName(Field):
    """Another filter begins without parameters: those of the old one mean nothing to it."""

    def __set__(self, element: Element, value: object) -> None:
        if (value or "") != self.__get__(element, type(element)):
            for found in element.tree.findall("filterref"):
                element.tree.remove(found)
            super().__set__(element, value)


class Interface(Device):
    tag = "interface"
    icon = "network"
    type = Field("@type")
    mac = Field("mac/@address", "MAC address")
    network = Field("source/@network")
    bridge = Field("source/@bridge")
    device = Field("source/@dev")
    source_mode = Field("source/@mode", "Source mode")
    portgroup = Field("source/@portgroup", "Port group")
    backend = Field("backend/@type")
    model = Field("model/@type", "Device model")
    virtualport = Field("virtualport/@type", "Virtual port")
    tap = Field("target/@dev", "Host interface")
    filter = _FilterName("filterref/@filter", "Filter")
    link = Field("link/@state", "Link state")
    mtu = Number("mtu/@size", "MTU")
    boot_order = Number("boot/@order", "Boot order")
    # KiB/s, and for the bursts KiB; “in” is what the machine receives.
    in_average = Number("bandwidth/inbound/@average", "Receives at most (KiB/s)")
    in_peak = Number("bandwidth/inbound/@peak")
    in_burst = Number("bandwidth/inbound/@burst")
    in_floor = Number("bandwidth/inbound/@floor", "Is sure to receive (KiB/s)")
    out_average = Number("bandwidth/outbound/@average", "Sends at most (KiB/s)")
    out_peak = Number("bandwidth/outbound/@peak")
    out_burst = Number("bandwidth/outbound/@burst")
    driver = Field("driver/@name", "Driver")
    queues = Number("driver/@queues", "Queues")
    rx_queue_size = Number("driver/@rx_queue_size", "Receive queue size")
    tx_queue_size = Number("driver/@tx_queue_size", "Send queue size")
    tx_mode = Field("driver/@txmode")
    is_isolated = _Yes("port/@isolated", "Isolated port")
    trusts_guest_filters = _Yes("@trustGuestRxFilters", "Trusts the guest's receive filters")
    coalesce_frames = Number("coalesce/rx/frames/@max", "Frames per interrupt")
    alias_text = Field("alias/@name")
    is_managed = _Yes("@managed")
    has_teaming = Flag("teaming", "Failover pair")

    host_csum = Field("driver/host/@csum")
    host_gso = Field("driver/host/@gso")
    host_tso4 = Field("driver/host/@tso4")
    host_tso6 = Field("driver/host/@tso6")
    host_ecn = Field("driver/host/@ecn")
    host_ufo = Field("driver/host/@ufo")
    host_mrg_rxbuf = Field("driver/host/@mrg_rxbuf")
    guest_csum = Field("driver/guest/@csum")
    guest_tso4 = Field("driver/guest/@tso4")
    guest_tso6 = Field("driver/guest/@tso6")
    guest_ecn = Field("driver/guest/@ecn")
    guest_ufo = Field("driver/guest/@ufo")

    @property
    def kind(self) -> str:
        # Its vendor half is the same in all of them, so virt-manager shows the other.
        return f"NIC {self.mac[-8:]}".strip()

    @property
    def source(self) -> str:
        if self.network:  # in force, the type is that of what the network turned out to be
            return f"network:{self.network}"
        if self.type == "user":
            return "passt" if self.backend == "passt" else "user"
        if self.type == "bridge" and self.virtualport == "openvswitch":
            return f"ovs:{self.bridge}"
        name = pci_text(self.tree) if self.type == "hostdev" else self._source_name()
        return f"{self.type}:{name}" if name else self.type

    @source.setter
    def source(self, wanted: str) -> None:
        """What means nothing to the new source goes with the old one."""
        if wanted == self.source:
            return
        (old, _colon, _name), (kind, _colon, name) = (
            self.source.partition(":"),
            wanted.partition(":"),
        )
        self._forget_source(old, kind)
        self.type = {"ovs": "bridge", "passt": "user"}.get(kind, kind)
        self.virtualport = "openvswitch" if kind == "ovs" else None
        self.backend = "passt" if kind == "passt" else None
        self.is_managed = True if kind == "hostdev" else None
        if kind == "hostdev":
            _set_pci(self.tree, name)
        elif kind == "vhostuser":
            _fill(make(self.tree, "source"), type="unix", path=name, mode="client")
        elif name:
            make(self.tree, "source").set(NAMED_BY[self.type], name)

    def _source_name(self) -> str:
        found = self.tree.find("source")
        if found is None or self.type not in NAMED_BY:
            return ""
        return found.get(NAMED_BY[self.type], "")

    def _forget_source(self, old: str, new: str) -> None:
        kept = {
            "virtualport": old == new == "ovs",  # its interfaceid is what a controller knows it by
            "ip": {old, new} == {"user", "passt"},
            "vlan": new in ("ovs", "hostdev"),  # a network or its port group has its own
        }
        for path in ("source", "backend", "portForward", "virtualport", "ip", "vlan"):
            for found in self.tree.findall(path) if not kept.get(path) else ():
                self.tree.remove(found)

    @property
    def macvtap_mode(self) -> str:
        return self.source_mode if self.type == "direct" and not self.network else ""

    @macvtap_mode.setter
    def macvtap_mode(self, mode: str | None) -> None:
        self.source_mode = mode

    @property
    def tap_name(self) -> str:
        """The one a person chose; libvirt's own (vnet0) is no part of the definition."""
        return "" if LIBVIRTS_TAP.fullmatch(self.tap) else self.tap

    @tap_name.setter
    def tap_name(self, name: str | None) -> None:
        self.tap = name

    @property
    def is_link_up(self) -> bool:
        return self.link != "down"

    @is_link_up.setter
    def is_link_up(self, is_up: bool) -> None:
        self.link = None if is_up else "down"

    @property
    def alias(self) -> str:
        """The one a person chose; libvirt's own (net0) is no part of the definition."""
        text = self.alias_text
        return text if text.startswith(OWN_ALIAS) else ""

    @alias.setter
    def alias(self, text: str | None) -> None:
        self.alias_text = text

    # VLANs: a tag alone is an access port's; beside trunks it is the native one.

    @property
    def vlan(self) -> int:
        tags = self.tree.findall("vlan/tag")
        native = [tag for tag in tags if tag.get("nativeMode")]
        if not native and self._is_trunk:
            return 0
        return next((int(tag.get("id", "0")) for tag in native or tags), 0)

    @vlan.setter
    def vlan(self, tag: int | None) -> None:
        self._set_vlans(tag or 0, self.trunks, self.native_mode)

    @property
    def trunks(self) -> list[int]:
        if not self._is_trunk:
            return []
        tags = self.tree.iterfind("vlan/tag")
        return [int(tag.get("id", "0")) for tag in tags if not tag.get("nativeMode")]

    @trunks.setter
    def trunks(self, tags: list[int] | None) -> None:
        self._set_vlans(self.vlan, tags or [], self.native_mode)

    @property
    def native_mode(self) -> str:
        """How the native VLAN leaves a trunk: ``untagged`` or ``tagged``."""
        found = self.tree.find("vlan/tag[@nativeMode]")
        return found.get("nativeMode", "") if found is not None else ""

    @native_mode.setter
    def native_mode(self, mode: str | None) -> None:
        self._set_vlans(self.vlan, self.trunks, mode or "")

    @property
    def _is_trunk(self) -> bool:
        found = self.tree.find("vlan")
        return found is not None and (found.get("trunk") == "yes" or len(found) > 1)

    def _set_vlans(self, tag: int, trunks: list[int], mode: str) -> None:
        for found in self.tree.findall("vlan"):
            self.tree.remove(found)
        if not tag and not trunks:
            return
        made = etree.SubElement(self.tree, "vlan")
        if tag:
            _fill(
                etree.SubElement(made, "tag", id=str(tag)),
                nativeMode=(mode or "untagged") if trunks else "",
            )
        if trunks:
            made.set("trunk", "yes")
        for one in trunks:
            if one != tag:
                etree.SubElement(made, "tag", id=str(one))

    @property
    def filter_parameters(self) -> list[str]:
        """``IP=10.0.0.7``; a name may come several times."""
        found = self.tree.iterfind("filterref/parameter")
        return [f"{one.get('name', '')}={one.get('value', '')}" for one in found]

    @filter_parameters.setter
    def filter_parameters(self, wanted: list[str] | None) -> None:
        for found in self.tree.findall("filterref/parameter"):
            _remove(found)
        if self.tree.find("filterref") is None:
            return
        for one in wanted or []:
            name, _equals, value = one.partition("=")
            parent = make(self.tree, "filterref")
            etree.SubElement(parent, "parameter", name=name.strip(), value=value.strip())

    @property
    def port_forwards(self) -> list[str]:
        """``tcp 8022 -> 22``, ``udp 127.0.0.1:5000-5010``: what passt brings to the guest."""
        return [text for _range, text in self._forwards()]

    @port_forwards.setter
    def port_forwards(self, wanted: list[str] | None) -> None:
        """Those that stay keep what else libvirt knows of them (a device, exceptions)."""
        missing = list(wanted or [])
        for found, text in list(self._forwards()):
            if text in missing:
                missing.remove(text)
            else:
                _remove(found)
        for text in missing:
            self._add_forward(text)

    def _forwards(self) -> Iterator[tuple[Tree, str]]:
        for forward in self.tree.findall("portForward"):
            for one in forward.findall("range"):
                if one.get("exclude") != "yes":
                    yield one, text_of_forward(forward, one)

    def _add_forward(self, text: str) -> None:
        parts = forward_of(text)
        forward = etree.SubElement(self.tree, "portForward", proto=parts.pop("proto"))
        if address := parts.pop("address"):
            forward.set("address", address.strip("[]"))
        _fill(etree.SubElement(forward, "range"), **parts)

    @property
    def guest_address(self) -> str:
        """In user mode: the guest's network or address, with its prefix."""
        found = self.tree.find("ip[@family='ipv4']")
        if found is None:
            return ""
        prefix = found.get("prefix", "")
        return found.get("address", "") + (f"/{prefix}" if prefix else "")

    @guest_address.setter
    def guest_address(self, text: str | None) -> None:
        for found in self.tree.findall("ip[@family='ipv4']"):
            self.tree.remove(found)
        if text:
            address, _slash, prefix = text.partition("/")
            _fill(etree.SubElement(self.tree, "ip"), family="ipv4", address=address, prefix=prefix)

    @property
    def vlan_tags(self) -> str:
        return ", ".join(tag.get("id", "") for tag in self.tree.iterfind("vlan/tag"))

    def facts(self) -> list[tuple[str, str]]:
        kind, _colon, name = self.source.partition(":")
        label = _SOURCES.get(kind, kind)
        shown = (label, name) if name else ("Source", label)
        vlans = [("VLAN", self.vlan_tags)] if self.vlan_tags else []
        alias = [("Alias", self.alias)] if self.alias else []
        off = [name for name in OFFLOADS if getattr(self, name) == "off"]
        offloads = [("Offloads switched off", ", ".join(map(_spoken, off)))] if off else []
        return [shown, *super().facts(), *vlans, *alias, *offloads]


def _spoken(offload: str) -> str:
    return offload.replace("_", " ", 1)


def pci_text(tree: Tree) -> str:
    found = tree.find("source/address")
    if found is None or found.get("type") != "pci":
        return ""
    numbers = [int(found.get(name, "0"), 16) for name in ("domain", "bus", "slot", "function")]
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*numbers)


def pci_of(text: str) -> tuple[str, str, str, str]:
    """Domain, bus, slot and function of ``0000:03:10.1``. Raises ``ValueError`` with a sentence."""
    found = _PCI.fullmatch(text.lower())
    if not found:
        raise ValueError(f"“{text}” is not the address of a PCI device, like 0000:03:10.1.")
    return found.group(1), found.group(2), found.group(3), found.group(4)


def _set_pci(tree: Tree, text: str) -> None:
    names = ("domain", "bus", "slot", "function")
    numbers = {name: f"0x{digits}" for name, digits in zip(names, pci_of(text), strict=True)}
    _fill(make(tree, "source/address"), type="pci", **numbers)


def _fill(tree: Tree, **attributes: str) -> None:
    for name, value in attributes.items():
        if value:
            tree.set(name, value)


def _remove(tree: Tree) -> None:
    parent = tree.getparent()
    assert parent is not None
    parent.remove(tree)
    grandparent = parent.getparent()
    if parent.tag == "portForward" and grandparent is not None and not len(parent):
        grandparent.remove(parent)
