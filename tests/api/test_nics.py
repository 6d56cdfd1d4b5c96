"""The NICs of a machine, for programs."""

from typing import Any

import pytest
from django.test import Client

from kvmweb.models import Job, Machine, Nic, State
from tests.api.conftest import World, post

MAC = "52:54:00:00:00:01"


@pytest.fixture
def nics(world: World) -> str:
    return f"/api/v1/machines/{world.machine.uuid}/nics"


def _patch(client: Client, address: str, body: object) -> Any:
    return client.patch(
        address, body, content_type="application/json", headers={"Prefer": "respond-async"}
    )


def test_the_list_says_where_each_is_plugged_in_and_seen(nics: str, alice_api: Client) -> None:
    (row,) = alice_api.get(nics).json()["items"]
    assert (row["mac"], row["source"], row["host_interface"], row["link_up"]) == (
        MAC, "br0", "vnet0", True,
    )  # fmt: skip
    assert row["addresses"] == [{"address": "192.168.122.23", "prefix": 24, "source": "lease"}]


def test_one_has_its_settings_and_what_waits_for_the_next_start(
    nics: str, alice_api: Client, world: World
) -> None:
    kept = world.machine.xml.replace("<model", "<mtu size='1400'/><model")
    Machine.objects.update(inactive_xml=kept)
    found = alice_api.get(f"{nics}/{MAC}").json()
    assert found["settings"]["source"] == "bridge:br0"
    assert found["settings"]["mtu"] == 1400
    assert found["waiting"] == [{"setting": "mtu", "now": None, "next": 1400}]


def test_a_change_carries_only_what_was_given(nics: str, alice_api: Client) -> None:
    answer = _patch(alice_api, f"{nics}/{MAC.upper()}", {"mtu": None, "queues": 4})
    assert answer.status_code == 202
    job = Job.objects.latest("created")
    assert job.kind == "nics.edit"
    assert job.arguments == {"mtu": None, "queues": 4, "nic": MAC.upper()}


def test_taking_one_away_may_wait_for_the_next_start(nics: str, alice_api: Client) -> None:
    answer = alice_api.delete(
        f"{nics}/{MAC}?at_next_start=true", headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202
    assert Job.objects.latest("created").arguments == {"nic": MAC, "at_next_start": True}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"source": "network:gone"}, {"source"}),
        ({"source": "ovs:a-name-that-is-too-long"}, {"source"}),
        ({"source": "network:default", "vlan": 4095}, {"vlan"}),
        ({"source": "bridge:br0", "vlan": 10}, {"vlan"}),
        ({"mac": MAC.replace("52", "53")}, {"mac"}),
        ({"filter": "gone"}, {"filter"}),
        ({"in_peak": 10}, {"in_average"}),
        ({"model": "e1000e", "queues": 4}, {"queues"}),
        ({"port_forwards": ["tcp 8022 -> 22"]}, {"port_forwards"}),
        ({"source": "user", "in_average": 5}, {"in_average"}),
        ({"colour": "red", "mtu": "wide"}, {"colour", "mtu"}),
    ],
)
def test_what_is_wrong_is_said_at_its_field(
    body: dict[str, object], fields: set[str], nics: str, alice_api: Client
) -> None:
    answer = post(alice_api, nics, body)
    assert answer.status_code == 422, answer.json()
    assert answer.json()["fields"].keys() == fields
    assert Job.objects.count() == 1


def test_an_address_that_another_machine_has_names_that_machine(
    nics: str, alice_api: Client, world: World
) -> None:
    other = world.add_machine("db1")
    taken = "52:54:00:00:00:02"
    Nic.objects.create(machine=other, host=world.host, index=0, mac=taken, kind="network")
    for answer in (
        post(alice_api, nics, {"mac": taken}),
        _patch(alice_api, f"{nics}/{MAC}", {"mac": taken.upper()}),
        post(alice_api, "/api/v1/machines", {
            "host": "local", "name": "new", "source": "blank", "mac": taken,
            "network": "network:default",
        }),
        post(alice_api, "/api/v1/machines", {
            "host": "local", "xml": world.machine.xml.replace("web1", "new").replace(MAC, taken),
        }),
    ):  # fmt: skip
        assert answer.status_code == 422, answer.json()
        (sentence,) = answer.json()["fields"].values()
        assert f"“db1” on local has the MAC address {taken}" in sentence.lower().replace(
            "mac", "MAC"
        )


def test_a_nic_that_is_not_there_is_not_found(nics: str, alice_api: Client) -> None:
    for method in (alice_api.get, alice_api.patch, alice_api.delete):
        assert method(f"{nics}/52:54:00:99:99:99").status_code == 404


def test_an_operator_may_pull_the_cable_and_nothing_more(
    nics: str, bob_api: Client, world: World
) -> None:
    Machine.objects.update(state=State.RUNNING)
    assert post(bob_api, f"{nics}/{MAC}/link", {"up": False}).status_code == 202
    answer = post(bob_api, nics, {})
    assert answer.status_code == 403
    assert answer.json()["detail"] == "You are not allowed to edit the hardware of machines."
