"""The form of a network card: its inputs in groups, and what was changed in it.

The form carries the values it was drawn with, so that what somebody else has changed meanwhile and
this person has not touched stays changed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from kvmweb.models import Machine, NwFilter
from kvmweb.operations.nics import sources
from kvmweb.operations.nics.settings import FIELDS
from kvmweb.spec.devices.interface import GUEST_OFFLOADS, HOST_OFFLOADS

Text = str | Promise
# Value, label, and for sources what they take (``data-takes``).
Choices = Sequence[tuple[str, Text, str]]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Input:
    """``kind``: text, number, lines, checkbox or select, with ``groups`` of choices. ``shown_for``:
    the kinds of source it is for, as classes of the style sheet.
    """

    name: str
    label: Text
    kind: str
    hint: Text = ""
    shown_for: str = ""
    placeholder: str = ""
    value: str = ""
    error: str = ""
    groups: Sequence[tuple[Text, Choices]] = ()


@dataclass(frozen=True)
class Group:
    """``is_folded``: until somebody opens it, or something in it says something."""

    name: str
    label: Text
    inputs: list[Input]
    is_folded: bool = False
    shown_for: str = ""
    hint: Text = ""

    @property
    def is_open(self) -> bool:
        return any(one.error or one.value for one in self.inputs)


@dataclass(frozen=True)
class _Field:
    label: Text
    kind: str = "text"
    hint: Text = ""
    shown_for: str = ""
    placeholder: str = ""
    choices: Choices = ()


@dataclass(frozen=True)
class _Layout:
    label: Text
    fields: tuple[str, ...]
    is_folded: bool = False
    shown_for: str = ""
    hint: Text = field(default="")


DEFAULT: tuple[str, Text, str] = ("", _("as libvirt makes it"), "")
_ON_OFF: Choices = (("", _("default"), ""), ("on", _("on"), ""), ("off", _("off"), ""))
_YES_NO: Choices = (("", _("default"), ""), ("yes", _("yes"), ""), ("no", _("no"), ""))
_SIZES: Choices = (("", _("default"), ""), *((size, size, "") for size in ("256", "512", "1024")))

_FIELDS: dict[str, _Field] = {
    "source": _Field(_("Plugged into"), "select"),
    "source_name": _Field(_("Its name on the host"), shown_for="for-other", placeholder="br0"),
    "portgroup": _Field(_("Port group"), "select", shown_for="for-portgroup"),
    "macvtap_mode": _Field(
        _("Macvtap mode"),
        "select",
        shown_for="for-direct",
        choices=(
            DEFAULT,
            ("bridge", _("bridge: machines on it reach each other"), ""),
            ("vepa", _("VEPA: the switch outside sends it back"), ""),
            ("private", _("private: machines on it are kept apart"), ""),
            ("passthrough", _("passthrough: the interface is this machine's alone"), ""),
        ),
    ),
    "model": _Field(_("Model"), "select"),
    "mac": _Field(_("MAC address"), placeholder="52:54:00:12:34:56"),
    "is_link_up": _Field(_("Its cable is plugged in"), "checkbox"),
    "in_average": _Field(_("Receives (KiB/s)"), "number", _("On average, at most.")),
    "in_peak": _Field(_("in a burst (KiB/s)"), "number"),
    "in_burst": _Field(_("burst of (KiB)"), "number"),
    "in_floor": _Field(_("sure of (KiB/s)"), "number", shown_for="for-network"),
    "out_average": _Field(_("Sends (KiB/s)"), "number", _("On average, at most.")),
    "out_peak": _Field(_("in a burst (KiB/s)"), "number"),
    "out_burst": _Field(_("burst of (KiB)"), "number"),
    "vlan": _Field(_("VLAN"), "number", _("Untagged for the guest; empty: none.")),
    "trunks": _Field(
        _("Trunk of VLANs"), "text", _("With tags: 10, 20-22."), placeholder="10, 20-22"
    ),
    "native_mode": _Field(
        _("On a trunk the VLAN leaves"),
        "select",
        choices=(("", _("untagged"), ""), ("tagged", _("tagged"), "")),
    ),
    "filter": _Field(_("Network filter"), "select"),
    "filter_parameters": _Field(
        _("Its parameters"), "lines", _("One per line."), placeholder="IP=10.0.0.7"
    ),
    "port_forwards": _Field(
        _("Ports of the host"), "lines", _("One per line."), placeholder="tcp 8022 -> 22"
    ),
    "guest_address": _Field(_("The guest's network"), placeholder="172.17.2.0/24"),
    "mtu": _Field(_("MTU"), "number"),
    "is_isolated": _Field(
        _("Isolated port"), "select", _("Reaches no other isolated port."), choices=_YES_NO
    ),
    "trusts_guest_filters": _Field(
        _("Trust the guest's receive filters"), "select", choices=_YES_NO
    ),
    "driver": _Field(
        _("Driver"),
        "select",
        choices=(
            ("", _("default"), ""),
            ("vhost", _("vhost (in the kernel)"), ""),
            ("qemu", _("QEMU"), ""),
        ),
    ),
    "queues": _Field(_("Queues"), "number"),
    "rx_queue_size": _Field(_("Receive queue"), "select", choices=_SIZES),
    "tx_queue_size": _Field(_("Send queue"), "select", choices=_SIZES),
    "coalesce_frames": _Field(_("Frames per interrupt"), "number"),
    "boot_order": _Field(_("Place in the boot order"), "number"),
    "alias": _Field(_("Alias"), placeholder="ua-uplink"),
    "tap_name": _Field(_("Interface on the host"), placeholder="web1-lan"),
}
_OFFLOADS: dict[str, Text] = {
    "csum": _("checksums"),
    "gso": _("segmentation (GSO)"),
    "tso4": _("TCP over IPv4 (TSO)"),
    "tso6": _("TCP over IPv6 (TSO)"),
    "ecn": _("TSO with ECN"),
    "ufo": _("UDP (UFO)"),
    "mrg_rxbuf": _("merged receive buffers"),
}
for _offload in HOST_OFFLOADS + GUEST_OFFLOADS:
    _FIELDS[_offload] = _Field(_OFFLOADS[_offload.partition("_")[2]], "select", choices=_ON_OFF)

_LAYOUT: dict[str, _Layout] = {
    "source": _Layout(_("Source"), ("source", "source_name", "portgroup", "macvtap_mode")),
    "card": _Layout(_("Card"), ("model", "mac", "is_link_up")),
    "vlan": _Layout(_("VLAN"), ("vlan", "trunks", "native_mode"), shown_for="for-vlan"),
    "bandwidth": _Layout(
        _("Bandwidth"),
        ("in_average", "in_peak", "in_burst", "in_floor", "out_average", "out_peak", "out_burst"),
        is_folded=True,
        shown_for="for-tap",
    ),
    "filter": _Layout(
        _("Filter"), ("filter", "filter_parameters"), is_folded=True, shown_for="for-filter"
    ),
    "user": _Layout(_("User mode"), ("port_forwards", "guest_address"), shown_for="for-user"),
    "advanced": _Layout(
        _("Advanced"),
        (
            "mtu", "driver", "queues", "rx_queue_size", "tx_queue_size", "coalesce_frames",
            "is_isolated", "trusts_guest_filters", "boot_order", "alias", "tap_name",
        ),
        is_folded=True,
    ),
    "host_offloads": _Layout(
        _("Offloads on the host’s side"), HOST_OFFLOADS, is_folded=True,
        hint=_("What the guest may leave undone when it sends (virtio)."),
    ),
    "guest_offloads": _Layout(
        _("Offloads on the guest’s side"), GUEST_OFFLOADS, is_folded=True,
        hint=_("What the guest takes unfinished when it receives (virtio)."),
    ),
}  # fmt: skip
# Sources whose name is typed: what the host has of them is not all there can be.
_OTHERS: Choices = (
    ("bridge:", _("Another bridge…"), ""),
    ("ovs:", _("Another Open vSwitch bridge…"), "vlan"),
    ("direct:", _("Another interface (macvtap)…"), ""),
    ("hostdev:", _("A PCI device (0000:03:10.1)…"), "vlan"),
    ("vdpa:", _("A vDPA device (/dev/vhost-vdpa-0)…"), ""),
    ("vhostuser:", _("A vhost-user socket (/run/…)…"), ""),
)


def label_of(name: str) -> Text:
    end, _underscore, what = name.partition("_")
    if what in _OFFLOADS:
        return f"{_('host') if end == 'host' else _('guest')}: {_OFFLOADS[what]}"
    return _FIELDS[name].label if name in _FIELDS else name


def written(settings: Values) -> dict[str, str]:
    """The settings as the form shows them."""
    return {name: shown(settings[name]) for name in FIELDS}


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        joint = "\n" if value and isinstance(value[0], str) else ", "
        return joint.join(map(str, value))
    return "" if value is None else str(value)


def typed(data: QueryDict) -> dict[str, str]:
    """What the form says now, in the same way."""
    found = {
        name: data.get(name, "").replace("\r\n", "\n").strip() for name in FIELDS if name in data
    }
    if found.get("source", "").endswith(":"):
        found["source"] += data.get("source_name", "").strip()
    return found


def as_typed(data: QueryDict) -> dict[str, str]:
    """To show the form once more."""
    return {
        **typed(data),
        "source": data.get("source", ""),
        "source_name": data.get("source_name", ""),
    }


def changed(data: QueryDict) -> dict[str, str]:
    """What differs from what the form was drawn with."""
    try:
        was = json.loads(data.get("was", "{}"))
    except ValueError:
        was = {}
    before = was if isinstance(was, dict) else {}
    return {name: value for name, value in typed(data).items() if value != before.get(name)}


def groups(
    machine: Machine, values: Values, errors: Mapping[str, str], *, is_new: bool
) -> list[Group]:
    """The inputs with these values, as ``written``. The link of a card that is there is a switch
    of its own.
    """
    choices = _choices(machine, values)
    made = []
    for name, layout in _LAYOUT.items():
        fields = [one for one in layout.fields if is_new or one != "is_link_up"]
        inputs = [_input(one, choices, values, errors) for one in fields]
        made.append(
            Group(name, layout.label, inputs, layout.is_folded, layout.shown_for, layout.hint)
        )
    return made


def _input(
    name: str,
    choices: Mapping[str, Sequence[tuple[Text, Choices]]],
    values: Values,
    errors: Mapping[str, str],
) -> Input:
    known = _FIELDS[name]
    return Input(
        name,
        known.label,
        known.kind,
        known.hint,
        known.shown_for,
        known.placeholder,
        value=str(values.get(name, "")),
        error=errors.get(name, ""),
        groups=choices.get(name, [("", known.choices)]),
    )


def _choices(machine: Machine, values: Values) -> dict[str, list[tuple[Text, Choices]]]:
    host = machine.host
    source = str(values.get("source", ""))
    models = [DEFAULT, *((name, name, "") for name in sources.models(machine))]
    filters = NwFilter.objects.filter(host=host).values_list("name", flat=True)
    portgroups = {one for names in sources.portgroups(host).values() for one in names}
    return {
        "source": _with(source, [*sources.offered(host).items(), (_("Others"), _OTHERS)]),
        "model": _with(str(values.get("model", "")), [("", models)]),
        "filter": _with(
            str(values.get("filter", "")),
            [("", [("", _("none"), ""), *((name, name, "") for name in filters)])],
        ),
        "portgroup": _with(
            str(values.get("portgroup", "")),
            [
                (
                    "",
                    [
                        ("", _("the default one"), ""),
                        *((one, one, "") for one in sorted(portgroups)),
                    ],
                )
            ],
        ),
    }


def _with(value: str, offered: list[tuple[Text, Choices]]) -> list[tuple[Text, Choices]]:
    """What is set stays a choice, whatever the host has to offer."""
    if any(value == one for _label, choices in offered for one, _words, _takes in choices):
        return offered
    return [("", [(value, value, "vlan portgroup")]), *offered]
