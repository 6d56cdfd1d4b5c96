"""The document of a virtual network: https://libvirt.org/formatnetwork.html."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from kvmweb.spec import hostnet
from kvmweb.spec.hostnet import Address, IfName, Mac, Mtu, PortNumber, Subnet
from kvmweb.spec.hostnet import Vlan as VlanId
from kvmweb.spec.mapped import At, Each, Mapped, One, read, write
from kvmweb.spec.network_places import (
    AtAddress,
    AtDevices,
    AtLease,
    AtMode,
    AtNative,
    AtNatPorts,
    AtOptions,
    AtTags,
)
from kvmweb.spec.xml import Element, parse, text_of
from kvmweb.spec.xml import Field as XmlField

# networkcommon.rng and basictypes.rng: what libvirt takes for names in DNS.
_DNS_NAME = re.compile(r"[A-Za-z0-9._-]+")
# RFC 8415: a type of two bytes and what identifies, as bytes in hex digits.
_DUID = re.compile(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){3,129}")
_LABEL = re.compile(r"[A-Za-z0-9_.:-]+")
# dnsmasq knows no shorter lease.
SHORTEST_LEASE = 120

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Mode = Literal[
    "nat", "route", "open", "isolated", "bridge", "macvtap-bridge", "macvtap-vepa",
    "macvtap-private", "macvtap-passthrough", "hostdev",
]  # fmt: skip


def dns_name(text: str) -> str:
    if text and not _DNS_NAME.fullmatch(text):
        raise ValueError(f"“{text}” is not a name in DNS: letters, digits, dots and dashes only.")
    return text


def label(text: str) -> str:
    """What libvirt takes as the name of a port group or a firewall zone."""
    if text and not _LABEL.fullmatch(text):
        raise ValueError("Use letters, digits, “-”, “_”, “.” or “:” only.")
    return text


def service(text: str) -> str:
    if not text or text.startswith(".") or any(letter.isspace() for letter in text):
        raise ValueError("Enter the name of a service, like ldap: no dot in front, no spaces.")
    return text


def filled(values: list[Any]) -> list[Any]:
    if not values:
        raise ValueError("Enter at least one.")
    return values


def gateway(text: str) -> str:
    """The host's own address in the network. A network, 192.168.100.0/24, stands for its first."""
    found = ipaddress.ip_interface(hostnet.cidr(text))
    if found.ip == found.network.network_address and found.network.num_addresses > 2:
        return f"{found.ip + 1}/{found.network.prefixlen}"
    return str(found)


def duid(text: str) -> str:
    if text and not _DUID.fullmatch(text):
        raise ValueError(f"“{text}” is not a DHCPv6 client identifier, like 0:3:0:1:52:54:0:12:3.")
    return text


def lease_seconds(seconds: int | None) -> int | None:
    if seconds is not None and seconds and seconds < SHORTEST_LEASE:
        raise ValueError(f"A lease lasts {SHORTEST_LEASE} seconds or more; 0: for ever.")
    return seconds


DnsName = Annotated[str, AfterValidator(dns_name)]
Seconds = Annotated[int | None, Field(ge=0, le=2**31 - 1), AfterValidator(lease_seconds)]
Rate = Annotated[int | None, Field(ge=1, le=2**32 - 1)]
Weight = Annotated[int | None, Field(ge=0, le=65535)]


class DhcpRange(Mapped):
    start: Annotated[Address, At("@start")]
    end: Annotated[Address, At("@end")]
    lease_seconds: Annotated[Seconds, AtLease()] = None

    def known_by(self) -> tuple[Any, ...]:
        return (self.start, self.end)


class ReservedAddress(Mapped):
    """An address for one guest, known by MAC address (IPv4), client identifier (IPv6) or name."""

    mac: Annotated[Mac | None, At("@mac")] = None
    id: Annotated[Annotated[str, AfterValidator(duid)], At("@id")] = ""
    name: Annotated[DnsName, At("@name")] = ""
    address: Annotated[Address, At("@ip")]
    lease_seconds: Annotated[Seconds, AtLease()] = None

    def known_by(self) -> tuple[Any, ...]:
        return (self.mac or self.id or self.name,)


class Ip(Mapped):
    """An address of the host in the network, and what is given out there.

    ``tftp_root``: a directory on the host; ``boot_file`` in it is what machines that boot from the
    network are told to fetch, from ``boot_server`` where that is not the host itself.
    """

    address: Annotated[Annotated[str, AfterValidator(gateway)], AtAddress()]
    ranges: Annotated[list[DhcpRange], Each("dhcp/range")] = []
    reservations: Annotated[list[ReservedAddress], Each("dhcp/host")] = []
    tftp_root: Annotated[str, At("tftp/@root", is_whole=True)] = ""
    boot_file: Annotated[str, At("dhcp/bootp/@file", is_whole=True)] = ""
    boot_server: Annotated[DnsName, At("dhcp/bootp/@server")] = ""
    has_ptr: Annotated[
        bool, At("@localPtr"), Field(description="Names are found by address too.")
    ] = False

    def known_by(self) -> tuple[Any, ...]:
        return (self.interface.version,)

    @property
    def interface(self) -> Interface:
        return ipaddress.ip_interface(self.address)

    @property
    def has_dhcp(self) -> bool:
        return bool(self.ranges or self.reservations or self.boot_file)


class Forwarder(Mapped):
    """Where names are asked for: all of them, or those of a domain (without address: nowhere)."""

    address: Annotated[Address | None, At("@addr")] = None
    domain: Annotated[DnsName, At("@domain")] = ""


class DnsHost(Mapped):
    address: Annotated[Address, At("@ip")]
    names: Annotated[list[DnsName], Each("hostname", ""), AfterValidator(filled)]

    def known_by(self) -> tuple[Any, ...]:
        return (self.address,)


class Srv(Mapped):
    service: Annotated[str, At("@service"), AfterValidator(service)]
    protocol: Annotated[Literal["tcp", "udp"], At("@protocol")]
    domain: Annotated[DnsName, At("@domain")] = ""
    target: Annotated[str, At("@target")] = ""
    port: Annotated[PortNumber | None, At("@port")] = None
    priority: Annotated[Weight, At("@priority")] = None
    weight: Annotated[Weight, At("@weight")] = None


class Txt(Mapped):
    name: Annotated[DnsName, At("@name"), Field(min_length=1)]
    value: Annotated[str, At("@value"), Field(min_length=1)]


class StaticRoute(Mapped):
    """A static route of the host to what lies behind a machine of the network."""

    to: Annotated[Subnet, AtAddress()]
    gateway: Annotated[Address, At("@gateway")]
    metric: Annotated[int | None, At("@metric"), Field(ge=1, le=2**32 - 1)] = None


class Bandwidth(Mapped):
    """KiB/s, ``burst`` KiB. https://libvirt.org/formatnetwork.html#quality-of-service."""

    average: Annotated[Rate, At("@average")] = None
    peak: Annotated[Rate, At("@peak")] = None
    burst: Annotated[Rate, At("@burst")] = None
    floor: Annotated[Rate, At("@floor")] = None


class Vlans(Mapped):
    """One tag: access to that VLAN. Several: a trunk, of which one may be native."""

    tags: Annotated[list[VlanId], AtTags(), AfterValidator(filled)]
    is_trunk: Annotated[bool, At("@trunk", no="")] = False
    native_untagged: Annotated[VlanId | None, AtNative("untagged")] = None
    native_tagged: Annotated[VlanId | None, AtNative("tagged")] = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        natives = [one for one in (self.native_untagged, self.native_tagged) if one]
        if len(natives) > 1:
            raise ValueError("A trunk has one native VLAN at most.")
        if natives and natives[0] not in self.tags:
            raise ValueError(f"The native VLAN {natives[0]} must be among the trunk's.")
        if len(self.tags) > 1 or natives:
            self.is_trunk = True
        return self


class PortGroup(Mapped):
    name: Annotated[str, At("@name"), AfterValidator(label), Field(min_length=1, max_length=255)]
    is_default: Annotated[bool, At("@default")] = False
    vlan: Annotated[Vlans | None, One("vlan")] = None
    inbound: Annotated[Bandwidth | None, One("bandwidth/inbound")] = None
    outbound: Annotated[Bandwidth | None, One("bandwidth/outbound")] = None

    def known_by(self) -> tuple[Any, ...]:
        return (self.name,)


class NatAddresses(Mapped):
    start: Annotated[Address, At("@start")]
    end: Annotated[Address, At("@end")]


class NatPorts(Mapped):
    start: Annotated[PortNumber, At("@start")]
    end: Annotated[PortNumber, At("@end")]


class NetworkDocument(Mapped):
    """A virtual network. All that this does not name of a document survives its editing.

    ``mode``: isolated has no ``forward``; bridge joins one that is there (``bridge``; Open vSwitch
    with ``virtualport``); the four of macvtap and hostdev, an SR-IOV pool, need ``devices`` or
    ``physical_function``. ``bridge`` "": libvirt chooses. ``forward_delay`` in seconds.
    """

    mode: Annotated[Mode, AtMode()] = "nat"
    devices: Annotated[list[IfName], AtDevices()] = []
    physical_function: Annotated[IfName | None, At("forward/pf/@dev", is_whole=True)] = None
    is_managed: Annotated[bool, At("forward/@managed", no="")] = False
    bridge: Annotated[IfName | None, At("bridge/@name")] = None
    virtualport: Annotated[
        Literal["", "openvswitch", "802.1Qbg", "802.1Qbh", "midonet"], At("virtualport/@type")
    ] = ""

    ips: Annotated[list[Ip], Each("ip")] = []
    has_guest_ipv6: Annotated[bool, At("@ipv6", no="")] = False
    nat_addresses: Annotated[NatAddresses | None, One("forward/nat/address")] = None
    nat_ports: Annotated[NatPorts | None, AtNatPorts()] = None
    is_ipv6_natted: Annotated[bool, At("forward/nat/@ipv6", no="")] = False
    routes: Annotated[list[StaticRoute], Each("route")] = []

    domain: Annotated[DnsName, At("domain/@name", is_whole=True)] = ""
    is_domain_local: Annotated[bool, At("domain/@localOnly", no="")] = False
    has_dns: Annotated[bool, At("dns/@enable")] = True
    forwards_plain_names: Annotated[bool, At("dns/@forwardPlainNames")] = True
    dns_forwarders: Annotated[list[Forwarder], Each("dns/forwarder")] = []
    dns_hosts: Annotated[list[DnsHost], Each("dns/host")] = []
    dns_services: Annotated[list[Srv], Each("dns/srv")] = []
    dns_texts: Annotated[list[Txt], Each("dns/txt")] = []
    dnsmasq_options: Annotated[list[str], AtOptions()] = []

    portgroups: Annotated[list[PortGroup], Each("portgroup")] = []
    vlan: Annotated[Vlans | None, One("vlan")] = None
    inbound: Annotated[Bandwidth | None, One("bandwidth/inbound")] = None
    outbound: Annotated[Bandwidth | None, One("bandwidth/outbound")] = None
    is_isolating_ports: Annotated[bool, At("port/@isolated", no="")] = False

    mtu: Annotated[Mtu | None, At("mtu/@size", is_whole=True)] = None
    stp: Annotated[bool, At("bridge/@stp", yes="on", no="off")] = True
    forward_delay: Annotated[int, At("bridge/@delay"), Field(ge=0, le=30)] = 0
    zone: Annotated[str, At("bridge/@zone"), AfterValidator(label)] = ""
    mac_table_manager: Annotated[
        Literal["", "kernel", "libvirt"], At("bridge/@macTableManager")
    ] = ""


def document_of(xml: str) -> NetworkDocument:
    """Raises ``XmlError``, or pydantic's ``ValidationError`` for what no form can show."""
    return read(NetworkDocument, parse(xml))


def created(name: str, document: NetworkDocument) -> str:
    """A new network's document."""
    network = Network.new("network", name=name)
    write(document, network.tree)
    return text_of(network.tree)


def edited(xml: str, document: NetworkDocument) -> str:
    """The document brought in line with the fields; the rest of it stays."""
    tree = parse(xml)
    write(document, tree)
    return text_of(tree)


class Network(Element):
    name = XmlField("name")
    uuid = XmlField("uuid")
    title = XmlField("title")
    mac = XmlField("mac/@address")
    forward_mode = XmlField("forward/@mode")
    bridge = XmlField("bridge/@name")

    @property
    def mode(self) -> str:
        """``nat``, ``route``, ``bridge``, ...; empty for an isolated network."""
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


def addresses(xml: str) -> list[str]:
    """The host's addresses in the network, with their prefixes, whatever else is in it."""
    return summary(xml)[1]


def summary(xml: str) -> tuple[str, list[str]]:
    """Mode, as in ``NetworkDocument``, and addresses. Raises ``XmlError``."""
    tree = parse(xml)
    found = (AtAddress().get(ip) for ip in tree.iterfind("ip"))
    return AtMode().get(tree), [address for address in found if address]
