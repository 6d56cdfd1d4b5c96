"""The operations on networks, on libvirt's test driver; what that lacks is in tests/real."""

import uuid
from typing import Any

import pytest

from kvmweb.models import Host, HostNetwork, HostState, Job, JobState, Machine, Network, State, User
from kvmweb.models.access import NETWORKS
from kvmweb.operations import networks, of_noun
from kvmweb.operations.networks import users
from kvmweb.operations.operation import Conflict, Forbidden, Invalid, Operation
from tests.conftest import Stage
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

DEFAULT = """<network><name>default</name><forward mode='nat'/><bridge name='virbr0'/>
<ip address='192.168.122.1' netmask='255.255.255.0'/></network>"""
LAB = {"name": "lab", "ips": [{"address": "192.168.100.1/24"}]}
ON_NETWORK = [one for one in of_noun("networks") if one.target is Network]


def _network(agent: Stage, name: str = "default") -> Network:
    return Network.objects.get(host=agent.host, name=name)


def _create(agent: Stage, user: User, **wish: Any) -> Job:
    job = agent.finish(networks.create.submit(user, agent.host, LAB | wish))
    if job.state == JobState.DONE:
        until(lambda: Network.objects.filter(uuid=job.result["uuid"]).exists())
    return job


def _do(agent: Stage, user: User, operation: Operation, on: str = "lab", **args: Any) -> Job:
    return agent.finish(operation.submit(user, _network(agent, on), args))


@pytest.fixture
def host(db: None) -> Host:
    """One of which only the mirror knows: enough for whatever is refused."""
    host = Host.objects.create(name="h", uri="qemu:///system", state=HostState.CONNECTED)
    Network.objects.create(
        host=host,
        uuid="22222222-0000-4000-8000-000000000001",
        name="default",
        is_active=True,
        forward_mode="nat",
        bridge="virbr0",
        xml=DEFAULT,
    )
    return host


def _sentences(host: Host, user: User, **wish: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as refused:
        networks.create.submit(user, host, LAB | wish)
    assert not Job.objects.exists()
    return refused.value.fields


def test_it_is_made_started_and_started_with_the_host(agent: Stage, alice: User) -> None:
    job = _create(agent, alice, ips=[{"address": "192.168.100.0/24"}], domain="lab.example")
    assert (job.state, job.error, job.target_name) == (JobState.DONE, "", "lab")
    assert job.commands == [
        ["virsh", "net-define", "--validate", "lab.xml"],
        ["virsh", "net-start", "lab"],
        ["virsh", "net-autostart", "lab"],
    ]
    net = agent.connection.networkLookupByName("lab")
    assert net.isActive()
    assert net.autostart()
    assert "<ip address='192.168.100.1' prefix='24'>" in net.XMLDesc()
    until(lambda: _network(agent, "lab").is_autostart)


def test_it_is_made_and_left_alone(agent: Stage, alice: User) -> None:
    _create(agent, alice, start=False, autostart=False)
    net = agent.connection.networkLookupByName("lab")
    assert (net.isActive(), net.autostart()) == (0, 0)


def test_it_is_made_from_xml_of_which_nothing_is_lost(agent: Stage, alice: User) -> None:
    xml = "<network><name>x</name><forward mode='route'/><ip address='10.9.0.1' prefix='16'/>\n"
    xml += "<metadata><a:b xmlns:a='urn:a' c='d'/></metadata></network>"
    job = _create(agent, alice, xml=xml, name="")
    assert (job.state, job.target_name) == (JobState.DONE, "x")
    assert _network(agent, "x").forward_mode == "route"
    assert 'c="d"' in _network(agent, "x").xml


def test_what_can_not_be_started_is_not_left_behind(agent: Stage, alice: User) -> None:
    """Libvirt takes this document, and nothing can be started with it."""
    before = agent.connection.listNetworks(), agent.connection.listDefinedNetworks()
    xml = "<network><name>x</name><nonsense/><ip address='10.9.0.1' prefix='16'/></network>"
    job = _create(agent, alice, xml=xml)
    assert job.state == JobState.FAILED
    assert job.error == "Line 1: <nonsense> does not belong there, in <network>."
    assert job.error_field == "xml"
    assert (agent.connection.listNetworks(), agent.connection.listDefinedNetworks()) == before


@pytest.mark.parametrize(
    ("wish", "field", "sentence"),
    [
        ({"name": ""}, "name", "Give the network a name."),
        ({"name": "default"}, "name", "A network with the name “default” is already there."),
        ({"name": "a/b"}, "name", "A name can't contain “/”."),
        ({"name": "a\nb"}, "name", "a character that can't be seen"),
        ({"name": "-x"}, "name", "This can't be a name."),
        ({"name": "ü" * 121}, "name", "too long"),
        ({"mode": "turbo"}, "mode", "Choose one of"),
        ({"ips": [{"address": "192.168.122.0/24"}]}, "ips.0.address",
         "This overlaps with the network “default” (192.168.122.0/24). Choose another subnet."),
        ({"ips": [{"address": "10.0.0.1"}]}, "ips.0.address", "Add the prefix to 10.0.0.1"),
        ({"ips": [{"address": "1.2.3.256/24"}]}, "ips.0.address", "is not an address"),
        ({"ips": [{"address": "10.0.0.255/24"}]}, "ips.0.address", "is the broadcast address"),
        ({"xml": "<network>"}, "xml", "This is not well-formed XML"),
        ({"xml": "<domain/>"}, "xml", "Line 1: This is a <domain>."),
        ({"xml": "<network/>"}, "xml", "The network has no name"),
        ({"xml": "<network><name>default</name></network>"}, "xml", "is already there"),
        ({"xml": "<network><name>x</name><uuid>1</uuid></network>"}, "xml", "“1” is not a UUID."),
        ({"xml": "<network><name>x</name>\n<ip address='192.168.122.9' prefix='24'/></network>"},
         "xml", "Line 2: This overlaps with the network “default”"),
        ({"xml": "<network><name>x</name>"
          "<uuid>22222222-0000-4000-8000-000000000001</uuid></network>"},
         "xml", "The network “default” has the UUID"),
    ],
)  # fmt: skip
def test_a_wrong_wish_is_refused_at_its_field(
    host: Host, alice: User, wish: dict[str, Any], field: str, sentence: str
) -> None:
    assert sentence in _sentences(host, alice, **wish)[field]


def _ip(**more: Any) -> list[dict[str, Any]]:
    return [{"address": "10.7.0.1/24", **more}]


@pytest.mark.parametrize(
    ("wish", "field", "sentence"),
    [
        ({"ips": _ip(ranges=[{"start": "10.8.0.5", "end": "10.7.0.9"}])},
         "ips.0.ranges.0.start", "10.8.0.5 is not in the network 10.7.0.0/24."),
        ({"ips": _ip(ranges=[{"start": "10.7.0.9", "end": "10.7.0.5"}])},
         "ips.0.ranges.0.end", "The range ends before it begins."),
        ({"ips": _ip(ranges=[{"start": "10.7.0.9", "end": "10.7.0.255"}])},
         "ips.0.ranges.0.end", "is the broadcast address"),
        ({"ips": _ip(ranges=[{"start": "fd00::1", "end": "10.7.0.25"}])},
         "ips.0.ranges.0.start", "is not in the network"),
        ({"ips": _ip(reservations=[{"mac": "52:54:00:00:00:01", "address": "10.8.0.5"}])},
         "ips.0.reservations.0.address", "is not in the network"),
        ({"ips": _ip(reservations=[{"mac": "52:54:00:00:00:01", "address": "10.7.0.1"}])},
         "ips.0.reservations.0.address", "is the host's own address"),
        ({"ips": _ip(reservations=[{"address": "10.7.0.5"}])},
         "ips.0.reservations.0.mac", "Enter the MAC address"),
        ({"ips": _ip(reservations=[{"mac": "52:54:00:00:00:01", "address": "10.7.0.5"},
                                   {"mac": "52:54:00:00:00:01", "address": "10.7.0.6"}])},
         "ips.0.reservations.1.mac", "is reserved twice"),
        ({"ips": [{"address": "fd00::1/64", "tftp_root": "/srv"}]},
         "ips.0.tftp_root", "by IPv4 only"),
        ({"ips": _ip(tftp_root="srv")}, "ips.0.tftp_root", "Enter the whole path"),
        ({"ips": _ip(boot_server="10.7.0.2")}, "ips.0.boot_file", "Enter the file"),
        ({"ips": _ip() + _ip()}, "ips.1.address", "This overlaps with 10.7.0.0/24"),
        ({"routes": [{"to": "10.99.0.0/16", "gateway": "10.6.0.1"}]},
         "routes.0.gateway", "10.6.0.1 is not in this network."),
        ({"routes": [{"to": "default", "gateway": "192.168.100.2"}]},
         "routes.0.to", "is not a network's matter"),
        ({"mode": "isolated", "devices": ["eth0"]}, "devices", "does not go out by a device"),
        ({"mode": "isolated", "is_ipv6_natted": True}, "is_ipv6_natted", "Only a network with NAT"),
        ({"nat_ports": {"start": 9, "end": 8}}, "nat_ports.end", "ends before it begins"),
        ({"mode": "bridge", "ips": []}, "bridge", "Choose the bridge"),
        ({"mode": "bridge", "bridge": "br0"}, "ips", "without a bridge of its own"),
        ({"mode": "macvtap-vepa", "ips": []}, "devices", "at least one device"),
        ({"mode": "hostdev", "ips": []}, "physical_function", "virtual functions are lent"),
        ({"vlan": {"tags": [5]}}, "vlan", "VLANs need an Open vSwitch bridge"),
        ({"bridge": "virbr0"}, "bridge", "The bridge of the network “default” has this name."),
        ({"mtu": 1000, "ips": [{"address": "fd00::1/64"}]}, "mtu", "With IPv6 the MTU is 1280"),
        ({"dns_forwarders": [{}]}, "dns_forwarders.0.address", "Enter an address, a domain"),
        ({"has_dns": False, "dns_texts": [{"name": "a", "value": "b"}]},
         "dns_texts", "The network has no DNS."),
        ({"is_domain_local": True}, "domain", "Enter the domain"),
        ({"dnsmasq_options": ["dhcp-script=/tmp/x"]}, "dnsmasq_options.0", "is not taken"),
        ({"dnsmasq_options": ["a\nconf-file=/tmp/x"]}, "dnsmasq_options.0", "one line"),
        ({"portgroups": [{"name": "a"}, {"name": "a"}]}, "portgroups.1.name", "already"),
        ({"inbound": {"average": 10, "peak": 5}}, "inbound.peak", "less than the average"),
        ({"outbound": {"average": 10, "floor": 5}}, "outbound.floor", "Only what comes in"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_at_its_field(
    host: Host, alice: User, wish: dict[str, Any], field: str, sentence: str
) -> None:
    assert sentence in _sentences(host, alice, **wish)[field]


def test_dangerous_options_are_not_taken_as_xml_either(host: Host, alice: User) -> None:
    xml = """<network xmlns:d='http://libvirt.org/schemas/network/dnsmasq/1.0'>
<name>x</name><ip address='10.9.0.1' prefix='16'/>
<d:options><d:option value='--dhcp-script=/bin/sh'/></d:options></network>"""
    assert "“dhcp-script” is not taken" in _sentences(host, alice, xml=xml)["xml"]


def _on_the_host(host: Host) -> None:
    link = {"namespace": "", "kind": "physical", "is_up": True}
    HostNetwork.objects.update_or_create(
        host=host,
        defaults={
            "actual": {
                "links": [
                    {**link, "name": "eth0"},
                    {**link, "name": "br0", "kind": "bridge"},
                    {**link, "name": "virbr0", "kind": "bridge"},
                ],
                "addresses": [
                    {"namespace": "", "dev": "eth0", "address": "10.20.0.5/24"},
                    {"namespace": "", "dev": "virbr0", "address": "192.168.122.1/24"},
                    {"namespace": "r1", "dev": "in0", "address": "10.30.0.5/24"},
                ],
                "routes": [
                    {"namespace": "", "dev": "eth0", "to": "default", "via": "10.20.0.1"},
                    {"namespace": "", "dev": "tun0", "to": "172.16.0.0/12", "via": None},
                ],
                "switches": [{"name": "br-int", "ports": []}],
            }
        },
    )


@pytest.mark.parametrize(
    ("wish", "field", "sentence"),
    [
        ({"ips": [{"address": "10.20.0.1/16"}]}, "ips.0.address",
         "This overlaps with the host's link eth0 (10.20.0.0/24)."),
        ({"ips": [{"address": "172.20.0.1/24"}]}, "ips.0.address",
         "This overlaps with the host's route by tun0 (172.16.0.0/12)."),
        ({"ips": [{"address": "192.168.122.1/24"}]}, "ips.0.address", "the network “default”"),
        ({"devices": ["eth9"]}, "devices.0", "There is no link “eth9” on this host."),
        ({"bridge": "br0"}, "bridge", "The host has a link of this name already."),
        ({"mode": "bridge", "bridge": "br9", "ips": []}, "bridge", "There is no bridge “br9”"),
        ({"mode": "bridge", "bridge": "br-int", "ips": []}, "virtualport", "is an Open vSwitch"),
        ({"mode": "bridge", "bridge": "br0", "virtualport": "openvswitch", "ips": []},
         "virtualport", "is a Linux bridge"),
        ({"mode": "bridge", "bridge": "virbr0", "ips": []}, "bridge", "There is no bridge"),
        ({"mode": "hostdev", "physical_function": "eth7", "ips": []},
         "physical_function", "There is no link “eth7”"),
    ],
)  # fmt: skip
def test_what_is_on_the_host_is_respected(
    host: Host, alice: User, wish: dict[str, Any], field: str, sentence: str
) -> None:
    _on_the_host(host)
    assert sentence in _sentences(host, alice, **wish)[field]


def test_a_router_in_a_namespace_is_in_nobodys_way(agent: Stage, alice: User) -> None:
    _on_the_host(agent.host)
    assert _create(agent, alice, ips=[{"address": "10.30.0.1/24"}]).state == JobState.DONE


def test_two_of_one_subnet_at_once_are_not_both_made(agent: Stage, alice: User) -> None:
    jobs = [
        networks.create.submit(alice, agent.host, LAB | {"name": name}) for name in ("one", "two")
    ]
    states = sorted(agent.finish(job).state for job in jobs)
    assert states == [JobState.DONE, JobState.FAILED]
    failed = next(job for job in jobs if job.state == JobState.FAILED)
    assert failed.error_field == "ips.0.address"
    assert "This overlaps with the network" in failed.error


def test_it_is_stopped_started_and_deleted(agent: Stage, alice: User) -> None:
    _create(agent, alice)
    assert _do(agent, alice, networks.stop).commands == [["virsh", "net-destroy", "lab"]]
    until(lambda: not _network(agent, "lab").is_active)
    assert _do(agent, alice, networks.start).commands == [["virsh", "net-start", "lab"]]
    until(lambda: _network(agent, "lab").is_active)
    assert _do(agent, alice, networks.restart).commands == [
        ["virsh", "net-destroy", "lab"],
        ["virsh", "net-start", "lab"],
    ]
    assert _do(agent, alice, networks.delete).commands == [
        ["virsh", "net-destroy", "lab"],
        ["virsh", "net-undefine", "lab"],
    ]
    until(lambda: not Network.objects.filter(name="lab").exists())


def test_autostart_is_set_and_seen(agent: Stage, alice: User) -> None:
    _do(agent, alice, networks.set_autostart, "default", enabled=True)
    until(lambda: _network(agent).is_autostart)
    job = _do(agent, alice, networks.set_autostart, "default", enabled=False)
    assert job.commands == [["virsh", "net-autostart", "--disable", "default"]]
    until(lambda: not _network(agent).is_autostart)


def test_a_refusal_says_how_it_is(host: Host, alice: User) -> None:
    network = host.networks.get()
    assert networks.start.refusal(alice, network) == "The network is active already."
    network.is_active = False
    assert networks.stop.refusal(alice, network) == "The network is not active."
    assert networks.restart.refusal(alice, network) == "The network is not active."
    network.is_persistent = False
    for operation in (networks.edit, networks.set_autostart, networks.add_reservation):
        assert "The network is transient" in str(operation.refusal(alice, network))


def test_a_host_that_is_away_refuses(host: Host, alice: User) -> None:
    network = host.networks.get()
    network.host.state, network.host.state_reason = HostState.UNREACHABLE, "It is on fire."
    refusal = networks.stop.refusal(alice, network)
    assert refusal == "The host h can't be reached: It is on fire."


@pytest.mark.parametrize("operation", [networks.stop, networks.restart, networks.delete])
def test_it_names_the_machines_it_cuts(agent: Stage, alice: User, operation: Operation) -> None:
    """web1 of the world runs, on the network “default”."""
    with pytest.raises(Invalid) as refused:
        operation.submit(alice, _network(agent))
    assert refused.value.fields == {
        "cut": "These running machines would lose their connection: web1. Confirm that."
    }
    assert not Job.objects.exists()
    job = _do(agent, alice, operation, "default", cut=True)
    if operation is networks.restart:  # the test driver can't change a running machine's NIC
        assert "these machines could not be plugged in again: web1." in job.error
        assert agent.connection.networkLookupByName("default").isActive()
    else:
        assert job.state == JobState.DONE


def test_who_uses_it_and_who_runs(agent: Stage) -> None:
    network = _network(agent)
    assert users.names(users.machines(network)) == "web1"
    agent.connection.lookupByName("web1").destroy()
    until(lambda: agent.machine().state == State.SHUTOFF)
    assert list(users.running(network)) == []
    assert users.names(users.machines(network)) == "web1"


def test_many_names_are_counted(db: None) -> None:
    host = Host.objects.create(name="h", uri="test:///default")
    for number in range(12):
        Machine.objects.create(
            host=host, uuid=uuid.uuid4(), name=f"m{number:02}", state=State.SHUTOFF, xml="<d/>"
        )
    assert users.names(Machine.objects.order_by("name")).endswith("m07 and 4 more")


def test_only_what_is_given_is_changed(agent: Stage, alice: User) -> None:
    _create(agent, alice, domain="lab.example", start=False)
    job = _do(agent, alice, networks.edit, mtu=1400)
    assert (job.state, job.arguments) == (JobState.DONE, {"mtu": 1400})
    xml = agent.connection.networkLookupByName("lab").XMLDesc()
    assert "<mtu size='1400'/>" in xml
    assert "<domain name='lab.example'/>" in xml
    assert "192.168.100.1" in xml
    assert job.commands == [["virsh", "net-define", "--validate", "lab.xml"]]


def test_a_changed_document_is_not_overwritten(agent: Stage, alice: User) -> None:
    _create(agent, alice, start=False)
    version = _network(agent, "lab").version
    assert _do(agent, alice, networks.edit, mtu=1400, version=version).state == JobState.DONE
    until(lambda: _network(agent, "lab").version != version)
    with pytest.raises(Invalid) as refused:
        networks.edit.submit(alice, _network(agent, "lab"), {"mtu": 1300, "version": version})
    assert "was changed meanwhile" in refused.value.fields["version"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("<name>lab", "<name>bal", "libvirt can't rename a network"),
        ("<uuid>", "<uuid>0", "is not a UUID"),
        ("192.168.100.1", "192.168.122.7", "This overlaps with the network “default”"),
        ("<network", "<netwrk", "not well-formed"),
    ],
)
def test_xml_that_does_not_fit_is_refused(
    agent: Stage, alice: User, old: str, new: str, sentence: str
) -> None:
    _create(agent, alice, start=False)
    network = _network(agent, "lab")
    with pytest.raises(Invalid) as refused:
        networks.edit.submit(alice, network, {"xml": network.xml.replace(old, new)})
    assert sentence in refused.value.fields["xml"]


def test_its_xml_is_changed_without_its_uuid(agent: Stage, alice: User) -> None:
    _create(agent, alice, start=False)
    xml = "<network><name>lab</name><forward mode='route'/><ip address='10.9.0.1' prefix='16'/>"
    assert _do(agent, alice, networks.edit, xml=xml + "</network>").state == JobState.DONE
    until(lambda: _network(agent, "lab").forward_mode == "route")


def test_an_address_is_reserved_and_let_go(agent: Stage, alice: User) -> None:
    _create(agent, alice, start=False)
    guest = {"mac": "52:54:00:00:00:07", "address": "192.168.100.7", "name": "web7"}
    assert _do(agent, alice, networks.add_reservation, **guest).state == JobState.DONE
    net = agent.connection.networkLookupByName("lab")
    assert "<host mac='52:54:00:00:00:07' name='web7' ip='192.168.100.7'/>" in net.XMLDesc()
    until(lambda: "web7" in _network(agent, "lab").xml)
    with pytest.raises(Invalid) as refused:
        networks.add_reservation.submit(alice, _network(agent, "lab"), guest)
    assert refused.value.fields["address"] == "192.168.100.7 is reserved twice."
    job = _do(agent, alice, networks.remove_reservation, address="192.168.100.7")
    assert job.state == JobState.DONE
    assert "<host" not in net.XMLDesc()
    job = _do(agent, alice, networks.remove_reservation, address="192.168.100.7")
    assert (job.error, job.error_field) == ("192.168.100.7 is not reserved.", "address")


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"address": "10.1.1.1", "mac": "52:54:00:00:00:07"}, "address", "in none of this"),
        ({"address": "192.168.122.7"}, "mac", "Enter the MAC address"),
        ({"address": "192.168.122.1", "mac": "52:54:00:00:00:07"}, "address", "the host's own"),
        ({"address": "x"}, "address", "is not an IP address"),
        ({"address": "192.168.122.7", "mac": "zz"}, "mac", "is not a MAC address"),
    ],
)
def test_a_wrong_reservation_is_refused(
    host: Host, alice: User, fields: dict[str, str], field: str, sentence: str
) -> None:
    with pytest.raises(Invalid) as refused:
        networks.add_reservation.submit(alice, host.networks.get(), fields)
    assert sentence in refused.value.fields[field]


def test_what_no_field_can_say_is_left_to_its_xml(host: Host, alice: User) -> None:
    Network.objects.update(xml="<network><name>default</name><ip address='x'/></network>")
    reservation = {"mac": "52:54:00:00:00:07", "address": "10.0.0.7"}
    for operation, fields in (
        (networks.edit, {"mtu": 1400}),
        (networks.add_reservation, reservation),
    ):
        with pytest.raises(Invalid) as refused:
            operation.submit(alice, host.networks.get(), fields)
        assert "Change its XML." in refused.value.fields[""]


@pytest.mark.parametrize("operation", ON_NETWORK, ids=lambda one: one.name)
def test_strangers_viewers_and_operators_are_refused(
    host: Host, charlie: User, victor: User, bob: User, operation: Operation
) -> None:
    assert operation.needs == NETWORKS
    for user in (charlie, victor, bob):
        with pytest.raises(Forbidden, match="not allowed to change networks"):
            operation.submit(user, host.networks.get())
    assert not Job.objects.exists()


def test_nobody_else_may_make_one(host: Host, charlie: User, bob: User) -> None:
    for user in (charlie, bob):
        with pytest.raises(Forbidden):
            networks.create.submit(user, host, LAB)


def test_it_is_not_stopped_twice(agent: Stage, alice: User) -> None:
    _create(agent, alice)
    _do(agent, alice, networks.stop)
    until(lambda: not _network(agent, "lab").is_active)
    with pytest.raises(Conflict, match="not active"):
        networks.stop.submit(alice, _network(agent, "lab"))


def _forwarding(host: Host, **more: Any) -> None:
    forward = {
        "network": "default", "protocol": "tcp", "address": None, "port": 8080,
        "to": "192.168.122.7", "to_port": 80, "comment": "",
    }  # fmt: skip
    address = {"namespace": "", "dev": "eth0", "address": "203.0.113.5/24"}
    HostNetwork.objects.create(
        host=host, desired={"forwards": [forward | more]}, actual={"addresses": [address]}
    )


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"port": 8080}, "port", "Port 8080 (tcp) is forwarded to 192.168.122.7 already."),
        ({"port": 8080, "address": "203.0.113.5"}, "port", "is forwarded to 192.168.122.7"),
        ({"port": 0}, "port", "Enter 1 or more."),
        ({"port": 70000}, "port", "Enter 65535 or less."),
        ({"port": 81, "protocol": "icmp"}, "protocol", "Choose one of"),
        ({"port": 81, "to": "10.1.1.1"}, "to", "10.1.1.1 is in none of this network's subnets."),
        ({"port": 81, "to": "192.168.122.1"}, "to", "is the host's own address"),
        ({"port": 81, "to": "$(reboot)"}, "to", "is not an IP address"),
        ({"port": 81, "address": "203.0.113.9"}, "address", "The host has no address 203.0.113.9."),
        ({"port": 81, "address": "fd00::1"}, "address", "Both must be IPv4, or both IPv6."),
    ],
)
def test_a_wrong_forward_is_refused_at_its_field(
    host: Host, alice: User, fields: dict[str, Any], field: str, sentence: str
) -> None:
    _forwarding(host)
    with pytest.raises(Invalid) as refused:
        networks.add_forward.submit(alice, host.networks.get(), {"to": "192.168.122.8"} | fields)
    assert sentence in refused.value.fields[field]
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "fields", [{"protocol": "udp"}, {"port": 8081}, {"port": 8080, "address": "203.0.113.6"}]
)
def test_another_port_protocol_or_address_is_free(
    host: Host, alice: User, fields: dict[str, Any]
) -> None:
    _forwarding(host, address="203.0.113.5")
    HostNetwork.objects.update(actual={})
    wish = {"port": 8080, "to": "192.168.122.8"} | fields
    networks.add_forward.submit(alice, host.networks.get(), wish)


def test_an_isolated_network_forwards_nothing(host: Host, alice: User) -> None:
    Network.objects.update(forward_mode="")
    refusal = networks.add_forward.refusal(alice, host.networks.get())
    assert refusal == "Ports are forwarded into networks with NAT, and routed ones."


def test_a_forward_on_a_host_without_a_helper_says_why(agent: Stage, alice: User) -> None:
    """The test driver has no host of its own."""
    job = _do(agent, alice, networks.add_forward, "default", port=80, to="192.168.122.7")
    assert job.state == JobState.FAILED
    assert job.error
    job = _do(agent, alice, networks.remove_forward, "default", port=80, protocol="tcp")
    assert (job.error, job.error_field) == ("Port 80 is not forwarded.", "port")
