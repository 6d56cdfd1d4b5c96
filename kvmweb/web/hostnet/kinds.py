"""What can be made and changed by a form, and where in the document it goes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel

from kvmweb.spec import hostnet as spec
from kvmweb.spec.hostnet_edits import Document, put, with_link, with_members, without_link
from kvmweb.web.hostnet.shapes import is_fixed

Text = str | Promise


@dataclass(frozen=True)
class Kind:
    """``section``: the list of the document it lies in; ports and mirrors lie in a switch's.
    ``basic``: the fields that are asked for at once; the others are under “More settings”.
    ``named``: the first free of name0, name1, ... is proposed.
    """

    name: str
    label: Text
    hint: Text
    icon: str
    model: type[BaseModel]
    section: str
    basic: tuple[str, ...]
    without: frozenset[str] = frozenset()
    named: str = ""
    has_members: bool = False

    @property
    def is_in_switch(self) -> bool:
        return self.section in ("ports", "mirrors")

    @property
    def fixed(self) -> Document:
        """What the form does not ask for, because the kind says it."""
        info = self.model.model_fields.get("kind")
        return {"kind": info.get_default()} if info and is_fixed(info) else {}


# What is typed to say that DHCP tells no gateway; nothing typed says: the leg's own address.
NO_ROUTER = "none"

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="bridge",
            label=_("Linux bridge"),
            hint=_(
                "A switch in the host's kernel, to which machines, network cards and routers plug."
            ),
            icon="topology-star-3",
            model=spec.Bridge,
            section="links",
            basic=("name", "uplink", "addresses", "vlan_filtering", "mtu"),
            named="br",
            has_members=True,
        ),
        Kind(
            name="switch",
            label=_("Open vSwitch bridge"),
            hint=_("A switch with VLAN tags, tunnels, mirrors and flows."),
            icon="topology-star-ring-3",
            model=spec.Switch,
            section="switches",
            basic=("name", "uplink", "addresses", "datapath_type"),
            without=frozenset({"ports", "mirrors"}),
            named="ovsbr",
        ),
        Kind(
            name="router",
            label=_("Router"),
            hint=_(
                "A network namespace that forwards between bridges, with NAT, filters and DHCP: "
                "what a router in a box would do."
            ),
            icon="router",
            model=spec.Router,
            section="routers",
            basic=("name", "legs", "snat", "dhcp"),
            named="router",
        ),
        Kind(
            name="vlan",
            label=_("VLAN"),
            hint=_("A link that carries one VLAN (802.1Q) of another link."),
            icon="tag",
            model=spec.VlanLink,
            section="links",
            basic=("parent", "id", "name", "addresses", "master"),
        ),
        Kind(
            name="bond",
            label=_("Bond"),
            hint=_("Several network cards that work as one, for speed or in case one fails."),
            icon="link",
            model=spec.Bond,
            section="links",
            basic=("name", "mode", "addresses", "master"),
            named="bond",
            has_members=True,
        ),
        Kind(
            name="veth",
            label=_("veth pair"),
            hint=_("A cable: two links; what goes in at one end comes out at the other."),
            icon="plug-connected",
            model=spec.Veth,
            section="links",
            basic=("name", "peer", "addresses", "master"),
            named="veth",
        ),
        Kind(
            name="vxlan",
            label=_("VXLAN tunnel"),
            hint=_("Carries Ethernet to other hosts in UDP packets."),
            icon="route",
            model=spec.Vxlan,
            section="links",
            basic=("name", "id", "remote", "master"),
            named="vxlan",
        ),
        Kind(
            name="gretap",
            label=_("GRE tunnel"),
            hint=_("Carries Ethernet to another host in GRE packets."),
            icon="route-2",
            model=spec.Gretap,
            section="links",
            basic=("name", "remote", "key", "master"),
            named="gretap",
        ),
        Kind(
            name="macvlan",
            label=_("macvlan or macvtap"),
            hint=_("A link with a MAC address of its own on a network card."),
            icon="network",
            model=spec.Macvlan,
            section="links",
            basic=("kind", "name", "parent", "mode"),
            named="macvtap",
        ),
        Kind(
            name="dummy",
            label=_("Dummy"),
            hint=_("A link that leads nowhere; for addresses that must always be there."),
            icon="circle-dotted",
            model=spec.Dummy,
            section="links",
            basic=("name", "addresses", "master"),
            named="dummy",
        ),
        Kind(
            name="tap",
            label=_("tap"),
            hint=_("A device to which a program plugs, such as a machine of your own making."),
            icon="device-desktop",
            model=spec.Tap,
            section="links",
            basic=("name", "master"),
            named="tap",
        ),
        Kind(
            name="physical",
            label=_("Link that is there"),
            hint=_(
                "Settings of a network card, or of another link this site did not make. When they "
                "are removed here, the link is put back as it was."
            ),
            icon="network",
            model=spec.Physical,
            section="links",
            basic=("name", "mtu", "addresses", "master", "is_up"),
        ),
        Kind(
            name="port",
            label=_("Port"),
            hint=_(
                "A port of an Open vSwitch bridge: a link, a tunnel, or a bond of several links."
            ),
            icon="plug",
            model=spec.Port,
            section="ports",
            basic=("name", "kind", "tag", "trunks", "remote_ip", "key", "peer"),
        ),
        Kind(
            name="mirror",
            label=_("Mirror (SPAN)"),
            hint=_("Copies what some ports carry to another port, for a look with tcpdump."),
            icon="copy",
            model=spec.Mirror,
            section="mirrors",
            basic=("name", "select_all", "select_src_ports", "select_dst_ports", "output_port"),
            named="span",
        ),
        Kind(
            name="route",
            label=_("Route"),
            hint=_("How the host itself reaches a network."),
            icon="arrow-ramp-right",
            model=spec.Route,
            section="routes",
            basic=("to", "via", "dev", "metric"),
        ),
        Kind(
            name="forward",
            label=_("Port forward"),
            hint=_("A port of the host that leads to a machine behind a virtual network with NAT."),
            icon="arrow-forward-up",
            model=spec.Forward,
            section="forwards",
            basic=("network", "protocol", "port", "to", "to_port", "address", "comment"),
        ),
    )
}
# In the menu “Add”; what is within a bridge of Open vSwitch is added on its own page.
TO_ADD = [
    kind
    for kind in KINDS.values()
    if not kind.is_in_switch and kind.name not in ("physical", "forward")
]


def kind_of(link: Mapping[str, Any]) -> Kind:
    """The kind whose form edits an entry of ``links``."""
    name = link["kind"]
    return KINDS["macvlan" if name == "macvtap" else name]


def entries(kind: Kind, document: Document, switch: str = "") -> list[Document]:
    """The list in which entries of this kind lie."""
    holder: Document = document
    if kind.is_in_switch:
        named = (one for one in document.get("switches", []) if one["name"] == switch)
        holder = next(named, {})
    found: list[Document] = holder.get(kind.section, [])
    return found


def find(kind: Kind, document: Document, key: str, switch: str = "") -> Document | None:
    """The entry called ``key``: its name, or what stands for one (``key_of``)."""
    return next((one for one in entries(kind, document, switch) if key_of(one) == key), None)


def key_of(entry: Mapping[str, Any]) -> str:
    """What an entry is called in addresses; routes and forwards have no name."""
    if "name" in entry:
        return str(entry["name"])
    fields = (
        ("protocol", "address", "port") if "to_port" in entry else ("to", "via", "dev", "metric")
    )
    return " ".join(str(entry[name]) for name in fields if entry.get(name) is not None)


def written(
    kind: Kind,
    document: Document,
    entry: Document,
    *,
    old: Document | None,
    switch: str = "",
    members: list[str] | None = None,
) -> Document:
    """The document with the entry in the place of ``old``, or new. ``members``: its ports."""
    if kind.section == "links":
        document = _with_link(document, entry, old)
        return document if members is None else with_members(document, entry["name"], members)
    new = put(entries(kind, document, switch), entry, old=old)
    return _with_entries(kind, document, new, switch)


def removed(kind: Kind, document: Document, entry: Document, switch: str = "") -> Document:
    """The document without the entry, and without what says it is its port."""
    if kind.section == "links":
        return without_link(document, entry["name"])
    left = [one for one in entries(kind, document, switch) if one != entry]
    return _with_entries(kind, document, left, switch)


def _with_link(document: Document, link: Document, old: Document | None) -> Document:
    """A pair of veth is made whole."""
    document = with_link(document, link, old=old["name"] if old else "")
    if link["kind"] == "veth" and not any(one["name"] == link["peer"] for one in document["links"]):
        other = spec.Veth(name=link["peer"], peer=link["name"]).model_dump(mode="json")
        document = with_link(document, other)
    return document


def _with_entries(kind: Kind, document: Document, new: list[Document], switch: str) -> Document:
    if not kind.is_in_switch:
        return {**document, kind.section: new}
    switches = [
        {**one, kind.section: new} if one["name"] == switch else one
        for one in document.get("switches", [])
    ]
    return {**document, "switches": switches}


def completed(kind: Kind, values: dict[str, Any]) -> dict[str, Any]:
    """What was typed, with what follows from it."""
    values = {**values, **kind.fixed}
    if kind.name == "vlan" and not values.get("name") and {"parent", "id"} <= values.keys():
        values["name"] = f"{values['parent']}.{values['id']}"
    if "dhcp" in values:
        values["dhcp"] = [
            {**one, "router": ""} if one.get("router") == NO_ROUTER else one
            for one in values["dhcp"]
        ]
    return values


def as_typed(values: Document) -> Document:
    """An entry as a person would type it in the form."""
    if "dhcp" not in values:
        return dict(values)
    pools = [{**one, "router": NO_ROUTER} if one["router"] == "" else one for one in values["dhcp"]]
    return {**values, "dhcp": pools}


def proposed(kind: Kind, taken: set[str]) -> str:
    """The first name that is free."""
    if not kind.named:
        return ""
    numbers = range(1 if kind.name == "router" else 0, len(taken) + 2)
    return next(name for number in numbers if (name := f"{kind.named}{number}") not in taken)
