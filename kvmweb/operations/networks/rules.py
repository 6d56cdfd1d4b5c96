"""What does not fit together in a network's document, as a sentence at its field.

Libvirt checks most of this too (networkValidate, virNetworkDHCPRangeDefParseXML), some of it only
at the start, and never says where.
"""

import ipaddress
from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext as _

from kvmweb.spec.network import (
    Bandwidth,
    DhcpRange,
    Ip,
    NetworkDocument,
    ReservedAddress,
    Vlans,
)
from kvmweb.spec.network_places import OWN_BRIDGE

Found = Iterator[tuple[str, str]]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Fields that only a network with a bridge of its own can have.
_OF_OWN_BRIDGE = (
    "ips", "has_guest_ipv6", "routes", "domain", "dns_forwarders", "dns_hosts", "dns_services",
    "dns_texts", "dnsmasq_options", "inbound", "outbound", "mtu", "forward_delay", "zone",
    "mac_table_manager",
)  # fmt: skip
_OF_NAT = ("nat_addresses", "nat_ports", "is_ipv6_natted")
_TAKES_VLANS = ("hostdev", "macvtap-passthrough")
# IPv6 asks for 1280 of every link: RFC 8200.
_SMALLEST_IPV6_MTU = 1280
# Lines of dnsmasq's own configuration that run a program, or read and write files of the host, as
# root: nobody may do that through a network.
_DANGEROUS_OPTIONS = {
    "dhcp-script", "dhcp-luascript", "script-arp", "script-on-renewal", "leasefile-ro", "conf-file",
    "conf-dir", "conf-script", "user", "group", "log-facility", "pid-file", "dhcp-leasefile",
    "dumpfile", "resolv-file", "servers-file", "addn-hosts", "hostsdir", "dhcp-hostsdir",
    "dhcp-hostsfile", "dhcp-optsdir", "dhcp-optsfile", "read-ethers", "tftp-root", "enable-dbus",
    "enable-ubus", "interface", "listen-address", "keep-in-foreground", "no-daemon", "chroot",
}  # fmt: skip


def check(document: NetworkDocument) -> Found:
    yield from mode(document)
    yield from vlans(document)
    yield from ips(document)
    yield from routes(document)
    yield from nat(document)
    yield from dns(document)
    yield from options(document)
    yield from portgroups(document)
    yield from bandwidth("inbound", document.inbound)
    yield from bandwidth("outbound", document.outbound)
    if document.mtu and document.mtu < _SMALLEST_IPV6_MTU and _has_ipv6(document):
        yield "mtu", _("With IPv6 the MTU is %d or more.") % _SMALLEST_IPV6_MTU


def mode(document: NetworkDocument) -> Found:
    own = document.mode in OWN_BRIDGE
    if own and document.virtualport:
        yield "virtualport", _("Only a network that joins an existing bridge has virtual ports.")
    if document.mode in ("isolated", "open") and document.devices:
        yield "devices", _("This kind of network does not go out by a device. Remove it.")
    if document.mode in ("nat", "route") and len(document.devices) > 1:
        yield "devices", _("The network goes out by one device. Leave one, or none for any.")
    if document.mode == "bridge" and not document.bridge:
        yield "bridge", _("Choose the bridge that machines are to be plugged into.")
    if not own and document.mode != "bridge":
        yield from _pool(document)
    for name in () if own else _OF_OWN_BRIDGE:
        if getattr(document, name):
            yield name, _("A network without a bridge of its own can't have this. Remove it.")
    if not own and not document.stp:
        yield "stp", _("STP is a matter of the bridge that is joined.")


def _pool(document: NetworkDocument) -> Found:
    if document.bridge:
        yield "bridge", _("This kind of network has no bridge. Remove it.")
    if document.physical_function and document.devices:
        yield "physical_function", _("Either devices or a physical function, not both.")
    if document.mode.startswith("macvtap") and not (document.devices or document.physical_function):
        yield "devices", _("Enter at least one device of the host, like eth0.")


def vlans(document: NetworkDocument) -> Found:
    is_able = document.mode in _TAKES_VLANS or document.virtualport
    tagged = [("vlan", document.vlan)]
    tagged += [
        (f"portgroups.{number}.vlan", group.vlan)
        for number, group in enumerate(document.portgroups)
    ]
    for place, vlan in tagged:
        if vlan and not is_able:
            yield place, _("VLANs need an Open vSwitch bridge, or devices passed through.")
        if vlan and len(set(vlan.tags)) < len(vlan.tags):
            yield f"{place}.tags", _("A VLAN is there twice.")
        yield from _trunk(place, vlan, document)


def _trunk(place: str, vlan: Vlans | None, document: NetworkDocument) -> Found:
    if vlan and vlan.is_trunk and document.virtualport != "openvswitch":
        yield f"{place}.tags", _("A trunk of several VLANs needs an Open vSwitch bridge.")


def ips(document: NetworkDocument) -> Found:
    for number, ip in enumerate(document.ips):
        place = f"ips.{number}"
        yield from _own_address(place, ip)
        for other in document.ips[:number]:
            yield from _two(place, ip, other)
        yield from _ranges(place, ip)
        yield from _reservations(place, ip)
        yield from _boot(place, ip)


def _own_address(place: str, ip: Ip) -> Found:
    network, address = ip.interface.network, ip.interface.ip
    if network.version == 4 and network.prefixlen < 31 and address == network.broadcast_address:
        yield f"{place}.address", _("%s is the broadcast address of this subnet.") % address
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        yield f"{place}.address", _("The host can't have the address %s in a network.") % address


def _two(place: str, ip: Ip, other: Ip) -> Found:
    one, two = ip.interface.network, other.interface.network
    if one.version != two.version:
        return
    if one.overlaps(two):
        yield f"{place}.address", _("This overlaps with %s of this network.") % two
    if ip.has_dhcp and other.has_dhcp:
        yield f"{place}.ranges", _("libvirt gives out addresses of one subnet only per IP version.")


def _ranges(place: str, ip: Ip) -> Found:
    for number, one in enumerate(ip.ranges):
        at = f"{place}.ranges.{number}"
        start, end = ipaddress.ip_address(one.start), ipaddress.ip_address(one.end)
        for name, address in (("start", start), ("end", end)):
            if flaw := _outside(address, ip):
                yield f"{at}.{name}", flaw
        if start.version == end.version and int(end) < int(start):
            yield f"{at}.end", _("The range ends before it begins. Turn it around.")
        for other in ip.ranges[:number]:
            if _meet(one, other):
                yield f"{at}.start", _("This overlaps with the range from %s.") % other.start


def _meet(one: DhcpRange, other: DhcpRange) -> bool:
    bounds = [int(ipaddress.ip_address(text)) for text in (one.start, one.end)]
    others = [int(ipaddress.ip_address(text)) for text in (other.start, other.end)]
    return bounds[0] <= others[1] and others[0] <= bounds[1]


def _outside(address: Address, ip: Ip) -> str:
    """Why a machine in this subnet can't have the address; "" where it can."""
    network = ip.interface.network
    if address not in network:
        return _("%(address)s is not in the network %(network)s.") % {
            "address": address,
            "network": network,
        }
    if network.version == 4 and network.prefixlen < 31:
        if address == network.network_address:
            return _("%s names the network itself; no machine can have it.") % address
        if address == network.broadcast_address:
            return _("%s is the broadcast address; no machine can have it.") % address
    return ""


def _reservations(place: str, ip: Ip) -> Found:
    seen: dict[tuple[str, str], int] = {}
    for number, one in enumerate(ip.reservations):
        at = f"{place}.reservations.{number}"
        yield from _reservation(at, one, ip)
        for name, value in (("address", one.address), ("mac", one.mac or ""), ("id", one.id)):
            if value and (name, value) in seen:
                yield f"{at}.{name}", _("%s is reserved twice.") % value
            seen.setdefault((name, value), number)


def _reservation(at: str, one: ReservedAddress, ip: Ip) -> Found:
    address = ipaddress.ip_address(one.address)
    if flaw := _outside(address, ip):
        yield f"{at}.address", flaw
    elif address == ip.interface.ip:
        yield f"{at}.address", _("%s is the host's own address in this network.") % address
    if ip.interface.version == 4:
        if one.id:
            yield f"{at}.id", _("A client identifier is for IPv6. Use the MAC address.")
        if not (one.mac or one.name):
            yield f"{at}.mac", _("Enter the MAC address of the machine, or its name.")
        return
    if one.mac:
        yield f"{at}.mac", _("libvirt knows IPv6 clients by identifier or name, not by MAC.")
    elif not (one.id or one.name):
        yield f"{at}.name", _("Enter the machine's name, or its client identifier.")


def _boot(place: str, ip: Ip) -> Found:
    if ip.boot_server and not ip.boot_file:
        yield f"{place}.boot_file", _("Enter the file that the boot server has for the machines.")
    if ip.tftp_root and not ip.tftp_root.startswith("/"):
        yield f"{place}.tftp_root", _("Enter the whole path on the host; it starts with “/”.")
    if ip.interface.version == 6 and (ip.tftp_root or ip.boot_file):
        field = "tftp_root" if ip.tftp_root else "boot_file"
        yield f"{place}.{field}", _("libvirt offers booting from the network by IPv4 only.")


def routes(document: NetworkDocument) -> Found:
    for number, route in enumerate(document.routes):
        gateway = ipaddress.ip_address(route.gateway)
        if route.to == "default":
            yield f"routes.{number}.to", _("The host's default route is not a network's matter.")
        elif ipaddress.ip_network(route.to).version != gateway.version:
            yield f"routes.{number}.gateway", _("Both must be IPv4, or both IPv6.")
        elif not any(gateway in ip.interface.network for ip in document.ips):
            yield f"routes.{number}.gateway", _("%s is not in this network.") % gateway


def nat(document: NetworkDocument) -> Found:
    if document.mode != "nat":
        for name in _OF_NAT:
            if getattr(document, name):
                yield name, _("Only a network with NAT has this. Remove it.")
        return
    if document.nat_addresses:
        yield from _nat_addresses(document.nat_addresses.start, document.nat_addresses.end)
    if document.nat_ports and document.nat_ports.end < document.nat_ports.start:
        yield "nat_ports.end", _("The range ends before it begins. Turn it around.")


def _nat_addresses(first: str, last: str) -> Found:
    start, end = ipaddress.ip_address(first), ipaddress.ip_address(last)
    if start.version != 4 or end.version != 4:
        yield "nat_addresses.start", _("libvirt takes IPv4 addresses here.")
    elif end < start:
        yield "nat_addresses.end", _("The range ends before it begins. Turn it around.")


def dns(document: NetworkDocument) -> Found:
    if document.is_domain_local and not document.domain:
        yield "domain", _("Enter the domain that is known in this network only.")
    for name in ("dns_forwarders", "dns_hosts", "dns_services", "dns_texts"):
        if getattr(document, name) and not document.has_dns:
            yield name, _("The network has no DNS. Switch it on, or remove these.")
    for number, one in enumerate(document.dns_forwarders):
        if not (one.address or one.domain):
            yield f"dns_forwarders.{number}.address", _("Enter an address, a domain, or both.")
    addresses = [host.address for host in document.dns_hosts]
    for number, address in enumerate(addresses):
        if address in addresses[:number]:
            yield (
                f"dns_hosts.{number}.address",
                _("%s is there twice: write all its names in one line.") % address,
            )


def options(document: NetworkDocument) -> Found:
    for number, text in enumerate(document.dnsmasq_options):
        name = text.partition("=")[0].strip().lower().removeprefix("--")
        if not text or any(not letter.isprintable() for letter in text):
            yield f"dnsmasq_options.{number}", _("An option is one line of visible characters.")
        elif name in _DANGEROUS_OPTIONS:
            yield (
                f"dnsmasq_options.{number}",
                _("“%s” is not taken: dnsmasq would run programs or use files of the host.") % name,
            )


def portgroups(document: NetworkDocument) -> Found:
    names = [group.name for group in document.portgroups]
    for number, group in enumerate(document.portgroups):
        place = f"portgroups.{number}"
        if group.name in names[:number]:
            yield f"{place}.name", _("There is a port group of this name already.")
        if group.is_default and any(one.is_default for one in document.portgroups[:number]):
            yield f"{place}.is_default", _("Another port group is the default already.")
        yield from bandwidth(f"{place}.inbound", group.inbound)
        yield from bandwidth(f"{place}.outbound", group.outbound)


def bandwidth(place: str, rates: Bandwidth | None) -> Found:
    if rates is None:
        return
    if not (rates.average or rates.floor):
        yield f"{place}.average", _("Enter the average rate too.")
    if rates.average and rates.peak and rates.peak < rates.average:
        yield f"{place}.peak", _("The peak is less than the average.")
    if rates.floor and place.endswith("outbound"):
        yield f"{place}.floor", _("Only what comes in can have a guaranteed rate.")


def _has_ipv6(document: NetworkDocument) -> bool:
    return document.has_guest_ipv6 or any(ip.interface.version == 6 for ip in document.ips)


def first_of(found: Found) -> dict[str, str]:
    """A sentence per field, the first of each."""
    sentences: dict[str, Any] = {}
    for field, sentence in found:
        sentences.setdefault(field, sentence)
    return sentences
