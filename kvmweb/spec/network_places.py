"""Where the fields of a network's document are, for those of which one path does not say it."""

import ipaddress
from typing import Any

from lxml import etree

from kvmweb.spec.mapped import At, Each, One, remove
from kvmweb.spec.xml import Tree, make, prune

DNSMASQ = "http://libvirt.org/schemas/network/dnsmasq/1.0"
_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600}
USUAL_NAT_PORTS = ("1024", "65535")
# Those for which libvirt makes a bridge, and gives out addresses on it.
OWN_BRIDGE = ("nat", "route", "open", "isolated")


class AtAddress:
    """``address`` with ``prefix`` or ``netmask``, as 192.168.122.1/24; IPv6 names its family."""

    def get(self, tree: Tree) -> str | None:
        address = tree.get("address")
        if not address:
            return None
        size = tree.get("prefix") or tree.get("netmask")
        return f"{address}/{size or _classful(address)}"

    def put(self, tree: Tree, value: str) -> None:
        found = ipaddress.ip_interface(value)
        tree.set("address", str(found.ip))
        if "netmask" in tree.attrib and found.version == 4:
            tree.set("netmask", str(found.netmask))
        else:
            tree.attrib.pop("netmask", None)
            tree.set("prefix", str(found.network.prefixlen))
        if found.version == 6:
            tree.set("family", "ipv6")
        else:
            tree.attrib.pop("family", None)


def _classful(address: str) -> int:
    """What libvirt takes where there is neither prefix nor netmask (virSocketAddrGetIPPrefix)."""
    if ":" in address:
        return 64
    first = int(address.partition(".")[0] or 0) if address[:1].isdigit() else 0
    return 8 if first < 128 else 16 if first < 192 else 24


class AtLease:
    """``<lease expiry='1' unit='hours'/>`` in seconds; libvirt's unit is a minute."""

    def get(self, tree: Tree) -> int | None:
        lease = tree.find("lease")
        if lease is None or not (lease.get("expiry") or "").isdigit():
            return None
        return int(lease.get("expiry", "0")) * _UNITS.get(lease.get("unit", "minutes"), 60)

    def put(self, tree: Tree, value: int | None) -> None:
        found = tree.find("lease")
        if value is None:
            if found is not None:
                remove(found, tree)
            return
        unit = next(name for name in reversed(_UNITS) if value % _UNITS[name] == 0)
        lease = make(tree, "lease")
        lease.set("expiry", str(value // _UNITS[unit]))
        lease.set("unit", unit)


class AtTags(Each):
    def __init__(self) -> None:
        super().__init__("tag", "@id")


class AtNative:
    """The tag whose frames go without a tag, or with one, among those of a trunk."""

    def __init__(self, mode: str) -> None:
        self._mode = mode

    def get(self, tree: Tree) -> str | None:
        found = tree.find(f"tag[@nativeMode='{self._mode}']")
        return None if found is None else found.get("id")

    def put(self, tree: Tree, value: int | None) -> None:
        for tag in tree.iterfind("tag"):
            if tag.get("nativeMode") == self._mode:
                del tag.attrib["nativeMode"]
            if value is not None and tag.get("id") == str(value):
                tag.set("nativeMode", self._mode)


class AtMode:
    """``forward/@mode``, with libvirt's two meanings of “bridge” told apart by what it is on."""

    def get(self, tree: Tree) -> str:
        forward = tree.find("forward")
        if forward is None:
            return "isolated"
        # A bare <forward/> means NAT: formatnetwork.html#connectivity.
        mode = forward.get("mode") or "nat"
        is_macvtap = mode == "bridge" and not (tree.find("bridge[@name]") is not None)
        if is_macvtap or mode in ("private", "vepa", "passthrough"):
            return f"macvtap-{mode}"
        return mode

    def put(self, tree: Tree, value: str) -> None:
        forward = make(tree, "forward")
        if value == "isolated":
            remove(forward, tree)
            return
        forward.set("mode", value.removeprefix("macvtap-"))
        only = {"nat": "nat", "address": "hostdev", "driver": "hostdev"}
        for child in [one for one in forward if only.get(str(one.tag), value) != value]:
            forward.remove(child)
        if value not in OWN_BRIDGE:
            _forget_own_bridge(tree)


def _forget_own_bridge(tree: Tree) -> None:
    """What libvirt takes only where the bridge is its own (networkValidate)."""
    for mac in tree.findall("mac"):
        tree.remove(mac)
    for bridge in tree.findall("bridge"):
        for name in ("stp", "delay", "macTableManager"):
            bridge.attrib.pop(name, None)
        prune(bridge, tree)


class AtDevices(Each):
    """Libvirt says the first one twice: ``forward/@dev`` and ``forward/interface/@dev``."""

    def __init__(self) -> None:
        super().__init__("forward/interface", "@dev")
        self._first = At("forward/@dev")

    def get(self, tree: Tree) -> list[Any]:
        if tree.find("forward/pf") is not None:
            return []  # libvirt lists a running pool's functions there
        first = self._first.get(tree)
        return super().get(tree) or ([first] if first else [])

    def put(self, tree: Tree, value: list[Any]) -> None:
        if tree.find("forward") is not None:
            tree.find("forward").attrib.pop("dev", None)  # type: ignore[union-attr]
        super().put(tree, value)


class AtNatPorts(One):
    """Libvirt names the ports that it uses anyway while the network runs."""

    def __init__(self) -> None:
        super().__init__("forward/nat/port")

    def get(self, tree: Tree) -> Tree | None:
        found = super().get(tree)
        is_usual = found is not None and (found.get("start"), found.get("end")) == USUAL_NAT_PORTS
        return None if is_usual else found


class AtOptions:
    """``<dnsmasq:options>``: lines of dnsmasq's own configuration."""

    def get(self, tree: Tree) -> list[str]:
        found = tree.iterfind(f"{{{DNSMASQ}}}options/{{{DNSMASQ}}}option")
        return [one.get("value", "") for one in found]

    def put(self, tree: Tree, value: list[str]) -> None:
        for old in tree.findall(f"{{{DNSMASQ}}}options"):
            tree.remove(old)
        if not value:
            return
        options = etree.SubElement(tree, f"{{{DNSMASQ}}}options", nsmap={"dnsmasq": DNSMASQ})
        for text in value:
            etree.SubElement(options, f"{{{DNSMASQ}}}option", value=text)
