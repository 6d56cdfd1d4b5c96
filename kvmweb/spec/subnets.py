"""Subnets: which are taken on a host and by what, and which one a new network may have."""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
# fe80::/10 and 127.0.0.0/8 are on every link of every host, and meet nobody.
_LOCAL = [ipaddress.ip_network("fe80::/10"), ipaddress.ip_network("127.0.0.0/8")]
_MULTICAST = [ipaddress.ip_network("ff00::/8"), ipaddress.ip_network("224.0.0.0/4")]


@dataclass(frozen=True, slots=True)
class Taken:
    """``by`` is what it belongs to, in words: "the network “default”", "the route via eth0"."""

    subnet: Subnet
    by: str

    def __str__(self) -> str:
        return f"{self.by} ({self.subnet})"


def taken(address: str, by: str) -> Taken | None:
    """By an address with its prefix, or by a route to a network; None for what can't meet."""
    try:
        subnet = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return None
    if subnet.prefixlen == 0 or any(_meet(subnet, one) for one in [*_LOCAL, *_MULTICAST]):
        return None
    return Taken(subnet, by)


def overlap(address: str, others: Iterable[Taken]) -> Taken | None:
    """The first of the others whose addresses are partly those of this subnet."""
    subnet = ipaddress.ip_network(address, strict=False)
    return next((other for other in others if _meet(subnet, other.subnet)), None)


def free_ipv4(others: Iterable[Taken]) -> str:
    """The host's address in a free /24, from 192.168.100.0 on, as virt-manager counts; "" where
    none is left."""
    known = list(others)
    thirds = chain(range(100, 255), range(2, 100))
    return next(_free((f"192.168.{third}.1/24" for third in thirds), known), "")


def free_ipv6(others: Iterable[Taken]) -> str:
    """The same for IPv6, from fd00:100::/64 on."""
    known = list(others)
    return next(_free((f"fd00:{number}::1/64" for number in range(100, 1000)), known), "")


def other_half(address: str) -> tuple[str, str] | None:
    """First and last address of a DHCP range: the half of the subnet in which the host's own is
    not, without those that no machine may have. None where there is no room.
    """
    interface = ipaddress.ip_interface(address)
    network = interface.network
    if network.version == 6:
        return (str(network[0x100]), str(network[0x1FF])) if network.prefixlen <= 118 else None
    if network.prefixlen > 29:
        return None
    middle = network.num_addresses // 2
    is_upper = int(interface.ip) - int(network.network_address) < middle
    first, last = (middle, network.num_addresses - 2) if is_upper else (1, middle - 1)
    return str(network[first]), str(network[last])


def _free(addresses: Iterable[str], others: list[Taken]) -> Iterator[str]:
    return (address for address in addresses if overlap(address, others) is None)


def _meet(one: Subnet, other: Subnet) -> bool:
    return one.version == other.version and one.overlaps(other)
