"""The list of virtual networks, the page of one, and the forms that make and change them."""

import re
import uuid
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from kvmweb.models import Host, HostNetwork, Job, JobState, Machine, Network, State
from kvmweb.web import operate
from kvmweb.web.networks import forms
from tests.web.conftest import make_machine

pytestmark = pytest.mark.django_db

XML = """<network>
  <name>{name}</name>
  <forward mode='nat'/>
  <bridge name='virbr0' stp='on' delay='0'/>
  <domain name='lab.example'/>
  <dns><host ip='192.168.122.9'><hostname>gate</hostname></host></dns>
  <portgroup name='gold'><bandwidth><inbound average='1000'/></bandwidth></portgroup>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.122.128' end='192.168.122.254'/>
      <host mac='52:54:00:00:00:07' name='seven' ip='192.168.122.7'/>
    </dhcp>
  </ip>
</network>
"""
LEASE = {
    "mac": "52:54:00:00:00:01", "address": "192.168.122.130", "prefix": 24, "name": "web",
    "expires": 1700000000, "iaid": "", "client": "",
}  # fmt: skip
TABS = ("", "/leases", "/forwards", "/dns", "/portgroups", "/xml", "/jobs")


def make_network(host: Host, name: str, **fields: Any) -> Network:
    given = {"is_active": True, "forward_mode": "nat", "bridge": "virbr0", **fields}
    given.setdefault("xml", XML.format(name=name))
    return Network.objects.create(host=host, uuid=uuid.uuid4(), name=name, **given)


@pytest.fixture
def default(local: Host) -> Network:
    return make_network(local, "default", leases=[LEASE])


@pytest.fixture
def plugged(default: Network, web1: Machine) -> Machine:
    """web1, running, with a NIC on the network."""
    web1.nics.create(
        host=web1.host, index=0, mac=LEASE["mac"], kind="network", source="default", tap="vnet0"
    )
    return web1


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no agent here to wait for."""
    for module in (operate, forms):
        monkeypatch.setattr(module, "WAIT_SECONDS", 0)


def _text(client: Client, address: str) -> str:
    return client.get(address).content.decode()


def _at(network: Network, more: str = "") -> str:
    return f"/networks/{network.uuid}{more}"


def test_the_list_shows_state_mode_subnet_and_who_is_on_it(
    viewer: Client, local: Host, plugged: Machine
) -> None:
    alone = "<network><name>alone</name></network>"
    make_network(local, "alone", xml=alone, forward_mode="", bridge="virbr1", is_active=False)
    rows = re.findall(r"<tr>(.*?)</tr>", _text(viewer, "/networks/"), re.DOTALL)
    for part in ("alone", "Isolated", "virbr1", "inactive", ">0<"):
        assert part in rows[1]
    for part in ("default", "NAT", "virbr0", "192.168.122.0/24", ">1<"):
        assert part in rows[2]


def test_the_list_is_filtered(viewer: Client, local: Host, default: Network) -> None:
    make_network(local, "other", bridge="br-lab")
    assert "default" not in _text(viewer, "/networks/?q=br-l")
    assert "Nothing fits" in _text(viewer, "/networks/?q=zzz")


def test_without_one_it_says_so_and_offers_one(admin: Client, viewer: Client, local: Host) -> None:
    assert "No virtual network" in _text(viewer, "/networks/")
    assert "/networks/create" in _text(admin, "/networks/")
    assert "/networks/create" not in _text(viewer, "/networks/")


def test_the_list_needs_few_queries(
    viewer: Client, local: Host, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(30):
        make_network(local, f"n{number}")
    with django_assert_num_queries(6):  # session, user, networks, NICs, hosts, running jobs
        viewer.get("/networks/")


def test_a_document_that_can_not_be_read_breaks_nothing(viewer: Client, local: Host) -> None:
    broken = make_network(local, "broken", xml="<network><ip address='x'/></network>")
    assert "broken" in _text(viewer, "/networks/")
    for tab in TABS:
        assert viewer.get(_at(broken, tab)).status_code == 200


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_is_there(viewer: Client, plugged: Machine, default: Network, tab: str) -> None:
    for fragment in ("", "?fragment=tab", "?fragment=header"):
        assert viewer.get(_at(default, tab) + fragment).status_code == 200


def test_the_overview_shows_addresses_and_who_is_on_it(
    viewer: Client, default: Network, plugged: Machine
) -> None:
    text = _text(viewer, _at(default))
    for part in (
        "192.168.122.0/24", "192.168.122.128", "192.168.122.254", "lab.example", "web1",
        LEASE["mac"], LEASE["address"], "vnet0",
    ):  # fmt: skip
        assert str(part) in text


def test_leases_can_be_reserved_by_one_press(
    admin: Client, viewer: Client, default: Network, plugged: Machine
) -> None:
    text = _text(admin, _at(default, "/leases"))
    for part in (LEASE["address"], "web1", "seven", "192.168.122.7", "Reserve"):
        assert str(part) in text
    assert "remove_reservation" not in _text(viewer, _at(default, "/leases"))
    form = {"mac": LEASE["mac"], "address": LEASE["address"], "name": "web"}
    admin.post(_at(default, "/do/add_reservation"), form)
    job = Job.objects.get(kind="networks.add_reservation")
    assert job.arguments == {**form, "id": ""}


def test_a_wrong_reservation_is_refused_at_its_field(admin: Client, default: Network) -> None:
    answer = admin.post(
        _at(default, "/do/add_reservation"),
        {"mac": "", "address": "10.1.1.1", "name": ""},
        headers={"HX-Request": "true"},
    )
    assert answer.status_code == 422
    assert "10.1.1.1 is in none of this network&#x27;s subnets." in answer.content.decode()


def test_names_and_port_groups_have_their_tabs(viewer: Client, default: Network) -> None:
    assert "gate" in _text(viewer, _at(default, "/dns"))
    text = _text(viewer, _at(default, "/portgroups"))
    assert "gold" in text
    assert "1000 KiB/s on average" in text


def test_changes_that_wait_are_told_with_whom_a_restart_cuts(
    admin: Client, default: Network, plugged: Machine
) -> None:
    assert "Changes wait" not in _text(admin, _at(default))
    Network.objects.update(inactive_xml=default.xml.replace("lab.example", "other.example"))
    text = _text(admin, _at(default))
    assert "Changes wait" in text
    assert "cuts these running machines for a moment, and plugs them in again: web1." in text
    assert "other.example" in _text(admin, _at(default, "/xml?version=inactive"))
    assert "other.example" not in _text(admin, _at(default, "/xml"))


@pytest.mark.parametrize("name", ["stop", "restart", "delete"])
def test_the_dialog_names_the_machines_it_cuts(
    admin: Client, default: Network, plugged: Machine, name: str
) -> None:
    off = make_machine(default.host, "db1", state=State.SHUTOFF)
    off.nics.create(host=off.host, index=0, mac="", kind="network", source="default")
    text = admin.get(_at(default, f"/do/{name}"), headers={"HX-Request": "true"}).content.decode()
    assert "web1." in text
    assert ("db1." in text) == (name == "delete")
    assert admin.post(_at(default, f"/do/{name}")).status_code == 422  # a machine started meanwhile
    assert not Job.objects.exists()
    admin.post(_at(default, f"/do/{name}"), {"cut": "on"})
    assert Job.objects.get().arguments == {"cut": True}


def test_a_removed_network_says_so_on_its_page(viewer: Client, default: Network) -> None:
    address = _at(default)
    default.delete()
    assert viewer.get(address).status_code == 404
    assert "This network was removed" in _text(viewer, f"{address}?fragment=header")


def _forwarded(network: Network, **seen: Any) -> None:
    forward = {
        "network": network.name, "protocol": "tcp", "address": None, "port": 8080,
        "to": "192.168.122.130", "to_port": 80, "comment": "the shop",
    }  # fmt: skip
    address = {
        "namespace": "", "dev": "eth0", "address": "203.0.113.5/24", "scope": "global",
    }  # fmt: skip
    HostNetwork.objects.create(
        host=network.host,
        desired={"forwards": [forward]},
        actual={"forwards": [forward | seen] if seen else [], "addresses": [address]},
    )


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        ({"is_open": True, "listener": ""}, "open"),
        ({"is_open": False, "listener": ""}, "blocked by the firewall"),
        ({"is_open": True, "listener": "nginx"}, "nginx has this port too"),
        ({}, "missing on the host"),
    ],
)
def test_forwards_are_shown_with_how_they_are(
    viewer: Client, default: Network, seen: dict[str, Any], state: str
) -> None:
    _forwarded(default, **seen)
    text = _text(viewer, _at(default, "/forwards"))
    for part in ("*:8080", "192.168.122.130:80", "web", "the shop", "203.0.113.5", state):
        assert part in text
    assert "remove_forward" not in text


def test_a_forward_is_asked_for_and_a_taken_port_refused(admin: Client, default: Network) -> None:
    _forwarded(default)
    form = {
        "protocol": "tcp",
        "port": "8081",
        "to": "192.168.122.130",
        "to_port": "",
        "address": "",
    }
    admin.post(_at(default, "/do/add_forward"), form)
    job = Job.objects.get(kind="networks.add_forward")
    assert (job.arguments["port"], job.arguments["to_port"]) == (8081, None)
    answer = admin.post(_at(default, "/do/add_forward"), form | {"port": "8080"})
    assert "is forwarded to 192.168.122.130 already." in answer.content.decode()
    answer = admin.post(_at(default, "/do/add_forward"), form | {"address": "203.0.113.6"})
    assert "The host has no address 203.0.113.6." in answer.content.decode()
    answer = admin.post(_at(default, "/do/add_forward"), form | {"to": "10.1.1.1"})
    assert "in none of this network" in answer.content.decode()


def test_an_isolated_network_forwards_nothing(admin: Client, local: Host) -> None:
    alone = make_network(local, "alone", forward_mode="")
    assert "Ports are forwarded into networks with NAT" in _text(admin, _at(alone, "/forwards"))


FORM = {
    "host": "local",
    "name": "lab",
    "mode": "nat",
    "proposed": "192.168.100.1/24",
    "ips.0.address": "192.168.100.1/24",
    "ips.0.ranges.0.start": "192.168.100.128",
    "ips.0.ranges.0.end": "192.168.100.254",
    "has_dns": "1",
    "forwards_plain_names": "1",
    "stp": "1",
    "forward_delay": "0",
    "start": "on",
    "autostart": "on",
}


def test_the_form_begins_with_what_is_free(admin: Client, default: Network) -> None:
    make_network(
        default.host, "network", xml="<network><ip address='192.168.100.1' prefix='23'/></network>"
    )
    text = _text(admin, "/networks/create")
    assert 'value="network1"' in text
    assert 'value="192.168.102.1/24"' in text
    assert 'value="192.168.102.128"' in text


def test_a_network_is_asked_for(admin: Client, local: Host) -> None:
    answer = admin.post("/networks/create", FORM)
    job = Job.objects.get()
    assert answer["Location"] == f"/jobs/{job.pk}"
    asked = job.arguments
    assert (asked["name"], asked["mode"], asked["start"]) == ("lab", "nat", True)
    assert asked["ips"][0]["address"] == "192.168.100.1/24"
    assert asked["ips"][0]["ranges"][0]["end"] == "192.168.100.254"
    assert (asked["vlan"], asked["inbound"], asked["nat_ports"]) == (None, None, None)


def test_the_range_goes_with_the_subnet(admin: Client, local: Host) -> None:
    admin.post("/networks/create", FORM | {"ips.0.address": "10.7.0.0/16"})
    ip = Job.objects.get().arguments["ips"][0]
    assert ip["ranges"][0] | {"lease_seconds": None} == {
        "start": "10.7.128.0", "end": "10.7.255.254", "lease_seconds": None,
    }  # fmt: skip


def test_what_the_mode_has_no_use_for_is_not_sent(admin: Client, local: Host) -> None:
    joined = {"mode": "bridge", "bridge": "br-int", "portgroups.0.name": "v10"}
    tagged = {"portgroups.0.vlan.tags": "10, 20-22"}
    switch = {"name": "br-int", "ports": []}
    HostNetwork.objects.create(host=local, actual={"links": [], "switches": [switch]})
    admin.post("/networks/create", FORM | joined | tagged)
    asked = Job.objects.get().arguments
    assert (asked["ips"], asked["domain"], asked["virtualport"]) == ([], "", "openvswitch")
    assert asked["portgroups"][0]["vlan"]["tags"] == [10, 20, 21, 22]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"name": ""}, "Give the network a name."),
        ({"name": "default"}, "is already there. Choose another name."),
        ({"ips.0.address": "192.168.122.0/24"}, "This overlaps with the network “default”"),
        ({"ips.0.address": "nonsense"}, "“nonsense” is not an address with a prefix"),
        ({"ips.0.ranges.0.end": "10.0.0.1"}, "10.0.0.1 is not in the network 192.168.100.0/24."),
        ({"ips.0.ranges.0.start": ""}, "This is needed."),
        ({"mtu": "lots"}, "Enter a whole number."),
        ({"bridge": "a/b"}, "no slash, colon or space."),
        ({"dnsmasq_options": "dhcp-script=/x"}, "“dhcp-script” is not taken"),
        ({"dns_hosts.0.address": "10.0.0.1"}, "Enter at least one."),
    ],
)
def test_a_wrong_value_is_shown_at_its_field_and_nothing_is_lost(
    admin: Client, default: Network, wrong: dict[str, str], sentence: str
) -> None:
    answer = admin.post("/networks/create", FORM | {"domain": "lab.example"} | wrong)
    assert answer.status_code == 422
    text = answer.content.decode()
    errors = re.findall(r'invalid-feedback"[^>]*>(.*?)</div>', text, re.DOTALL)
    assert [one for one in errors if sentence in one.replace("&#x27;", "'")]
    assert 'value="lab.example"' in text
    assert not Job.objects.exists()


def test_rows_come_and_go_without_anything_lost(admin: Client, local: Host) -> None:
    headers = {"HX-Request": "true"}
    answer = admin.post("/networks/create", FORM | {"add": "ips"}, headers=headers)
    text = answer.content.decode()
    assert "<html" not in text
    assert 'name="ips.1.address" value="fd00:100::1/64"' in text
    text = admin.post(
        "/networks/create", FORM | {"remove": "ips.0.ranges.0"}, headers=headers
    ).content.decode()
    assert "ips.0.ranges.0.start" not in text
    assert 'value="lab"' in text


def test_xml_is_asked_for_too(admin: Client, local: Host) -> None:
    assert "Libvirt's XML" in _text(admin, "/networks/create?as=xml")
    xml = "<network><name>x</name></network>"
    admin.post("/networks/create?as=xml", {"host": "local", "xml": f"\n{xml}\n", "start": "on"})
    asked = Job.objects.get().arguments
    assert (asked["xml"], asked["autostart"]) == (xml, False)
    answer = admin.post("/networks/create?as=xml", {"host": "local", "xml": "<network>"})
    assert answer.status_code == 422
    assert "not well-formed XML" in answer.content.decode()


def test_a_host_that_is_away_is_told(admin: Client, rack7: Host) -> None:
    answer = admin.post("/networks/create", FORM | {"host": "rack7"})
    assert "The host rack7 can&#x27;t be reached" in answer.content.decode()
    assert admin.get("/networks/create?host=nowhere").status_code == 404


def test_without_a_host_there_is_nothing_to_fill_in(admin: Client) -> None:
    assert "there is none yet" in _text(admin, "/networks/create")


def test_the_edit_form_has_what_is_there_and_sends_it(
    admin: Client, default: Network, plugged: Machine
) -> None:
    text = _text(admin, _at(default, "/edit"))
    for part in ("192.168.122.1/24", "lab.example", "gate", "gold", "52:54:00:00:00:07", "web1"):
        assert part in text
    form = {name: value for name, value in FORM.items() if name != "name"}
    change = {
        "ips.0.address": "192.168.122.1/24",
        "ips.0.ranges.0.start": "192.168.122.200",
        "ips.0.ranges.0.end": "192.168.122.254",
        "version": default.version,
        "restart": "on",
    }
    answer = admin.post(_at(default, "/edit"), form | change)
    assert answer["Location"] == _at(default, "?host=local")
    asked = Job.objects.get().arguments
    assert (asked["restart"], asked["version"]) == (True, default.version)
    assert asked["domain"] == ""
    assert asked["ips"][0]["ranges"][0]["start"] == "192.168.122.200"


def test_a_link_leads_to_an_open_section(admin: Client, local: Host) -> None:
    xml = "<network><name>a</name><ip address='10.9.0.1' prefix='24'/></network>"
    bare = make_network(local, "bare", xml=xml)
    for address, is_open in (("/edit", False), ("/edit?open=dns", True)):
        section = _text(admin, _at(bare, address)).partition('id="section-dns"')[2]
        assert section.partition(">")[0].strip().endswith("open") == is_open
    assert "open=dns#section-dns" in _text(admin, _at(bare, "/dns"))


def test_a_newer_definition_is_not_overwritten(admin: Client, default: Network) -> None:
    change = FORM | {"ips.0.address": "192.168.122.1/24", "version": "0" * 16}
    change |= {f"ips.0.ranges.0.{end}": f"192.168.122.{n}" for end, n in (("start", 5), ("end", 9))}
    answer = admin.post(_at(default, "/edit"), change)
    assert answer.status_code == 422
    assert "was changed meanwhile" in answer.content.decode()


def test_what_no_field_can_say_is_edited_as_xml(admin: Client, local: Host) -> None:
    odd = make_network(local, "odd", xml="<network><name>odd</name><ip address='x'/></network>")
    assert admin.get(_at(odd, "/edit"))["Location"].endswith("as=xml")
    assert "&lt;ip address=&#x27;x&#x27;/&gt;" in _text(admin, _at(odd, "/edit?as=xml"))


def test_a_failed_job_is_shown_in_the_form(
    admin: Client, default: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job: Job, seconds: float) -> bool:
        job.state, job.error, job.error_field = (
            JobState.FAILED,
            "No such option.",
            "dnsmasq_options",
        )
        return True

    monkeypatch.setattr(Job, "wait", fail)
    answer = admin.post("/networks/create", FORM)
    assert answer.status_code == 422
    assert "No such option." in answer.content.decode()


@pytest.mark.parametrize("address", ["", *TABS[1:], "/edit", "/do/stop", "?fragment=tab"])
def test_a_stranger_sees_none(stranger: Client, default: Network, address: str) -> None:
    assert str(default.uuid) not in _text(stranger, "/networks/")
    assert stranger.get(_at(default, address)).status_code == 404


@pytest.mark.parametrize("person", ["stranger", "viewer", "operator"])
def test_who_may_not_change_networks_gets_no_form(
    person: str, default: Network, request: pytest.FixtureRequest
) -> None:
    client: Client = request.getfixturevalue(person)
    assert client.get("/networks/create").status_code == 404
    assert client.post("/networks/create", FORM).status_code == 404
    assert client.get(_at(default, "/edit")).status_code == 404
    assert client.post(_at(default, "/edit"), FORM).status_code == 404
    client.post(_at(default, "/do/stop"), {"cut": "on"})
    assert not Job.objects.exists()
