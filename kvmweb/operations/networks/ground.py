"""What is on a host already: subnets, bridges, links. From the mirror, as far as that knows."""

from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext as _

from kvmweb.models import Host, HostNetwork, Network
from kvmweb.spec import network as spec
from kvmweb.spec.subnets import Taken, taken
from kvmweb.spec.xml import XmlError


def taken_on(host: Host, *, but: Network | None = None) -> list[Taken]:
    """Every subnet of the host's networks, links and routes, but this network's own."""
    networks = list(Network.objects.filter(host=host))
    others = [one for one in networks if but is None or one.pk != but.pk]
    known = [found for one in others for found in _of_network(one)]
    # What libvirt made of these was told above, by the better name.
    bridges = {one.bridge for one in networks if one.bridge}
    return known + [found for found in _of_host(actual(host), bridges) if found]


def _of_network(network: Network) -> Iterator[Taken]:
    by = _("the network “%s”") % network.name
    for document in {network.xml, network.definition}:
        try:
            for address in spec.addresses(document):
                if found := taken(address, by):
                    yield found
        except XmlError:
            continue  # the mirror keeps whatever libvirt gave


def _of_host(state: dict[str, Any], bridges: set[str]) -> Iterator[Taken | None]:
    for row in _own(state, "addresses", bridges):
        yield taken(row["address"], _("the host's link %s") % row["dev"])
    for row in _own(state, "routes", bridges):
        by = _("the host's route by %s") % (row["dev"] or row.get("via") or "?")
        yield taken(row["to"], by)


def _own(state: dict[str, Any], part: str, bridges: set[str]) -> Iterator[dict[str, Any]]:
    """Rows of the host itself, not of namespaces, nor of bridges that are known by a network."""
    for row in state.get(part, []):
        if not row["namespace"] and row.get("dev") not in bridges:
            yield row


def actual(host: Host) -> dict[str, Any]:
    """How the host's own network is; empty where nobody reads it."""
    state: dict[str, Any] = HostNetwork.of(host).actual
    return state


def addresses(host: Host) -> list[dict[str, Any]]:
    """The host's own addresses."""
    return [row for row in actual(host).get("addresses", []) if not row["namespace"]]


def links(host: Host) -> dict[str, dict[str, Any]]:
    """The host's links by name."""
    return {one["name"]: one for one in actual(host).get("links", []) if not one["namespace"]}


def bridges(host: Host) -> dict[str, str]:
    """Bridges that a network can join, by name: "linux" or "openvswitch"."""
    own = _own_bridges(host)
    found = {name: "linux" for name, one in links(host).items() if one["kind"] == "bridge"}
    found |= {one["name"]: "openvswitch" for one in actual(host).get("switches", [])}
    return {name: kind for name, kind in sorted(found.items()) if name not in own}


def _own_bridges(host: Host) -> set[str]:
    """Those that libvirt made."""
    joining = ("bridge", "private", "vepa", "passthrough", "hostdev")
    rows = Network.objects.filter(host=host).exclude(forward_mode__in=joining)
    return set(rows.values_list("bridge", flat=True))


def devices(host: Host) -> list[str]:
    """Links that a network can go out by, or macvtap devices lie on."""
    kinds, own = ("physical", "bond", "vlan", "bridge"), _own_bridges(host)
    found = links(host).items()
    return sorted(name for name, one in found if one["kind"] in kinds and name not in own)
