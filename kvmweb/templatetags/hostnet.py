"""How a host's network is shown: rates, VLANs, what a router's legs are plugged into."""

import contextlib
from typing import Any

from django import template
from django.http import QueryDict
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from kvmweb.models import Host, NetworkChange
from kvmweb.operations import hostnet
from kvmweb.operations.operation import OPERATIONS, Operation
from kvmweb.spec.hostnet import HostNetwork as Wanted
from kvmweb.spec.hostnet_edits import to_yaml

register = template.Library()
Text = str | Promise

FEATURES: dict[str, Text] = {
    "vlan": _("VLANs (8021q)"),
    "vlan_filtering": _("VLAN-aware bridges"),
    "bridge": _("Linux bridges"),
    "bond": _("bonds"),
    "netns": _("network namespaces (routers)"),
    "gretap": _("GRE tunnels"),
    "vxlan": _("VXLAN tunnels"),
    "dummy": _("dummy links"),
    "macvlan": _("macvlan"),
    "macvtap": _("macvtap"),
    "veth": _("veth pairs"),
    "tap": _("tap devices"),
}


@register.filter
def feature(name: str) -> Text:
    """What a kernel may be able to do, in words."""
    kind, _colon, rest = name.partition(":")
    return FEATURES.get(name) or (f"tc qdisc {rest}" if kind == "qdisc" else name)


@register.filter
def bit_rate(bits: int | None) -> str:
    """``12.3 Mbit/s``; empty where it is not known."""
    if not isinstance(bits, int):
        return ""
    size = float(bits)
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bit/s" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} Gbit/s"


@register.filter
def mbit(speed: int | None) -> str:
    """A link's speed, given in Mbit/s."""
    if not speed or speed < 0:
        return ""
    return f"{speed / 1000:g} Gbit/s" if speed >= 1000 else f"{speed} Mbit/s"


@register.filter
def grouped(number: int | None) -> str:
    """1234567 -> 1 234 567, with narrow spaces that do not break."""
    return f"{number:,}".replace(",", "\u202f") if isinstance(number, int) else ""


@register.filter
def ranges(numbers: list[int] | None) -> str:
    """VLANs: 1, 2, 3, 7 -> 1-3, 7."""
    found: list[list[int]] = []
    for number in numbers or []:
        if found and number == found[-1][-1] + 1:
            found[-1] = [found[-1][0], number]
        else:
            found.append([number])
    return ", ".join("-".join(map(str, one)) for one in found)


@register.filter
def plugged(router: dict[str, Any] | None, name: str) -> str:
    """Where a router's leg ends: its bridge and VLAN."""
    legs = router["legs"] if router else []
    leg = next((one for one in legs if one["name"] == name), None)
    if leg is None:
        return ""
    if leg["parent"]:
        return f"{leg['parent']} · VLAN {leg['vlan']}"
    where = leg["switch"] or ""
    if leg["tag"]:
        return f"{where} · VLAN {leg['tag']}"
    return f"{where} · VLANs {ranges(leg['trunks'])}" if leg["trunks"] else where


@register.filter
def as_yaml(document: dict[str, Any]) -> str:
    """A host's network as a person would write it."""
    with contextlib.suppress(ValueError):  # written by an older version
        document = Wanted.model_validate(document).without_defaults()
    return to_yaml(document)


@register.simple_tag
def with_query(address: str, name: str, value: str) -> str:
    """The address with this parameter."""
    path, _mark, query = address.partition("?")
    parameters = QueryDict(query, mutable=True)
    parameters[name] = value
    return f"{path}?{parameters.urlencode()}"


@register.simple_tag
def unconfirmed_change(host: Host) -> NetworkChange | None:
    """The change of its network that waits for somebody to keep it."""
    return hostnet.pending(host.pk)


@register.filter
def seconds_left(change: NetworkChange) -> int:
    if change.deadline is None:
        return 0
    return max(0, round((change.deadline - timezone.now()).total_seconds()))


@register.simple_tag
def hostnet_operation(name: str) -> Operation:
    return OPERATIONS[f"hostnet.{name}"]
