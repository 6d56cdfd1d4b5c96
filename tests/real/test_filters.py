"""Network filters and security groups in force: packets to and from a guest on a Linux bridge.

Everything lives in a network namespace of its own, so that its whole firewall can be compared.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import libvirt
import pytest
from pytest_django import Settings

from kvmweb import tiny_guest
from kvmweb.mirror import look_again
from kvmweb.models import HostNetwork, Job, Machine, Nic, NwFilter, SecurityGroup, User
from kvmweb.models.filters import memberships
from kvmweb.operations import OPERATIONS
from kvmweb.operations.operation import Conflict
from kvmweb.spec.nwfilter import Filter, Reference, Rule
from kvmweb.spec.xml import parse
from tests.conftest import Stage
from tests.guest import Guest, domain_xml
from tests.libvirtd import PrivateLibvirtd
from tests.waiting import until

# By process: what a killed run left must not be in the way of the next.
PLACE, STRANGER = f"kwf-host-{os.getpid()}", f"kwf-stranger-{os.getpid()}"
BRIDGE = "kwf-br"
MAC, ALLY_MAC = "52:54:00:6b:77:01", "52:54:00:6b:77:02"
ADDRESS, ALLY_ADDRESS, STRANGER_ADDRESS, OWN_ADDRESS = (
    f"10.231.77.{last}" for last in (11, 12, 13, 1)
)
CARD = f"""<interface type='bridge'><mac address='{{}}'/><source bridge='{BRIDGE}'/>
<model type='virtio'/></interface>"""
pytestmark = pytest.mark.django_db(transaction=True)


def run(*command: str, within: str = PLACE, check: bool = True) -> str:
    words = ["ip", "netns", "exec", within, *command] if within else list(command)
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=check)
    return ended.stdout


@pytest.fixture(scope="module")
def daemon() -> Iterator[PrivateLibvirtd]:
    """In a namespace with a bridge and, on it, a stranger."""
    names = (PLACE, STRANGER)
    for name in names:
        run("ip", "netns", "add", name, within="")
    try:
        for command in (
            "ip link set lo up",
            f"ip link add {BRIDGE} type bridge",
            f"ip address add {OWN_ADDRESS}/24 dev {BRIDGE}",
            f"ip link set {BRIDGE} up",
            f"ip link add kwf-port type veth peer name eth0 netns {STRANGER}",
            f"ip link set kwf-port master {BRIDGE} up",
        ):
            run(*command.split())
        for command in (
            "ip link set lo up",
            "ip link set eth0 up",
            f"ip address add {STRANGER_ADDRESS}/24 dev eth0",
        ):
            run(*command.split(), within=STRANGER)
        with PrivateLibvirtd(network=PLACE) as running:
            yield running
    finally:
        for name in names:
            run("ip", "netns", "delete", name, within="")


@pytest.fixture(scope="module")
def connection(daemon: PrivateLibvirtd) -> Iterator[libvirt.virConnect]:
    """Its libvirt has made the chains that it never takes away again."""
    opened = libvirt.open(daemon.uri)
    made = opened.nwfilterDefineXML(
        "<filter name='first'>"
        "<rule action='drop' direction='in'><all/></rule>"
        "<rule action='drop' direction='in'><all-ipv6/></rule>"
        "<rule action='drop' direction='inout'><arp/></rule></filter>"
    )
    opened.nwfilterBindingCreateXML(
        f"<filterbinding><owner><name>first</name><uuid>{made.UUIDString()}</uuid></owner>"
        f"<portdev name='kwf-port'/><mac address='{MAC}'/><filterref filter='first'/>"
        "</filterbinding>"
    ).delete()
    made.undefine()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def guests(daemon: PrivateLibvirtd, connection: libvirt.virConnect) -> Iterator[dict[str, Guest]]:
    """``guard``, which is to be protected, serves on three ports; ``ally`` is another machine."""
    files = tiny_guest.build(daemon.images / "tiny_guest")
    found = {}
    for name, mac, address in (("guard", MAC, ADDRESS), ("ally", ALLY_MAC, ALLY_ADDRESS)):
        xml = domain_xml(
            name,
            guest=files,
            devices=[CARD.format(mac)],
            addresses={"eth0": f"{address}/24"},
        )
        domain = connection.defineXML(xml)
        domain.create()
        found[name] = Guest(domain)
    for guest in found.values():
        guest.wait()
        guest.run("httpd -p 8080 -h /run/www; httpd -p 8443 -h /run/www")
    yield found
    for name in found:
        domain = connection.lookupByName(name)
        domain.destroy()
        domain.undefine()


@pytest.fixture
def stage(
    agent: Stage, daemon: PrivateLibvirtd, guests: dict[str, Guest], settings: Settings
) -> Stage:
    """The agent's first host is the guests'; its helper is in the namespace too."""
    settings.NET_PREFIX = ["ip", "netns", "exec", PLACE]
    agent.host = agent.connect("filtered", daemon.uri)
    assert agent.host.has_filters
    return agent


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", role="administrator")


@pytest.fixture
def firewall(connection: libvirt.virConnect) -> Iterator[None]:
    """Nothing of the test is in the firewall afterwards."""
    before = rules()
    yield
    after = rules()
    if after != before:  # it failed in the middle; the next one shall not
        for name, mac in (("guard", MAC), ("ally", ALLY_MAC)):
            for flag in (libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG):
                connection.lookupByName(name).updateDeviceFlags(CARD.format(mac), flag)
    assert after == before


def rules() -> str:
    return run("nft", "--stateless", "list", "ruleset")


def reaches(port: int, address: str = ADDRESS, *, within: str = STRANGER) -> bool:
    """Whether a TCP connection is taken within 0.8 seconds."""
    program = f"import socket; socket.create_connection(('{address}', {port}), 0.8)"
    ended = subprocess.run(
        ["ip", "netns", "exec", within, sys.executable, "-c", program],
        capture_output=True,
        timeout=30,
        check=False,
    )
    return ended.returncode == 0


def pings(address: str = ADDRESS, *, within: str = STRANGER) -> bool:
    command = ["ip", "netns", "exec", within, "ping", "-c", "1", "-W", "1", address]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def do(stage: Stage, user: User, kind: str, target: Any = None, **arguments: Any) -> Job:
    job = stage.finish(OPERATIONS[kind].submit(user, target, arguments))
    assert job.state == "done", (job.error, job.log)
    return job


def fails(stage: Stage, user: User, kind: str, target: Any = None, **arguments: Any) -> Job:
    job = stage.finish(OPERATIONS[kind].submit(user, target, arguments))
    assert job.state == "failed", job.state
    return job


def guard(stage: Stage, name: str = "guard") -> Machine:
    return Machine.objects.get(host=stage.host, name=name)


def group(name: str) -> SecurityGroup:
    return SecurityGroup.objects.get(name=name)


def ours(stage: Stage) -> set[str]:
    filters = stage.connection.listAllNWFilters()
    return {one.name() for one in filters if one.name().startswith("kvmweb-")}


def fetches(guest: Guest) -> bool:
    """Whether it gets the guard's page within a second."""
    return guest.run(f"timeout 1 httpget {ADDRESS} 80")[0].strip() == "guard"


def settles(condition: Callable[[], bool]) -> None:
    until(condition, seconds=30)


IN_80 = {"direction": "in", "protocol": "tcp", "ports": "80"}
OUT = {"direction": "out", "protocol": "any"}
NO_PING = """<filter name='no-ping' chain='root'>
<rule action='drop' direction='in' priority='500'><icmp type='8'/></rule>
</filter>"""


def refer(stage: Stage, filter_name: str) -> None:
    """As somebody would by virsh, past the site; which hears of it on the clock, or now."""
    domain = stage.connection.lookupByName("guard")
    card = CARD.format(MAC)
    if filter_name:
        card = card.replace("</interface>", f"<filterref filter='{filter_name}'/></interface>")
    domain.updateDeviceFlags(card, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    look_again(stage.host.pk, "machine", domain.UUIDString())
    until(lambda: Nic.objects.filter(mac=MAC, filter=filter_name).exists())


def test_a_filter_is_in_force_at_once_and_gone_with_its_rule(
    stage: Stage, alice: User, connection: libvirt.virConnect, firewall: None
) -> None:
    do(stage, alice, "filters.define", stage.host, xml=NO_PING)
    row = NwFilter.objects.get(host=stage.host, name="no-ping")
    assert pings()
    refer(stage, "no-ping")
    assert not pings()
    assert reaches(80)
    with pytest.raises(Conflict, match=f"the NIC {MAC} of guard"):
        OPERATIONS["filters.delete"].submit(alice, row)

    do(stage, alice, "filters.remove", row, place=0, version=row.version)
    assert pings()
    rule = {"action": "drop", "protocol": "tcp", "conditions": {"dstportstart": "80"}}
    job = do(stage, alice, "filters.add_rule", row, **rule)
    assert not reaches(80)
    assert reaches(8080)
    row.refresh_from_db()
    assert row.version == job.result["version"]
    late = fails(stage, alice, "filters.remove", row, place=0, version="another")
    assert "Somebody has changed this filter" in late.error
    rule["conditions"] = {"dstportstart": "8080"}
    do(stage, alice, "filters.edit_rule", row, place=0, **rule)
    assert reaches(80)
    assert not reaches(8080)
    do(stage, alice, "filters.clone", row, name="no-ping-2")
    do(stage, alice, "filters.add_reference", row, filter="no-ping-2")
    row.refresh_from_db()
    copy = NwFilter.objects.get(host=stage.host, name="no-ping-2")
    with pytest.raises(Conflict, match="the filter no-ping"):
        OPERATIONS["filters.delete"].submit(alice, copy)
    loop = fails(stage, alice, "filters.add_reference", copy, filter="no-ping")
    assert "would use itself" in loop.error
    do(stage, alice, "filters.move", row, place=1, to=0)
    row.refresh_from_db()
    assert [type(entry) for _place, entry in Filter(parse(row.xml)).entries] == [Reference, Rule]

    refer(stage, "")
    assert reaches(8080)
    do(stage, alice, "filters.delete", row)
    do(stage, alice, "filters.delete", copy)
    names = {one.name() for one in connection.listAllNWFilters()}
    assert names.isdisjoint({"no-ping", "no-ping-2"})


def test_what_libvirt_refuses_is_said_in_a_sentence(
    stage: Stage, alice: User, connection: libvirt.virConnect, firewall: None
) -> None:
    do(stage, alice, "filters.create", stage.host, name="mine", chain="root")
    row = NwFilter.objects.get(host=stage.host, name="mine")
    refer(stage, "mine")
    rule = {"action": "drop", "protocol": "tcp", "conditions": {"dstportstart": "$PORT"}}
    job = fails(stage, alice, "filters.add_rule", row, **rule)
    assert "without a value for PORT" in job.error
    assert reaches(80)
    job = fails(
        stage,
        alice,
        "filters.edit",
        row,
        xml=NO_PING.replace("no-ping", "mine").replace("<icmp type='8'/>", "<quic/>"),
    )
    assert "schema" in job.error
    refer(stage, "")
    do(stage, alice, "filters.delete", row)


def test_a_group_lets_in_what_it_allows_and_nothing_else(
    stage: Stage, alice: User, guests: dict[str, Guest], firewall: None
) -> None:
    assert reaches(80)
    assert reaches(8080)
    assert pings()
    do(stage, alice, "security_groups.create", name="web", rules=[IN_80, OUT])
    do(stage, alice, "security_groups.attach", guard(stage), mac=MAC, group="web")
    assert ours(stage) == {"kvmweb-sg-web"}
    assert reaches(80)
    assert not reaches(8080)
    assert not reaches(8080, within=PLACE)  # the host itself
    assert not pings()
    assert guests["guard"].pings(STRANGER_ADDRESS)  # and its answer comes back
    for document in (guard(stage).xml, guard(stage).inactive_xml):
        assert "<filterref filter='kvmweb-sg-web'/>" in document

    # A change takes effect while the machine runs, and what is allowed no more ends.
    do(stage, alice, "security_groups.add_rule", group("web"), protocol="icmp")
    do(stage, alice, "security_groups.edit_rule", group("web"), place=0, ports="8080, 8443")
    settles(lambda: reaches(8080) and reaches(8443) and pings() and not reaches(80))

    do(stage, alice, "security_groups.detach", guard(stage), mac=MAC, group="web")
    assert reaches(80)
    assert reaches(8080)
    assert pings()
    assert ours(stage) == set()
    assert "filterref" not in guard(stage).xml + guard(stage).inactive_xml
    do(stage, alice, "security_groups.delete", group("web"))


def test_a_rule_about_a_group_follows_the_addresses_of_its_members(
    stage: Stage, alice: User, guests: dict[str, Guest], firewall: None
) -> None:
    do(
        stage,
        alice,
        "security_groups.create",
        name="allies",
        rules=[
            {"direction": "in", "protocol": "any"},
            OUT,
        ],
    )
    do(stage, alice, "security_groups.create", name="web", rules=[{**IN_80, "group": "allies"}])
    do(stage, alice, "security_groups.attach", guard(stage), mac=MAC, group="web")
    assert not reaches(80)
    do(stage, alice, "security_groups.attach", guard(stage, "ally"), mac=ALLY_MAC, group="allies")
    settles(lambda: fetches(guests["ally"]))
    assert not reaches(80)
    with pytest.raises(Conflict, match=rf"ally \({ALLY_MAC}\)"):
        OPERATIONS["security_groups.delete"].submit(alice, group("allies"))

    # The group web lets nothing out.
    assert not guests["guard"].pings(STRANGER_ADDRESS)
    do(stage, alice, "security_groups.detach", guard(stage, "ally"), mac=ALLY_MAC, group="allies")
    with pytest.raises(Conflict, match="Rules of web"):
        OPERATIONS["security_groups.delete"].submit(alice, group("allies"))
    settles(lambda: not fetches(guests["ally"]))
    do(stage, alice, "security_groups.detach", guard(stage), mac=MAC, group="web")
    assert ours(stage) == set()


def test_several_groups_allow_what_any_of_them_does_and_spoofing_is_prevented(
    stage: Stage, alice: User, guests: dict[str, Guest], firewall: None
) -> None:
    do(stage, alice, "security_groups.create", name="web", rules=[IN_80, OUT])
    do(stage, alice, "security_groups.create", name="admin", rules=[{**IN_80, "ports": "8080"}])
    do(
        stage,
        alice,
        "security_groups.assign",
        guard(stage),
        mac=MAC,
        groups=["web", "admin"],
        prevents_spoofing=True,
        addresses=[ADDRESS],
    )
    nic = Nic.objects.get(machine=guard(stage))
    assert memberships([nic]) == {nic.pk: (["admin", "web"], True)}
    assert ours(stage) == {"kvmweb-sg-admin", "kvmweb-sg-web", nic.filter}
    assert reaches(80)
    assert reaches(8080)
    assert not reaches(8443)
    assert guests["guard"].pings(STRANGER_ADDRESS)
    guests["guard"].run("ip address add 10.231.77.99/24 dev eth0")
    assert guests["guard"].run(f"ping -c 1 -w 2 -I 10.231.77.99 {STRANGER_ADDRESS}")[1] != 0
    guests["guard"].run("ip address del 10.231.77.99/24 dev eth0")

    do(stage, alice, "security_groups.detach", guard(stage), mac=MAC, group="admin")
    assert not reaches(8080)
    assert reaches(80)
    assert ours(stage) == {"kvmweb-sg-web", Nic.objects.get(pk=nic.pk).filter}
    do(stage, alice, "security_groups.assign", guard(stage), mac=MAC)
    assert reaches(8443)
    assert ours(stage) == set()


def test_dhcp_and_neighbour_discovery_always_pass(
    stage: Stage, alice: User, guests: dict[str, Guest], firewall: None
) -> None:
    run("ip", "address", "add", "fd00:77::1/64", "dev", BRIDGE, "nodad")
    run("ip", "address", "add", "fd00:77::13/64", "dev", "eth0", "nodad", within=STRANGER)
    guests["guard"].run("ip address add fd00:77::11/64 dev eth0")
    until(lambda: pings("fd00:77::11"))
    do(stage, alice, "security_groups.create", name="web", rules=[IN_80])
    do(stage, alice, "security_groups.attach", guard(stage), mac=MAC, group="web")
    assert reaches(80, "fd00:77::11")
    assert not reaches(8080, "fd00:77::11")
    assert not pings("fd00:77::11")
    with dhcp_server():
        said, _ended = guests["guard"].run("udhcpc -i eth0 -n -q -t 10 -T 1 -s /bin/true")
    assert "lease of 10.231.77.50 obtained" in said
    do(stage, alice, "security_groups.detach", guard(stage), mac=MAC, group="web")
    assert pings("fd00:77::11")


@contextmanager
def dhcp_server() -> Iterator[None]:
    """Lends one address on the bridge."""
    words = [
        "ip", "netns", "exec", PLACE, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
        "--port=0", f"--interface={BRIDGE}", "--bind-interfaces", "--leasefile-ro", "--no-ping",
        "--pid-file=",
        "--dhcp-range=10.231.77.50,10.231.77.50,2m",
    ]  # fmt: skip
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.terminate()
        server.wait(10)


def test_where_the_kernel_hides_bridged_packets_it_is_said_and_remedied(
    stage: Stage, alice: User, firewall: None
) -> None:
    do(stage, alice, "security_groups.create", name="web", rules=[IN_80])
    until(lambda: HostNetwork.objects.filter(host=stage.host, actual__has_key="bridging").exists())
    run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
    job = fails(stage, alice, "security_groups.attach", guard(stage), mac=MAC, group="web")
    assert "filters for IP have no effect" in job.error
    assert "net.bridge.bridge-nf-call-iptables = 0" in job.error
    assert ours(stage) == set()
    do(stage, alice, "filters.show_bridged", stage.host)
    assert run("sysctl", "-n", "net.bridge.bridge-nf-call-iptables").strip() == "1"
    do(stage, alice, "security_groups.attach", guard(stage), mac=MAC, group="web")
    assert not reaches(8080)
    do(stage, alice, "security_groups.detach", guard(stage), mac=MAC, group="web")


def test_what_somebody_changed_past_us_is_put_right(
    stage: Stage, alice: User, firewall: None
) -> None:
    do(stage, alice, "security_groups.create", name="web", rules=[IN_80, OUT])
    do(stage, alice, "security_groups.attach", guard(stage), mac=MAC, group="web")
    row = NwFilter.objects.get(host=stage.host, name="kvmweb-sg-web")
    open_to_all = Filter.new("filter", name=row.name, uuid=str(row.uuid)).xml
    stage.connection.nwfilterDefineXML(open_to_all)
    assert reaches(8080)
    look_again(stage.host.pk, "nwfilter", str(row.uuid))
    settles(lambda: not reaches(8080))
    job = Job.objects.filter(kind="security_groups.apply").latest("created")
    assert (job.user, job.username) == (None, "kvmweb")
    do(stage, alice, "security_groups.detach", guard(stage), mac=MAC, group="web")


def test_a_filter_that_only_has_our_name_is_not_touched(
    stage: Stage, alice: User, connection: libvirt.virConnect, firewall: None
) -> None:
    theirs = connection.nwfilterDefineXML("<filter name='kvmweb-sg-web'/>")
    before = theirs.XMLDesc()
    do(stage, alice, "security_groups.create", name="web", rules=[IN_80])
    job = fails(stage, alice, "security_groups.attach", guard(stage), mac=MAC, group="web")
    assert "this site has not made" in job.error
    assert theirs.XMLDesc() == before
    theirs.undefine()


def test_a_nic_with_a_filter_of_its_own_keeps_it(
    stage: Stage, alice: User, connection: libvirt.virConnect, firewall: None
) -> None:
    do(stage, alice, "security_groups.create", name="web", rules=[IN_80])
    refer(stage, "allow-arp")
    job = fails(stage, alice, "security_groups.attach", guard(stage), mac=MAC, group="web")
    assert "uses the filter allow-arp" in job.error
    assert job.error_field == "mac"
    refer(stage, "")
    job = fails(
        stage, alice, "security_groups.attach", guard(stage), mac="52:54:00:00:00:99", group="web"
    )
    assert "no NIC with the MAC address" in job.error
    job = fails(stage, alice, "security_groups.attach", guard(stage), mac=MAC, group="nothing")
    assert "no security group named nothing" in job.error
    assert ours(stage) == set()


def test_a_machine_that_is_off_has_its_group_at_the_next_start(
    stage: Stage, alice: User, connection: libvirt.virConnect, firewall: None
) -> None:
    domain = connection.defineXML(domain_xml("sleeper", devices=[CARD.format("52:54:00:6b:77:03")]))
    try:
        until(lambda: Nic.objects.filter(machine__name="sleeper").exists())
        sleeper = guard(stage, "sleeper")
        do(stage, alice, "security_groups.create", name="web", rules=[IN_80])
        do(stage, alice, "security_groups.attach", sleeper, mac="52:54:00:6b:77:03", group="web")
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        assert "ctdir ORIGINAL" in run("iptables-save").partition("libvirt-host-in")[2]
        assert "--dport 80 " in run("iptables-save")
        domain.destroy()
        assert "--dport 80 " not in run("iptables-save")
    finally:
        domain.undefine()
    # Deleted with its machine's group: what is left over is taken away.
    settles(lambda: ours(stage) == set())
