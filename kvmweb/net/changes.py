"""Changes to links, ports, addresses and routes: each a function that makes the step, its command
and its undo, and beside it the action that does it, by rtnetlink and in batches.

Any part may use them: ``namespace`` "" is the host. ``lenient`` marks an undo: what it is about may
not be there, for its step may not have got that far.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Any

from kvmweb.net import step as ranks
from kvmweb.net import tuntap
from kvmweb.net.context import Context
from kvmweb.net.errors import StepError
from kvmweb.net.ethtool import Ethtool
from kvmweb.net.kernel import MARK
from kvmweb.net.kinds import KINDS, PORT, Attribute
from kvmweb.net.rtnetlink import (
    CREATE,
    DELLINK,
    EXCL,
    GETLINK,
    NEWLINK,
    SETLINK,
    Message,
    attribute,
    attributes,
    link_header,
    nested,
    text,
    u32,
)
from kvmweb.net.step import Step, action, batch

Values = dict[str, Any]

_BATCH = "rtnetlink"
(
    _ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _LINKINFO, _IFALIAS, _AF_SPEC, _GROUP,
) = (1, 3, 4, 5, 10, 18, 20, 26, 27)  # fmt: skip
_KIND, _DATA, _SLAVE_KIND, _SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_BRIDGE_FLAGS, _VLAN_INFO, _SELF = 0, 2, 2
_PVID, _UNTAGGED = 2, 4
_IFF_UP = 1
_GRE_KEY = 0x2000
# The alias can't be given as a link is made, only just after it. Until then it is in this group,
# for a helper that is killed in between.
_NEWBORN = 0x6B76


def ip(namespace: str, *words: str) -> list[str]:
    return ["ip", "-n", namespace, *words] if namespace else ["ip", *words]


def touched(namespace: str, *names: str | None) -> list[str]:
    return [] if namespace else [name for name in names if name]


@batch(_BATCH)
def flush(context: Context) -> None:
    """Send what is queued, in its order; what the kernel refuses is a ``StepError``."""
    queued, context.queues[_BATCH] = context.queues[_BATCH], []
    failures, sizes = [], dict[int, int]()
    while queued:
        namespace = queued[0][0]
        run = next((at for at, one in enumerate(queued) if one[0] != namespace), len(queued))
        socket_ = context.rtnetlink(namespace)
        socket_.pending.clear()
        messages: list[Message] = [message for _, message in queued[:run]]
        failures += socket_.change(messages)
        for message in messages:
            if not message.follows:
                sizes[message.number] = sizes.get(message.number, 0) + 1
        queued = queued[run:]
    if failures:
        numbers = [one.message.number for one in failures]
        raise StepError(
            failures[0].sentence,
            number=numbers[0],
            untouched=frozenset(one for one in numbers if numbers.count(one) >= sizes.get(one, 0)),
        )


def queue(context: Context, namespace: str, message: Message) -> None:
    context.queues[_BATCH].append((namespace, message))


def index_of(context: Context, namespace: str, name: str, *, lenient: bool = False) -> int:
    """A link's number; after the batch so far, if that makes or removes it."""
    socket_ = context.rtnetlink(namespace)
    if name in socket_.pending:
        flush(context)
    index = socket_.index(name)
    if not index and not lenient:
        raise StepError(f"There is no interface {name} any more.")
    return index


def add_link(link: Values, *, peer: Values | None = None, namespace: str = "") -> Step:
    """``link`` as in spec/hostnet.py; a veth's other end is ``peer``. Neither up nor a port yet."""
    if link["kind"] == "tap":
        return _add_tap(link["name"], namespace)
    names = [link["name"], *([peer["name"]] if peer else [])]
    return Step(
        "link.add",
        {"namespace": namespace, "link": _creation(link), "peer": peer and _creation(peer)},
        ranks.ADD_LINKS,
        [
            ip(namespace, "link", "add", *_creation_words(link, peer)),
            *(ip(namespace, "link", "set", "dev", name, "alias", MARK) for name in names),
        ],
        [_removal(namespace, link["name"])],
    )


def _creation(link: Values) -> Values:
    """Only what is given as it is made. What is off is off by itself, and a kernel that can't do it
    refuses even that (vlan_filtering 0).
    """
    kind = KINDS[link["kind"]]
    names = [one.name for one in kind.attributes if one.name != "primary"]
    given = {"name", "kind", "mtu", "mac", "parent", "group", *names}
    said = {key: value for key, value in link.items() if key in given}
    return {key: value for key, value in said.items() if value not in (None, False)}


def _creation_words(link: Values, peer: Values | None) -> list[str]:
    link = _creation(link)
    words = ["link", link["parent"]] if "parent" in link else []
    words += ["name", link["name"], *_common_words(link), "type", _kernel_kind(link)]
    if peer:
        words += ["peer", "name", peer["name"], *_common_words(_creation(peer))]
    if "group" in link:
        words += ["group", link["group"]]
    for one in KINDS[link["kind"]].attributes:
        if one.name in link:
            words += one.words(link[one.name])
    return words


def _common_words(values: Values) -> list[str]:
    words = ["address", values["mac"]] if values.get("mac") else []
    return words + (["mtu", str(values["mtu"])] if values.get("mtu") else [])


@action("link.add", batch=_BATCH)
def _link_add(context: Context, namespace: str, link: Values, peer: Values | None) -> None:
    names = [one["name"] for one in (link, peer) if one]
    data = _kind_data(context, namespace, link["kind"], link)
    if peer:
        data = [nested(_VETH_PEER, link_header(), *_birth(peer))]
    kind = _kernel_kind(link)
    beside = [u32(_LINK, index_of(context, namespace, link["parent"]))] if "parent" in link else []
    info = nested(_LINKINFO, text(_KIND, kind), nested(_DATA, *data))
    body = b"".join([link_header(), *_birth(link), *beside, info])
    queue(context, namespace, Message(NEWLINK, CREATE | EXCL, body, context.number))
    for name in names:
        body = link_header() + text(_IFNAME, name) + text(_IFALIAS, MARK) + u32(_GROUP, 0)
        queue(context, namespace, Message(NEWLINK, 0, body, context.number, follows=True))
    context.rtnetlink(namespace).pending.update(names)


def _birth(link: Values) -> list[bytes]:
    return [text(_IFNAME, link["name"]), u32(_GROUP, _NEWBORN), *_common(link)]


def _common(values: Values) -> list[bytes]:
    parts = []
    if values.get("mtu"):
        parts.append(u32(_MTU, values["mtu"]))
    if values.get("mac"):
        parts.append(attribute(_ADDRESS, bytes.fromhex(values["mac"].replace(":", ""))))
    return parts


def _kernel_kind(link: Values) -> str:
    is_6 = link["kind"] == "gretap" and ":" in link.get("remote", "")
    return "ip6gretap" if is_6 else str(link["kind"])


def _kind_data(context: Context, namespace: str, kind: str, values: Values) -> list[bytes]:
    parts = []
    for one in KINDS[kind].attributes:
        value = values.get(one.name)
        if value is not None:
            parts.append(_encoded(context, namespace, one, value))
    if kind == "vxlan":
        parts = [_encoded_vxlan(part) for part in parts]
        if values.get("group"):
            group = ipaddress.ip_address(values["group"])
            parts.append(attribute(2 if group.version == 4 else 16, group.packed))
    if kind == "gretap" and values.get("key") is not None:
        flags = struct.pack(">H", _GRE_KEY)
        parts += [attribute(2, flags), attribute(3, flags)]
        parts.append(attribute(5, struct.pack(">I", values["key"])))
    return parts


def _encoded(context: Context, namespace: str, one: Attribute, value: Any) -> bytes:
    if one.is_link:
        return u32(one.number, index_of(context, namespace, value) if value else 0)
    return attribute(one.number, one.codec.encode(value))


def _encoded_vxlan(part: bytes) -> bytes:
    """IPv6 ends have numbers of their own."""
    ((number, value),) = attributes(part).items()
    return attribute({2: 16, 4: 17}[number], value) if len(value) == 16 else part


def _add_tap(name: str, namespace: str) -> Step:
    return Step(
        "tap.add",
        {"namespace": namespace, "name": name},
        ranks.ADD_LINKS,
        [
            ip(namespace, "tuntap", "add", "dev", name, "mode", "tap"),
            ip(namespace, "link", "set", "dev", name, "alias", MARK),
        ],
        [_removal(namespace, name)],
    )


@action("tap.add")
def _tap_add(context: Context, namespace: str, name: str) -> None:
    tuntap.add(namespace, name)
    body = link_header() + text(_IFNAME, name) + text(_IFALIAS, MARK)
    queue(context, namespace, Message(NEWLINK, 0, body, context.number))
    flush(context)


def _removal(namespace: str, name: str) -> Step:
    return Step(
        "link.remove",
        {"namespace": namespace, "name": name},
        ranks.DROP_LINKS,
        [ip(namespace, "link", "delete", "dev", name)],
        touches=touched(namespace, name),
    )


def remove_link(name: str, *, undo: list[Step], namespace: str = "") -> Step:
    """Of a link that bears our mark; another one is left alone. ``undo`` makes it again."""
    step = _removal(namespace, name)
    step.undo = undo
    return step


@action("link.remove", batch=_BATCH)
def _link_remove(context: Context, namespace: str, name: str) -> None:
    index = index_of(context, namespace, name, lenient=True)
    if index and _is_ours(context, namespace, index):
        body = link_header(index=index)
        message = Message(DELLINK, 0, body, context.number, may_miss=True, removes=index)
        queue(context, namespace, message)
        context.rtnetlink(namespace).pending.add(name)


def _is_ours(context: Context, namespace: str, index: int) -> bool:
    payload = context.rtnetlink(namespace).ask(GETLINK, link_header(index=index))
    found = attributes(payload, 16) if payload else {}
    newborn = struct.pack("=I", _NEWBORN)
    return found.get(_IFALIAS, b"").rstrip(b"\0") == MARK.encode() or found.get(_GROUP) == newborn


def set_link(
    name: str, kind: str, values: Values, *, before: Values, rank: int, namespace: str = ""
) -> Step:
    """``values``: mtu, mac, is_up and the kind's own attributes; ``before``: what they were."""
    return Step(
        "link.set",
        {"namespace": namespace, "name": name, "kind": kind, "values": values, "lenient": False},
        rank,
        _set_words(namespace, name, kind, values),
        [_set_back(namespace, name, kind, before)] if before else [],
        touched(namespace, name),
    )


def _set_back(namespace: str, name: str, kind: str, values: Values) -> Step:
    arguments = {"namespace": namespace, "name": name, "kind": kind, "values": values}
    commands = _set_words(namespace, name, kind, values)
    return Step("link.set", {**arguments, "lenient": True}, ranks.SET_LINKS, commands)


def _set_words(namespace: str, name: str, kind: str, values: Values) -> list[list[str]]:
    words = _common_words(values)
    if "is_up" in values:
        words.append("up" if values["is_up"] else "down")
    commands = [ip(namespace, "link", "set", "dev", name, *words)] if words else []
    own: list[str] = []
    for one in _attributes(kind):
        if one.name in values:
            own += one.words(values[one.name] or "none")
    if own:
        commands.append(ip(namespace, "link", "set", "dev", name, "type", kind, *own))
    return commands


def _attributes(kind: str) -> tuple[Attribute, ...]:
    return KINDS[kind].attributes if kind in KINDS else ()


@action("link.set", batch=_BATCH)
def _link_set(
    context: Context, namespace: str, name: str, kind: str, values: Values, *, lenient: bool
) -> None:
    parts = [text(_IFNAME, name), *_common(values)]
    if any(one.name in values for one in _attributes(kind)):
        own = [
            _encoded(context, namespace, one, values[one.name])
            for one in _attributes(kind)
            if one.name in values and (one.is_link or values[one.name] is not None)
        ]
        parts.append(nested(_LINKINFO, text(_KIND, kind), nested(_DATA, *own)))
    flags = {"flags": _IFF_UP * values["is_up"], "change": _IFF_UP} if "is_up" in values else {}
    body = b"".join([link_header(**flags), *parts])
    queue(context, namespace, Message(NEWLINK, 0, body, context.number, may_miss=lenient))


def set_master(
    name: str, master: str | None, *, before: str | None, is_bond: bool = False,
    was_up: bool = False, namespace: str = "",
) -> Step:  # fmt: skip
    """A bond takes only what is down, and sets it up itself."""
    words = ["master", master] if master else ["nomaster"]
    commands = [ip(namespace, "link", "set", "dev", name, *words)]
    if is_bond:
        commands.insert(0, ip(namespace, "link", "set", "dev", name, "down"))
    arguments = {"namespace": namespace, "name": name, "master": master}
    undo = {"namespace": namespace, "name": name, "master": before}
    return Step(
        "link.master",
        {**arguments, "is_bond": is_bond, "is_up": None, "lenient": False},
        ranks.ENSLAVE,
        commands,
        [
            Step(
                "link.master",
                {**undo, "is_bond": False, "is_up": was_up if is_bond else None, "lenient": True},
                ranks.ENSLAVE,
                [ip(namespace, "link", "set", "dev", name, *_master_words(before))],
            )
        ],
        touched(namespace, name, master, before),
    )


def _master_words(master: str | None) -> list[str]:
    return ["master", master] if master else ["nomaster"]


@action("link.master", batch=_BATCH)
def _link_master(
    context: Context, namespace: str, name: str, master: str | None, *, is_bond: bool,
    is_up: bool | None, lenient: bool,
) -> None:  # fmt: skip
    number = index_of(context, namespace, master, lenient=lenient) if master else 0
    if master and not number:
        return
    head = text(_IFNAME, name)
    if is_bond:
        down = link_header(change=_IFF_UP) + head
        queue(context, namespace, Message(NEWLINK, 0, down, context.number, may_miss=lenient))
    body = link_header() + head + u32(_MASTER, number)
    queue(context, namespace, Message(NEWLINK, 0, body, context.number, may_miss=lenient))
    if is_up is not None:
        body = link_header(flags=_IFF_UP * is_up, change=_IFF_UP) + head
        queue(context, namespace, Message(NEWLINK, 0, body, context.number, may_miss=lenient))


def set_port(name: str, values: Values, *, before: Values, namespace: str = "") -> Step:
    """cost, priority, is_isolated, is_hairpin of a port of a Linux bridge."""

    def one(values: Values, *, lenient: bool) -> Step:
        words = [word for one in PORT if one.name in values for word in one.words(values[one.name])]
        prefix = ["bridge", "-n", namespace] if namespace else ["bridge"]
        return Step(
            "port.set",
            {"namespace": namespace, "name": name, "values": values, "lenient": lenient},
            ranks.SET_PORTS,
            [[*prefix, "link", "set", "dev", name, *words]],
            touches=touched(namespace, name),
        )

    step = one(values, lenient=False)
    step.undo = [one(before, lenient=True)] if before else []
    return step


@action("port.set", batch=_BATCH)
def _port_set(
    context: Context, namespace: str, name: str, values: Values, *, lenient: bool
) -> None:
    data = [
        attribute(one.number, one.codec.encode(values[one.name]))
        for one in PORT
        if values.get(one.name) is not None
    ]
    info = nested(_LINKINFO, text(_SLAVE_KIND, "bridge"), nested(_SLAVE_DATA, *data))
    body = link_header() + text(_IFNAME, name) + info
    queue(context, namespace, Message(NEWLINK, 0, body, context.number, may_miss=lenient))


# VLANs of a port, or of a bridge itself: {"10": "pvid untagged", "20": ""}, by number.
Vlans = dict[str, str]


def vlans_of(where: Values) -> Vlans:
    """From ``pvid``, ``vlans`` and ``untagged`` as links.py reads them."""
    found = {str(vlan): "" for vlan in where.get("vlans", [])}
    found |= {str(vlan): "untagged" for vlan in where.get("untagged", [])}
    return found | ({str(where["pvid"]): "pvid untagged"} if where.get("pvid") else {})


def set_vlans(
    name: str, wanted: Vlans, *, before: Vlans, itself: bool = False, namespace: str = ""
) -> Step:
    """Exactly ``wanted``. ``itself``: of a bridge as such."""

    def one(wanted: Vlans, before: Vlans, *, lenient: bool) -> Step:
        prefix = ["bridge", "-n", namespace] if namespace else ["bridge"]
        tail = ["self"] if itself else []
        drop = [vlan for vlan in before if vlan not in wanted]
        add = {vlan: how for vlan, how in wanted.items() if before.get(vlan) != how}
        return Step(
            "port.vlans",
            {
                "namespace": namespace, "name": name, "add": add, "drop": drop, "itself": itself,
                "lenient": lenient,
            },
            ranks.SET_PORTS,
            [
                *([*prefix, "vlan", "del", "dev", name, "vid", vlan, *tail] for vlan in drop),
                *(
                    [*prefix, "vlan", "add", "dev", name, "vid", vlan, *how.split(), *tail]
                    for vlan, how in add.items()
                ),
            ],
            touches=touched(namespace, name),
        )  # fmt: skip

    step = one(wanted, before, lenient=False)
    step.undo = [one(before, wanted, lenient=True)]
    return step


@action("port.vlans", batch=_BATCH)
def _port_vlans(
    context: Context, namespace: str, name: str, add: Vlans, drop: list[str], *, itself: bool,
    lenient: bool,
) -> None:  # fmt: skip
    index = index_of(context, namespace, name, lenient=lenient)
    if not index:
        return
    head = link_header(family=socket.AF_BRIDGE, index=index)
    flags = [attribute(_BRIDGE_FLAGS, struct.pack("=H", _SELF))] if itself else []
    for kind, several in ((DELLINK, dict.fromkeys(drop, "")), (SETLINK, add)):
        infos = [attribute(_VLAN_INFO, _vlan(vlan, how)) for vlan, how in several.items()]
        if infos:
            body = head + nested(_AF_SPEC, *flags, *infos)
            queue(context, namespace, Message(kind, 0, body, context.number, may_miss=lenient))


def _vlan(vlan: str, how: str) -> bytes:
    flags = (_PVID if "pvid" in how else 0) | (_UNTAGGED if "untagged" in how else 0)
    return struct.pack("=HH", flags, int(vlan))


def set_offloads(
    name: str, values: dict[str, bool], *, before: dict[str, bool], namespace: str = ""
) -> Step:
    """ethtool's features; see ethtool.py for the names."""

    def one(values: dict[str, bool], *, lenient: bool) -> Step:
        words = [w for key, is_on in values.items() for w in (key, "on" if is_on else "off")]
        prefix = ["ip", "netns", "exec", namespace] if namespace else []
        return Step(
            "link.offloads",
            {"namespace": namespace, "name": name, "values": values, "lenient": lenient},
            ranks.SET_LINKS,
            [[*prefix, "ethtool", "-K", name, *words]],
            touches=touched(namespace, name),
        )

    step = one(values, lenient=False)
    step.undo = [one(before, lenient=True)] if before else []
    return step


@action("link.offloads")
def _link_offloads(
    context: Context, namespace: str, name: str, values: dict[str, bool], *, lenient: bool
) -> None:
    kernel = context.rtnetlink(namespace)
    if lenient and not kernel.index(name):
        return
    Ethtool(kernel.plain).set(name, values)
