"""What the mirror knows of a host's network, arranged for the eye."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from kvmweb.models import Host, HostNetwork, Network, Nic
from kvmweb.models.access import Viewer
from kvmweb.spec.hostnet_edits import Document, entry
from kvmweb.web.hostnet.kinds import Kind, key_of, kind_of

Text = str | Promise
Json = dict[str, Any]

KIND_NAMES: dict[str, Text] = {
    "physical": _("network card"),
    "loopback": _("loopback"),
    "bridge": _("Linux bridge"),
    "bond": _("bond"),
    "vlan": _("VLAN"),
    "veth": _("veth"),
    "vxlan": _("VXLAN tunnel"),
    "gretap": _("GRE tunnel"),
    "dummy": _("dummy"),
    "macvlan": _("macvlan"),
    "macvtap": _("macvtap"),
    "tap": _("tap"),
    "tun": _("tun"),
    "openvswitch": _("Open vSwitch"),
}
# Of a link, what has a place of its own on the page.
_PLACED = {
    "namespace", "name", "kind", "is_up", "operstate", "carrier", "addresses", "master", "port",
    "offloads", "fixed_offloads", "counters", "owner", "alias", "is_default", "vlans", "untagged",
    "pvid",
}  # fmt: skip
FACT_NAMES: dict[str, Text] = {
    "index": _("Number"),
    "mtu": _("MTU"),
    "mac": _("MAC address"),
    "driver": _("Driver"),
    "speed": _("Speed (Mbit/s)"),
    "duplex": _("Duplex"),
    "parent": _("On"),
    "peer": _("Other end"),
    "peer_namespace": _("Other end in the namespace"),
    "id": _("VLAN or VNI"),
    "protocol": _("Protocol"),
    "stp": _("Spanning tree (STP)"),
    "vlan_filtering": _("VLAN aware"),
    "ageing_time": _("Forget MAC addresses after (s)"),
    "forward_delay": _("Forward delay (s)"),
    "priority": _("Priority"),
    "default_pvid": _("VLAN of new ports"),
    "mode": _("Mode"),
    "miimon": _("Look at the links every (ms)"),
    "remote": _("Other end"),
    "local": _("This end"),
    "group": _("Multicast group"),
    "dev": _("Over"),
    "port_number": _("UDP port"),
    "key": _("Key"),
    "cost": _("Cost"),
    "state": _("State"),
    "is_isolated": _("Isolated"),
    "is_hairpin": _("Hairpin"),
    "pvid": _("Untagged VLAN (PVID)"),
    "vlans": _("Tagged VLANs"),
    "untagged": _("Also untagged"),
}
COUNTERS: tuple[tuple[str, Text], ...] = (
    ("bytes", _("Bytes")),
    ("packets", _("Packets")),
    ("errors", _("Errors")),
    ("drops", _("Dropped")),
)


@dataclass(frozen=True)
class Link:
    """A link with what the rest of the mirror says of it. ``machine``: whose tap it is."""

    found: Json
    machine: Nic | None = None
    network: str = ""
    usage: Json = field(default_factory=dict)
    wanted: Document | None = None

    @property
    def name(self) -> str:
        return str(self.found["name"])

    @property
    def kind(self) -> Text:
        name = str(self.found["kind"])
        return KIND_NAMES.get(name, name)

    @property
    def state(self) -> str:
        """up, down, or what lies between; links without a carrier of their own say unknown."""
        if not self.found["is_up"]:
            return "down"
        told = str(self.found.get("operstate", "unknown"))
        return "up" if told == "unknown" else told

    @property
    def state_words(self) -> Text:
        return STATES.get(self.state, self.state)

    @property
    def is_ours(self) -> bool:
        return self.wanted is not None or bool(self.found.get("owner"))

    @property
    def editing(self) -> Kind:
        """The form that changes it: what we did not make is only added to."""
        return kind_of(self.wanted) if self.wanted else kind_of({"kind": "physical"})


STATES: dict[str, Text] = {
    "up": _("up"),
    "down": _("switched off"),
    "lowerlayerdown": _("no link below"),
    "notpresent": _("not there"),
    "dormant": _("waiting"),
    "testing": _("testing"),
}


class Shown:
    """The network of one host, for one person."""

    def __init__(self, host: Host, row: HostNetwork, user: Viewer) -> None:
        self.host, self.row = host, row
        self.actual: Json = row.actual
        nics = Nic.objects.visible_to(user).filter(host=host).exclude(tap="")
        self._taps = {nic.tap: nic for nic in nics.select_related("machine")}
        networks = Network.objects.visible_to(user).filter(host=host).exclude(bridge="")
        self._networks = dict(networks.values_list("bridge", "name"))
        self._wanted = {one["name"]: one for one in row.desired.get("links", [])}
        self._links: dict[str, list[Link]] = {}
        for one in self.actual.get("links", []):
            self._links.setdefault(one["namespace"], []).append(self._link(one))

    @property
    def is_read(self) -> bool:
        return bool(self.actual)

    @property
    def ovs(self) -> Json:
        found: Json = self.actual.get("ovs", {})
        return found

    def links(self, namespace: str = "") -> list[Link]:
        return self._links.get(namespace, [])

    def namespaces(self) -> list[str]:
        return list(self.actual.get("namespaces", []))

    def link(self, name: str) -> Link | None:
        return next((one for one in self.links() if one.name == name), None)

    def bridges(self) -> list[tuple[Link, list[Link]]]:
        """Each Linux bridge with its ports."""
        ports: dict[str, list[Link]] = {}
        for one in self.links():
            ports.setdefault(one.found.get("master") or "", []).append(one)
        bridges = [one for one in self.links() if one.found["kind"] == "bridge"]
        return [(one, ports.get(one.name, [])) for one in bridges]

    def on_it(self, link: Link) -> list[Link]:
        """What lies on a link: its ports, VLANs on it, the other end of the pair."""
        name = link.name
        return [
            one
            for one in self.links()
            if name in (one.found.get("master"), one.found.get("parent"))
            or (one.found.get("peer") == name and not one.found.get("peer_namespace"))
        ]

    def switches(self) -> list[Json]:
        """Bridges of Open vSwitch, each port with what it is plugged to and what we want of it."""
        return [self._switch(one) for one in self.actual.get("switches", [])]

    def _switch(self, switch: Json) -> Json:
        wanted = entry(self.row.desired, "switches", switch["name"])
        ports = {one["name"]: one for one in (wanted or {}).get("ports", [])}
        return {
            **switch,
            "wanted": wanted,
            "ports": [
                {
                    **port,
                    "wanted": ports.get(port["name"]),
                    "kind": _port_kind(port),
                    "machine": self._taps.get(port["name"]),
                }
                for port in switch["ports"]
            ],
        }

    def routers(self) -> list[Json]:
        """Those we made, and all other namespaces."""
        wanted = {one["name"]: one for one in self.row.desired.get("routers", [])}
        found = {one["name"]: one for one in self.actual.get("routers", [])}
        names = [*wanted, *(name for name in [*found, *self.namespaces()] if name not in wanted)]
        return [
            {
                "name": name,
                "wanted": wanted.get(name),
                "found": found.get(name),
                "links": self.links(name),
                "routes": self.routes(name),
                "is_there": name in self.namespaces(),
            }
            for name in dict.fromkeys(names)
        ]

    def routes(self, namespace: str = "") -> list[Json]:
        """Of the main table; the kernel's own for its links last."""
        found = [
            one
            for one in self.actual.get("routes", [])
            if one.get("namespace", "") == namespace and one.get("table", 254) == 254
        ]
        return sorted(found, key=lambda one: (one.get("protocol") == "kernel", one["family"]))

    def wanted_route(self, route: Json) -> Document | None:
        for one in self.row.desired.get("routes", []):
            if one["to"] == route["to"] and one.get("via") == route.get("via"):
                return dict(one)
        return None

    def features(self) -> list[tuple[str, bool]]:
        return sorted(self.actual.get("features", {}).items(), key=lambda one: (one[1], one[0]))

    def _link(self, found: Json) -> Link:
        name = found["name"]
        is_hosts = not found["namespace"]
        return Link(
            found,
            machine=self._taps.get(name) if is_hosts else None,
            network=self._networks.get(name, "") if is_hosts else "",
            usage=self.row.usage.get(name, {}) if is_hosts else {},
            wanted=self._wanted.get(name) if is_hosts else None,
        )


def _port_kind(port: Json) -> str:
    """Of a bond, how many links it has."""
    interfaces = port["interfaces"]
    if len(interfaces) > 1:
        return "bond"
    return str(interfaces[0].get("type") or "system") if interfaces else ""


def facts(found: Mapping[str, Any]) -> Iterator[tuple[Text, Any]]:
    """All that a link says, but for what has a place of its own."""
    for name, value in found.items():
        if name not in _PLACED and value not in (None, "", [], {}):
            yield FACT_NAMES.get(name, name), _words(value)


def port_facts(port: Mapping[str, Any]) -> Iterator[tuple[Text, Any]]:
    for name, value in port.items():
        if value not in (None, "", []):
            yield FACT_NAMES.get(name, name), _words(value)


def _words(value: Any) -> Any:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value


def summary(before: Document, after: Document) -> list[tuple[str, str]]:
    """What a change is about, in short: ("+", "br0"), ("-", "old"), ("~", "eth0")."""
    found: list[tuple[str, str]] = []
    for section in ("links", "switches", "routers", "routes", "forwards"):
        old, new = (_keyed(one.get(section, [])) for one in (before, after))
        found += [("+", key) for key in new if key not in old]
        found += [("-", key) for key in old if key not in new]
        found += [("~", key) for key in new if key in old and new[key] != old[key]]
    return found


def _keyed(entries: Iterable[Document]) -> dict[str, Document]:
    return {key_of(one): one for one in entries}
