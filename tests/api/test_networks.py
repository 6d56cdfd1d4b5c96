"""Networks for programs: made, changed in part, and what is told of them."""

import pytest
from django.test import Client

from kvmweb.models import Host, HostNetwork, Job, Network
from tests.api.conftest import NETWORK, World, post

ADDRESS = "/api/v1/networks"


@pytest.fixture
def at(world: World) -> str:
    return f"{ADDRESS}/{world.network.uuid}"


def test_it_is_told_with_its_fields(world: World, alice_api: Client, at: str) -> None:
    told = alice_api.get(at).json()
    assert told["document"]["ips"][0]["address"] == "192.168.122.1/24"
    assert told["document"]["mode"] == "nat"
    assert (told["waiting"], told["machines"]) == (False, [])
    assert told["operations"]["start"] == "The network is active already."
    assert told["operations"]["stop"] is None
    Network.objects.update(inactive_xml=NETWORK.replace("virbr0", "virbr9"))
    assert alice_api.get(at).json()["waiting"]
    assert alice_api.get(at).json()["document"]["bridge"] == "virbr9"
    xml = {name: alice_api.get(f"{at}/xml?inactive={name}").content for name in ("true", "false")}
    assert b"virbr9" in xml["true"]
    assert b"virbr0" in xml["false"]


def test_what_no_field_can_say_is_still_told(world: World, alice_api: Client, at: str) -> None:
    Network.objects.update(xml="<network><ip address='x'/></network>")
    assert alice_api.get(at).json()["document"] is None


def test_only_what_is_sent_is_changed(world: World, alice_api: Client, at: str) -> None:
    answer = alice_api.patch(
        at, {"mtu": 1400}, content_type="application/json", headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202
    assert Job.objects.get(kind="networks.edit").arguments == {"mtu": 1400}


def test_a_wrong_field_is_named_by_its_place(world: World, alice_api: Client, at: str) -> None:
    ip = {"address": "192.168.122.1/24", "ranges": [{"start": "10.0.0.1", "end": "10.0.0.9"}]}
    answer = post(alice_api, f"{at}/edit", {"ips": [ip]})
    assert answer.status_code == 422
    sentence = "10.0.0.1 is not in the network 192.168.122.0/24."
    assert answer.json()["fields"]["ips.0.ranges.0.start"] == sentence


def test_a_taken_subnet_is_refused_by_the_name_of_who_has_it(
    world: World, alice_api: Client
) -> None:
    wish = {"host": "local", "name": "new", "ips": [{"address": "192.168.122.0/25"}]}
    fields = post(alice_api, ADDRESS, wish).json()["fields"]
    assert "the network “default” (192.168.122.0/24)" in fields["ips.0.address"]


def test_a_host_that_is_not_there_is_refused(world: World, alice_api: Client) -> None:
    for host in ({}, {"host": "nowhere"}):
        assert set(post(alice_api, ADDRESS, {"name": "a", **host}).json()["fields"]) == {"host"}


def test_leases_name_their_machine(world: World, alice_api: Client, at: str) -> None:
    lease = {
        "mac": "52:54:00:00:00:01", "address": "192.168.122.7", "prefix": 24, "name": "web",
        "expires": 1700000000, "iaid": "", "client": "",
    }  # fmt: skip
    Network.objects.update(leases=[lease])
    world.machine.nics.create(
        host=world.host, index=1, mac=lease["mac"], kind="network", source="default"
    )
    items = alice_api.get(f"{at}/leases").json()["items"]
    assert items == [{**lease, "machine": "web1"}]
    assert alice_api.get(at).json()["machines"] == ["web1"]


def test_forwards_are_those_into_this_network(world: World, alice_api: Client, at: str) -> None:
    forward = {
        "protocol": "tcp", "address": None, "port": 8080, "to": "192.168.122.7", "to_port": 80,
        "comment": "",
    }  # fmt: skip
    forwards = [forward | {"network": name} for name in ("default", "other")]
    HostNetwork.objects.create(host=world.host, desired={"forwards": forwards})
    assert alice_api.get(f"{at}/forwards").json()["items"] == [forward]
    answer = post(alice_api, f"{at}/add_forward", {"port": 8080, "to": "192.168.122.8"})
    assert answer.json()["fields"] == {
        "port": "Port 8080 (tcp) is forwarded to 192.168.122.7 already."
    }


def test_copies_on_two_hosts_are_told_apart(world: World, alice_api: Client, at: str) -> None:
    other = Host.objects.create(name="other", uri="test:///default", state="connected")
    Network.objects.create(
        host=other, uuid=world.network.uuid, name="copy", is_active=False, xml=NETWORK
    )
    assert alice_api.get(at).json()["host"] == "local"
    assert alice_api.get(f"{at}?host=other").json()["name"] == "copy"
    assert post(alice_api, f"{at}/stop").status_code == 409
    assert post(alice_api, f"{at}/start?host=other").status_code == 202
