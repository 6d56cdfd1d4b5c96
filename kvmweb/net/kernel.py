"""What the kernel says of one namespace's links, addresses and routes, as plain data.

Numbers are of include/uapi/linux/{rtnetlink,if_link,if_addr,if_bridge}.h.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import struct
from typing import Any

from kvmweb.net.kinds import KINDS, PORT, PORT_STATES, Attribute
from kvmweb.net.rtnetlink import (
    GETADDR,
    GETLINK,
    GETROUTE,
    Rtnetlink,
    attributes,
    each_attribute,
    link_header,
    u32,
)

Row = dict[str, Any]

MARK = "kvmweb"
# RTPROT_*: the number that marks our routes (`ip route show proto 107`), as the alias marks links.
ROUTE_MARK = 107
PROTOCOLS = {
    0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 9: "ra", 16: "dhcp",
    ROUTE_MARK: MARK,
}  # fmt: skip
ROUTE_TYPES = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
MAIN, LOCAL = 254, 255
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}

_OPERSTATES = (
    "unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up",
)  # fmt: skip
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
(
    _ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _OPERSTATE, _LINKINFO, _IFALIAS, _STATS64, _AF_SPEC,
    _EXT_MASK, _CARRIER, _LINK_NETNSID,
) = (1, 3, 4, 5, 10, 16, 18, 20, 23, 26, 29, 33, 37)  # fmt: skip
_KIND, _DATA, _SLAVE_KIND, _SLAVE_DATA = 1, 2, 4, 5
_BRVLAN_COMPRESSED = 4
_VLAN_INFO, _PVID, _UNTAGGED, _RANGE_BEGIN, _RANGE_END = 2, 2, 4, 8, 16
_TUN_TYPE, _TAP = 3, 2
_COUNTERS = struct.Struct("=8Q")
_COUNTER_NAMES = (
    "rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_drops",
    "tx_drops",
)  # fmt: skip

# What changes in an address or a route though nobody changes it: a plan made a second later is to
# be the same, so none of it is in steps.
PASSING = frozenset(
    {"valid", "preferred", "expires", "flags", "is_permanent", "is_tentative", "namespace"}
)
_ANY: dict[int, str] = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 - not bound to

TEMPORARY, NODAD, DADFAILED, DEPRECATED, TENTATIVE, PERMANENT = 0x1, 0x2, 0x8, 0x20, 0x40, 0x80
NOPREFIXROUTE = 0x200


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


@functools.lru_cache(4096)
def _address(data: bytes) -> str:
    """Kept: hosts with hundreds of links are read again and again, and this is a fifth of it."""
    return str(ipaddress.ip_address(data))


def _integer(data: bytes | None) -> int | None:
    return None if data is None else int(struct.unpack("=I", data)[0])


def links(kernel: Rtnetlink) -> list[Row]:
    """Names of other links are still numbers, in ``_link`` (lower link, or a veth's peer, in the
    namespace ``_netnsid`` unless None), ``_master`` and kinds' own; ``name_links`` replaces them.
    """
    rows = [_link_row(payload) for _, payload in kernel.dump(GETLINK, link_header())]
    if any(row["kind"] == "bridge" for row in rows):
        _add_vlans(kernel, {row["index"]: row for row in rows})
    return rows


def _link_row(payload: bytes) -> Row:
    index, flags = struct.unpack_from("=iI", payload, 4)
    found = attributes(payload, 16)
    info = attributes(found.get(_LINKINFO, b""))
    mac = found.get(_ADDRESS, b"")
    carrier = found.get(_CARRIER)
    operstate = found.get(_OPERSTATE, b"\0")[0]
    alias = _text(found.get(_IFALIAS, b""))
    row: Row = {
        "name": _text(found[_IFNAME]),
        "index": index,
        "kind": _text(info[_KIND]) if _KIND in info else _kindless(flags),
        "is_up": bool(flags & _IFF_UP),
        "operstate": _OPERSTATES[operstate] if operstate < len(_OPERSTATES) else "unknown",
        "carrier": None if carrier is None else bool(carrier[0]),
        "mtu": _integer(found.get(_MTU)),
        "mac": mac.hex(":") if len(mac) == 6 else "",
        "alias": alias,
        "owner": MARK if alias == MARK else "",
        "_link": _integer(found.get(_LINK)),
        "_netnsid": _integer(found.get(_LINK_NETNSID)),
        "_master": _integer(found.get(_MASTER)),
        "counters": _counters(found.get(_STATS64)),
    }
    _add_kind(row, info)
    return row


def _kindless(flags: int) -> str:
    return "loopback" if flags & _IFF_LOOPBACK else "physical"


def _counters(data: bytes | None) -> dict[str, int]:
    values = _COUNTERS.unpack_from(data) if data else [0] * len(_COUNTER_NAMES)
    return dict(zip(_COUNTER_NAMES, values, strict=True))


def _add_kind(row: Row, info: dict[int, bytes]) -> None:
    data = info.get(_DATA, b"")
    if row["kind"] == "tun":
        row["kind"] = "tap" if attributes(data).get(_TUN_TYPE) == bytes([_TAP]) else "tun"
    elif row["kind"] == "ip6gretap":
        row["kind"] = "gretap"
    kind = KINDS.get(row["kind"])
    if kind and kind.attributes:
        row.update(_decoded(kind.attributes, attributes(data)))
    if row["kind"] == "vxlan":
        _add_vxlan(row, attributes(data))
    elif row["kind"] == "gretap":
        row["key"] = row["key"] if _has_key(data) else None
        row.update({end: None for end in ("local", "remote") if _is_any(row[end])})
    if info.get(_SLAVE_KIND) == b"bridge\0":
        found = attributes(info.get(_SLAVE_DATA, b""))
        row["port"] = _decoded(PORT, found)
        row["port"]["state"] = PORT_STATES.get(found.get(1, b"\0")[0], "unknown")
        row["port"].update({"pvid": None, "vlans": [], "untagged": []})


def _decoded(listed: tuple[Attribute, ...], found: dict[int, bytes]) -> Row:
    return {
        one.name: one.codec.decode(found[one.number]) if one.number in found else None
        for one in listed
    }


def _is_any(address: str | None) -> bool:
    return address in _ANY.values()


def _has_key(data: bytes) -> bool:
    return bool(struct.unpack(">H", attributes(data).get(2, b"\0\0"))[0] & 0x2000)


def _add_vxlan(row: Row, found: dict[int, bytes]) -> None:
    for name, number in (("remote", 16), ("local", 17)):
        if number in found:
            row[name] = _address(found[number])
    row.update({end: None for end in ("local", "remote") if _is_any(row[end])})
    row["group"] = None
    if row["remote"] and ipaddress.ip_address(row["remote"]).is_multicast:
        row["group"], row["remote"] = row["remote"], None


def _add_vlans(kernel: Rtnetlink, rows: dict[int, Row]) -> None:
    """Of ports and of bridges themselves: ``bridge vlan show``."""
    request = link_header(family=socket.AF_BRIDGE) + u32(_EXT_MASK, _BRVLAN_COMPRESSED)
    for row in rows.values():
        if row["kind"] == "bridge":
            row.update({"pvid": None, "vlans": [], "untagged": []})
    if not any(row.get("default_pvid") is not None for row in rows.values()):
        return  # a kernel that does not know VLANs of bridges
    for _, payload in kernel.dump(GETLINK, request):
        row = rows.get(struct.unpack_from("=i", payload, 4)[0], {})
        spec = attributes(payload, 16).get(_AF_SPEC, b"")
        where = row if row.get("kind") == "bridge" else row.get("port")
        if where is not None and spec:
            _sort_vlans(where, spec)


def _sort_vlans(where: Row, spec: bytes) -> None:
    begin = 0
    for number, value in each_attribute(spec):
        if number != _VLAN_INFO:
            continue
        flags, vlan = struct.unpack("=HH", value)
        if flags & _RANGE_BEGIN:
            begin = vlan
            continue
        several = range(begin if flags & _RANGE_END else vlan, vlan + 1)
        if flags & _PVID:
            where["pvid"] = vlan
        if not flags & _UNTAGGED:
            where["vlans"] += several
        elif not flags & _PVID:
            where["untagged"] += several


def names(kernel: Rtnetlink) -> dict[int, str]:
    """Of all links, by number."""
    return {row["index"]: row["name"] for row in links(kernel)}


def name_links(rows: list[Row]) -> None:
    """Numbers of links of the same namespace become names; of another one's they stay."""
    names = {row["index"]: row["name"] for row in rows}
    for row in rows:
        row["master"] = names.get(row.pop("_master") or 0)
        kind = KINDS.get(row["kind"])
        for one in kind.attributes if kind else ():
            if one.is_link:
                row[one.name] = names.get(row[one.name] or 0)
        if row["_netnsid"] is None:
            lower = names.get(row["_link"] or 0)
            if row["kind"] == "veth":
                row["peer"], row["peer_namespace"] = lower, row.get("namespace", "")
            elif row["kind"] in ("vlan", "macvlan", "macvtap"):
                row["parent"] = lower


def addresses(kernel: Rtnetlink, names: dict[int, str]) -> list[Row]:
    """``valid`` and ``preferred`` in seconds, None for ever; leave them out of what is compared."""
    rows = [_address_row(payload, names) for _, payload in kernel.dump(GETADDR, bytes(8))]
    return [row for row in rows if row["dev"]]


def _address_row(payload: bytes, names: dict[int, str]) -> Row:
    family, prefix, flags, scope, index = struct.unpack_from("=BBBBI", payload)
    found = attributes(payload, 8)
    local, other = found.get(2, found.get(1, b"")), found.get(1, b"")
    flags = _integer(found.get(8)) or flags
    preferred, valid = struct.unpack_from("=II", found.get(6, b"\xff" * 8))
    return {
        "dev": names.get(index, ""),
        "family": 4 if family == socket.AF_INET else 6,
        "address": f"{_address(local)}/{prefix}",
        "peer": _address(other) if other != local else None,
        "broadcast": _address(found[4]) if 4 in found else None,
        "label": _text(found[3]) if 3 in found else None,
        "scope": SCOPES.get(scope, str(scope)),
        "metric": _integer(found.get(9)),
        "flags": flags & ~(TENTATIVE | DEPRECATED),
        "is_permanent": bool(flags & PERMANENT),
        "is_tentative": bool(flags & TENTATIVE and not flags & DADFAILED),
        "valid": None if valid == 0xFFFFFFFF else valid,
        "preferred": None if preferred == 0xFFFFFFFF else preferred,
    }


def routes(kernel: Rtnetlink, names: dict[int, str]) -> list[Row]:
    """Of all tables but the local one, and no cached ones. ``expires``: seconds, of those learnt
    from router advertisements; leave it out of what is compared.
    """
    rows = [_route_row(payload, names) for _, payload in kernel.dump(GETROUTE, bytes(12))]
    return [row for row in rows if row]


def _route_row(payload: bytes, names: dict[int, str]) -> Row:
    family, length, _, tos, table, protocol, scope, type_, flags = struct.unpack_from(
        "=BBBBBBBBI", payload
    )
    is_known = family in (socket.AF_INET, socket.AF_INET6) and type_ in ROUTE_TYPES
    if not is_known or table == LOCAL or flags & 0x200:
        return {}
    found = attributes(payload, 12)
    table = _integer(found.get(15)) or table
    return {
        "family": 4 if family == socket.AF_INET else 6,
        "to": _destination(family, found.get(1), length),
        **_hop(found, names.get(_integer(found.get(4)) or 0), flags),
        "metric": _integer(found.get(6)) or 0,
        "source": _address(found[7]) if 7 in found else None,
        "scope": SCOPES.get(scope, str(scope)),
        "protocol": PROTOCOLS.get(protocol, str(protocol)),
        "table": table,
        "type": ROUTE_TYPES[type_],
        "tos": tos,
        "metrics": found.get(8, b"").hex(),
        "preference": found[20][0] if 20 in found else None,
        "nexthops": _nexthops(found.get(9, b""), names),
        "expires": _expires(found.get(12)),
    }


def _destination(family: int, data: bytes | None, length: int) -> str:
    if data is None:
        return "default" if not length else f"{_ANY[family]}/{length}"
    return f"{_address(data)}/{length}"


def _hop(found: dict[int, bytes], dev: str | None, flags: int) -> Row:
    via = found.get(5) or found.get(18, b"")[2:]
    return {
        "via": _address(via) if via else None,
        "dev": dev,
        "is_onlink": bool(flags & 0x4),
    }


def _nexthops(data: bytes, names: dict[int, str]) -> list[Row]:
    """struct rtnexthop, one behind the other."""
    found, offset = [], 0
    while offset + 8 <= len(data):
        length, flags, weight, index = struct.unpack_from("=HBBi", data, offset)
        hop = _hop(attributes(data[offset : offset + length], 8), names.get(index), flags)
        found.append({**hop, "weight": weight + 1})
        offset += (length + 3) & ~3
    return found


def _expires(data: bytes | None) -> int | None:
    """rta_expires of struct rta_cacheinfo, in 1/100 s."""
    expires = struct.unpack_from("=i", data, 8)[0] if data else 0
    return expires // 100 if expires > 0 else None
