"""What a person sets of a NIC. Each field is an attribute of ``spec.devices.interface.Interface``.

None is: as libvirt makes it, so that nothing of it is in the document.
"""

import re
from typing import Annotated, Any, Literal

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from kvmweb.operations.nics.texts import alias, guest_address, lines, parameter, tags, tap
from kvmweb.spec.devices.interface import Interface, pci_of
from kvmweb.spec.hostnet import interface_name, mac_address
from kvmweb.spec.passt import forward_text

# The kinds of source that a person may choose; whatever else a NIC is plugged into stays.
KINDS = ("network", "bridge", "ovs", "direct", "user", "passt", "hostdev", "vdpa", "vhostuser")
_NAMELESS: dict[str, str | Promise] = {
    "network": gettext_lazy("Choose a virtual network."),
    "bridge": gettext_lazy("Enter the name of the bridge on the host."),
    "ovs": gettext_lazy("Enter the name of the Open vSwitch bridge on the host."),
    "direct": gettext_lazy("Enter the name of the interface on the host."),
    "hostdev": gettext_lazy("Enter the PCI address of the device, like 0000:03:10.1."),
    "vdpa": gettext_lazy("Enter the path of the vDPA device, like /dev/vhost-vdpa-0."),
    "vhostuser": gettext_lazy("Enter the path of the socket."),
}


def _source(text: str) -> str:
    kind, _colon, name = text.partition(":")
    if kind not in KINDS:
        raise ValueError(_("Choose what it is plugged into, like network:default or ovs:br-int."))
    if kind in ("user", "passt"):
        return kind
    if not name:
        raise ValueError(str(_NAMELESS[kind]))
    if any(not letter.isprintable() for letter in name):
        raise ValueError(_("The name contains a character that can't be seen. Type it again."))
    if kind in ("bridge", "ovs", "direct"):
        interface_name(name)
    if kind == "hostdev":
        pci_of(name)
        return text.lower()
    if kind in ("vdpa", "vhostuser") and not name.startswith("/"):
        raise ValueError(_("Enter the whole path on the host; it starts with “/”."))
    return text


def _tag(number: int) -> int:
    if number == 4095:
        raise ValueError(_("VLAN 4095 is reserved: use 1 to 4094."))
    return number


def _all_tags(numbers: list[int]) -> list[int]:
    for number in numbers:
        if not 1 <= number <= 4095:
            raise ValueError(_("%d is no VLAN: use 1 to 4094.") % number)
    return [_tag(number) for number in numbers]


def _power_of_two(number: int) -> int:
    if number & (number - 1):
        raise ValueError(_("Enter 256, 512 or 1024."))
    return number


def _model(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", text):
        raise ValueError(_("A model's name has letters, digits, “-” and “_” only."))
    return text


def _forwards(texts: list[str]) -> list[str]:
    return [forward_text(text) for text in texts]


def _parameters(texts: list[str]) -> list[str]:
    return [parameter(text) for text in texts]


Tag = Annotated[int, Field(ge=1, le=4095), AfterValidator(_tag)]
KiB = Annotated[int, Field(ge=0, le=2**32 - 1)]
QueueSize = Annotated[int, Field(ge=256, le=1024), AfterValidator(_power_of_two)]
OnOff = Literal["on", "off"]
Name = Annotated[str, Field(max_length=255)]
Model = Annotated[str, AfterValidator(_model)]
Mac = Annotated[str, AfterValidator(mac_address)]
Alias = Annotated[str, AfterValidator(alias)]
Tap = Annotated[str, AfterValidator(tap)]
GuestAddress = Annotated[str, AfterValidator(guest_address)]


class Settings(BaseModel):
    """Only what was given goes into the job, and from there into the document."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, protected_namespaces=())

    source: Annotated[
        str,
        AfterValidator(_source),
        Field(
            max_length=1000,
            description="network:NAME, bridge:NAME, ovs:NAME (an Open vSwitch bridge), direct:NIC "
            "(macvtap), user, passt, hostdev:PCI-ADDRESS, vdpa:PATH or vhostuser:PATH.",
            examples=["network:default"],
        ),
    ] = ""
    portgroup: Annotated[Name | None, Field(description="Of a virtual network.")] = None
    macvtap_mode: Literal["bridge", "vepa", "private", "passthrough"] | None = None
    mac: Annotated[Mac | None, Field(description="Unique over all hosts; none: a free one.")] = None
    model: Annotated[Model | None, Field(examples=["virtio", "e1000e"])] = None
    is_link_up: Annotated[bool, Field(description="Whether its cable is plugged in.")] = True

    in_average: Annotated[KiB | None, Field(description="KiB/s that the machine receives.")] = None
    in_peak: KiB | None = None
    in_burst: Annotated[KiB | None, Field(description="KiB at the speed of in_peak.")] = None
    in_floor: Annotated[KiB | None, Field(description="KiB/s it receives in any case.")] = None
    out_average: Annotated[KiB | None, Field(description="KiB/s that the machine sends.")] = None
    out_peak: KiB | None = None
    out_burst: Annotated[KiB | None, Field(description="KiB at the speed of out_peak.")] = None

    vlan: Annotated[
        Tag | None, Field(description="An access port's tag; beside trunks the native VLAN.")
    ] = None
    trunks: Annotated[
        list[int],
        BeforeValidator(tags),
        AfterValidator(_all_tags),
        Field(description="VLANs that pass with their tags."),
    ] = []
    native_mode: Literal["untagged", "tagged"] | None = None

    filter: Annotated[Name | None, Field(description="An nwfilter of libvirt.")] = None
    filter_parameters: Annotated[
        list[str],
        BeforeValidator(lines),
        AfterValidator(_parameters),
        Field(examples=[["IP=10.0.0.7"]]),
    ] = []
    is_isolated: Annotated[bool | None, Field(description="From other isolated ports.")] = None
    trusts_guest_filters: bool | None = None

    mtu: Annotated[int, Field(ge=68, le=65535)] | None = None
    driver: Literal["vhost", "qemu"] | None = None
    queues: Annotated[int, Field(ge=1, le=256)] | None = None
    rx_queue_size: QueueSize | None = None
    tx_queue_size: QueueSize | None = None
    coalesce_frames: Annotated[int, Field(ge=1, le=2**32 - 1)] | None = None
    boot_order: Annotated[int, Field(ge=1, le=10000)] | None = None
    alias: Annotated[Alias | None, Field(description="Begins with “ua-”.")] = None
    tap_name: Annotated[Tap | None, Field(description="Of its interface on the host.")] = None
    port_forwards: Annotated[
        list[str],
        BeforeValidator(lines),
        AfterValidator(_forwards),
        Field(description="With passt: ports of the host.", examples=[["tcp 8022 -> 22"]]),
    ] = []
    guest_address: Annotated[
        GuestAddress | None, Field(description="In user mode: the guest's IPv4 network.")
    ] = None

    host_csum: OnOff | None = None
    host_gso: OnOff | None = None
    host_tso4: OnOff | None = None
    host_tso6: OnOff | None = None
    host_ecn: OnOff | None = None
    host_ufo: OnOff | None = None
    host_mrg_rxbuf: OnOff | None = None
    guest_csum: OnOff | None = None
    guest_tso4: OnOff | None = None
    guest_tso6: OnOff | None = None
    guest_ecn: OnOff | None = None
    guest_ufo: OnOff | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any, info: ValidationInfo) -> Any:
        """An input that was left empty."""
        is_empty = isinstance(value, str) and not value.strip()
        return cls.model_fields[info.field_name or ""].get_default() if is_empty else value

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """None and not given differ: the one takes a value away, the other leaves it."""
        given = self.model_fields_set
        return {name: value for name, value in handler(self).items() if name in given}

    @property
    def changes(self) -> dict[str, Any]:
        """What was given, by attribute of ``Interface``."""
        return {name: getattr(self, name) for name in FIELDS if name in self.model_fields_set}


BANDWIDTH = (
    "in_average",
    "in_peak",
    "in_burst",
    "in_floor",
    "out_average",
    "out_peak",
    "out_burst",
)
FIELDS = tuple(Settings.model_fields)
_EMPTY: tuple[Any, ...] = (None, "", 0, [])


def settings_of(interface: Interface) -> dict[str, Any]:
    """Every field as the document has it."""
    found = {name: getattr(interface, name) for name in FIELDS}
    return {
        name: Settings.model_fields[name].default if value in _EMPTY else value
        for name, value in found.items()
        if name != "is_link_up"
    } | {"is_link_up": interface.is_link_up}


def write(interface: Interface, changes: dict[str, Any]) -> None:
    """Set these fields, the source first: what means nothing to a new one goes with the old."""
    before = interface.model
    for name in sorted(changes, key=FIELDS.index):
        if changes[name] != settings_of(interface)[name]:
            setattr(interface, name, changes[name])
    if before and before[:6] != interface.model[:6]:
        # Another bus perhaps: libvirt finds it a slot that fits. All virtio models fit in one.
        for address in interface.tree.findall("address"):
            interface.tree.remove(address)


class NewNic(Settings):
    """``source`` empty: the host's default network."""

    at_next_start: Annotated[
        bool, Field(description="Leave the running machine as it is; only change its definition.")
    ] = False


class Edit(Settings):
    """What is not given stays as it is; null takes a value away."""

    apply: Annotated[
        Literal["now", "replug", "next_start"],
        Field(
            description="now: what a running machine can take now, the rest at its next start. "
            "replug: unplug the card for a moment where it can't be done otherwise. next_start: "
            "leave the running machine as it is."
        ),
    ] = "now"


class Change(Edit):
    nic: Annotated[str, Field(description="The MAC address of the NIC to change.", max_length=20)]
