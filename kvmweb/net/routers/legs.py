"""A router's interfaces: veth pairs between its namespace and a bridge of the host, and VLANs on
them.

The host's end is named after router and leg, and bears our mark; so does the leg, which tells it
from what others may move into the namespace.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field
from typing import Any

from kvmweb.net import addresses, changes
from kvmweb.net.changes import ip
from kvmweb.net.context import Context
from kvmweb.net.errors import StepError
from kvmweb.net.kernel import MARK
from kvmweb.net.ovs import rows, words
from kvmweb.net.ovs.transact import step as ovs_step
from kvmweb.net.routers.announce import announce
from kvmweb.net.rtnetlink import (
    CREATE,
    EXCL,
    NEWLINK,
    Message,
    attribute,
    link_header,
    nested,
    text,
    u32,
)
from kvmweb.net.step import (
    ADD_LEGS,
    DROP_LEGS,
    DROP_PORTS,
    SET_LINKS,
    SET_PORTS,
    SET_UP,
    Step,
    action,
)

Leg = dict[str, Any]

_LENGTH = 15
_CHECKSUM = "tx-checksumming"
# include/uapi/linux/if_link.h, veth.h
_ADDRESS, _IFNAME, _MTU, _LINKINFO, _NET_NS_PID, _IFALIAS, _GROUP = 1, 3, 4, 18, 19, 20, 27
_KIND, _DATA, _PEER = 1, 2, 1
# Actions that do not ask whether they are an undo.
_ALWAYS_LENIENT = {"link.add", "router.announce"}
_NEWBORN = 0x6B76  # as in changes.py: ours, though the alias is not there yet


@dataclass
class Bridge:
    """What a leg ends at. ``kind`` is linux or ovs; ``pvid`` what a new port of a filtering Linux
    bridge gets; ``is_userspace``: checksums must be finished by who sends (ovs/offloads.py).
    """

    name: str
    kind: str
    filters_vlans: bool = False
    pvid: int | None = None
    is_userspace: bool = False

    @property
    def vlans(self) -> changes.Vlans:
        return changes.vlans_of({"pvid": self.pvid}) if self.filters_vlans else {}


@dataclass
class Place:
    """Where legs are put: the router's name, and the bridges of the host."""

    router: str
    bridges: dict[str, Bridge] = field(default_factory=dict)

    def bridge(self, name: str | None) -> Bridge | None:
        return self.bridges.get(name) if name else None


def host_end(router: str, leg: str) -> str:
    """The name of its end on the host: r1-in0; if long, shortened and with four digits."""
    whole = f"{router}-{leg}"
    if len(whole.encode()) <= _LENGTH:
        return whole
    digits = hashlib.sha256(whole.encode()).hexdigest()[:4]
    return f"{whole.encode()[: _LENGTH - 5].decode(errors='ignore')}-{digits}"


def vlans_of(leg: Leg) -> changes.Vlans:
    """On its port of a Linux bridge; nothing where the document leaves that to the bridge."""
    trunks = {str(vlan): "" for vlan in leg["trunks"]}
    return trunks | ({str(leg["tag"]): "pvid untagged"} if leg["tag"] else {})


def make(place: Place, leg: Leg, cidrs: list[str]) -> list[Step]:
    """Steps for a leg that is not there. ``cidrs``: its addresses."""
    namespace = place.router
    if leg["parent"]:
        link = {"kind": "vlan", "id": leg["vlan"], "protocol": "802.1q"}
        given = {key: leg[key] for key in ("name", "parent", "mac", "mtu")}
        step = changes.add_link({**link, **given}, namespace=namespace)
        step.rank = ADD_LEGS
        found = [step]
    else:
        end = host_end(place.router, leg["name"])
        found = [_add(namespace, leg, end), *join(place.bridge(leg["switch"]), end, leg)]
        found += _checksums_off(place.bridge(leg["switch"]), namespace, leg["name"], end)
        found.append(_up("", end))
    for cidr in cidrs:
        row = addresses.plain_address(leg["name"], cidr)
        found.append(addresses.add_address(row, namespace=namespace))
    return [*found, _up(namespace, leg["name"]), *announce(namespace, leg["name"], cidrs)]


def _add(namespace: str, leg: Leg, end: str) -> Step:
    values = {"mac": leg["mac"], "mtu": leg["mtu"]}
    mtu = ["mtu", str(leg["mtu"])] if leg["mtu"] else []
    mac = ["address", leg["mac"]] if leg["mac"] else []
    peer = ["peer", "name", leg["name"], *mac, *mtu, "netns", namespace]
    gone = changes.remove_link(end, undo=[])
    gone.rank = DROP_LEGS
    return Step(
        "router.leg",
        {"namespace": namespace, "name": leg["name"], "end": end, "values": values},
        ADD_LEGS,
        [
            ip("", "link", "add", "name", end, *mtu, "type", "veth", *peer),
            ip("", "link", "set", "dev", end, "alias", MARK),
            ip(namespace, "link", "set", "dev", leg["name"], "alias", MARK),
        ],
        [gone],
        [end],
    )


@action("router.leg")
def _leg(
    context: Context, namespace: str, name: str, end: str, values: Leg, *, lenient: bool = False
) -> None:
    """Made from within: in the host's namespace the leg's own name may be taken, eth0 for one."""
    newborn, mtu = u32(_GROUP, _NEWBORN), u32(_MTU, values["mtu"]) if values["mtu"] else b""
    given = bytes.fromhex((values["mac"] or "").replace(":", ""))
    mac = attribute(_ADDRESS, given) if given else b""
    # This thread lives in the namespace that the other end goes to.
    home = u32(_NET_NS_PID, threading.get_native_id())
    # A bridge takes over the lowest MAC of its ports: not this one's (libvirt does so with taps).
    high = attribute(_ADDRESS, b"\xfe" + os.urandom(5))
    peer = nested(_PEER, link_header(), text(_IFNAME, end), home, newborn, mtu, high)
    info = nested(_LINKINFO, text(_KIND, "veth"), nested(_DATA, peer))
    body = link_header() + text(_IFNAME, name) + newborn + mtu + mac + info
    made = Message(NEWLINK, CREATE | EXCL, body, context.number, may_exist=lenient)
    failures = context.rtnetlink(namespace).change([made])
    for where, one in ((namespace, name), ("", end)):
        marked = link_header() + text(_IFNAME, one) + text(_IFALIAS, MARK) + u32(_GROUP, 0)
        if not failures:
            message = Message(NEWLINK, 0, marked, context.number, may_miss=lenient)
            failures = context.rtnetlink(where).change([message])
    if failures:
        raise StepError(f"The leg {name} of {namespace}: {failures[0].sentence}")


def _up(namespace: str, name: str) -> Step:
    down = {"is_up": False}
    return changes.set_link(
        name, "veth", {"is_up": True}, before=down, rank=SET_UP, namespace=namespace
    )


def join(bridge: Bridge | None, end: str, leg: Leg) -> list[Step]:
    """The host's end becomes a port, in the leg's VLANs."""
    if bridge is None:
        return []
    if bridge.kind == "ovs":
        return [add_port(bridge.name, port(end, leg))]
    step = changes.set_master(end, bridge.name, before=None)
    step.touches = [end]  # one more port disturbs nobody
    found = [step]
    wanted = vlans_of(leg)
    if wanted and wanted != bridge.vlans:
        found.append(changes.set_vlans(end, wanted, before=bridge.vlans))
    return found


def port(end: str, leg: Leg) -> dict[str, Any]:
    """A row as ovs/state.py has them. A tag beside trunks is the trunk's native VLAN."""
    mode = "native-untagged" if leg["tag"] and leg["trunks"] else None
    row = {"name": end, "tag": leg["tag"], "trunks": sorted(leg["trunks"]), "vlan_mode": mode}
    return rows.marked({**row, "interfaces": [{"name": end, "type": ""}]})


def add_port(bridge: str, row: dict[str, Any]) -> Step:
    return ovs_step(
        rows.add_port(bridge, row),
        rank=ADD_LEGS,
        words=[words.add_port(bridge, row)],
        undo=rows.drop_port(bridge, row["name"]),
        undo_words=[["del-port", bridge, row["name"]]],
        touches=[bridge, row["name"]],
    )


def drop_port(bridge: str, row: dict[str, Any]) -> Step:
    """``row`` is what is put back by the undo."""
    return ovs_step(
        rows.drop_port(bridge, row["name"]),
        rank=DROP_LEGS,
        words=words.drop_port(bridge, row),
        undo=rows.add_port(bridge, row),
        undo_words=[words.add_port(bridge, row)],
        touches=[bridge, row["name"]],
    )


def _checksums_off(bridge: Bridge | None, namespace: str, name: str, end: str) -> list[Step]:
    if bridge is None or not bridge.is_userspace:
        return []
    found = [
        changes.set_offloads(one, {_CHECKSUM: False}, before={_CHECKSUM: True}, namespace=where)
        for where, one in ((namespace, name), ("", end))
    ]
    for step in found:
        step.rank = ADD_LEGS
    return found


def drop(place: Place, leg: Leg, lost: list[Step]) -> list[Step]:
    """``leg`` as state.py has it, ``lost``: steps for what else goes with it, to have it again."""
    namespace, end = place.router, leg["end"]
    again = lenient([*make(place, {**leg, "switch": None}, leg["addresses"]), *_joined(leg)])
    again += lenient([*_finishing_checksums(namespace, leg), *lost])
    if leg["parent"] or not end:
        # A veth whose other end somebody took away is removed by this one.
        step = changes.remove_link(leg["name"], undo=again, namespace=namespace)
        step.rank = DROP_LEGS
        return [step]
    step = changes.remove_link(end, undo=again)
    step.rank = DROP_LEGS
    return [*_drop_port_of(place, leg), step]


def _drop_port_of(place: Place, leg: Leg) -> list[Step]:
    """A bridge that is going away takes its ports with it, and brings them back (ovs/plan.py)."""
    if not leg["port"] or leg["switch"] not in place.bridges:
        return []
    return [drop_port(leg["switch"], leg["port"])]


def _joined(leg: Leg) -> list[Step]:
    """In its Linux bridge; the port of an OVS bridge comes back by the undo of its own step."""
    if leg["port"] or not leg["end"] or not leg["switch"]:
        return []
    found = [changes.set_master(leg["end"], leg["switch"], before=None)]
    if leg["vlans"]:
        usual = {"1": "pvid untagged"}
        found.append(changes.set_vlans(leg["end"], leg["vlans"], before=usual))
    return found


def _finishing_checksums(namespace: str, leg: Leg) -> list[Step]:
    if leg["has_checksums_left"] or not leg["end"]:
        return []
    bridge = Bridge("", "ovs", is_userspace=True)
    return _checksums_off(bridge, namespace, leg["name"], leg["end"])


def lenient(steps: list[Step]) -> list[Step]:
    """As an undo: what is there already, or is not there, is no failure."""
    return [
        Step(
            one.action,
            {**one.args, "lenient": True} if one.action not in _ALWAYS_LENIENT else one.args,
            one.rank,
            one.commands,
        )
        for one in steps
    ]


def change(place: Place, have: Leg, leg: Leg, old: Leg | None, cidrs: list[str]) -> list[Step]:
    """From ``have`` (state.py) to ``leg``. ``old``: as it was applied last, whose ``addresses`` are
    removed if they are not among ``cidrs``.
    """
    values = _set_values(place, have, leg)
    found = [*values, *_set_addresses(place, have, old, cidrs)]
    if not leg["parent"]:
        joins = _set_join(place, have, leg, old)
        bridge = place.bridge(leg["switch"])
        if have["has_checksums_left"]:
            joins += _checksums_off(bridge, place.router, leg["name"], have["end"])
        values, found = values + joins, found + joins
    # After a change of the link all neighbours have to learn anew.
    new = cidrs if values else [cidr for cidr in cidrs if cidr not in have["addresses"]]
    return [*found, *announce(place.router, leg["name"], new)]


def _set_values(place: Place, have: Leg, leg: Leg) -> list[Step]:
    found = [
        _set(place.router, leg["name"], {key: leg[key]}, {key: have[key]})
        for key in ("mac", "mtu")
        if leg[key] and have[key] != leg[key]
    ]
    if leg["mtu"] and have["end"] and have["end_mtu"] != leg["mtu"]:
        found.append(_set("", have["end"], {"mtu": leg["mtu"]}, {"mtu": have["end_mtu"]}))
    if not have["is_up"]:
        found.append(_up(place.router, leg["name"]))
    if have["end"] and not have["end_is_up"]:
        found.append(_up("", have["end"]))
    return found


def _set(namespace: str, name: str, values: Leg, before: Leg) -> Step:
    return changes.set_link(
        name, "veth", values, before=before, rank=SET_LINKS, namespace=namespace
    )


def _set_addresses(place: Place, have: Leg, old: Leg | None, cidrs: list[str]) -> list[Step]:
    gone = [cidr for cidr in (old or {}).get("addresses", []) if cidr not in cidrs]
    rows_ = {row["address"]: row for row in have["rows"]}
    found = [
        addresses.remove_address(rows_[cidr], namespace=place.router)
        for cidr in gone
        if cidr in rows_
    ]
    for cidr in cidrs:
        if cidr not in rows_:
            row = addresses.plain_address(have["name"], cidr)
            found.append(addresses.add_address(row, namespace=place.router))
    return found


def _set_join(place: Place, have: Leg, leg: Leg, old: Leg | None) -> list[Step]:
    end, bridge = have["end"], place.bridge(leg["switch"])
    if have["switch"] != leg["switch"]:
        return [*_leave(place, have), *join(bridge, end, leg)]
    if bridge is None:
        return []
    if bridge.kind == "ovs":
        return _set_port(have["port"], port(end, leg))
    wanted = vlans_of(leg) or (bridge.vlans if old and vlans_of(old) else have["vlans"])
    if wanted == have["vlans"]:
        return []
    return [changes.set_vlans(end, wanted, before=have["vlans"])]


def _leave(place: Place, have: Leg) -> list[Step]:
    end, bridge = have["end"], place.bridge(have["switch"])
    if have["port"]:
        return _drop_port_of(place, have)
    if not have["switch"]:
        return []
    step = changes.set_master(end, None, before=have["switch"])
    step.rank = DROP_PORTS
    usual = bridge.vlans if bridge else {}
    if have["vlans"] != usual:
        step.undo += lenient([changes.set_vlans(end, have["vlans"], before=usual)])
    return [step]


def _set_port(have: dict[str, Any], row: dict[str, Any]) -> list[Step]:
    columns = ("tag", "trunks", "vlan_mode")
    changed = {one: row[one] for one in columns if (have.get(one) or None) != (row[one] or None)}
    if not changed:
        return []
    edit = rows.Edit("Port", row["name"], changed)
    back = edit.inverse(have)
    return [
        ovs_step(
            edit.operations(),
            rank=SET_PORTS,
            words=[edit.words()],
            undo=back.operations(),
            undo_words=[back.words()],
            touches=[row["name"]],
        )
    ]
