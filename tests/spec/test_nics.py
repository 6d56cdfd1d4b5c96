"""NICs in a machine's document: what is read, and that an edit touches only what it names."""

from pathlib import Path

import pytest
from lxml import etree

from kvmweb.spec.devices.interface import OFF_ON_NETDEV, Interface
from kvmweb.spec.nics import NicFacts, interface_of, interfaces, key_of, macs, nics, usb_port
from kvmweb.spec.passt import forward_text
from kvmweb.spec.probe import nic_models
from kvmweb.spec.xml import parse

GOLDEN = Path(__file__).with_name("golden") / "interface.xml"
# What libvirt takes within <interface>, and no field of ours names.
ODD = """<interface type='bridge'><!-- why --><mac address='52:54:00:00:00:01' check='no'/>
<source bridge='br-int'/><virtualport type='openvswitch'><parameters interfaceid='a'
profileid='p'/></virtualport><script path='/etc/up'/><teaming type='persistent'/><rom bar='off'/>
<tune><sndbuf>1600</sndbuf></tune><backend tap='/dev/net/tun'/><model type='virtio'/>
<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></interface>"""


def _text(card: Interface) -> str:
    return etree.tostring(card.tree, encoding="unicode")


def _card(xml: str) -> Interface:
    return Interface(parse(xml))


def _set(card: Interface, **fields: object) -> None:
    for name, value in fields.items():
        setattr(card, name, value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mtu", 1400), ("queues", 4), ("host_csum", "off"), ("vlan", 10), ("trunks", [20, 30]),
        ("in_average", 100), ("filter", "clean-traffic"), ("is_isolated", True), ("alias", "ua-x"),
        ("boot_order", 2), ("coalesce_frames", 7), ("tap_name", "web-lan"),
        ("trusts_guest_filters", True), ("driver", "vhost"),
    ],
)  # fmt: skip
def test_a_value_comes_and_goes_and_all_else_stays(field: str, value: object) -> None:
    card = _card(ODD)
    before, nothing = _text(card), getattr(card, field)
    setattr(card, field, value)
    assert getattr(_card(_text(card)), field) == value
    for odd in ("<!-- why -->", "check=", "/etc/up", "teaming", "rom bar", "sndbuf", "tap=", "pci"):
        assert odd in _text(card)
    setattr(card, field, nothing or None)
    assert "".join(_text(card).split()) == "".join(before.split())


def test_the_identity_of_a_port_survives_a_move_to_another_switch() -> None:
    card = _card(ODD)
    _set(card, source="ovs:br-two")
    assert card.bridge == "br-two"
    assert "profileid" in _text(card)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("network:default", "<source network='default'/>"),
        ("bridge:br0", "<source bridge='br0'/>"),
        ("direct:eth0", "<source dev='eth0'/>"),
        ("user", ""),
        ("passt", "<backend type='passt'/>"),
        ("hostdev:0000:03:10.1", "slot='0x10' function='0x1'"),
        ("vdpa:/dev/vhost-vdpa-0", "<source dev='/dev/vhost-vdpa-0'/>"),
        ("vhostuser:/run/a.sock", "path='/run/a.sock' mode='client'"),
    ],
)
def test_another_source_leaves_nothing_of_the_old_one(source: str, expected: str) -> None:
    card = _card(ODD)
    _set(card, vlan=10)
    _set(card, source=source)
    text = _text(card).replace('"', "'")
    assert card.source == source
    assert expected in text
    assert "openvswitch" not in text
    assert "br-int" not in text
    assert ("<vlan" in text) == source.startswith("hostdev")
    assert "sndbuf" in text


def test_a_network_is_one_whatever_it_turned_out_to_be() -> None:
    live = "<interface type='bridge'><source network='lan' bridge='br-int'/></interface>"
    assert _card(live).source == "network:lan"


@pytest.mark.parametrize("kind", ["ethernet", "mcast", "udp", "client", "internal", "null"])
def test_a_source_that_is_not_offered_is_kept(kind: str) -> None:
    card = _card(f"<interface type='{kind}'><source address='1.2.3.4' port='5'/></interface>")
    assert card.source == kind
    _set(card, mtu=1400)
    assert 'address="1.2.3.4"' in _text(card)
    root = parse(f"<domain><devices>{_text(card)}</devices></domain>")
    assert nics(root)[0].kind == kind


def test_a_native_vlan_is_told_from_those_that_pass_tagged() -> None:
    card = _card(ODD)
    _set(card, vlan=30, trunks=[31, 32], native_mode="tagged")
    tags = [(tag.get("id"), tag.get("nativeMode")) for tag in card.tree.iterfind("vlan/tag")]
    assert tags == [("30", "tagged"), ("31", None), ("32", None)]
    assert (card.vlan, card.trunks, card.native_mode) == (30, [31, 32], "tagged")
    _set(card, trunks=[])
    assert etree.tostring(card.tree.find("vlan"), with_tail=False) == (  # type: ignore[arg-type]
        b'<vlan><tag id="30"/></vlan>'
    )


def test_another_filter_begins_without_parameters() -> None:
    card = _card(ODD)
    _set(card, filter="one", filter_parameters=["IP=10.0.0.1", "IP=10.0.0.2"])
    assert card.filter_parameters == ["IP=10.0.0.1", "IP=10.0.0.2"]
    _set(card, filter="two")
    assert card.filter_parameters == []


def test_forwarded_ports_that_stay_keep_what_else_is_known_of_them() -> None:
    card = _card(
        "<interface type='user'><backend type='passt'/><portForward proto='tcp' dev='eth0'>"
        "<range start='80'/><range start='81' exclude='yes'/></portForward></interface>"
    )
    _set(card, port_forwards=["tcp 80", "udp [::1]:53-54 -> 5353"])
    assert card.port_forwards == ["tcp 80", "udp [::1]:53-54 -> 5353"]
    assert 'dev="eth0"' in _text(card)
    _set(card, port_forwards=[])
    assert 'exclude="yes"' in _text(card), "an exception is no forwarded port"


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("tcp 8022->22", "tcp 8022 -> 22"), ("udp  127.0.0.1:53", "udp 127.0.0.1:53"),
        ("tcp 80-90 -> 8080", "tcp 80-90 -> 8080"), ("tcp 80-80", "tcp 80"),
        ("tcp [fd00::1]:80 -> 80", "tcp [fd00::1]:80"),
    ],
)  # fmt: skip
def test_a_forwarded_port_has_one_form(typed: str, written: str) -> None:
    assert forward_text(typed) == written


@pytest.mark.parametrize(
    "typed",
    ["", "80", "tcp", "icmp 8", "tcp 0", "tcp 70000", "tcp 9-5", "tcp 1.2.3:80", "tcp $(x)"],
)
def test_what_is_no_forwarded_port_is_said_to_be_none(typed: str) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        forward_text(typed)


def test_facts_are_those_of_the_mirror() -> None:
    found = nics(parse(GOLDEN.read_text()))
    assert found[0] == NicFacts(
        mac="52:54:00:aa:bb:cc", kind="network", source="default", model="virtio", tap="vnet0",
        bridge="", filter="clean-traffic", vlans=[], is_link_up=False,
    )  # fmt: skip
    assert [one.source for one in found[1:]] == [
        "br-int", "eth0", "", "br-int", "", "0000:03:10.1", "/dev/vhost-vdpa-0", "/run/vhost1.sock",
        "br0",
    ]  # fmt: skip
    assert found[4].vlans == [30, 31]


def test_a_nic_is_found_by_its_address_and_the_second_of_two_by_its_number() -> None:
    one = "<interface type='user'><mac address='52:54:00:00:00:0A'/></interface>"
    root = parse(f"<domain><devices>{one}{one}</devices></domain>")
    first, second = interfaces(root)
    for card in (first, second):
        found = interface_of(root, key_of(root, card))
        assert found is not None
        assert found.tree is card.tree
    assert key_of(root, second) == "52:54:00:00:00:0a@2"
    assert interface_of(root, "52:54:00:00:00:0a@3") is None
    assert macs(etree.tostring(root, encoding="unicode")) == ["52:54:00:00:00:0a"] * 2


def test_a_card_on_usb_gets_a_free_port() -> None:
    root = parse(
        "<domain><devices><input><address type='usb' bus='0' port='1'/></input></devices></domain>"
    )
    card = _card("<interface type='user'><model type='usb-net'/></interface>")
    usb_port(root, card.tree)
    assert '<address type="usb" bus="0" port="2"/>' in _text(card)


def test_everything_a_userspace_switch_needs_off_is_an_offload() -> None:
    card = _card(ODD)
    _set(card, **dict.fromkeys(OFF_ON_NETDEV, "off"))
    assert len(OFF_ON_NETDEV) == 11
    assert card.tree.find("driver/host").get("mrg_rxbuf") is None  # type: ignore[union-attr]


def test_qemus_own_list_gives_the_models() -> None:
    printed = """Controller/Bridge/Hub devices:
name "pci-bridge", bus PCI, desc "Standard PCI Bridge"

Network devices:
name "e1000", bus PCI, alias "e1000-82540em", desc "Intel Gigabit Ethernet"
name "ne2k_isa", bus ISA
name "rocker", bus PCI, desc "Rocker Switch"
name "usb-net", bus usb-bus
name "virtio-net-device", bus virtio-bus
name "virtio-net-pci", bus PCI, alias "virtio-net"
name "virtio-net-pci-transitional", bus PCI

Input devices:
name "usb-kbd", bus usb-bus
"""
    assert nic_models(printed.replace("\n", "\r\n")) == [
        "virtio", "virtio-transitional", "virtio-non-transitional", "e1000", "usb-net",
    ]  # fmt: skip
    assert nic_models("") == []
