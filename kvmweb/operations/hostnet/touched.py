"""Which machines a plan disturbs: those plugged, over however many links, into what it touches."""

from collections.abc import Iterable
from typing import Any

from kvmweb.models import Host, Machine, Network, Nic


def machines(host: Host, actual: dict[str, Any], touched: Iterable[str]) -> list[dict[str, str]]:
    """By name: {"uuid", "name"}. Those that are off are touched too: they would not start."""
    names = carried(actual, touched)
    networks = Network.objects.filter(host=host, bridge__in=names).values_list("name", flat=True)
    nics = Nic.objects.filter(host=host).select_related(None)
    found: set[int] = set()
    for nic in nics.only("machine", "kind", "source", "tap"):
        by_network = nic.kind == "network" and nic.source in networks
        if nic.tap in names or nic.source in names or by_network:
            found.add(nic.machine_id)
    rows = Machine.objects.filter(pk__in=found).order_by("name").values_list("uuid", "name")
    return [{"uuid": str(uuid), "name": name} for uuid, name in rows]


def carried(actual: dict[str, Any], names: Iterable[str]) -> set[str]:
    """The links, and what lies on them: the bridge a card is a port of, the VLANs on a link, the
    other end of a pair.
    """
    above = _above(actual)
    found: set[str] = set()
    waiting = [name for name in names if name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += above.get(name, ())
    return found


def _above(actual: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for link in actual.get("links", []):
        if link["namespace"]:
            continue
        if link.get("master"):
            found.setdefault(link["name"], []).append(link["master"])
        if link.get("parent"):
            found.setdefault(link["parent"], []).append(link["name"])
    for switch in actual.get("switches", []):
        for port in switch["ports"]:
            for interface in port["interfaces"]:
                found.setdefault(interface["name"], []).append(switch["name"])
    return found
