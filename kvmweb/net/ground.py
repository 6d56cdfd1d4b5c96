"""The three documents of a plan side by side: what is there, what is wanted, what was ours."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from kvmweb.net.errors import NetError

Row = dict[str, Any]
Document = dict[str, Any]


class Ground:
    """Of the host's own namespace; what is in others belongs to its router."""

    def __init__(self, actual: Document, desired: Document, owned: Document) -> None:
        self.actual = actual
        self.desired = desired
        self.there: dict[str, Row] = {
            row["name"]: row for row in actual["links"] if not row["namespace"]
        }
        self.wanted = _links(desired)
        self.owned = _links(owned)
        self.places = {name: at for at, name in enumerate(self.wanted)}
        self.fields = {name: f"links.{at}" for name, at in self.places.items()}
        self.switches = {one["name"] for one in desired.get("switches", [])}
        self.uplinks = _uplinks(desired)
        self.owned_uplinks = _uplinks(owned)
        self.switch_of = _switch_ports(actual.get("switches", []))
        self.wanted_switch_of = _switch_ports(desired.get("switches", []))
        self.networks = Networks(actual, desired)
        self.ports: dict[str, list[str]] = {}
        for row in self.there.values():
            if row["master"]:
                self.ports.setdefault(row["master"], []).append(row["name"])

    def field(self, name: str, part: str) -> str:
        return f"{self.fields[name]}.{part}" if name in self.fields else "links"

    def refuse(self, name: str, part: str, sentence: str) -> NetError:
        return NetError(sentence, field=self.field(name, part))

    def is_ours(self, name: str) -> bool:
        return bool(self.there.get(name, {}).get("owner"))

    def will_be(self, name: str) -> bool:
        """There when all is done: what is made here, or there and not taken away by us."""
        if name in self.wanted or name in self.switches or name in self.wanted_switch_of:
            return True
        return name in self.there and not (name in self.owned and self.is_made(self.owned[name]))

    @staticmethod
    def is_made(link: Row) -> bool:
        return bool(link["kind"] != "physical")

    def master(self, name: str) -> str | None:
        """The bridge or bond that the document wants it to be a port of."""
        given = self.wanted.get(name, {}).get("master")
        return given or self.uplinks.get(name)

    def owned_master(self, name: str) -> str | None:
        return self.owned.get(name, {}).get("master") or self.owned_uplinks.get(name)

    def kind(self, name: str) -> str:
        link = self.wanted.get(name)
        if link and self.is_made(link):
            return str(link["kind"])
        return str(self.there.get(name, {}).get("kind", ""))


def _links(document: Document) -> dict[str, Row]:
    return {row["name"]: row for row in document.get("links", [])}


def _uplinks(document: Document) -> dict[str, str]:
    """Linux bridges by the link that is their uplink."""
    return {
        row["uplink"]: row["name"]
        for row in document.get("links", [])
        if row["kind"] == "bridge" and row.get("uplink")
    }


def _switch_ports(switches: list[Row]) -> dict[str, str]:
    """Open vSwitch bridges by each of their interfaces."""
    return {
        name: switch["name"]
        for switch in switches
        for port in switch.get("ports", [])
        for name in [port["name"], *_interface_names(port)]
        if name != switch["name"]
    }


def _interface_names(port: Row) -> list[str]:
    return [one["name"] if isinstance(one, dict) else one for one in port.get("interfaces", [])]


@dataclass(frozen=True)
class _Known:
    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    dev: str  # "" where a route names none, or several
    is_routed: bool = False  # behind a gateway

    def __str__(self) -> str:
        if self.is_routed or not self.dev:
            return f"the route to {self.network}"
        return f"the network {self.network} of {self.dev}"


class Networks:
    """The networks that the host's links and routes have, or will have."""

    def __init__(self, actual: Document, desired: Document) -> None:
        self._known = _known(actual, desired)

    def refuse_overlap(self, dev: str, address: str, *, field: str) -> None:
        """An address on ``dev`` whose network is, or meets, that of another link or route."""
        network = ipaddress.ip_interface(address).network
        if network.prefixlen == network.max_prefixlen or network.is_link_local:
            return
        for one in self._known:
            is_other = one.dev != dev and one.network.version == network.version
            if is_other and one.network.overlaps(network):
                raise NetError(f"{address} overlaps {one}. Choose another network.", field=field)

    def reaches(self, via: str, dev: str | None) -> bool:
        """A gateway that is on one of them, on that of ``dev`` if it is given."""
        address = ipaddress.ip_address(via)
        if address.is_link_local:
            return dev is not None
        return any(
            address in one.network and dev in (None, one.dev)
            for one in self._known
            if not one.is_routed
        )


def _known(actual: Document, desired: Document) -> list[_Known]:
    """What an uplink has is its bridge's."""
    moved = _uplinks(desired) | {
        one["uplink"]: one["name"] for one in desired.get("switches", []) if one.get("uplink")
    }
    # Every link has fe80::/64.
    rows = [
        (row["to"], row["dev"] or "", bool(row["via"] or row["nexthops"]))
        for row in actual["routes"]
        if not row["namespace"] and row["type"] == "unicast"
        and row["to"] not in ("default", "fe80::/64")
    ]  # fmt: skip
    rows += [
        (row["address"], row["dev"], False)
        for row in actual["addresses"]
        if not row["namespace"] and row["scope"] == "global"
    ]
    for one in [*desired.get("links", []), *desired.get("switches", [])]:
        rows += [(address, one["name"], False) for address in one.get("addresses", [])]
    found = [
        _Known(ipaddress.ip_interface(to).network, moved.get(dev, dev), is_routed)
        for to, dev, is_routed in rows
    ]
    return [one for one in found if not one.network.is_link_local]
