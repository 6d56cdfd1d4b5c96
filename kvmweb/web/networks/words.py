"""What the fields of a network's document are called, and what to say about them."""

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from kvmweb.spec.network_places import OWN_BRIDGE
from kvmweb.web.hostnet.words import Wording, Words

# virt-manager's words, where it has one.
MODES: Words = {
    "nat": _("NAT"),
    "route": _("Routed"),
    "open": _("Open"),
    "isolated": _("Isolated"),
    "bridge": _("Bridge"),
    "macvtap-bridge": _("Macvtap: bridge"),
    "macvtap-vepa": _("Macvtap: VEPA"),
    "macvtap-private": _("Macvtap: private"),
    "macvtap-passthrough": _("Macvtap: passthrough"),
    "hostdev": _("SR-IOV pool"),
}
EXPLAINED: Words = {
    "nat": _("Machines reach the outside behind the host's address."),
    "route": _("The host forwards; machines keep their own addresses outside."),
    "open": _("The host forwards, and libvirt leaves the firewall to you."),
    "isolated": _("Machines reach each other and the host, nobody else."),
    "bridge": _("Machines are plugged into a bridge that is on the host already."),
    "macvtap-bridge": _("Machines share a network card of the host, and see each other."),
    "macvtap-vepa": _("As above, and what they send each other goes over the switch outside."),
    "macvtap-private": _("As above, and they do not see each other."),
    "macvtap-passthrough": _("Each machine has a network card of the host for itself."),
    "hostdev": _("Each machine gets a virtual function of a network card."),
}
LABELS: Words = {
    "mode": _("Mode"),
    "devices": _("Devices"),
    "physical_function": _("Network card"),
    "is_managed": _("Take the functions from the host's driver and give them back"),
    "bridge": _("Bridge"),
    "virtualport": _("Kind of the bridge"),
    "ips": _("Subnets"),
    "Ip.address": _("Address and prefix"),
    "ranges": _("DHCP ranges"),
    "DhcpRange.start": _("Start"),
    "DhcpRange.end": _("End"),
    "lease_seconds": _("Lease time (s)"),
    "reservations": _("Reserved addresses"),
    "ReservedAddress.mac": _("MAC address"),
    "ReservedAddress.id": _("Client identifier (IPv6)"),
    "ReservedAddress.name": _("Name"),
    "ReservedAddress.address": _("Address"),
    "tftp_root": _("TFTP directory"),
    "boot_file": _("Boot file"),
    "boot_server": _("Boot server"),
    "has_ptr": _("Addresses lead back to names (PTR)"),
    "has_guest_ipv6": _("Machines may use IPv6 among themselves"),
    "nat_addresses": _("Addresses outside"),
    "nat_ports": _("Ports outside"),
    "is_ipv6_natted": _("NAT for IPv6 too"),
    "routes": _("Static routes"),
    "StaticRoute.to": _("To"),
    "StaticRoute.gateway": _("Via"),
    "metric": _("Metric"),
    "domain": _("Domain"),
    "is_domain_local": _("Never ask for this domain elsewhere"),
    "has_dns": _("DNS server"),
    "forwards_plain_names": _("Ask elsewhere for names without a domain"),
    "dns_forwarders": _("Forwarders"),
    "Forwarder.address": _("Server"),
    "Forwarder.domain": _("For the domain"),
    "dns_hosts": _("Names"),
    "DnsHost.address": _("Address"),
    "DnsHost.names": _("Names"),
    "dns_services": _("Services (SRV)"),
    "Srv.service": _("Service"),
    "Srv.protocol": _("Protocol"),
    "Srv.domain": _("Domain"),
    "Srv.target": _("Target"),
    "Srv.port": _("Port"),
    "Srv.priority": _("Priority"),
    "Srv.weight": _("Weight"),
    "dns_texts": _("Texts (TXT)"),
    "Txt.name": _("Name"),
    "Txt.value": _("Text"),
    "dnsmasq_options": _("Options for dnsmasq"),
    "portgroups": _("Port groups"),
    "PortGroup.name": _("Name"),
    "is_default": _("For machines that name none"),
    "vlan": _("VLAN"),
    "tags": _("Tags"),
    "is_trunk": _("Trunk"),
    "native_untagged": _("Native, untagged"),
    "native_tagged": _("Native, tagged"),
    "inbound": _("Inbound rate"),
    "outbound": _("Outbound rate"),
    "average": _("Average (KiB/s)"),
    "peak": _("Peak (KiB/s)"),
    "burst": _("Burst (KiB)"),
    "floor": _("Guaranteed (KiB/s)"),
    "is_isolating_ports": _("Machines can't reach each other"),
    "mtu": _("MTU"),
    "stp": _("Spanning tree (STP)"),
    "forward_delay": _("Forward delay (s)"),
    "zone": _("Zone of firewalld"),
    "mac_table_manager": _("MAC table kept by"),
}
HINTS: Words = {
    "devices": _("Separated by commas."),
    "Ip.address": _("The host's own, like 192.168.100.1/24, or fd00:100::1/64 for IPv6."),
    "ReservedAddress.lease_seconds": _("0: for ever."),
    "ReservedAddress.mac": _("For IPv4."),
    "ReservedAddress.name": _("The guest is told it."),
    "tftp_root": _("A directory on the host from which machines boot."),
    "boot_file": _("In that directory, like pxelinux.0."),
    "boot_server": _("If not the host itself."),
    "nat_addresses": _("Which of the host's addresses are seen outside; empty: the usual one."),
    "nat_ports": _("Empty: 1024 to 65535."),
    "StaticRoute.to": _("A network behind a machine, like 10.1.0.0/16."),
    "domain": _("Machines are known by their names in it."),
    "dns_forwarders": _("Where names are asked for; without any, where the host asks."),
    "Forwarder.domain": _("Empty: all. Without a server: names of it are not asked for."),
    "DnsHost.names": _("Separated by spaces."),
    "Srv.service": _("Like ldap."),
    "dnsmasq_options": _(
        "One in a line, like dhcp-option=option:ntp-server,10.0.0.1. libvirt does not check them."
    ),
    "portgroups": _("Sets of settings that a NIC can choose by name."),
    "tags": _("One: access. Several, like 10, 20-22: a trunk."),
    "native_untagged": _("Of a trunk: the VLAN of frames without a tag."),
    "inbound": _("To the machines."),
    "outbound": _("From the machines."),
    "forward_delay": _("Before a new port passes anything, with STP."),
}
CHOICES: dict[str, Words] = {
    "mode": MODES,
    "virtualport": {
        "": _("Linux bridge"),
        "openvswitch": _("Open vSwitch"),
        "802.1Qbg": _("802.1Qbg"),
        "802.1Qbh": _("802.1Qbh"),
        "midonet": _("MidoNet"),
    },
    "mac_table_manager": {
        "": _("the kernel"),
        "kernel": _("the kernel, said so"),
        "libvirt": "libvirt",
    },
    "Srv.protocol": {"tcp": "TCP", "udp": "UDP"},
}
WORDING = Wording(
    LABELS,
    HINTS,
    CHOICES,
    basic={
        "Ip": ("address", "ranges"),
        "ReservedAddress": ("mac", "address", "name"),
        "StaticRoute": ("to", "gateway"),
        "Srv": ("service", "protocol", "target", "port"),
        "PortGroup": ("name", "is_default", "vlan"),
    },
)

_OWN = OWN_BRIDGE
_MACVTAP = ("macvtap-bridge", "macvtap-vepa", "macvtap-private", "macvtap-passthrough")
_TAGGED = ("bridge", "macvtap-passthrough", "hostdev")
ALL = tuple(MODES)
# In which modes a field means something; the others have it in all.
FITS: dict[str, tuple[str, ...]] = {
    "devices": ("nat", "route", *_MACVTAP),
    "physical_function": ("hostdev", "macvtap-passthrough"),
    "is_managed": ("hostdev",),
    "bridge": (*_OWN, "bridge"),
    "virtualport": ("bridge", *_MACVTAP, "hostdev"),
    "nat_addresses": ("nat",),
    "nat_ports": ("nat",),
    "is_ipv6_natted": ("nat",),
    "vlan": _TAGGED,
    "is_isolating_ports": (*_OWN, "bridge"),
} | dict.fromkeys(
    (
        "ips", "has_guest_ipv6", "routes", "domain", "is_domain_local", "has_dns",
        "forwards_plain_names", "dns_forwarders", "dns_hosts", "dns_services", "dns_texts",
        "dnsmasq_options", "inbound", "outbound", "mtu", "stp", "forward_delay", "zone",
        "mac_table_manager",
    ),
    _OWN,
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """Fields that belong together. ``is_open``: they are shown without being asked for."""

    name: str
    label: str | Promise
    fields: tuple[str, ...]
    hint: str | Promise = ""
    is_open: bool = False


SECTIONS = (
    Section(
        "general",
        _("General"),
        ("mode", "devices", "physical_function", "bridge", "virtualport", "is_managed"),
        is_open=True,
    ),
    Section("addresses", _("Addresses and DHCP"), ("ips",), is_open=True),
    Section(
        "dns",
        _("DNS"),
        (
            "domain", "is_domain_local", "has_dns", "forwards_plain_names", "dns_hosts",
            "dns_forwarders", "dns_services", "dns_texts",
        ),
    ),
    Section(
        "routing",
        _("NAT and routes"),
        ("is_ipv6_natted", "nat_addresses", "nat_ports", "routes"),
    ),
    Section("portgroups", _("Port groups and VLANs"), ("vlan", "portgroups")),
    Section("quality", _("Rates"), ("inbound", "outbound")),
    Section(
        "bridge",
        _("Bridge"),
        (
            "mtu", "stp", "forward_delay", "is_isolating_ports", "has_guest_ipv6", "zone",
            "mac_table_manager", "dnsmasq_options",
        ),
    ),
)  # fmt: skip
