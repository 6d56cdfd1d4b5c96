"""A machine's NICs on real QEMU, libvirt and Open vSwitch; virsh, ip, ovs-vsctl and the guest
itself are the witnesses. One guest serves all tests; each gives it back with its one card.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import libvirt
import pytest
from lxml import etree

from kvmweb import tiny_guest
from kvmweb.models import Host, HostNetwork, Job, JobState, MacClaim, Machine, Nic, User
from kvmweb.operations import nics
from kvmweb.operations.nics import cards
from kvmweb.operations.operation import Operation
from tests.conftest import Stage
from tests.guest import Guest, domain_xml
from tests.libvirtd import PrivateLibvirtd
from tests.ovs import PrivateOvs
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]

MAC = "52:54:00:6e:00:01"
ROOMY = ["<controller type='pci' model='pcie-root'/>"]
ROOMY += ["<controller type='pci' model='pcie-root-port'/>"] * 8
CARD = f"""<interface type='network'><mac address='{MAC}'/><source network='lan'/>
<model type='virtio'/><rom bar='off'/><tune><sndbuf>1600</sndbuf></tune></interface>"""
LAN = """<network><name>{0}</name><bridge name='nic-{0}'/><ip address='10.66.{1}.1' prefix='24'>
<dhcp><range start='10.66.{1}.10' end='10.66.{1}.99'/></dhcp></ip></network>"""
SWITCHED = """<network><name>switched</name><forward mode='bridge'/><bridge name='br-int'/>
<virtualport type='openvswitch'/><portgroup name='v10'><vlan><tag id='10'/></vlan></portgroup>
<portgroup name='v20'><vlan><tag id='20'/></vlan></portgroup></network>"""


@pytest.fixture(scope="module")
def switch() -> Iterator[PrivateOvs]:
    """A host of its own with two Open vSwitch bridges, one with a tunnel, and a Linux one."""
    with PrivateOvs() as running:
        for name in ("br-int", "br-far"):
            running.vsctl("add-br", name, "--", "set", "bridge", name, "datapath_type=netdev")
        running.vsctl(
            "add-port", "br-far", "tun0", "--", "set", "interface", "tun0", "type=vxlan",
            "options:remote_ip=192.0.2.9",
        )  # fmt: skip
        for words in ("link add nic-br type bridge", "link set nic-br up",
                      "address add 10.66.9.1/24 dev nic-br"):  # fmt: skip
            running.execute("ip", *words.split())
        yield running


@pytest.fixture(scope="module")
def daemon(switch: PrivateOvs) -> Iterator[PrivateLibvirtd]:
    # Where its ovs-vsctl, and the site's helper, find the database.
    os.environ["OVS_RUNDIR"] = str(switch.run)
    try:
        with PrivateLibvirtd(network=switch.name) as running:
            opened = libvirt.open(running.uri)
            for xml in (LAN.format("lan", 1), LAN.format("wan", 2), SWITCHED):
                opened.networkDefineXML(xml).create()
            opened.close()
            yield running
    finally:
        del os.environ["OVS_RUNDIR"]


@pytest.fixture(scope="module")
def witness(daemon: PrivateLibvirtd) -> Iterator[libvirt.virConnect]:
    opened = libvirt.open(daemon.uri)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def guest(daemon: PrivateLibvirtd, witness: libvirt.virConnect) -> Iterator[Guest]:
    files = tiny_guest.build(daemon.images / "tiny_guest")
    dom = witness.defineXML(domain_xml("web1", guest=files, devices=[*ROOMY, CARD]))
    dom.create()
    with Guest(dom) as running:
        running.wait()
        yield running
    dom.destroy()
    dom.undefine()


@dataclass
class Bench:
    """The machine under test, its site and its witnesses."""

    stage: Stage
    host: Host
    user: User
    dom: libvirt.virDomain
    guest: Guest
    switch: PrivateOvs
    daemon: PrivateLibvirtd

    @property
    def machine(self) -> Machine:
        return Machine.objects.get(host=self.host, name="web1")

    def do(self, operation: Operation, **arguments: Any) -> Job:
        job = self.stage.finish(operation.submit(self.user, self.machine, arguments))
        assert job.state == JobState.DONE, (job.error, job.error_field, job.log)
        return job

    def fails(self, operation: Operation, **arguments: Any) -> Job:
        job = self.stage.finish(operation.submit(self.user, self.machine, arguments))
        assert job.state == JobState.FAILED, job.log
        return job

    def nic(self, mac: str = MAC) -> Nic:
        return Nic.objects.get(machine=self.machine, mac=mac)

    def xml(self, mac: str = MAC, *, inactive: bool = False) -> etree._Element | None:
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
        root = etree.fromstring(self.dom.XMLDesc(flags))
        return root.find(f"devices/interface/mac[@address='{mac}']/..")

    def of(self, path: str, mac: str = MAC, *, inactive: bool = False) -> str:
        """An attribute, ``path/@name``, or "" """
        card = self.xml(mac, inactive=inactive)
        assert card is not None, f"no card {mac}"
        return next(iter(card.xpath(path)), "")

    def tap(self, mac: str = MAC) -> str:
        return str(self.of("target/@dev", mac))

    def virsh(self, *words: str) -> str:
        command = ["virsh", "-c", self.daemon.uri, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def ip(self, *words: str) -> str:
        return self.switch.execute("ip", *words)

    def carrier(self, card: str = "eth0") -> str:
        return self.guest.run(f"cat /sys/class/net/{card}/carrier")[0].strip()


@pytest.fixture
def bench(
    agent: Stage,
    alice: User,
    witness: libvirt.virConnect,
    guest: Guest,
    switch: PrivateOvs,
    daemon: PrivateLibvirtd,
) -> Iterator[Bench]:
    host = agent.connect("nics", daemon.uri)
    assert host.is_connected, host.state_reason
    until(
        lambda: _switches(host) == {"br-far", "br-int"}, what="the helper to tell of the switches"
    )
    dom = witness.lookupByName("web1")
    found = Bench(agent, host, alice, dom, guest, switch, daemon)
    before = dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    yield found
    until(lambda: not MacClaim.objects.exists(), what="every claim to be let go")
    for mac in re.findall(r"mac address='(.*?)'", dom.XMLDesc()):
        if mac != MAC:
            card = found.xml(mac)
            assert card is not None
            dom.detachDeviceFlags(etree.tostring(card, encoding="unicode"), cards.LIVE)
            until(lambda mac=mac: found.xml(mac) is None, what=f"{mac} to be unplugged")
    witness.defineXML(before)
    card = found.xml()
    assert card is not None
    for link in card.findall("link"):
        link.set("state", "up")
        dom.updateDeviceFlags(etree.tostring(card, encoding="unicode"), cards.LIVE)
    until(lambda: "eth1" not in guest.run("ls /sys/class/net")[0], what="only eth0 to be left")


def _switches(host: Host) -> set[str]:
    row = HostNetwork.objects.filter(host=host).first()
    return {one["name"] for one in row.actual.get("switches", [])} if row else set()


def test_a_card_plugged_in_gets_an_address_that_the_page_knows(bench: Bench) -> None:
    job = bench.do(nics.add, source="network:wan")
    mac = job.result["nic"]
    assert mac.startswith("52:54:00:")
    assert job.commands == [
        ["virsh", "attach-device", "web1", "nic.xml", "--live"],
        ["virsh", "attach-device", "web1", "nic.xml", "--config"],
    ]
    assert mac in bench.virsh("domiflist", "web1")
    bench.guest.expect(r"LAB-DHCP eth1 10\.66\.2\.\d+")
    address = bench.guest.address("eth1")
    row = until(lambda: Nic.objects.filter(mac=mac).exclude(addresses=[]).first())
    assert address in [one["address"] for one in row.addresses]
    assert (row.kind, row.source, row.bridge, row.is_current, row.is_kept) == (
        "network", "wan", "nic-wan", True, True,
    )  # fmt: skip
    assert row.tap == bench.tap(mac)
    assert row.tap in bench.ip("-br", "link", "show", "master", "nic-wan")
    slot = [bench.of("address/@bus", mac, inactive=inactive) for inactive in (False, True)]
    assert slot[0] == slot[1] != ""


def test_a_card_unplugged_is_gone_from_the_guest_and_both_documents(bench: Bench) -> None:
    mac = bench.do(nics.add, source="network:wan").result["nic"]
    until(lambda: "eth1" in bench.guest.run("ls /sys/class/net")[0])
    job = bench.do(nics.remove, nic=mac)
    assert ["virsh", "detach-interface", "web1", "network", "--mac", mac, "--live"] in job.commands
    assert bench.xml(mac) is None
    assert bench.xml(mac, inactive=True) is None
    assert "eth1" not in bench.guest.run("ls /sys/class/net")[0]
    until(lambda: not Nic.objects.filter(mac=mac).exists())


def test_a_card_for_the_next_start_leaves_the_running_machine_alone(bench: Bench) -> None:
    mac = bench.do(nics.add, source="network:wan", at_next_start=True).result["nic"]
    assert bench.xml(mac) is None
    assert bench.xml(mac, inactive=True) is not None
    until(lambda: Nic.objects.filter(mac=mac, is_current=False, is_kept=True).exists())
    bench.do(nics.remove, nic=mac)
    assert bench.xml(mac, inactive=True) is None


def test_a_guest_that_does_not_listen_keeps_its_card_and_is_named(
    agent: Stage, alice: User, daemon: PrivateLibvirtd, witness: libvirt.virConnect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(cards, "UNPLUGGED_WITHIN", 4.0)
    mac = "52:54:00:6e:00:77"
    card = CARD.replace(MAC, mac)
    dom = witness.createXML(domain_xml("deaf", devices=[*ROOMY, card]))
    try:
        host = agent.connect("nics", daemon.uri)
        machine = until(lambda: Machine.objects.filter(host=host, name="deaf").first())
        job = agent.finish(nics.remove.submit(alice, machine, {"nic": mac}))
        assert job.state == JobState.FAILED
        assert f"has not let go of the card {mac}" in job.error
        assert mac in dom.XMLDesc()
    finally:
        dom.destroy()


def test_the_link_goes_down_and_up_as_the_guest_sees_it(bench: Bench, bob: User) -> None:
    bench.user = bob  # an operator may
    job = bench.do(nics.set_link, nic=MAC, up=False)
    assert job.commands == [
        ["virsh", "domif-setlink", "web1", MAC, "down"],
        ["virsh", "domif-setlink", "web1", MAC, "down", "--config"],
    ]
    assert bench.virsh("domif-getlink", "web1", MAC).split()[-1] == "down"
    until(lambda: bench.carrier() == "0", what="the guest to see it")
    until(lambda: not bench.nic().is_link_up)
    bench.do(nics.set_link, nic=MAC, up=True)
    until(lambda: bench.carrier() == "1", what="the guest to see it")
    until(lambda: bench.nic().is_link_up)
    assert bench.of("link/@state", inactive=True) == ""


def test_a_card_moves_between_networks_while_the_guest_runs(bench: Bench) -> None:
    tap = bench.tap()
    job = bench.do(nics.edit, nic=MAC, source="network:wan")
    assert "pending" not in job.result
    assert bench.tap() == tap, "it was not unplugged"
    assert tap in bench.ip("-br", "link", "show", "master", "nic-wan")
    until(lambda: bench.nic().source == "wan")
    bench.do(nics.edit, nic=MAC, source="bridge:nic-br")
    assert tap in bench.ip("-br", "link", "show", "master", "nic-br")
    assert bench.of("source/@bridge", inactive=True) == "nic-br"
    bench.do(nics.edit, nic=MAC, source="network:lan")
    assert tap in bench.ip("-br", "link", "show", "master", "nic-lan")


def test_what_a_running_machine_can_not_take_waits_for_its_next_start(bench: Bench) -> None:
    job = bench.do(nics.edit, nic=MAC, source="ovs:br-int", mtu=1400, coalesce_frames=7)
    assert {"mtu", "source"} <= set(job.result["pending"])
    assert "coalesce_frames" not in job.result["pending"]
    assert "next start" in job.result["note"]
    assert bench.of("source/@network") == "lan"
    assert bench.of("coalesce/rx/frames/@max") == "7"
    assert bench.of("source/@bridge", inactive=True) == "br-int"
    assert bench.of("virtualport/@type", inactive=True) == "openvswitch"
    assert bench.of("mtu/@size", inactive=True) == "1400"
    bench.do(nics.edit, nic=MAC, source="network:lan", mtu=None, coalesce_frames=None)
    assert bench.of("mtu/@size", inactive=True) == ""
    assert bench.xml(inactive=True).find("virtualport") is None  # type: ignore[union-attr]
    assert bench.of("driver/host/@csum", inactive=True) == "", "what the site set goes by itself"


def test_a_change_that_fails_half_way_is_taken_back(bench: Bench) -> None:
    """The running machine is changed first; then libvirt can't write its definition."""
    mount = ("mount", "-o", "remount,bind")
    bench.daemon._inside(*mount, "-o", "ro", "/etc/libvirt")
    try:
        job = bench.fails(nics.edit, nic=MAC, source="network:wan")
    finally:
        bench.daemon._inside(*mount, "-o", "rw", "/etc/libvirt")
    assert [command[-1] for command in job.commands] == ["--live", "--config", "--live"]
    for inactive in (False, True):
        assert bench.of("source/@network", inactive=inactive) == "lan"
    assert bench.tap() in bench.ip("-br", "link", "show", "master", "nic-lan")


def test_what_waits_can_be_had_now_by_unplugging(bench: Bench) -> None:
    mac = bench.do(nics.add, source="network:wan").result["nic"]
    until(lambda: "eth1" in bench.guest.run("ls /sys/class/net")[0])
    assert bench.do(nics.edit, nic=mac, mtu=1300).result["pending"] == ["mtu"]
    assert bench.of("mtu/@size", mac) == ""
    until(lambda: "size='1300'" in bench.machine.inactive_xml)
    job = bench.do(nics.edit, nic=mac, apply="replug")
    assert "pending" not in job.result
    assert bench.of("mtu/@size", mac) == "1300"
    until(lambda: "mtu 1300" in bench.guest.run("ip link show eth1")[0], what="the guest's MTU")


def test_what_is_not_asked_about_survives_every_edit(bench: Bench) -> None:
    for changes in ({"source": "bridge:nic-br"}, {"source": "network:lan"}, {"is_isolated": True}):
        bench.do(nics.edit, nic=MAC, **changes)
        for inactive in (False, True):
            assert bench.of("rom/@bar", inactive=inactive) == "off"
            assert bench.of("tune/sndbuf/text()", inactive=inactive) == "1600"
    bench.do(nics.edit, nic=MAC, is_isolated=None)


def test_over_a_userspace_switch_the_site_settles_checksums_and_mtu_itself(bench: Bench) -> None:
    mac = bench.do(nics.add, source="ovs:br-int", vlan=10).result["nic"]
    assert {bench.of(f"driver/{end}/@csum", mac) for end in ("host", "guest")} == {"off"}
    assert bench.of("mtu/@size", mac) == ""
    assert bench.switch.vsctl("get", "port", bench.tap(mac), "tag") == "10"

    far = bench.do(nics.edit, nic=mac, source="ovs:br-far", apply="replug")
    assert "br-far sends through a tunnel" in far.log
    assert "unplugged for a moment" in far.log
    assert bench.switch.vsctl("port-to-br", bench.tap(mac)) == "br-far"
    assert bench.of("mtu/@size", mac) == bench.of("mtu/@size", mac, inactive=True) == "1400"
    until(lambda: "mtu 1400" in bench.guest.run("ip link show eth1")[0], what="the guest's MTU")

    bench.do(nics.edit, nic=mac, source="network:lan", vlan=None, apply="replug")
    assert bench.of("driver/host/@csum", mac) == bench.of("mtu/@size", mac) == ""
    overruled = bench.do(nics.edit, nic=mac, source="ovs:br-far", mtu=1300, host_csum="on")
    assert set(overruled.result["pending"]) >= {"source", "mtu", "host_csum", "guest_csum"}
    assert bench.of("driver/host/@csum", mac, inactive=True) == "on"
    assert bench.of("mtu/@size", mac, inactive=True) == "1300"


def test_vlans_of_an_open_vswitch_port_change_while_it_runs(bench: Bench) -> None:
    mac = bench.do(nics.add, source="ovs:br-int", vlan=10).result["nic"]
    tap = bench.tap(mac)

    def port(column: str) -> str:
        return bench.switch.vsctl("get", "port", tap, column)

    bench.do(nics.edit, nic=mac, vlan=20)
    assert port("tag") == "20"
    bench.do(nics.edit, nic=mac, trunks="30, 32-33", native_mode="untagged")
    assert (port("tag"), port("trunks"), port("vlan_mode")) == (
        "20", "[20, 30, 32, 33]", "native-untagged",
    )  # fmt: skip
    until(lambda: bench.nic(mac).vlans == [20, 30, 32, 33])
    bench.do(nics.edit, nic=mac, vlan=None)
    assert port("tag") == "[]"
    assert port("trunks") == "[30, 32, 33]"
    bench.do(nics.edit, nic=mac, trunks=[])
    assert port("trunks") == "[]"
    assert bench.tap(mac) == tap


def test_the_link_of_a_card_on_a_switched_network_can_be_set_too(bench: Bench) -> None:
    """Libvirt 9.0 refuses that for the document it prints itself; see ``cards.current``."""
    mac = bench.do(nics.add, source="network:switched", portgroup="v10").result["nic"]
    assert bench.switch.vsctl("get", "port", bench.tap(mac), "tag") == "10"
    until(lambda: "eth1" in bench.guest.run("ls /sys/class/net")[0])
    bench.guest.run("ip link set eth1 up")
    bench.do(nics.set_link, nic=mac, up=False)
    until(lambda: bench.carrier("eth1") == "0", what="the guest to see it")
    bench.do(nics.set_link, nic=mac, up=True)
    until(lambda: bench.carrier("eth1") == "1", what="the guest to see it")
    assert bench.of("source/@network", mac) == "switched", "it is still the network's port"


def test_bandwidth_is_limited_at_once(bench: Bench) -> None:
    mac = bench.do(nics.add, source="ovs:br-int").result["nic"]
    tap = bench.tap(mac)
    job = bench.do(nics.edit, nic=mac, in_average=1000, in_peak=2000, in_burst=512)
    assert ["virsh", "domiftune", "web1", tap, "--live", "--inbound", "1000,2000,512"] in (
        job.commands
    )
    told = bench.virsh("domiftune", "web1", tap)
    assert re.search(r"inbound\.average *: *1000", told)
    qos = bench.switch.vsctl("list", "qos")
    assert 'max-rate="16000000"' in qos
    assert bench.of("bandwidth/inbound/@peak", mac, inactive=True) == "2000"
    bench.do(nics.edit, nic=mac, in_average=None, in_peak=None, in_burst=None)
    assert bench.xml(mac).find("bandwidth/inbound") is None  # type: ignore[union-attr]
    assert bench.of("bandwidth/inbound/@average", mac, inactive=True) == ""
    assert 'max-rate="16000000"' not in bench.switch.vsctl("list", "qos")


def test_a_kernel_that_can_not_shape_is_said_to_be_one_and_nothing_changes(bench: Bench) -> None:
    if bench.switch.execute("sh", "-c", "tc qdisc add dev nic-br root sfq 2>&1 || true") == "":
        bench.switch.execute("tc", "qdisc", "del", "dev", "nic-br", "root")
        pytest.skip("this kernel has all of libvirt's shapers")
    job = bench.fails(nics.edit, nic=MAC, in_average=100)
    assert job.error_field == "in_average"
    assert "kernel" in job.error
    assert bench.of("bandwidth/inbound/@average", inactive=True) == ""


def test_a_filter_goes_into_force_while_it_runs(bench: Bench) -> None:
    bench.do(nics.edit, nic=MAC, filter="clean-traffic", filter_parameters="IP=10.66.1.200")
    rules = bench.switch.execute("nft", "list", "ruleset")
    assert bench.tap() in rules
    bench.do(nics.edit, nic=MAC, filter=None)
    assert f"libvirt-I-{bench.tap()}" not in bench.switch.execute("nft", "list", "ruleset")
    assert bench.xml().find("filterref") is None  # type: ignore[union-attr]


def test_another_mac_address_makes_another_card(bench: Bench) -> None:
    mac = bench.do(nics.add, source="network:wan").result["nic"]
    until(lambda: "eth1" in bench.guest.run("ls /sys/class/net")[0])
    other = "52:54:00:6e:00:99"
    bench.do(nics.edit, nic=mac, mac=other, apply="replug")
    assert bench.xml(mac) is bench.xml(mac, inactive=True) is None
    assert bench.xml(other) is not None
    assert bench.xml(other, inactive=True) is not None
    until(lambda: other in bench.guest.run("cat /sys/class/net/eth*/address")[0])
    until(lambda: Nic.objects.filter(mac=other, is_current=True, is_kept=True).exists())


def test_addresses_come_from_the_agent_from_leases_and_from_arp(bench: Bench) -> None:
    def seen(mac: str) -> dict[str, str]:
        return {one["address"]: one["from"] for one in bench.nic(mac).addresses}

    leased = until(lambda: bench.guest.address("eth0"))
    until(lambda: seen(MAC).get(leased) == "agent", what="the agent to be heard")
    bench.guest.run("kill -STOP $(cat /run/agent.pid)")
    try:
        mac = bench.do(nics.add, source="bridge:nic-br").result["nic"]
        until(lambda: bench.guest.run("ls /run/udhcpc.eth1")[1] == 0, what="DHCP to be tried")
        # On its way out the DHCP client takes all addresses away.
        bench.guest.run("dhcp=$(cat /run/udhcpc.eth1); kill $dhcp; while kill -0 $dhcp; do :; done")
        bench.guest.run("ip addr add 10.66.9.7/24 dev eth1")
        until(lambda: "eth1" in bench.guest.run("ip route")[0])
        bench.ip("neigh", "flush", "all")
        bench.switch.execute("ping", "-c1", "-W5", "10.66.9.7")
        # An agent that does not answer costs its own machine a while, and nobody else anything.
        until(lambda: seen(MAC).get(leased) == "lease", seconds=30, what="the lease to be seen")
        until(lambda: seen(mac) == {"10.66.9.7": "arp"}, seconds=30, what="ARP to be seen")
    finally:
        bench.guest.run("kill -CONT $(cat /run/agent.pid)")
    # Any change of the machine is a reason to ask it again.
    bench.do(nics.set_link, nic=MAC, up=False)
    until(lambda: seen(mac) == {"10.66.9.7": "agent"}, what="the agent to be asked again")


def test_every_card_of_the_emulator_is_offered_and_starts(
    agent: Stage, daemon: PrivateLibvirtd, witness: libvirt.virConnect
) -> None:
    host = agent.connect("nics", daemon.uri)
    until(lambda: Host.objects.get(pk=host.pk).nic_models, what="QEMU to be asked")
    models = Host.objects.get(pk=host.pk).nic_models["x86_64"]["models"]
    printed = (
        subprocess.run(
            ["qemu-system-x86_64", "-device", "help"], capture_output=True, text=True, check=True
        )
        .stdout.partition("Network devices:")[2]
        .partition("\n\n")[0]
    )
    names = set(re.findall(r'name "([^"]+)", bus PCI', printed))
    assert {one for one in names if not one.startswith("virtio")} - {"pvrdma", "rocker"} == {
        one for one in models if not one.startswith(("virtio", "usb"))
    }
    devices = [
        f"<interface type='network'><source network='lan'/><model type='{model}'/>"
        f"{_usb_place(model)}</interface>"
        for model in models
    ]
    usb = "<controller type='usb' model='qemu-xhci'/>"
    dom = witness.createXML(
        domain_xml("cards", devices=[usb, *devices]), libvirt.VIR_DOMAIN_START_PAUSED
    )
    try:
        assert len(re.findall("<interface", dom.XMLDesc())) == len(models) > 20
    finally:
        dom.destroy()


def _usb_place(model: str) -> str:
    return "<address type='usb' bus='0' port='1'/>" if model == "usb-net" else ""
