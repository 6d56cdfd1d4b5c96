"""What is wrong with what a person wants of a NIC, told from the mirror before there is a job.

Libvirt is the judge: these save the person a wait, and put the sentence at its field.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from django.utils.translation import gettext as _

from kvmweb.models import Machine, Network, NwFilter
from kvmweb.operations.nic_filters import unfilterable
from kvmweb.operations.nics import macs, sources
from kvmweb.operations.nics.settings import BANDWIDTH, Change, NewNic, settings_of, write
from kvmweb.spec.devices.interface import OFFLOADS, TAKES_VLANS, Interface
from kvmweb.spec.nics import interface_of
from kvmweb.spec.xml import parse

Found = Iterator[tuple[str, str]]
# Since that version of libvirt: formatdomain.html, “Setting VLAN tag”.
_VLANS_ON_BRIDGES_SINCE = (11, 0, 0)
# Those that have no cable on the host to shape, filter or cut off.
_WITHOUT_TAP = ("user", "passt", "hostdev", "vdpa", "vhostuser")


def new(machine: Machine, nic: NewNic) -> dict[str, str]:
    interface = Interface.new("interface")
    changes = {**nic.changes, "source": nic.source or sources.default_source(machine.host)}
    write(interface, changes)
    return _first(_all(machine, interface, changes))


def edited(machine: Machine, change: Change) -> dict[str, str]:
    found = find(machine, change.nic)
    if found is None:
        return {"nic": no_such(machine, change.nic)}
    interface = Interface(deepcopy(found.tree))
    changes = change.changes
    if "source" in changes and not changes["source"]:
        return {"source": _("Choose what it is plugged into.")}
    if "mac" in changes and not changes["mac"]:
        return {"mac": _("Enter a MAC address: a card has one.")}
    write(interface, changes)
    if not changes and (change.apply == "next_start" or not differences(machine, change.nic)):
        return {"nic": _("Nothing is changed.")}
    return _first(_all(machine, interface, changes))


def differences(machine: Machine, key: str) -> list[tuple[str, Any, Any]]:
    """Name, value now and value after the next start of what differs, as the mirror has it."""
    if not machine.inactive_xml:
        return []
    current = interface_of(parse(machine.xml), key)
    kept = interface_of(parse(machine.inactive_xml), key)
    if current is None or kept is None:
        return []
    before, after = settings_of(current), settings_of(kept)
    return [
        (name, before[name], after[name])
        for name in before
        if before[name] != after[name]
        and not (current.network and name in _OF_NETWORK and not after[name])
    ]


# What a network gives its ports, and libvirt shows of a running machine as if it were the card's.
_OF_NETWORK = ("vlan", "trunks", "native_mode", "mtu", "is_isolated", *BANDWIDTH)


def find(machine: Machine, key: str) -> Interface | None:
    """The NIC as the next start has it, else as it is."""
    for xml in (machine.inactive_xml, machine.xml):
        found = interface_of(parse(xml), key) if xml else None
        if found is not None:
            return found
    return None


def known(machine: Machine, arguments: Any) -> dict[str, str]:
    """For operations that say nothing but which NIC."""
    return {} if find(machine, arguments.nic) else {"nic": no_such(machine, arguments.nic)}


def no_such(machine: Machine, key: str) -> str:
    return _("The machine %(machine)s has no NIC with the MAC address %(mac)s any more.") % {
        "machine": machine.name,
        "mac": key,
    }


def _first(found: Found) -> dict[str, str]:
    sentences: dict[str, str] = {}
    for field, sentence in found:
        sentences.setdefault(field, sentence)
    return sentences


def _all(machine: Machine, interface: Interface, changes: dict[str, Any]) -> Found:
    wanted = settings_of(interface)
    yield from _mac(machine, changes)
    yield from _model(machine, changes)
    yield from _source(machine, wanted, changes)
    yield from _vlans(machine, wanted)
    yield from _bandwidth(wanted)
    yield from _isolated(wanted)
    yield from _filter(machine, interface, wanted, changes)
    yield from _only_virtio(wanted, changes)
    yield from _user_mode(wanted, changes)
    yield from _alias(machine, interface, changes)
    if (
        changes.get("boot_order")
        and parse(machine.inactive_xml or machine.xml).find("os/boot") is not None
    ):
        yield (
            "boot_order",
            _(
                "This machine's boot order names kinds of devices (its <boot dev>). Libvirt does "
                "not take a place for a single card beside that."
            ),
        )


def _mac(machine: Machine, changes: dict[str, Any]) -> Found:
    mac = changes.get("mac")
    if not mac:
        return
    owner = macs.Owner(machine.host, machine.uuid, machine.name)
    if sentence := macs.taken(mac, owner):
        yield "mac", sentence


def _model(machine: Machine, changes: dict[str, Any]) -> Found:
    """Libvirt takes any name, and QEMU says only at the start that it has no such card."""
    model = changes.get("model") or ""
    known = sources.known_models(machine)
    if model and known and model not in known and not model.startswith("virtio"):
        yield "model", _("QEMU on this host has no network card “%s”.") % model


def _source(machine: Machine, wanted: dict[str, Any], changes: dict[str, Any]) -> Found:
    kind, _colon, name = wanted["source"].partition(":")
    if kind == "network" and ("source" in changes or "portgroup" in changes):
        yield from _network(machine, name, wanted)
    if kind == "passt" and "source" in changes and sources.version(machine.host) < (9, 0, 0):
        yield (
            "source",
            _("Libvirt %s on this host is too old for passt; 9.0.0 has it.")
            % (machine.host.libvirt_version),
        )
    if wanted["portgroup"] and kind != "network":
        yield "portgroup", _("Only virtual networks have port groups.")
    if changes.get("macvtap_mode") and kind != "direct":
        yield "macvtap_mode", _("This is for interfaces of the host (macvtap) only.")


def _network(machine: Machine, name: str, wanted: dict[str, Any]) -> Found:
    row = _row(machine, wanted["source"])
    if row is None:
        yield "source", _("There is no virtual network “%s” on this host.") % name
        return
    if machine.is_active and not row.is_active:
        yield "source", _("The virtual network “%s” is not active. Start it first.") % name
    groups = sources.portgroups(machine.host).get(name, [])
    if wanted["portgroup"] and wanted["portgroup"] not in groups:
        yield (
            "portgroup",
            _("The network “%(network)s” has no port group “%(group)s”.")
            % {
                "network": name,
                "group": wanted["portgroup"],
            },
        )


def _row(machine: Machine, source: str) -> Network | None:
    kind, _colon, name = source.partition(":")
    rows = Network.objects.filter(host=machine.host_id, name=name)
    return rows.first() if kind == "network" else None


def _vlans(machine: Machine, wanted: dict[str, Any]) -> Found:
    kind = wanted["source"].partition(":")[0]
    field = "vlan" if wanted["vlan"] else "trunks"
    if not (wanted["vlan"] or wanted["trunks"]):
        return
    takes_bridges = sources.version(machine.host) >= _VLANS_ON_BRIDGES_SINCE
    row = _row(machine, wanted["source"])
    is_possible = kind in TAKES_VLANS or (kind == "bridge" and takes_bridges)
    if not is_possible or (row is not None and not sources.takes_vlans(row)):
        yield (
            field,
            _(
                "Libvirt tags VLANs only where a card is plugged into Open vSwitch or is a "
                "virtual function. On a Linux bridge, make the VLAN part of the host's network."
            ),
        )


def _bandwidth(wanted: dict[str, Any]) -> Found:
    is_limited = any(wanted[name] for name in BANDWIDTH)
    kind = wanted["source"].partition(":")[0]
    if is_limited and kind in _WITHOUT_TAP:
        field = next(name for name in BANDWIDTH if wanted[name])
        yield field, _("Nothing on the host carries this card's packets, so none can be held back.")
    for way in ("in", "out"):
        for more in ("peak", "burst"):
            if wanted[f"{way}_{more}"] and not wanted[f"{way}_average"]:
                yield (
                    f"{way}_average",
                    _("Enter the average too: a peak or a burst is on top of it."),
                )
    if wanted["in_floor"] and kind != "network":
        yield "in_floor", _("Only a virtual network can keep a share free.")


def _isolated(wanted: dict[str, Any]) -> Found:
    kind = wanted["source"].partition(":")[0]
    if wanted["is_isolated"] and kind not in ("network", "bridge"):
        yield "is_isolated", _("Only ports of Linux bridges can be isolated.")


def _filter(
    machine: Machine, interface: Interface, wanted: dict[str, Any], changes: dict[str, Any]
) -> Found:
    name = wanted["filter"]
    if not name:
        if changes.get("filter_parameters"):
            yield "filter", _("Choose the filter that has these parameters.")
        return
    if "filter" in changes and not _has_filter(machine, name):
        yield "filter", _("There is no network filter “%s” on this host.") % name
    elif sentence := unfilterable(machine, interface.tree):
        yield "source" if "source" in changes and "filter" not in changes else "filter", sentence


def _has_filter(machine: Machine, name: str) -> bool:
    return NwFilter.objects.filter(host=machine.host_id, name=name).exists()


def _only_virtio(wanted: dict[str, Any], changes: dict[str, Any]) -> Found:
    is_virtio = (wanted["model"] or "").startswith("virtio")
    if is_virtio or wanted["source"].startswith(("hostdev:", "vdpa:")):
        return
    for name in ("queues", "driver", "rx_queue_size", "tx_queue_size", *OFFLOADS):
        if changes.get(name):
            yield (
                name,
                _("Only a virtio card has this. Choose the model virtio, or leave it empty."),
            )


def _alias(machine: Machine, interface: Interface, changes: dict[str, Any]) -> Found:
    """Libvirt 9.0 takes one that is there already, and then can't start the machine."""
    if not changes.get("alias"):
        return
    root = parse(machine.inactive_xml or machine.xml)
    owners = [
        one.getparent()
        for one in root.iterfind("devices/*/alias")
        if one.get("name") == changes["alias"]
    ]
    own = interface_of(root, interface.mac) if interface.mac else None
    if any(own is None or owner is not own.tree for owner in owners):
        yield "alias", _("Another device of this machine has this alias.")


def _user_mode(wanted: dict[str, Any], changes: dict[str, Any]) -> Found:
    if wanted["port_forwards"] and wanted["source"] != "passt":
        yield "port_forwards", _("Only passt forwards ports of its own.")
    if wanted["guest_address"] and wanted["source"] not in ("user", "passt"):
        yield "guest_address", _("This is for user mode only.")
