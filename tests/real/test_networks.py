"""Libvirt's networks for real: on a host of the lab, with guests that are namespaces.

``virsh``, ``ip`` and the guests themselves are the witnesses.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import libvirt
import pytest
from pytest_django import Settings

from kvmweb.models import Host, HostNetwork, Job, JobState, Network, User
from kvmweb.operations import networks
from kvmweb.operations.operation import Invalid, Operation
from tests import dumps
from tests.conftest import Stage
from tests.guests import FETCH, plugged_in
from tests.nodes import Lab, Node, Place
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

INTERNET = "198.51.100.1"
SUBNET = "10.231.1"
DHCP = {"address": f"{SUBNET}.1/24", "ranges": [{"start": f"{SUBNET}.128", "end": f"{SUBNET}.254"}]}
# Nothing is in it: it is only there to have a NIC.
EMPTY = """<domain type='qemu'><name>empty</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices><interface type='network'>
<mac address='52:54:00:00:00:77'/><source network='{}'/></interface></devices></domain>"""


@pytest.fixture(scope="module")
def node(lab: Lab) -> Node:
    """A host on which libvirt has its chains in the firewall, and has switched forwarding on: it
    does that once, for good.
    """
    opened = libvirt.open(lab.a.uri)
    first = opened.networkCreateXML(
        "<network><name>first</name><forward mode='nat'/><bridge name='first'/>"
        "<ip address='10.231.99.1' prefix='24'/>"
        "<ip family='ipv6' address='fd00:999::1' prefix='64'/></network>"
    )
    first.destroy()
    opened.close()
    # Its own IPv6 addresses are looked for twice before they are used, for a second or two.
    until(lambda: "tentative" not in lab.a.execute("ip", "address"))
    return lab.a


class World:
    """The host as the site sees it, and who administers it."""

    def __init__(self, agent: Stage, node: Node, user: User) -> None:
        self.agent, self.node, self.user = agent, node, user
        self.host: Host = agent.connect("a", node.uri)
        assert self.host.is_connected, self.host.state_reason

    def create(self, name: str = "lab", **wish: Any) -> Network:
        options = wish.pop("dnsmasq_options", [])
        fields = {"name": name, "bridge": name, "ips": [DHCP]} | wish
        if fields["ips"]:
            # dnsmasq pings each address for 3 s before it gives it out, and with STP a bridge
            # passes nothing from a new port for 4 s.
            fields |= {"dnsmasq_options": ["no-ping", *options], "stp": False}
        try:
            job = self.done(networks.create.submit(self.user, self.host, fields))
        except Invalid as refused:
            pytest.fail(str(refused.fields))
        return until(lambda: Network.objects.filter(uuid=job.result["uuid"]).first())

    def do(self, operation: Operation, /, **arguments: Any) -> Job:
        return self.agent.finish(operation.submit(self.user, self.network(), arguments))

    def done(self, job: Job) -> Job:
        self.agent.finish(job)
        assert job.state == JobState.DONE, f"{job.error}\n{job.log}"
        return job

    def network(self, name: str = "lab") -> Network:
        return Network.objects.get(host=self.host, name=name)

    def virsh(self, *words: str) -> str:
        return self.node.execute("virsh", *words)

    def index(self, link: str = "lab") -> int:
        """The kernel's number of it: another one is another link."""
        return int(json.loads(self.node.execute("ip", "-j", "link", "show", link))[0]["ifindex"])


@pytest.fixture
def world(agent: Stage, node: Node, alice: User, settings: Settings) -> Iterator[World]:
    """After the test the host's whole network is as it was. Its helper is started inside: by ssh
    (tests/real/test_reach.py) every connection takes a second.
    """
    settings.NET_PREFIX = node.enter
    before = dumps.whole(node.said)
    made = World(agent, node, alice)
    yield made
    opened = libvirt.open(node.uri)
    for dom in opened.listAllDomains():
        with suppress(libvirt.libvirtError):  # the agent tries the emulator out, briefly
            dom.destroy()
    for network in opened.listAllNetworks():
        is_persistent = network.isPersistent()
        if network.isActive():
            network.destroy()
        if is_persistent:
            network.undefine()
    opened.close()
    left = dumps.settled(before, node.said)
    assert not left, f"the test left this behind:\n{left}"


def test_guests_of_an_isolated_network_reach_each_other_and_nobody_else(world: World) -> None:
    world.create(mode="isolated")
    with plugged_in(world.node, "lab") as one, plugged_in(world.node, "lab") as other:
        assert one.lease()["router"] == ""
        address = other.lease()["ip"]
        other.serve()
        assert one.pings(address)
        assert one.fetch(address) == other.name
        one.execute("ip", "route", "add", "default", "via", f"{SUBNET}.1")
        assert not one.succeeds("ping", "-c1", "-W1", INTERNET)


def test_guests_reach_the_internet_through_nat(world: World) -> None:
    network = world.create()
    assert network.forward_mode == "nat"
    assert network.bridge == "lab"
    with plugged_in(world.node, "lab") as guest:
        assert guest.lease()["router"] == f"{SUBNET}.1"
        assert guest.pings(INTERNET)
        assert guest.fetch(INTERNET) == "203.0.113.11", "the host's own address is seen there"


def test_a_routed_network_keeps_the_guests_addresses(world: World, lab: Lab) -> None:
    world.create(mode="route")
    with plugged_in(world.node, "lab") as guest:
        address = guest.lease()["ip"]
        assert not guest.succeeds("ping", "-c1", "-W1", INTERNET), "nobody knows the way back"
        route = ["ip", "route", "add", f"{SUBNET}.0/24", "via", "203.0.113.11"]
        lab.internet.execute(*route)
        try:
            assert guest.fetch(INTERNET) == address
        finally:
            lab.internet.execute(*route[:2], "delete", *route[3:])


def test_an_open_network_leaves_the_firewall_alone(world: World) -> None:
    before = world.node.said(["nft", "--stateless", "list", "ruleset"])
    world.create(mode="open")
    assert world.node.said(["nft", "--stateless", "list", "ruleset"]) == before
    with plugged_in(world.node, "lab") as guest:
        assert guest.lease()["router"] == f"{SUBNET}.1"


def test_a_lease_becomes_a_reservation_while_the_network_runs(world: World) -> None:
    world.create()
    index = world.index()
    with plugged_in(world.node, "lab") as guest:
        address = guest.lease("-x", "hostname:web1")["ip"]
        lease = until(lambda: world.network().leases, seconds=15)[0]
        assert (lease["mac"], lease["address"]) == (guest.mac, address)
        assert (lease["prefix"], lease["name"]) == (24, "web1")
        assert address in world.virsh("net-dhcp-leases", "lab")
        wanted = {"mac": guest.mac, "address": f"{SUBNET}.77", "name": "seven"}
        job = world.done(world.do(networks.add_reservation, **wanted))
        assert job.commands[-1][:5] == ["virsh", "net-update", "lab", "add-last", "ip-dhcp-host"]
        assert not job.result["needs_restart"]
        assert world.index() == index
        told = guest.lease()
        assert (told["ip"], told["hostname"]) == (f"{SUBNET}.77", "seven")
        world.done(world.do(networks.remove_reservation, address=f"{SUBNET}.77"))
        assert f"{SUBNET}.77" not in world.virsh("net-dumpxml", "lab")
        assert world.index() == index


def test_the_lease_time_and_a_dnsmasq_option_reach_the_guest(world: World) -> None:
    ip = {**DHCP, "ranges": [{**DHCP["ranges"][0], "lease_seconds": 7200}]}
    world.create(ips=[ip], dnsmasq_options=["dhcp-option=option:ntp-server,10.231.1.9"])
    with plugged_in(world.node, "lab") as guest:
        told = guest.lease("-O", "ntpsrv")
    assert (told["lease"], told["ntpsrv"]) == ("7200", "10.231.1.9")


def test_a_guest_boots_from_the_network(world: World) -> None:
    root = world.node.directory / "tftp"
    root.mkdir()
    (root / "boot.img").write_text("a kernel")
    ip = {**DHCP, "tftp_root": str(root), "boot_file": "boot.img"}
    world.create(ips=[ip])
    with plugged_in(world.node, "lab") as guest:
        told = guest.lease("-O", "bootfile")
        assert told["boot_file"] == "boot.img"
        assert told["siaddr"] == f"{SUBNET}.1"
        got = guest.busybox("tftp", "-g", "-r", "boot.img", "-l", "/dev/stdout", f"{SUBNET}.1")
    assert got == "a kernel"


def test_guests_get_ipv6_addresses_and_reach_the_host(world: World) -> None:
    world.create(ips=[DHCP, {"address": "fd00:231::1/64"}])
    with plugged_in(world.node, "lab") as guest:
        address = until(
            lambda: next((one for one in guest.addresses() if one.startswith("fd00:231:")), ""),
            seconds=15,
        )
        assert until(lambda: guest.pings("fd00:231::1"))
        assert world.node.succeeds("ping", "-c1", "-W3", address)
        routes = guest.execute("ip", "-6", "route", "show", "default")
    assert "proto ra" in routes


def test_a_forwarded_port_is_reached_from_outside_and_goes_with_its_network(
    world: World, lab: Lab
) -> None:
    world.create()
    until(lambda: HostNetwork.of(world.host).actual, what="the host's network to be read")
    outside = lab.internet
    with plugged_in(world.node, "lab") as guest:
        guest.serve()
        to = guest.lease()["ip"]
        assert not _fetched(outside, 8080)
        job = world.done(world.do(networks.add_forward, port=8080, to=to, to_port=80))
        assert any(command[0] == "nft" for command in job.commands)
        assert _fetched(outside, 8080) == guest.name
        assert to in world.node.execute("nft", "list", "ruleset")
        world.done(world.do(networks.restart))
        world.node.execute("ip", "link", "set", guest.tap, "master", "lab")
        assert until(lambda: _fetched(outside, 8080), what="it to be reached") == guest.name
        world.done(world.do(networks.delete))
    assert _forwards(world) == []
    assert to not in world.node.execute("nft", "list", "ruleset")


def test_a_forward_is_taken_back(world: World, lab: Lab) -> None:
    world.create(ips=[DHCP, {"address": "fd00:231::1/64"}])
    until(lambda: HostNetwork.of(world.host).actual, what="the host's network to be read")
    for to in (f"{SUBNET}.7", "fd00:231::7"):
        wish = {"port": 9090, "protocol": "udp", "to": to, "comment": "both families"}
        world.done(world.do(networks.add_forward, **wish))
    port = {"port": 9090, "protocol": "udp"}
    world.done(world.do(networks.remove_forward, **port, to="fd00:231::7"))
    assert [one["to"] for one in _forwards(world)] == [f"{SUBNET}.7"]
    world.done(world.do(networks.remove_forward, **port))
    assert _forwards(world) == []


def _forwards(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = HostNetwork.of(world.host).desired["forwards"]
    return found


def _fetched(place: Place, port: int) -> str:
    """What the host's address outside answers; "" for nothing."""
    fetch = ("python3", "-c", FETCH, f"http://203.0.113.11:{port}/")
    return place.execute(*fetch).strip() if place.succeeds(*fetch) else ""


def test_names_are_known_at_once_and_the_bridge_stays(world: World) -> None:
    world.create(domain="lab.example")
    index = world.index()
    with plugged_in(world.node, "lab") as guest:
        guest.lease()
        host = {"address": f"{SUBNET}.9", "names": ["gate", "gate.lab.example"]}
        job = world.done(world.do(networks.edit, dns_hosts=[host]))
        assert not job.result["needs_restart"]
        assert f"{SUBNET}.9" in guest.busybox(
            "nslookup", "-type=a", "gate.lab.example", f"{SUBNET}.1"
        )
        range_ = {"start": f"{SUBNET}.200", "end": f"{SUBNET}.200"}
        world.done(world.do(networks.edit, ips=[{**DHCP, "ranges": [range_]}]))
        assert guest.lease()["ip"] == f"{SUBNET}.200"
    assert world.index() == index
    assert world.network().inactive_xml == ""


def test_what_libvirt_can_not_change_live_waits_for_a_restart(world: World) -> None:
    world.create()
    index = world.index()
    job = world.done(world.do(networks.edit, mtu=1400))
    assert job.result["needs_restart"]
    until(lambda: "1400" in world.network().inactive_xml)
    assert "1400" not in world.network().xml
    assert world.index() == index
    world.done(world.do(networks.restart))
    assert json.loads(world.node.execute("ip", "-j", "link", "show", "lab"))[0]["mtu"] == 1400
    until(lambda: "1400" in world.network().xml and not world.network().inactive_xml)


def test_a_restart_plugs_running_machines_in_again(world: World) -> None:
    world.create()
    opened = libvirt.open(world.node.uri)
    opened.createXML(EMPTY.format("lab"))
    opened.close()
    until(lambda: world.host.machines.filter(name="empty", nics__source="lab").exists())
    until(lambda: _ports(world.node, "lab"))
    index = world.index()
    job = world.done(world.do(networks.edit, domain="other.example", restart=True))
    assert not job.result["needs_restart"]
    assert job.commands.count(["virsh", "update-device", "empty", "nic.xml", "--live"]) == 2
    assert world.index() != index
    assert len(_ports(world.node, "lab")) == 1
    assert "<source network='lab'" in world.virsh("dumpxml", "empty")
    assert "empty" in world.virsh("net-port-list", "lab") or world.virsh("net-port-list", "lab")


def _ports(node: Node, bridge: str) -> list[str]:
    rows = json.loads(node.execute("ip", "-j", "link", "show", "master", bridge))
    return [row["ifname"] for row in rows]


def test_what_does_not_start_is_taken_back_and_the_network_runs_on(world: World) -> None:
    """Libvirt defines it with any option; dnsmasq refuses it at the start."""
    world.create()
    with plugged_in(world.node, "lab") as guest:
        before = guest.lease()["ip"]
    job = world.do(networks.edit, dnsmasq_options=["no-such-option"], mtu=1400, restart=True)
    assert job.state == JobState.FAILED
    assert job.error == "dnsmasq does not take an option of this network: bad option."
    assert job.error_field == "dnsmasq_options"
    for document in (["lab"], ["--inactive", "lab"]):
        xml = world.virsh("net-dumpxml", *document)
        assert "no-such-option" not in xml
        assert "1400" not in xml
    with plugged_in(world.node, "lab") as guest:
        assert guest.lease()["ip"].startswith(before.rpartition(".")[0])


def test_what_does_not_start_is_not_made(world: World) -> None:
    fields = {"name": "lab", "bridge": "lab", "ips": [DHCP], "dnsmasq_options": ["no-such-option"]}
    job = world.agent.finish(networks.create.submit(world.user, world.host, fields))
    assert (job.state, job.error_field) == (JobState.FAILED, "dnsmasq_options")
    assert "lab" not in world.virsh("net-list", "--all", "--name").split()


def test_what_the_host_has_already_is_refused(world: World) -> None:
    until(lambda: HostNetwork.of(world.host).actual, what="the host's network to be read")
    fields = {"name": "lab", "ips": [{"address": "203.0.113.0/24"}]}
    with pytest.raises(Invalid) as refused:
        networks.create.submit(world.user, world.host, fields)
    sentence = "This overlaps with the host's link eth2 (203.0.113.0/24). Choose another subnet."
    assert refused.value.fields == {"ips.0.address": sentence}


def test_one_kind_of_macvtap_becomes_another_without_a_word_lost(world: World) -> None:
    world.create(mode="macvtap-bridge", devices=["eth1"], bridge=None, ips=[])
    for mode in ("macvtap-vepa", "macvtap-private"):
        world.done(world.do(networks.edit, mode=mode, restart=True))
        xml = world.virsh("net-dumpxml", "lab")
        assert f"mode='{mode.removeprefix('macvtap-')}'" in xml
        assert "<interface dev='eth1'" in xml


def test_a_kernel_that_can_not_shape_says_so_and_leaves_nothing(world: World) -> None:
    """Where it can, the rate is there."""
    shaper = ["tc", "qdisc", "add", "dev", "lo", "root", "sfq"]
    is_able = world.node.succeeds(*shaper)
    if is_able:
        world.node.execute("tc", "qdisc", "del", "dev", "lo", "root")
    fields = {"name": "lab", "bridge": "lab", "ips": [DHCP], "inbound": {"average": 1000}}
    job = world.agent.finish(networks.create.submit(world.user, world.host, fields))
    if is_able:
        assert "htb" in world.node.execute("tc", "qdisc", "show", "dev", "lab")
        return
    assert "This host's kernel can't hold traffic to a rate" in job.error
    assert job.error_field == "inbound"
    assert "lab" not in world.virsh("net-list", "--all", "--name").split()


def test_a_pool_of_virtual_functions_is_made_and_says_why_it_does_not_start(world: World) -> None:
    """There is no such card here."""
    fields = {"mode": "hostdev", "physical_function": "eth1", "is_managed": True, "ips": []}
    world.create(bridge=None, start=False, autostart=False, **fields)
    assert "<pf dev='eth1'/>" in world.virsh("net-dumpxml", "lab")
    job = world.do(networks.start)
    assert job.state == JobState.FAILED
    assert "eth1" in job.error


def test_libvirts_complaint_names_the_line(world: World) -> None:
    xml = "<network>\n<name>lab</name>\n<bridge name='lab'/>\n<frward mode='nat'/>\n</network>"
    job = world.agent.finish(networks.create.submit(world.user, world.host, {"xml": xml}))
    assert job.error == "Line 4: <frward> does not belong there, in <network>."
    assert job.error_field == "xml"


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "bridge", "bridge": "br0"},
        {
            "mode": "bridge",
            "bridge": "br-int",
            "virtualport": "openvswitch",
            "portgroups": [
                {"name": "v10", "vlan": {"tags": [10]}, "is_default": True},
                {"name": "trunk", "vlan": {"tags": [10, 20], "native_untagged": 10}},
            ],
        },
        {"mode": "macvtap-passthrough", "devices": ["eth1"]},
        {"mode": "open", "ips": [{"address": "10.231.2.1/24"}], "bridge": "lab"},
        {
            "mode": "nat",
            "bridge": "lab",
            "devices": ["eth2"],
            "ips": [{"address": "10.231.2.1/24"}, {"address": "fd00:232::1/64"}],
            "is_ipv6_natted": True,
            "nat_ports": {"start": 2000, "end": 3000},
            "nat_addresses": {"start": "203.0.113.11", "end": "203.0.113.11"},
            "routes": [{"to": "10.240.0.0/16", "gateway": "10.231.2.7", "metric": 7}],
            "dns_services": [{"service": "ldap", "protocol": "tcp", "target": "x.y", "port": 389}],
            "dns_texts": [{"name": "a", "value": "b"}],
            "dns_forwarders": [{"domain": "corp", "address": "10.1.1.1"}],
            "stp": False,
            "forward_delay": 2,
            "is_isolating_ports": True,
        },
    ],
    ids=lambda fields: f"{fields['mode']} {fields.get('virtualport', '')}",
)
def test_every_kind_is_made_started_and_taken_away(world: World, fields: dict[str, Any]) -> None:
    world.create(**{"ips": [], "bridge": None} | fields)
    shown = world.virsh("net-info", "lab")
    assert "Active:         yes" in shown
    assert "Autostart:      yes" in shown
    world.done(world.do(networks.edit, portgroups=[{"name": "x"}]))
    assert "<portgroup name='x'" in world.virsh("net-dumpxml", "lab")
    world.done(world.do(networks.delete))
    assert "lab" not in world.virsh("net-list", "--all", "--name").split()
