"""What a rule of a network filter may look at: the protocols, their attributes, and their values.

https://libvirt.org/formatnwfilter.html#supported-protocols, and libvirt's nwfilter.rng.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping

VARIABLE = re.compile(r"\$\s*([a-zA-Z0-9_]+)(?:\[\s*@?\d+\s*\])?\s*")

_L2 = ("srcmacaddr", "srcmacmask", "dstmacaddr", "dstmacmask")
_ADDRESSES = ("srcipaddr", "srcipmask", "dstipaddr", "dstipmask")
_PORTS = ("srcportstart", "srcportend", "dstportstart", "dstportend")
_RANGES = ("srcipfrom", "srcipto", "dstipfrom", "dstipto", "dscp")
_TRACKED = ("connlimit-above", "state", "ipset", "ipsetflags")
_ARP = (
    "hwtype", "protocoltype", "opcode", "arpsrcmacaddr", "arpdstmacaddr", "arpsrcipaddr",
    "arpsrcipmask", "arpdstipaddr", "arpdstipmask", "gratuitous",
)  # fmt: skip
_STP = (
    "srcmacaddr", "srcmacmask", "type", "flags", "root-priority", "root-priority-hi",
    "root-address", "root-address-mask", "root-cost", "root-cost-hi", "sender-priority",
    "sender-priority-hi", "sender-address", "sender-address-mask", "port", "port-hi", "age",
    "age-hi", "max-age", "max-age-hi", "hello-time", "hello-time-hi", "forward-delay",
    "forward-delay-hi",
)  # fmt: skip
_V4 = ("srcmacaddr", *_ADDRESSES, *_RANGES, *_TRACKED)
_V6 = ("srcmacaddr", *_ADDRESSES, *_RANGES)
_ICMP = ("type", "code")

# What a rule may look at, by the element that says so: its attributes beside match and comment.
PROTOCOLS: dict[str, tuple[str, ...]] = {
    "tcp": (*_ADDRESSES, *_PORTS, "flags", *_V4),
    "udp": (*_ADDRESSES, *_PORTS, *_V4),
    "icmp": (*_ADDRESSES, *_ICMP, *_V4),
    "all": _V4,
    "sctp": (*_ADDRESSES, *_PORTS, *_V4),
    "igmp": _V4,
    "esp": _V4,
    "ah": _V4,
    "udplite": _V4,
    "tcp-ipv6": (*_ADDRESSES, *_PORTS, "flags", *_V6),
    "udp-ipv6": (*_ADDRESSES, *_PORTS, *_V6),
    "icmpv6": (*_ADDRESSES, *_ICMP, *_V6),
    "all-ipv6": _V6,
    "sctp-ipv6": (*_ADDRESSES, *_PORTS, *_V6),
    "esp-ipv6": _V6,
    "ah-ipv6": _V6,
    "udplite-ipv6": _V6,
    "mac": (*_L2, "protocolid"),
    "vlan": (*_L2, "vlanid", "encap-protocol"),
    "stp": _STP,
    "arp": (*_ARP, *_L2),
    "rarp": (*_ARP, *_L2),
    "ip": (*_ADDRESSES, "protocol", *_PORTS, "dscp", *_L2),
    "ipv6": (*_ADDRESSES, "protocol", *_PORTS, "type", "typeend", "code", "codeend", *_L2),
}
PROTOCOLS = {name: tuple(dict.fromkeys(names)) for name, names in PROTOCOLS.items()}
# Those that the host's ebtables look at; the others are iptables', which see bridged packets only
# where net.bridge.bridge-nf-call-iptables is 1.
ETHERNET = frozenset({"mac", "vlan", "stp", "arp", "rarp", "ip", "ipv6"})

LABELS = {
    "srcmacaddr": "Source MAC address",
    "dstmacaddr": "Destination MAC address",
    "srcipaddr": "Source address",
    "dstipaddr": "Destination address",
    "srcportstart": "Source port",
    "dstportstart": "Destination port",
    "srcipfrom": "Source address from–to",
    "dstipfrom": "Destination address from–to",
    "dscp": "DSCP",
    "connlimit-above": "More connections than",
    "state": "Connection state",
    "ipset": "IP set",
    "ipsetflags": "Flags of the IP set",
    "flags": "Flags",
    "type": "Type",
    "code": "Code",
    "protocolid": "Protocol above it",
    "vlanid": "VLAN",
    "encap-protocol": "Protocol in the VLAN",
    "protocol": "Protocol above it",
    "hwtype": "Hardware type",
    "protocoltype": "Protocol type",
    "opcode": "Operation",
    "arpsrcmacaddr": "MAC address of the sender",
    "arpdstmacaddr": "MAC address of the target",
    "arpsrcipaddr": "Address of the sender",
    "arpdstipaddr": "Address of the target",
    "gratuitous": "Gratuitous",
}
# Two attributes that a person reads and writes as one: 10.0.0.0/8, 8000-8100.
SECONDS = {
    "srcmacaddr": ("srcmacmask", "/"),
    "dstmacaddr": ("dstmacmask", "/"),
    "srcipaddr": ("srcipmask", "/"),
    "dstipaddr": ("dstipmask", "/"),
    "arpsrcipaddr": ("arpsrcipmask", "/"),
    "arpdstipaddr": ("arpdstipmask", "/"),
    "srcportstart": ("srcportend", "-"),
    "dstportstart": ("dstportend", "-"),
    "srcipfrom": ("srcipto", "-"),
    "dstipfrom": ("dstipto", "-"),
    "root-address": ("root-address-mask", "/"),
    "sender-address": ("sender-address-mask", "/"),
    **{
        name: (f"{name}-hi", "-")
        for name in (
            "root-priority", "root-cost", "sender-priority", "port", "age", "max-age",
            "hello-time", "forward-delay",
        )
    },
}  # fmt: skip
_IPV6_SECONDS = {"type": ("typeend", "-"), "code": ("codeend", "-")}


def seconds(protocol: str) -> dict[str, tuple[str, str]]:
    """Which attributes are written as one with which second, and what is put between."""
    found = SECONDS | (_IPV6_SECONDS if protocol == "ipv6" else {})
    return {name: found[name] for name in PROTOCOLS[protocol] if name in found}


def inputs(protocol: str) -> list[tuple[str, str]]:
    """What a form asks for a rule on this protocol: the attribute that names it, and its label."""
    joined = {second for second, _separator in seconds(protocol).values()}
    names = [name for name in PROTOCOLS[protocol] if name not in joined]
    return [(name, label(name)) for name in names]


def label(name: str) -> str:
    """What a person calls the attribute."""
    return LABELS.get(name, name.replace("-", " ").capitalize())


def joined(protocol: str, conditions: Mapping[str, str]) -> dict[str, str]:
    """Attributes as a person writes them, by the first of each pair."""
    if protocol not in PROTOCOLS:
        return dict(conditions)
    typed = dict(conditions)
    for name, (second, separator) in seconds(protocol).items():
        if name in typed and second in typed:
            typed[name] += separator + typed.pop(second)
    return typed


def split(protocol: str, typed: Mapping[str, str]) -> dict[str, str]:
    """The other way round; empty ones are left out."""
    found = {}
    pairs = seconds(protocol)
    for name, text in typed.items():
        second, separator = pairs.get(name, ("", ""))
        first, parted, rest = text.partition(separator) if separator else (text, "", "")
        found[name] = first.strip()
        if parted:
            found[second] = rest.strip()
    return {name: text for name, text in found.items() if text}


def flaws(protocol: str, conditions: Mapping[str, str]) -> dict[str, str]:
    """A sentence for each condition that is wrong, by its attribute."""
    if protocol not in PROTOCOLS:
        return dict.fromkeys(conditions, "Choose a protocol first.")
    known = PROTOCOLS[protocol]
    found = {}
    for name, text in conditions.items():
        sentence = flaw(protocol, name, text) if name in known else f"{protocol} has no such field."
        if sentence:
            found[name] = sentence
    return found | _lonely(protocol, conditions)


def _lonely(protocol: str, conditions: Mapping[str, str]) -> dict[str, str]:
    """The second of a pair without its first means nothing; libvirt would not say so."""
    found = {}
    for name, (second, _separator) in seconds(protocol).items():
        if second in conditions and name not in conditions:
            found[name] = f"This is needed beside {second}."
    return found


def flaw(protocol: str, name: str, text: str) -> str:
    """What is wrong with this attribute's value, as a sentence; "" where nothing is."""
    kind = _KINDS.get(name, "")
    if name in ("type", "code", "typeend", "codeend") and protocol in ("icmp", "icmpv6", "ipv6"):
        kind = "byte"
    if name == "flags":
        kind = "tcp flags" if protocol.startswith("tcp") else "byte"
    if kind in ("address", "mask") and (protocol.endswith("-ipv6") or protocol in _IPV6):
        kind += " v6"
    if kind not in _LITERAL and VARIABLE.fullmatch(text):
        return ""
    check = _CHECKS.get(kind)
    return check(text) if check else ""


_IPV6 = frozenset({"icmpv6", "ipv6"})
_LITERAL = frozenset({"", "state", "tcp flags", "ipset flags", "yes or no", "match"})
_KINDS = {
    **dict.fromkeys(
        ("srcipaddr", "dstipaddr", "srcipfrom", "srcipto", "dstipfrom", "dstipto"), "address"
    ),
    **dict.fromkeys(("srcipmask", "dstipmask", "arpsrcipmask", "arpdstipmask"), "mask"),
    **dict.fromkeys(("arpsrcipaddr", "arpdstipaddr"), "address"),
    **dict.fromkeys(
        (
            "srcmacaddr", "srcmacmask", "dstmacaddr", "dstmacmask", "arpsrcmacaddr",
            "arpdstmacaddr", "root-address", "root-address-mask", "sender-address",
            "sender-address-mask",
        ),
        "mac",
    ),
    **dict.fromkeys((*_PORTS, "connlimit-above", "hwtype", "protocoltype"), "16 bits"),
    **dict.fromkeys(
        (
            "root-priority", "root-priority-hi", "sender-priority", "sender-priority-hi", "port",
            "port-hi", "age", "age-hi", "max-age", "max-age-hi", "hello-time", "hello-time-hi",
            "forward-delay", "forward-delay-hi",
        ),
        "16 bits",
    ),
    **dict.fromkeys(("root-cost", "root-cost-hi"), "32 bits"),
    "type": "byte",
    "dscp": "6 bits",
    "vlanid": "12 bits",
    "protocolid": "ethernet protocol",
    "encap-protocol": "ethernet protocol",
    "protocol": "ip protocol",
    "opcode": "opcode",
    "gratuitous": "yes or no",
    "match": "match",
    "state": "state",
    "ipset": "ipset",
    "ipsetflags": "ipset flags",
}  # fmt: skip


def _number_up_to(largest: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        is_number = re.fullmatch(r"0x[0-9a-fA-F]{1,8}|[0-9]{1,10}", text)
        if is_number and int(text, 0 if text.startswith("0x") else 10) <= largest:
            return ""
        return f"Enter a number from 0 to {largest}, or a variable like $NAME."

    return check


def _one_of(pattern: str, sentence: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)
    return lambda text: "" if compiled.fullmatch(text) else sentence


def _address(version: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            is_right = ipaddress.ip_address(text).version == version
        except ValueError:
            is_right = False
        return "" if is_right else f"“{text}” is not an IPv{version} address."

    return check


def _mask(version: int) -> Callable[[str], str]:
    any_address = "0.0.0.0" if version == 4 else "::"  # noqa: S104 -- nothing listens here

    def check(text: str) -> str:
        try:
            ipaddress.ip_network(f"{any_address}/{text}")
        except ValueError:
            if not (version == 6 and _address(6)(text) == ""):
                return f"“{text}” is not a prefix length or mask of IPv{version}."
        return ""

    return check


_FLAG = "(SYN|ACK|URG|PSH|FIN|RST)"
_FLAGS = f"({_FLAG}(,{_FLAG})*|ALL|NONE)"
_STATE = "(NEW|ESTABLISHED|RELATED|INVALID)"
_CHECKS: dict[str, Callable[[str], str]] = {
    "address": _address(4),
    "address v6": _address(6),
    "mask": _mask(4),
    "mask v6": _mask(6),
    "mac": _one_of(
        r"([0-9a-fA-F]{1,2}:){5}[0-9a-fA-F]{1,2}",
        "This is not a MAC address, like 52:54:00:12:34:56.",
    ),
    "byte": _number_up_to(255),
    "6 bits": _number_up_to(63),
    "12 bits": _number_up_to(4095),
    "16 bits": _number_up_to(65535),
    "32 bits": _number_up_to(2**32 - 1),
    "ethernet protocol": _one_of(
        r"arp|rarp|ipv4|ipv6|vlan|0x([6-9a-fA-F][0-9a-fA-F]{2}|[0-9a-fA-F]{4})|[0-9]{4,5}",
        "Enter arp, rarp, ipv4, ipv6, vlan or a number from 0x600 to 0xffff.",
    ),
    "ip protocol": _one_of(
        r"tcp|udp|udplite|esp|ah|icmp|igmp|sctp|icmpv6|0x[0-9a-fA-F]{1,2}|[0-9]{1,3}",
        "Enter tcp, udp, udplite, esp, ah, icmp, igmp, sctp, icmpv6 or a number up to 255.",
    ),
    "opcode": _one_of(
        r"[Rr]eply|[Rr]equest|[Rr]equest_[Rr]everse|[Rr]eply_[Rr]everse|DRARP_[Rr]equest"
        r"|DRARP_[Rr]eply|DRARP_[Ee]rror|InARP_[Rr]equest|ARP_NAK|[0-9]{1,5}",
        "Enter Request, Reply, Request_Reverse, Reply_Reverse or another of libvirt's names.",
    ),
    "yes or no": _one_of("yes|no|true|false|1|0", "Enter yes or no."),
    "match": _one_of("yes|no", "Enter yes or no."),
    "state": _one_of(
        f"{_STATE}(,{_STATE})*|NONE",
        "Enter some of NEW, ESTABLISHED, RELATED and INVALID with commas between, or NONE.",
    ),
    "tcp flags": _one_of(
        f"{_FLAGS}/{_FLAGS}", "Enter the flags to look at and those to be set: SYN,ACK/SYN."
    ),
    "ipset": _one_of(r"[a-zA-Z0-9_.:+ -]{1,31}", "This is not the name of an IP set."),
    "ipset flags": _one_of(
        "([Ss][Rr][Cc]|[Dd][Ss][Tt])(,([Ss][Rr][Cc]|[Dd][Ss][Tt])){0,5}",
        "Enter src and dst with commas between.",
    ),
}
