"""Kinds of links as data: which attributes each has, its numbers in rtnetlink, its words in ip(8).

Names are those of spec/hostnet.py; numbers those of include/uapi/linux/if_link.h (IFLA_BR_*,
IFLA_BOND_*, ...) and if_tunnel.h; words those of ip-link(8) and bridge(8).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Codec:
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    word: Callable[[Any], str] = str


def _number(layout: str) -> Codec:
    one = struct.Struct(layout)
    return Codec(one.pack, lambda data: one.unpack(data)[0])


def _flag(layout: str, *, on: str = "1", off: str = "0") -> Codec:
    one = struct.Struct(layout)
    return Codec(
        lambda value: one.pack(int(value)),
        lambda data: bool(one.unpack(data)[0]),
        lambda value: on if value else off,
    )


def _choice(layout: str, choices: dict[str, int]) -> Codec:
    one, names = struct.Struct(layout), {number: name for name, number in choices.items()}
    return Codec(
        lambda value: one.pack(choices[value]),
        lambda data: names.get(one.unpack(data)[0], str(one.unpack(data)[0])),
    )


# The kernel's clock_t, 1/100 s on every architecture; seconds for us.
_SECONDS = Codec(
    lambda value: struct.pack("=I", value * 100),
    lambda data: round(struct.unpack("=I", data)[0] / 100),
    lambda value: str(value * 100),
)
_ADDRESS = Codec(
    lambda value: ipaddress.ip_address(value).packed,
    lambda data: str(ipaddress.ip_address(data)),
)
_U8, _U16, _U32 = _number("=B"), _number("=H"), _number("=I")
_BE16, _BE32 = _number(">H"), _number(">I")


@dataclass(frozen=True)
class Attribute:
    """``is_link``: its value is another link's name here, and its number in the kernel."""

    name: str
    number: int
    codec: Codec = _U32
    word: str = ""
    is_link: bool = False

    def words(self, value: Any) -> list[str]:
        return [self.word or self.name, self.codec.word(value)]


@dataclass(frozen=True)
class Kind:
    """``fixed``: what can't be changed in place; the link is removed and made again.
    ``kernel``: IFLA_INFO_KIND, where it is not our name. ``module``: what the kernel needs.
    """

    attributes: tuple[Attribute, ...] = ()
    fixed: frozenset[str] = frozenset()
    module: str = ""
    missing: str = ""  # what a host without it lacks, as a sentence

    def attribute(self, name: str) -> Attribute | None:
        return next((one for one in self.attributes if one.name == name), None)


_BOND_MODES = {
    "balance-rr": 0, "active-backup": 1, "balance-xor": 2, "broadcast": 3, "802.3ad": 4,
    "balance-tlb": 5, "balance-alb": 6,
}  # fmt: skip
_HASHES = {
    "layer2": 0, "layer3+4": 1, "layer2+3": 2, "encap2+3": 3, "encap3+4": 4, "vlan+srcmac": 5,
}  # fmt: skip
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
_VLAN_PROTOCOLS = {"802.1q": 0x8100, "802.1ad": 0x88A8}

_MACVLAN = Kind(
    (Attribute("mode", 1, _choice("=I", _MACVLAN_MODES)),),
    fixed=frozenset({"parent", "mode"}),
)

KINDS: dict[str, Kind] = {
    "bridge": Kind(
        (
            Attribute("forward_delay", 1, _SECONDS),
            Attribute("ageing_time", 4, _SECONDS),
            Attribute("stp", 5, _flag("=I"), "stp_state"),
            Attribute("priority", 6, _U16),
            Attribute("vlan_filtering", 7, _flag("=B")),
            Attribute("default_pvid", 39, _U16, "vlan_default_pvid"),
        ),
        module="bridge",
        missing="Linux bridges",
    ),
    "bond": Kind(
        (
            Attribute("mode", 1, _choice("=B", _BOND_MODES)),
            Attribute("miimon", 3),
            Attribute("primary", 11, is_link=True),
            Attribute("xmit_hash_policy", 14, _choice("=B", _HASHES)),
            Attribute("lacp_rate", 21, _choice("=B", {"slow": 0, "fast": 1})),
        ),
        # mode while it has no members, lacp_rate while it is down: made again instead.
        fixed=frozenset({"mode", "lacp_rate"}),
        module="bonding",
        missing="bonds",
    ),
    "vlan": Kind(
        (
            Attribute("id", 1, _U16),
            Attribute("protocol", 5, _choice(">H", _VLAN_PROTOCOLS)),
        ),
        fixed=frozenset({"id", "protocol", "parent"}),
        module="8021q",
        missing="VLAN interfaces",
    ),
    "veth": Kind(fixed=frozenset({"peer"}), module="veth", missing="veth pairs"),
    "vxlan": Kind(
        (
            Attribute("id", 1),
            Attribute("remote", 2, _ADDRESS),
            Attribute("dev", 3, is_link=True),
            Attribute("local", 4, _ADDRESS),
            Attribute("port_number", 15, _BE16, "dstport"),
        ),
        fixed=frozenset({"id", "remote", "group", "dev", "local", "port_number"}),
        module="vxlan",
        missing="VXLAN interfaces",
    ),
    "gretap": Kind(
        (
            Attribute("key", 4, _BE32),
            Attribute("local", 6, _ADDRESS),
            Attribute("remote", 7, _ADDRESS),
        ),
        fixed=frozenset({"remote", "local", "key"}),
        module="ip_gre",
        missing="GRE interfaces",
    ),
    "dummy": Kind(module="dummy", missing="dummy interfaces"),
    "macvlan": Kind(_MACVLAN.attributes, _MACVLAN.fixed, "macvlan", "macvlan interfaces"),
    "macvtap": Kind(_MACVLAN.attributes, _MACVLAN.fixed, "macvtap", "macvtap interfaces"),
    "tap": Kind(module="tun", missing="tap devices"),
}

# A port of a Linux bridge, IFLA_BRPORT_*: bridge-link(8)'s words.
PORT: tuple[Attribute, ...] = (
    Attribute("priority", 2, _U16),
    Attribute("cost", 3),
    Attribute("is_hairpin", 4, _flag("=B", on="on", off="off"), "hairpin"),
    Attribute("is_isolated", 33, _flag("=B", on="on", off="off"), "isolated"),
)
PORT_STATES = {0: "disabled", 1: "listening", 2: "learning", 3: "forwarding", 4: "blocking"}
