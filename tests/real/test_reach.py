"""What guests reach over each kind of network that the site makes, by ping and by TCP.

A real site, whose host is one of the lab's, by ssh and sudo: it makes the networks, creates two
tiny guests and plugs them in, all by its API. What goes through is tried from inside the guests;
what is set up, ``ip``, ``bridge``, ``ovs-vsctl``, ``nft`` and ``virsh`` tell on the host.
"""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest

from kvmweb import tiny_guest
from kvmweb.tiny_guest import TinyGuest
from tests import dumps, netboot
from tests.asking import Asker
from tests.full_kernel import CACHE
from tests.guest import Guest, domain_xml
from tests.nodes import SUDOER, Lab, Node
from tests.site import Site
from tests.waiting import until

INTERNET, OUTSIDE = "198.51.100.1", "203.0.113.11"
MODES = {"isolated": "10.71.1", "nat": "10.71.2", "route": "10.71.3"}
# Of the guests' cards, in their order; the last two of these have an address of their own.
CARDS = [*(f"network:{mode}" for mode in MODES), "bridge:plain", "ovs:virtual", "ovs:virtual"]
FIXED = {"eth3": "10.72.3", "eth4": "10.72.4", "eth5": "10.72.5"}
# The last card of the one is in another VLAN than that of the other.
TAGS = {"one": [None] * 4 + [10, 20], "two": [None] * 4 + [10, 30]}
RESERVED, FORWARDED = "10.71.2.77", 8080


@dataclass
class Stage:
    """``networks``: their UUIDs by name."""

    lab: Lab
    node: Node
    ask: Asker
    networks: dict[str, str]
    files: TinyGuest

    def network(self, name: str) -> Any:
        return self.ask.get(f"/networks/{self.networks[name]}")


@dataclass
class Machine:
    uuid: str
    number: int
    macs: list[str]
    shell: Guest

    def address(self, card: str) -> str:
        return until(lambda: self.shell.address(card), seconds=60, what=f"{card} to get an address")


@pytest.fixture(scope="module")
def stage(lab: Lab) -> Iterator[Stage]:
    """The networks; afterwards the host is as it was, but for libvirt's own empty chains."""
    _let_libvirt_make_its_chains(lab.a)
    before = dumps.whole(lab.a.said)
    with Site(uri=lab.a.uri_of(SUDOER)) as site, site.api() as api:
        ask = Asker(api)
        until(lambda: _state(ask) == "connected", what="the host to be connected")
        stage = Stage(lab, lab.a, ask, {}, _files(lab))
        with ExitStack() as ends:
            ends.callback(_host_network, ask, {})
            _host_network(
                ask,
                {
                    "links": [{"kind": "bridge", "name": "plain"}],
                    "switches": [{"name": "virtual"}],
                },
            )
            for name in MODES:
                stage.networks[name] = _make_network(ask, name)
                ends.callback(ask.do, f"/networks/{stage.networks[name]}/delete", cut=True)
            yield stage
    left = dumps.settled(before, lab.a.said)
    assert not left, f"the tests left this behind:\n{left}"


def _let_libvirt_make_its_chains(node: Node) -> None:
    """Its first network does, for good; and switches forwarding on."""
    opened = libvirt.open(node.uri)
    opened.networkCreateXML(
        "<network><name>first</name><forward mode='nat'/><bridge name='first'/>"
        "<ip address='10.71.99.1' prefix='24'/></network>"
    ).destroy()
    opened.close()


def _state(ask: Asker) -> str:
    return str(ask.get("/hosts/local")["state"])


def _files(lab: Lab) -> TinyGuest:
    built = tiny_guest.build(CACHE / "tiny_guest")
    kernel, initrd = (Path(shutil.copy(one, lab.images)) for one in (built.kernel, built.initrd))
    return TinyGuest(kernel, initrd)


def _host_network(ask: Asker, document: Any) -> None:
    until(lambda: ask.get("/hosts/local/network")["read"], what="the host's network to be read")
    digest = ask.do("/hosts/local/network/preview", document=document)["digest"]
    ask.do("/hosts/local/network/apply", document=document, digest=digest)


def _make_network(ask: Asker, name: str) -> str:
    subnet = MODES[name]
    ip = {"address": f"{subnet}.1/24", "ranges": [{"start": f"{subnet}.10", "end": f"{subnet}.50"}]}
    # Without STP a bridge passes on at once what comes from a new port, else after four seconds;
    # and dnsmasq looks for three whether somebody has an address that it is about to give.
    wish: dict[str, Any] = {"name": name, "mode": name, "bridge": name, "ips": [ip], "stp": False}
    wish["dnsmasq_options"] = ["no-ping"]
    return str(ask.do("/networks", host="local", **wish)["uuid"])


@pytest.fixture(scope="module")
def one(machines: dict[str, Machine]) -> Machine:
    return machines["one"]


@pytest.fixture(scope="module")
def two(machines: dict[str, Machine]) -> Machine:
    return machines["two"]


@pytest.fixture(scope="module")
def machines(stage: Stage) -> Iterator[dict[str, Machine]]:
    """Two guests with a card on every network; the second one's address behind NAT is reserved."""
    opened = libvirt.open(stage.node.uri)
    with ExitStack() as ends:
        ends.callback(opened.close)
        made = {}
        for number, name in enumerate(TAGS, start=1):
            uuid, macs = _make_machine(stage, name, number)
            ends.callback(_remove_machine, stage, uuid)
            made[name] = (uuid, number, macs)
        reservation = {"mac": made["two"][2][1], "address": RESERVED}
        stage.ask.do(f"/networks/{stage.networks['nat']}/add_reservation", **reservation)
        for uuid, _number, _macs in made.values():
            stage.ask.do(f"/machines/{uuid}/start")
        found = {
            name: Machine(*parts, ends.enter_context(Guest(opened.lookupByUUIDString(parts[0]))))
            for name, parts in made.items()
        }
        for machine in found.values():
            machine.shell.wait()
            for card in FIXED:
                machine.address(card)
        yield found


def _make_machine(stage: Stage, name: str, number: int) -> tuple[str, list[str]]:
    fixed = {card: f"{subnet}.{number}/24" for card, subnet in FIXED.items()}
    xml = domain_xml(name, guest=stage.files, addresses=fixed)
    uuid = str(stage.ask.do("/machines", host="local", xml=xml)["uuid"])
    until(lambda: _is_known(stage, uuid), what=f"{name} to be mirrored")
    macs = []
    for source, tag in zip(CARDS, TAGS[name], strict=True):
        card: dict[str, Any] = {"source": source, "vlan": tag} if tag else {"source": source}
        macs.append(stage.ask.do(f"/machines/{uuid}/nics", **card)["nic"])
    return uuid, macs


def _is_known(stage: Stage, uuid: str) -> bool:
    return any(row["uuid"] == uuid for row in stage.ask.get("/machines")["items"])


def _remove_machine(stage: Stage, uuid: str) -> None:
    stage.ask.do(f"/machines/{uuid}/force_off")
    stage.ask.do(f"/machines/{uuid}/delete")


def _reach(one: Machine, two: Machine, card: str) -> None:
    address = two.address(card)
    one.address(card)
    assert one.shell.pings(address, card=card)
    assert one.shell.fetches(address) == "two", "by TCP"


def _only_way_is(machine: Machine, card: str, gateway: str) -> None:
    """Both ways out have a default route: take the one that is meant."""
    machine.shell.run(f"ip route replace {INTERNET} via {gateway} dev {card}")


@pytest.mark.parametrize(
    "card",
    [
        pytest.param("eth0", id="isolated"),
        pytest.param("eth1", id="nat"),
        pytest.param("eth2", id="routed"),
        pytest.param("eth3", id="linux bridge"),
        pytest.param("eth4", id="open vswitch, same tag"),
    ],
)
def test_two_guests_reach_each_other(one: Machine, two: Machine, card: str) -> None:
    _reach(one, two, card)


def test_other_vlans_of_open_vswitch_are_out_of_reach(one: Machine, two: Machine) -> None:
    address = two.address("eth5")
    assert not one.shell.pings(address, card="eth5", seconds=1)
    assert not one.shell.fetches(address, seconds=1)


def test_the_internet_is_reached_through_nat(one: Machine) -> None:
    one.address("eth1")
    _only_way_is(one, "eth1", "10.71.2.1")
    assert one.shell.pings(INTERNET)
    assert one.shell.fetches(INTERNET) == OUTSIDE, "it sees the host's address"


def test_the_internet_is_not_reached_from_an_isolated_network(one: Machine) -> None:
    assert "default" not in one.shell.run("ip route show dev eth0")[0]
    _only_way_is(one, "eth0", "10.71.1.1")
    assert not one.shell.pings(INTERNET, seconds=1)
    assert not one.shell.fetches(INTERNET, seconds=1)


def test_a_routed_guest_is_seen_with_its_own_address(stage: Stage, one: Machine) -> None:
    address = one.address("eth2")
    _only_way_is(one, "eth2", "10.71.3.1")
    assert not one.shell.fetches(INTERNET, seconds=1), "nobody there knows the way back"
    way_back = ("10.71.3.0/24", "via", OUTSIDE)
    stage.lab.internet.execute("ip", "route", "add", *way_back)
    try:
        assert one.shell.pings(INTERNET)
        assert one.shell.fetches(INTERNET) == address
    finally:
        stage.lab.internet.execute("ip", "route", "delete", *way_back)


def test_leases_are_told_and_an_address_can_be_reserved(
    stage: Stage, one: Machine, two: Machine
) -> None:
    address = one.address("eth1")
    assert two.address("eth1") == RESERVED
    wanted = {one.macs[1]: (address, "one"), two.macs[1]: (RESERVED, "two")}

    def leases() -> dict[str, tuple[str, str]]:
        rows = stage.ask.get(f"/networks/{stage.networks['nat']}/leases")["items"]
        return {row["mac"]: (row["address"], row["machine"]) for row in rows}

    until(lambda: leases() == wanted, what="both leases to be mirrored")
    told = stage.node.execute("virsh", "net-dhcp-leases", "nat")
    assert all(mac in told and f"{at}/24" in told for mac, (at, _name) in wanted.items())


def test_a_forwarded_port_is_reached_from_outside_and_from_the_host(
    stage: Stage, two: Machine
) -> None:
    two.address("eth1")
    network = f"/networks/{stage.networks['nat']}"
    stage.ask.do(f"{network}/add_forward", port=FORWARDED, to=RESERVED, to_port=80)
    try:
        url = f"http://{OUTSIDE}:{FORWARDED}/"
        for place in (stage.lab.internet, stage.node, stage.lab.b):
            assert place.execute("curl", "-s", "--max-time", "8", url).strip() == "two"
        rules = stage.node.execute("nft", "--stateless", "list", "ruleset")
        assert re.search(rf"dport {FORWARDED} .*dnat .*to {RESERVED}:80", rules)
        shown = stage.ask.get(f"{network}/forwards")["items"]
        assert [(one["port"], one["to"], one["to_port"]) for one in shown] == [
            (FORWARDED, RESERVED, 80)
        ]
    finally:
        stage.ask.do(f"{network}/remove_forward", port=FORWARDED, protocol="tcp")
    assert not stage.lab.internet.succeeds("curl", "-s", "--max-time", "2", url)


def test_the_host_has_what_the_site_says(stage: Stage, one: Machine, two: Machine) -> None:
    state = stage.ask.get("/hosts/local/network")["actual"]
    links = {row["name"]: row for row in state["links"] if not row["namespace"]}
    for row in json.loads(stage.node.execute("ip", "-j", "-d", "link")):
        shown = links.pop(row["ifname"])
        assert (shown["mac"], shown["mtu"], shown["master"] or None) == (
            row["address"], row["mtu"], row.get("master"),
        )  # fmt: skip
    assert not links
    for row in json.loads(stage.node.execute("bridge", "-j", "link")):
        assert row["ifname"] in {tap for machine in (one, two) for tap in _taps(stage, machine)}
    for machine in (one, two):
        _tags_agree(stage, machine, state)
        _pages_know(stage, machine)


def _taps(stage: Stage, machine: Machine) -> dict[str, str]:
    """Names on the host, with the MAC addresses of the cards."""
    tree = ET.fromstring(stage.node.execute("virsh", "dumpxml", machine.uuid))
    return {
        card.find("target").get("dev"): card.find("mac").get("address")  # type: ignore[union-attr,misc]
        for card in tree.iter("interface")
    }


def _tags_agree(stage: Stage, machine: Machine, state: Any) -> None:
    ports = {
        port["name"]: port.get("tag")
        for switch in state["switches"]
        for port in switch["ports"]
        if switch["name"] == "virtual"
    }
    for tap, mac in _taps(stage, machine).items():
        tag = TAGS["one" if machine.number == 1 else "two"][machine.macs.index(mac)]
        if tag:
            assert ports[tap] == tag
            assert stage.node.execute("ovs-vsctl", "get", "port", tap, "tag").strip() == str(tag)


def _pages_know(stage: Stage, machine: Machine) -> None:
    wanted = {machine.address(card) for card in (f"eth{n}" for n in range(3))}

    def shown() -> set[str]:
        rows = stage.ask.get(f"/machines/{machine.uuid}/nics")["items"]
        return {address["address"] for row in rows for address in row["addresses"]}

    until(lambda: wanted <= shown(), what=f"{wanted} to be mirrored")


def test_a_machine_without_a_disk_boots_from_a_network(stage: Stage) -> None:
    packages = CACHE / "tiny_guest" / "packages"
    root = netboot.tftp_root(stage.lab.directory / "tftp", stage.files, cache=packages)
    ips = stage.network("isolated")["document"]["ips"]
    ips[0] |= {"tftp_root": str(root), "boot_file": netboot.BOOT_FILE}
    path = f"/networks/{stage.networks['isolated']}"
    stage.ask.do(f"{path}/edit", ips=ips, restart=True)
    wish: dict[str, Any] = {
        "name": "diskless",
        "source": "pxe",
        "network": "network:isolated",
        "memory_mib": 128,
    }
    uuid = stage.ask.do("/machines", host="local", start=True, **wish)["uuid"]
    opened = libvirt.open(stage.node.uri)
    try:
        with Guest(opened.lookupByUUIDString(uuid)) as guest:
            guest.expect(r"LAB-DHCP eth0 10\.71\.1\.", seconds=150)
    finally:
        opened.close()
        _remove_machine(stage, uuid)
