"""Security groups: rules a person reads, compiled into libvirt's network filters.

As in OpenStack: what no rule of a NIC's groups allows is dropped, answers to what was allowed pass,
and a new group lets everything out. ARP, DHCP and IPv6's neighbour discovery always pass.
"""

import ipaddress
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Literal

from lxml import etree
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from kvmweb.spec import nwfilter
from kvmweb.spec.nwfilter import Filter, Reference

PREFIX = "kvmweb-sg-"  # one group's rules
COMBINED = "kvmweb-nic-"  # what a NIC with several groups refers to
ANTI_SPOOFING = "clean-traffic"  # libvirt's own: only the NIC's MAC, its IPv4 address, and ARP
# A filter of ours has a UUID that follows from its name. Others that look like ours are left alone.
_OURS = uuid.UUID("5e0f6d1c-2b0e-4a2e-9f43-6f2f6b1f6a10")

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_PORTS = re.compile(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?")
# What IPv6 does not work without (RFC 4890, 4.4): multicast listeners, routers, neighbours. A
# machine announces no router: 134 comes in only.
_ICMPV6_IN = (130, 131, 132, 134, 135, 136, 143)
_ICMPV6_OUT = (130, 131, 132, 133, 135, 136, 143)
FIRST, ALLOW, LAST = 100, 500, 1000
MOST_RULES, MOST_PORTS = 200, 15


def checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "Use small letters, digits, “-”, “_” and “.”; the first and last a letter or digit."
        )
    return name


def checked_ports(text: str) -> str:
    """Ports and ranges with commas between: ``22``, ``80,443``, ``8000-8100``."""
    return ", ".join(
        str(first) if first == last else f"{first}-{last}" for first, last in ranges(text)
    )


def ranges(text: str) -> list[tuple[int, int]]:
    """First and last port of each. Raises ``ValueError``."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _PORTS.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= 65535:
            raise ValueError(f"“{part}” is neither a port nor a range: 80, or 8000-8100.")
        found.append((first, last))
    if len(found) > MOST_PORTS:
        raise ValueError(f"Use at most {MOST_PORTS} ports and ranges; make two rules of these.")
    return found


def checked_subnet(text: str) -> str:
    """A network or a single address: 10.0.1.0/24, 10.0.1.7, fd00::/8; "" is everywhere."""
    if not text:
        return ""
    try:
        found = ipaddress.ip_network(text, strict=True)
    except ValueError:
        raise ValueError(_network_flaw(text)) from None
    return str(found)


def _network_flaw(text: str) -> str:
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"“{text}” is neither a network nor an address: 10.0.1.0/24, or fd00::/8."
    return f"The bits behind the prefix must be 0. Did you mean {meant}?"


class Rule(BaseModel):
    """Something that is allowed. With neither ``subnet`` nor ``group`` the other side may be
    anybody; ``group``: the machines' NICs in that security group.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    direction: Literal["in", "out"] = "in"
    protocol: Literal["any", "tcp", "udp", "icmp"] = "tcp"
    ports: Annotated[str, Field(max_length=200), AfterValidator(checked_ports)] = ""
    subnet: Annotated[str, Field(max_length=50), AfterValidator(checked_subnet)] = ""
    group: Annotated[str, Field(max_length=63)] = ""
    description: Annotated[str, Field(max_length=200)] = ""

    @field_validator("ports")
    @classmethod
    def _has_ports(cls, ports: str, info: ValidationInfo) -> str:
        if ports and info.data.get("protocol") not in ("tcp", "udp"):
            raise ValueError(
                "Only TCP and UDP have ports. Choose one of them, or leave this empty."
            )
        return ports

    @field_validator("group")
    @classmethod
    def _is_the_only_one(cls, group: str, info: ValidationInfo) -> str:
        if group and info.data.get("subnet"):
            raise ValueError("Choose either a subnet or a security group.")
        return group


Name = Annotated[str, Field(min_length=1, max_length=63), AfterValidator(checked_name)]
Rules = Annotated[list[Rule], Field(max_length=MOST_RULES)]
# A new group's, which a person may remove.
EVERYTHING_OUT = Rule(direction="out", protocol="any")


def filter_name(group: str) -> str:
    return PREFIX + group


def group_of(filter_name: str) -> str:
    """Whose rules these are; "" where it is no group's filter."""
    return filter_name.removeprefix(PREFIX) if filter_name.startswith(PREFIX) else ""


def filter_uuid(filter_name: str) -> str:
    return str(uuid.uuid5(_OURS, filter_name))


def is_ours(filter_name: str, filter_id: str) -> bool:
    """Whether we made this filter, so that we may remove it."""
    return filter_name.startswith((PREFIX, COMBINED)) and filter_id == filter_uuid(filter_name)


def compiled(name: str, rules: Iterable[Rule], members: Mapping[str, Sequence[str]]) -> str:
    """The network filter of a group. ``members``: the addresses of the NICs in each group that is
    named in a rule.
    """
    made = _begun(filter_name(name))
    for basic in _always():
        made.add(basic)
    for rule in rules:
        remotes = _networks(members.get(rule.group, ())) if rule.group else [rule.subnet]
        for remote in remotes:
            for allowed in _allowed(rule, remote):
                made.add(allowed)
    for protocol in ("all", "all-ipv6"):
        made.add(_rule("drop", "inout", LAST, protocol))
    return made.xml


def combined(groups: Iterable[str], *, is_spoofing_prevented: bool) -> tuple[str, str]:
    """Name and document of the filter for a NIC in these groups. A single group's own serves as it
    is: then the document is "".
    """
    names = sorted(set(groups))
    if len(names) == 1 and not is_spoofing_prevented:
        return filter_name(names[0]), ""
    references = [filter_name(name) for name in names]
    references += [ANTI_SPOOFING] if is_spoofing_prevented else []
    name = COMBINED + sha256(" ".join(references).encode()).hexdigest()[:16]
    made = _begun(name)
    for reference in references:
        made.add(Reference(reference))
    return name, made.xml


def membership(filter_name: str, references: Iterable[str]) -> tuple[list[str], bool]:
    """What ``combined`` was given for a filter of this name that refers to these: the groups, and
    whether spoofing is prevented. No groups where it is none of ours.
    """
    if group := group_of(filter_name):
        return [group], False
    if not filter_name.startswith(COMBINED):
        return [], False
    names = list(references)
    return [group for name in names if (group := group_of(name))], ANTI_SPOOFING in names


def _begun(name: str) -> Filter:
    made = Filter(etree.Element("filter"))
    made.name, made.chain, made.uuid = name, "root", filter_uuid(name)
    return made


def _always() -> list[nwfilter.Rule]:
    """ARP is not IP, and so passes by itself. ``RELATED`` are ICMP's errors about what passes."""
    dhcp = {"srcportstart": "67", "dstportstart": "68"}
    dhcpv6 = {"srcportstart": "547", "dstportstart": "546"}
    neighbours = [
        _rule("accept", direction, FIRST, "icmpv6", {"type": str(kind)}, is_stateful=False)
        for direction, kinds in (("in", _ICMPV6_IN), ("out", _ICMPV6_OUT))
        for kind in kinds
    ]
    return [
        _rule("accept", "inout", FIRST, "all", {"state": "RELATED"}),
        _rule("accept", "in", FIRST, "udp", dhcp, is_stateful=False),
        _rule("accept", "in", FIRST, "udp-ipv6", dhcpv6, is_stateful=False),
        *neighbours,
    ]


_V4 = {"any": "all", "tcp": "tcp", "udp": "udp", "icmp": "icmp"}
_V6 = {"any": "all-ipv6", "tcp": "tcp-ipv6", "udp": "udp-ipv6", "icmp": "icmpv6"}


def _allowed(rule: Rule, remote: str) -> list[nwfilter.Rule]:
    """One for each IP version and range of ports."""
    network = ipaddress.ip_network(remote) if remote else None
    side = "src" if rule.direction == "in" else "dst"
    conditions = {}
    if network is not None:
        conditions[f"{side}ipaddr"] = str(network.network_address)
        conditions[f"{side}ipmask"] = str(network.prefixlen)
    versions = [network.version] if network is not None else [4, 6]
    found = []
    for version in versions:
        for first, last in ranges(rule.ports) or [(0, 0)]:
            port = {"dstportstart": str(first)} if first else {}
            if last > first:
                port["dstportend"] = str(last)
            found.append(
                _rule(
                    "accept",
                    rule.direction,
                    ALLOW,
                    (_V4 if version == 4 else _V6)[rule.protocol],
                    conditions | port,
                    comment=rule.description,
                )
            )
    return found


def _networks(addresses: Iterable[str]) -> list[str]:
    """The addresses as few networks; without those that are nobody's own."""
    found = [ipaddress.ip_address(address) for address in addresses]
    usable = [
        one for one in found if not (one.is_loopback or one.is_multicast or one.is_unspecified)
    ]
    merged: list[str] = []
    for version in (4, 6):
        hosts = [ipaddress.ip_network(one) for one in usable if one.version == version]
        merged += map(str, ipaddress.collapse_addresses(hosts))  # type: ignore[type-var]
    return merged


def _rule(
    action: str,
    direction: str,
    priority: int,
    protocol: str,
    conditions: Mapping[str, str] = {},
    *,
    comment: str = "",
    is_stateful: bool = True,
) -> nwfilter.Rule:
    return nwfilter.Rule.model_validate(
        {
            "action": action,
            "direction": direction,
            "priority": priority,
            "protocol": protocol,
            "conditions": dict(conditions),
            "comment": comment,
            "is_stateful": is_stateful,
        }
    )
