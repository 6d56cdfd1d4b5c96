"""What this site wants of a host's own network: the document that is planned, applied and undone.

It names only what we made or took over; all else on the host is left alone. ``net`` gets it as
plain JSON (``document.model_dump(mode="json")``), for the helper on a host has no pydantic there.

Names are the kernel's (ip-link(8), bridge(8)) and Open vSwitch's (ovs-vswitchd.conf.db(5)).
"""

import ipaddress
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

# IFNAMSIZ is 16 with the closing zero; dev_valid_name() in the kernel's net/core/dev.c.
_IFNAME = re.compile(r"[^/:\s\x00-\x1f]{1,15}")
_MAC = re.compile(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}")


def interface_name(name: str) -> str:
    """As the kernel takes it: 1 to 15 bytes, no slash, colon or white space."""
    if len(name.encode()) > 15:
        raise ValueError(f"“{name}” is too long: an interface's name has at most 15 bytes.")
    if not _IFNAME.fullmatch(name) or name in (".", ".."):
        raise ValueError("Use 1 to 15 letters, digits, “-”, “_” or “.”; no slash, colon or space.")
    if name.startswith("-"):
        raise ValueError("A name can't begin with “-”.")
    return name


def cidr(text: str) -> str:
    """An address with its prefix: 10.0.1.254/24, fd00::1/64."""
    try:
        address = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(
            f"“{text}” is not an address with a prefix, like 10.0.1.254/24 or fd00::1/64."
        ) from None
    if "/" not in text:
        raise ValueError(f"Add the prefix to {text}, for example {text}/24.")
    return str(address)


def subnet(text: str) -> str:
    """A network: 10.0.1.0/24, or ``default``."""
    if text == "default":
        return text
    try:
        return str(ipaddress.ip_network(text, strict=True))
    except ValueError:
        raise ValueError(
            f"“{text}” is not a network, like 10.0.1.0/24: the bits behind the prefix must be 0."
        ) from None


def address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"“{text}” is not an IP address.") from None


def mac_address(text: str) -> str:
    """Six bytes in lower case; of a unicast address."""
    if not _MAC.fullmatch(text):
        raise ValueError(f"“{text}” is not a MAC address, like 52:54:00:12:34:56.")
    if int(text[:2], 16) & 1:
        raise ValueError(f"{text} is a multicast address: the first byte must be even.")
    return text.lower()


IfName = Annotated[str, AfterValidator(interface_name)]
Cidr = Annotated[str, AfterValidator(cidr)]
Subnet = Annotated[str, AfterValidator(subnet)]
Address = Annotated[str, AfterValidator(address)]
Mac = Annotated[str, AfterValidator(mac_address)]
# 802.1Q: 0 means “no VLAN”, 4095 is reserved.
Vlan = Annotated[int, Field(ge=1, le=4094)]
Mtu = Annotated[int, Field(ge=68, le=65535)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class BridgePort(Part):
    """A port of a Linux bridge: bridge-link(8), bridge-vlan(8)."""

    pvid: Vlan | None = None  # what comes in untagged belongs to this VLAN, and leaves untagged
    vlans: list[Vlan] = []  # those that pass tagged (a trunk)
    is_isolated: bool = False
    cost: Annotated[int, Field(ge=1, le=65535)] | None = None
    priority: Annotated[int, Field(ge=0, le=63)] | None = None
    is_hairpin: bool = False


class Route(Part):
    to: Subnet
    via: Address | None = None
    dev: IfName | None = None
    metric: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None


class _Link(Part):
    """What every interface has. ``master`` is a Linux bridge or bond it is a port of.

    ``mtu`` and ``mac`` None: left as the kernel makes them. ``offloads``: ethtool's feature names
    (``tx-checksumming``, ``generic-segmentation-offload``, ``tcp-segmentation-offload``,
    ``generic-receive-offload``, ...) that are to be on or off; the others are left alone.
    """

    name: IfName
    is_up: bool = True
    mtu: Mtu | None = None
    mac: Mac | None = None
    addresses: list[Cidr] = []
    master: IfName | None = None
    port: BridgePort = BridgePort()
    offloads: dict[str, bool] = {}


class Physical(_Link):
    """A link that is there already: a NIC, or whatever else we did not make. Only what is said here
    is changed, and when it leaves the document it is put back as it was.
    """

    kind: Literal["physical"] = "physical"


class Bridge(_Link):
    """A Linux bridge. ``uplink``: the link whose addresses and routes it takes over as that becomes
    its port (the notes' “taking the address off eth0 and putting it on br0”). ageing and forward
    delay in seconds.
    """

    kind: Literal["bridge"] = "bridge"
    uplink: IfName | None = None
    stp: bool = False
    priority: Annotated[int, Field(ge=0, le=65535)] | None = None
    forward_delay: Annotated[int, Field(ge=0, le=30)] | None = None
    ageing_time: Annotated[int, Field(ge=0, le=1000000)] | None = None
    vlan_filtering: bool = False
    default_pvid: Annotated[int, Field(ge=0, le=4094)] | None = None
    vlans: list[Vlan] = []  # on the bridge itself, tagged (bridge vlan add ... self)


class Bond(_Link):
    """Members are links whose ``master`` this is. miimon in milliseconds."""

    kind: Literal["bond"] = "bond"
    mode: Literal[
        "balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb",
        "balance-alb",
    ] = "active-backup"  # fmt: skip
    miimon: Annotated[int, Field(ge=0, le=100000)] = 100
    lacp_rate: Literal["slow", "fast"] | None = None
    xmit_hash_policy: Literal["layer2", "layer2+3", "layer3+4"] | None = None
    primary: IfName | None = None


class VlanLink(_Link):
    kind: Literal["vlan"] = "vlan"
    parent: IfName
    id: Vlan
    protocol: Literal["802.1q", "802.1ad"] = "802.1q"


class Veth(_Link):
    """One end of a pair; the other is an entry of its own that names this one as its peer."""

    kind: Literal["veth"] = "veth"
    peer: IfName


class Vxlan(_Link):
    """A kernel VXLAN tunnel. ``group`` for multicast in place of ``remote``."""

    kind: Literal["vxlan"] = "vxlan"
    id: Annotated[int, Field(ge=1, le=2**24 - 1)]
    remote: Address | None = None
    group: Address | None = None
    local: Address | None = None
    dev: IfName | None = None
    port_number: PortNumber = 4789


class Gretap(_Link):
    """A kernel GRE tunnel that carries Ethernet."""

    kind: Literal["gretap"] = "gretap"
    remote: Address
    local: Address | None = None
    key: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None


class Dummy(_Link):
    kind: Literal["dummy"] = "dummy"


class Macvlan(_Link):
    kind: Literal["macvlan", "macvtap"]
    parent: IfName
    mode: Literal["bridge", "vepa", "private", "passthru"] = "bridge"


class Tap(_Link):
    """A persistent tap device, for machines that bring their own."""

    kind: Literal["tap"] = "tap"


Link = Annotated[
    Physical | Bridge | Bond | VlanLink | Veth | Vxlan | Gretap | Dummy | Macvlan | Tap,
    Field(discriminator="kind"),
]


class Queue(Part):
    """Rates in bit/s; ``id`` is what OpenFlow's set_queue names."""

    id: Annotated[int, Field(ge=0, le=61439)]
    min_rate: Annotated[int, Field(ge=0)] | None = None
    max_rate: Annotated[int, Field(ge=0)] | None = None
    priority: int | None = None


class Qos(Part):
    """What a port sends is held to ``max_rate`` bit/s."""

    type: Literal["linux-htb", "linux-hfsc"] = "linux-htb"
    max_rate: Annotated[int, Field(ge=1)]
    queues: list[Queue] = []


class Port(Part):
    """A port of an Open vSwitch bridge; with several ``interfaces`` a bond.

    ``kind`` is the type of the interface that carries the port's name; ``system`` is a link that is
    there or that ``links`` makes. Tunnels: ``remote_ip``, ``local_ip``, ``key``, ``dst_port``.
    ``addresses``: on an internal port's own interface. policing: kbit/s and kbit.
    """

    name: IfName
    kind: Literal["system", "internal", "patch", "gre", "vxlan", "geneve"] = "system"
    interfaces: list[IfName] = []
    tag: Annotated[int, Field(ge=0, le=4095)] | None = None
    trunks: list[Annotated[int, Field(ge=0, le=4094)]] = []
    vlan_mode: Literal[
        "access", "trunk", "native-tagged", "native-untagged", "dot1q-tunnel"
    ] | None = None  # fmt: skip
    bond_mode: Literal["active-backup", "balance-slb", "balance-tcp"] | None = None
    lacp: Literal["off", "active", "passive"] | None = None
    peer: IfName | None = None
    remote_ip: Address | None = None
    local_ip: Address | None = None
    key: str | None = None
    dst_port: PortNumber | None = None
    addresses: list[Cidr] = []
    mtu: Mtu | None = None
    qos: Qos | None = None
    policing_rate: Annotated[int, Field(ge=0)] = 0
    policing_burst: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.tag == 4095:
            raise ValueError("VLAN 4095 is reserved: use 1 to 4094.")
        if self.kind == "patch" and not self.peer:
            raise ValueError(f"The patch port {self.name} needs its peer's name.")
        if self.kind in ("gre", "vxlan", "geneve") and not self.remote_ip:
            raise ValueError(f"The tunnel {self.name} needs the other end's address (remote_ip).")
        return self


class Mirror(Part):
    """SPAN: what the selected ports carry is copied to ``output_port`` or into ``output_vlan``."""

    name: str
    select_all: bool = False
    select_src_ports: list[IfName] = []
    select_dst_ports: list[IfName] = []
    select_vlans: list[Vlan] = []
    output_port: IfName | None = None
    output_vlan: Vlan | None = None


class FlowExport(Part):
    """Where NetFlow, sFlow or IPFIX records go: ``host:port``. sampling: one packet in so many."""

    targets: Annotated[list[str], Field(min_length=1)]
    sampling: Annotated[int, Field(ge=1)] | None = None
    active_timeout: Annotated[int, Field(ge=-1)] | None = None  # NetFlow, seconds
    agent: IfName | None = None  # sFlow: whose address the records name
    polling: Annotated[int, Field(ge=0)] | None = None  # sFlow counters, seconds
    header: Annotated[int, Field(ge=0)] | None = None  # sFlow, bytes of a packet


class Switch(Part):
    """An Open vSwitch bridge. ``datapath_type`` "": whichever the host has, the kernel's or netdev.
    ``uplink``: as in ``Bridge``.
    """

    name: IfName
    datapath_type: Literal["", "system", "netdev"] = ""
    uplink: IfName | None = None
    is_up: bool = True
    mtu: Mtu | None = None
    addresses: list[Cidr] = []
    fail_mode: Literal["standalone", "secure"] | None = None
    stp: bool = False
    rstp: bool = False
    mcast_snooping: bool = False
    controllers: list[str] = []
    protocols: list[str] = []
    other_config: dict[str, str] = {}
    ports: list[Port] = []
    mirrors: list[Mirror] = []
    netflow: FlowExport | None = None
    sflow: FlowExport | None = None
    ipfix: FlowExport | None = None


class Leg(Part):
    """A router's interface.

    ``switch``: the Linux or OVS bridge at which its veth pair ends on the host, in VLAN ``tag`` or
    as a trunk of ``trunks``. With ``parent`` and ``vlan`` it is a VLAN on another leg instead
    (router on a stick).
    """

    name: IfName
    switch: IfName | None = None
    tag: Vlan | None = None
    trunks: list[Vlan] = []
    parent: IfName | None = None
    vlan: Vlan | None = None
    addresses: list[Cidr] = []
    mac: Mac | None = None
    mtu: Mtu | None = None

    @model_validator(mode="after")
    def _ends_somewhere(self) -> Self:
        if (self.parent is None) != (self.vlan is None):
            raise ValueError(f"The leg {self.name} needs both a parent and a VLAN, or neither.")
        return self


class Snat(Part):
    """Source NAT for what comes from ``source`` and does not go to ``except_to``; ``to`` None:
    masquerade behind the address of ``out``.
    """

    source: Subnet
    except_to: Subnet | None = None
    out: IfName | None = None
    to: Address | None = None


class Dnat(Part):
    """A port, or with ``protocol`` None a whole address (a floating IP), sent on to ``to``."""

    protocol: Literal["tcp", "udp", "sctp"] | None = None
    address: Address | None = None
    port: PortNumber | None = None
    to: Address
    to_port: PortNumber | None = None
    into: IfName | None = None  # only what comes in by this leg


class Filter(Part):
    """A rule for what the router forwards; the first that fits decides, else it is accepted."""

    action: Literal["accept", "drop", "reject"]
    source: Subnet | None = None
    to: Subnet | None = None
    protocol: Literal["tcp", "udp", "sctp", "icmp", "icmpv6"] | None = None
    port: PortNumber | None = None
    into: IfName | None = None
    out: IfName | None = None


class Reservation(Part):
    mac: Mac
    address: Address
    name: str = ""


class Dhcp(Part):
    """dnsmasq on a leg. ``router`` None: the leg's own address; "": no default route is told."""

    leg: IfName
    start: Address
    end: Address
    lease_seconds: Annotated[int, Field(ge=120, le=31536000)] = 3600
    router: str | None = None
    dns: list[Address] = []
    domain: str = ""
    options: dict[str, str] = {}  # dnsmasq's option name or number -> value: {"mtu": "1400"}
    reservations: list[Reservation] = []


class Router(Part):
    """A network namespace that forwards; ``name`` is the namespace's (``ip netns``)."""

    name: Annotated[
        str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    ]
    forwards: bool = True
    legs: list[Leg] = []
    routes: list[Route] = []
    snat: list[Snat] = []
    dnat: list[Dnat] = []
    filters: list[Filter] = []
    dhcp: list[Dhcp] = []


class Forward(Part):
    """A port of the host (``address`` None: of each of its addresses) sent on to a guest behind a
    libvirt network.
    """

    network: str  # libvirt's name of it
    protocol: Literal["tcp", "udp"]
    address: Address | None = None
    port: PortNumber
    to: Address
    to_port: PortNumber
    comment: Annotated[str, Field(max_length=200)] = ""


class HostNetwork(Part):
    """All we want of one host."""

    links: list[Link] = []
    routes: list[Route] = []
    switches: list[Switch] = []
    routers: list[Router] = []
    forwards: list[Forward] = []

    @model_validator(mode="after")
    def _names_meet_once(self) -> Self:
        seen: set[str] = set()
        for name in [*(link.name for link in self.links), *(one.name for one in self.switches)]:
            if name in seen:
                raise ValueError(f"“{name}” is there twice.")
            seen.add(name)
        routers = [router.name for router in self.routers]
        if len(set(routers)) < len(routers):
            raise ValueError("Two routers have the same name.")
        return self

    def without_defaults(self) -> dict[str, Any]:
        """As a person writes it, in YAML for example."""
        document = self.model_dump(mode="json", exclude_defaults=True)
        if self.links:
            # Each kind is its class's default, but a reader needs it.
            told = zip(self.links, document["links"], strict=True)
            document["links"] = [{"kind": link.kind, **fields} for link, fields in told]
        return document
