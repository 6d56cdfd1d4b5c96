"""What a NIC may be plugged into on a host, and what that asks of the NIC.

From the mirror of libvirt's networks and of what the helper read of the host's own network.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from kvmweb.models import Host, HostNetwork, Machine, Network, NodeDevice
from kvmweb.net.ovs.offloads import needs_checksum_off, tunnel_mtu
from kvmweb.spec.devices.interface import OFF_ON_NETDEV
from kvmweb.spec.domain import Domain
from kvmweb.spec.nics import interfaces
from kvmweb.spec.xml import parse

Json = dict[str, Any]
# Value and label, and what the source takes: "vlan", "portgroup".
Choice = tuple[str, str, str]
TUNNELS = ("gre", "vxlan", "geneve")
# ip-link(8)'s names of what a macvtap can stand on.
_PARENTS = ("physical", "bond", "vlan", "veth", "dummy", "team")
DEFAULT_NETWORK = "default"
# libvirt 9.0.0's news; before that there is no <backend type='passt'/>.
_PASST_SINCE = (9, 0, 0)


@dataclass(frozen=True)
class Asked:
    """What the site sets by itself where a person says nothing, and why."""

    settings: Json = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


def offered(host: Host) -> dict[str, list[Choice]]:
    """Values of ``source``, by the group they are shown in."""
    actual = _actual(host)
    switches = sorted(one["name"] for one in actual.get("switches", []))
    found = {
        _("Virtual networks"): [
            (f"network:{row.name}", _network_label(row), _takes(row)) for row in _rows(host)
        ],
        _("Open vSwitch bridges"): [(f"ovs:{name}", name, "vlan") for name in switches],
        _("Bridges of the host"): [(f"bridge:{name}", name, "") for name in _bridges(host, actual)],
        _("Interfaces of the host (macvtap)"): [
            (f"direct:{name}", name, "") for name in _parents(host, actual)
        ],
        _("User mode"): list(_user_modes(host)),
        _("Passed-through devices (SR-IOV)"): [
            (f"hostdev:{address}", label, "vlan") for address, label in _functions(host)
        ],
    }
    return {label: choices for label, choices in found.items() if choices}


def default_source(host: Host) -> str:
    """The network everybody expects, else any that is active, else the first thing there is."""
    rows = sorted(_rows(host), key=lambda row: (not row.is_active, row.name != DEFAULT_NETWORK))
    if rows:
        return f"network:{rows[0].name}"
    return next((one[0] for choices in offered(host).values() for one in choices), "user")


def default_model(machine: Machine) -> str | None:
    """What its other cards are; else virtio, which every guest but a fresh Windows knows."""
    if machine.host.driver not in ("QEMU", "TEST"):
        return None
    root = parse(machine.inactive_xml or machine.xml)
    used = [one.model for one in interfaces(root) if one.model]
    is_windows = "microsoft.com/win" in (machine.inactive_xml or machine.xml)
    return used[-1] if used else "e1000e" if is_windows else "virtio"


def known_models(machine: Machine) -> list[str]:
    """What the emulator of this machine said of itself; empty where it was not asked."""
    host = machine.host
    architecture = Domain(parse(machine.xml)).architecture or host.architecture
    found: list[str] = host.nic_models.get(architecture, {}).get("models", [])
    return found


def models(machine: Machine) -> list[str]:
    """Those of the emulator; where it was not asked yet, what libvirt has names for."""
    host = machine.host
    return known_models(machine) or list(
        _MODELS if host.driver == "QEMU" else _XEN if host.driver == "Xen" else ()
    )


# virDomainNetModelTypeList in libvirt's domain_conf.c, without those of other hypervisors.
_MODELS = ("virtio", "virtio-transitional", "virtio-non-transitional", "e1000", "e1000e", "rtl8139")
_XEN = ("netfront", "e1000", "rtl8139")


def portgroups(host: Host) -> dict[str, list[str]]:
    """Names of port groups by their network's."""
    return {
        row.name: [one.get("name", "") for one in parse(row.xml).iterfind("portgroup")]
        for row in _rows(host)
        if "<portgroup" in row.xml
    }


def _rows(host: Host) -> list[Network]:
    return list(Network.objects.filter(host=host))


def _actual(host: Host) -> Json:
    found = HostNetwork.objects.filter(host=host).values_list("actual", flat=True).first()
    return found or {}


def _network_label(row: Network) -> str:
    mode = {"": _("isolated"), "nat": "NAT", "route": _("routed")}.get(
        row.forward_mode, row.forward_mode
    )
    return f"{row.name} ({mode})" if row.is_active else f"{row.name} ({mode}, {_('not active')})"


def _links(actual: Json) -> list[Json]:
    return [one for one in actual.get("links", []) if not one["namespace"]]


def _bridges(host: Host, actual: Json) -> list[str]:
    """Not those of virtual networks: whoever wants one of these names the network."""
    libvirts = {row.bridge for row in _rows(host) if row.forward_mode != "bridge"}
    found = [one["name"] for one in _links(actual) if one["kind"] == "bridge"]
    return sorted(set(found) - libvirts)


def _parents(host: Host, actual: Json) -> list[str]:
    links = _links(actual)
    if links:
        return sorted(one["name"] for one in links if one["kind"] in _PARENTS)
    # Without the helper, what libvirt knows: NICs that hang on a bus.
    devices = NodeDevice.objects.filter(host=host, capability="net").exclude(parent="computer")
    found = (parse(one.xml).findtext("capability/interface", "") for one in devices)
    return sorted(name for name in found if name)


def takes_vlans(row: Network) -> bool:
    """Whether libvirt tags its ports: on Open vSwitch, and on virtual functions."""
    return row.forward_mode == "hostdev" or (
        row.forward_mode == "bridge" and "<virtualport type='openvswitch'" in row.xml
    )


def _takes(row: Network) -> str:
    found = ["vlan"] if takes_vlans(row) else []
    return " ".join([*found, *(["portgroup"] if "<portgroup" in row.xml else [])])


def _user_modes(host: Host) -> Iterator[Choice]:
    if host.driver == "QEMU":
        yield "user", _("User mode (SLiRP)"), ""
        if version(host) >= _PASST_SINCE:
            yield "passt", _("User mode (passt, with forwarded ports)"), ""


def version(host: Host) -> tuple[int, ...]:
    """Of libvirt; (0,) where it is not known."""
    return tuple(int(one) for one in host.libvirt_version.split(".") if one.isdigit()) or (0,)


def _functions(host: Host) -> Iterator[tuple[str, str]]:
    """Virtual functions of SR-IOV cards: formatnode.html, ``phys_function``."""
    rows = NodeDevice.objects.filter(host=host, capability="pci", xml__contains="phys_function")
    for row in rows:
        root = parse(row.xml)
        numbers = [int(root.findtext(f"capability/{name}", "0"), 0) for name in _PCI]
        address = "{:04x}:{:02x}:{:02x}.{:x}".format(*numbers)
        yield address, f"{address} {root.findtext('capability/product', '')}".strip()


_PCI = ("domain", "bus", "slot", "function")


def asked(host: Host, source: str) -> Asked:
    """What this source asks of a virtio NIC.

    Over Open vSwitch's userspace datapath TCP dies where checksums are left to a network card that
    is not there, while ping passes; behind a tunnel only frames get through that leave room for its
    headers.
    """
    actual, bridge = _actual(host), bridge_of(host, source)
    settings: Json = {}
    reasons = []
    if needs_checksum_off(actual, bridge):
        settings |= dict.fromkeys(OFF_ON_NETDEV, "off")
        reasons.append(
            _(
                "%s switches in userspace (datapath netdev): checksums are not left to the network "
                "card, or TCP would not get through."
            )
            % bridge
        )
    mtu = _room(actual, bridge)
    if mtu and not _has_mtu(host, source):
        settings["mtu"] = mtu
        reasons.append(
            _("%(bridge)s sends through a tunnel: an MTU of %(mtu)d leaves room for its headers.")
            % {"bridge": bridge, "mtu": mtu}
        )
    return Asked(settings, tuple(reasons))


def bridge_of(host: Host, source: str) -> str:
    """The bridge on the host that the source leads to, where it is known."""
    kind, _colon, name = source.partition(":")
    if kind in ("bridge", "ovs"):
        return name
    if kind == "network":
        row = Network.objects.filter(host=host, name=name).first()
        return row.bridge if row else ""
    return ""


def _has_mtu(host: Host, source: str) -> bool:
    """A network with an MTU of its own gives it to its NICs."""
    kind, _colon, name = source.partition(":")
    if kind != "network":
        return False
    row = Network.objects.filter(host=host, name=name).first()
    return row is not None and parse(row.xml).find("mtu") is not None


def _room(actual: Json, bridge: str) -> int:
    """The MTU that fits through every tunnel that frames of this bridge may take; 0: none."""
    kinds = {kind for name in _joined(actual, bridge) for kind in _tunnels(actual, name)}
    return min((tunnel_mtu(kind) for kind in kinds), default=0)


def _joined(actual: Json, bridge: str) -> set[str]:
    """The bridge, and those that patch ports lead to from it."""
    owners = {
        interface["name"]: (switch["name"], interface)
        for switch in actual.get("switches", [])
        for port in switch["ports"]
        for interface in port["interfaces"]
    }
    found, new = set(), {bridge}
    while new:
        found |= new
        peers = [
            interface.get("options", {}).get("peer", "")
            for owner, interface in owners.values()
            if owner in new and interface.get("type") == "patch"
        ]
        new = {owners[peer][0] for peer in peers if peer in owners} - found
    return found


def _tunnels(actual: Json, bridge: str) -> Iterator[str]:
    for switch in actual.get("switches", []):
        if switch["name"] == bridge:
            types = (one.get("type", "") for port in switch["ports"] for one in port["interfaces"])
            yield from (one for one in types if one in TUNNELS)
    for link in _links(actual):
        if link.get("master") == bridge and link["kind"] in ("vxlan", "gretap", "geneve"):
            yield "gre" if link["kind"] == "gretap" else link["kind"]
