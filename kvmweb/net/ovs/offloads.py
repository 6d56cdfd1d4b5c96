"""What the userspace datapath (“netdev”) asks of the links in its bridges.

It reads and writes frames through packet sockets. The kernel leaves the checksum of what is sent by
a veth to whoever needs it, which is nobody here: ping passes, TCP does not. And frames that were
joined on receipt (GRO) are longer than the MTU, and dropped (lib/netdev-linux.c).
The NICs of machines have the same trouble; it is settled in their XML: ``needs_checksum_off``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvmweb.net import changes
from kvmweb.net.ovs import wanted
from kvmweb.net.ovs.database import MARK_OFFLOADS, Row
from kvmweb.net.step import Step

State = dict[str, Any]

_CHECKSUM = "tx-checksumming"
_JOINING = ("generic-receive-offload", "large-receive-offload")
# Bytes that a frame grows by, without the Ethernet header it carries: outer IP, UDP, the tunnel's
# own with its key, that Ethernet header and a VLAN tag (RFC 7637, 7348, 8926).
_OVERHEAD = {"gre": 20 + 8 + 14 + 4, "vxlan": 20 + 8 + 8 + 14 + 4, "geneve": 20 + 8 + 8 + 14 + 4}
_IPV6_MORE = 20


def needs_checksum_off(state: State, bridge: str) -> bool:
    """Whether what is plugged into this bridge must finish its checksums itself."""
    return any(
        one["name"] == bridge and one["datapath_type"] == "netdev"
        for one in state.get("switches", [])
    )


def tunnel_mtu(kind: str, underlay_mtu: int = 1500, *, is_ipv6: bool = False) -> int:
    """The MTU for guests whose frames, tagged ones too, go through such a tunnel; in round numbers,
    so that people recognise it: 1400 for 1500.
    """
    left = underlay_mtu - _OVERHEAD[kind] - _IPV6_MORE * is_ipv6
    return left // 50 * 50


def offloads(actual: State, desired: State) -> Iterator[Step]:
    """Of links in userspace bridges of the document; what it says itself of a link's offloads is
    left to it.
    """
    links = {(one["namespace"], one["name"]): one for one in actual.get("links", [])}
    spoken = {one["name"]: one for one in desired.get("links", [])}
    for name in userspace_links(actual, desired):
        said = spoken.get(name, {})
        for namespace, end, link in _ends(name, links, spoken):
            values = _values(link, said.get("offloads", {}), is_new=("", name) not in links)
            if values:
                before = dict.fromkeys(values, True) if ("", name) in links else {}
                yield changes.set_offloads(end, values, before=before, namespace=namespace)


def userspace_links(actual: State, document: State) -> Iterator[str]:
    """The links that are ports of userspace bridges of the document."""
    there = {one["name"]: one for one in actual["switches"]}
    datapaths = actual["ovs"].get("datapaths", [])
    for spec in document.get("switches", []):
        row = wanted.switch(spec, datapaths=datapaths, actual=there.get(spec["name"]))
        if row["datapath_type"] == "netdev":
            for port in row["ports"]:
                yield from (one["name"] for one in port["interfaces"] if not one["type"])


def remember(actual: State, desired: State, bridge: Row) -> None:
    """Write on the bridge's ports what ``offloads`` switches off of NICs, for ``restored``."""
    if bridge["datapath_type"] != "netdev":
        return
    links = {one["name"]: one for one in actual.get("links", []) if not one["namespace"]}
    spoken = {one["name"]: one["offloads"] for one in desired.get("links", [])}
    for port in bridge["ports"]:
        found = [
            f"{name}/{feature}"
            for name in wanted.names(port["interfaces"])
            if links.get(name, {}).get("kind") == "physical"
            for feature in _values(links[name], spoken.get(name, {}), is_new=False)
        ]
        if found:
            port["external_ids"] = {MARK_OFFLOADS: " ".join(found)}


def restored(port: Row) -> Iterator[Step]:
    """The port leaves its bridge: its NICs get back what was switched off for that."""
    for one in port.get("external_ids", {}).get(MARK_OFFLOADS, "").split():
        name, _, feature = one.partition("/")
        yield changes.set_offloads(name, {feature: True}, before={feature: False})


def _ends(
    name: str, links: dict[tuple[str, str], Row], spoken: dict[str, Row]
) -> Iterator[tuple[str, str, Row]]:
    """The link, and of a veth the other end too."""
    link = links.get(("", name)) or spoken.get(name)
    if link is None:
        return
    yield "", name, link
    peer = link["kind"] == "veth" and link.get("peer")
    if peer:
        namespace = link.get("peer_namespace") or ""
        yield namespace, peer, links.get((namespace, peer)) or spoken.get(peer, link)


def _values(link: Row, said: dict[str, bool], *, is_new: bool) -> dict[str, bool]:
    """A link that is still to be made has what a veth has: checksums left out, nothing joined."""
    found = {_CHECKSUM: True} if is_new else link.get("offloads", {})
    names = [_CHECKSUM] if link["kind"] == "veth" else []
    fixed = link.get("fixed_offloads", [])
    return {
        name: False
        for name in (*names, *_JOINING)
        if found.get(name) and name not in said and name not in fixed
    }
