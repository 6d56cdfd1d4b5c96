"""Machines: what is told of them, and which one is meant."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from kvmweb.models import Host, HostState, Job, State
from tests.api.conftest import DOMAIN, World, post


def _address(world: World, rest: str = "") -> str:
    return f"/api/v1/machines/{world.machine.uuid}{rest}"


@pytest.fixture
def copy(world: World) -> Any:
    """The same machine on another host."""
    other = Host.objects.create(name="other", uri="test:///default", state=HostState.CONNECTED)
    return world.add_machine("web1", host=other, uuid=world.machine.uuid)


def test_a_machine_in_a_list(alice_api: Client, world: World) -> None:
    [item] = alice_api.get("/api/v1/machines").json()["items"]
    assert item.pop("changed")
    assert item == {
        "uuid": str(world.machine.uuid),
        "name": "web1",
        "state": "running",
        "host": "local",
        "title": "",
        "vcpus": 0,
        "memory_kib": 0,
        "autostart": False,
        "persistent": True,
        "virtualization": "",
        "graphics": "vnc",
    }


def test_a_machine_says_what_may_be_done_with_it(bob_api: Client, world: World) -> None:
    operations = bob_api.get(_address(world)).json()["operations"]
    assert operations["pause"] is None
    assert operations["start"] == "The machine is already on."
    assert operations["delete"] == "You are not allowed to delete machines."


def test_it_is_told_without_loading_its_documents(alice_api: Client, world: World) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert alice_api.get(_address(world)).status_code == 200
    assert 'xml"' not in queries.captured_queries[-1]["sql"]


def test_its_xml_is_libvirts_own(alice_api: Client, world: World) -> None:
    response = alice_api.get(_address(world, "/xml"))
    assert response["Content-Type"] == "text/xml; charset=utf-8"
    assert response["Content-Disposition"] == 'attachment; filename="web1.xml"'
    assert response.content.decode() == DOMAIN


def test_the_inactive_xml_is_the_active_one_where_they_are_the_same(
    alice_api: Client, world: World
) -> None:
    assert alice_api.get(_address(world, "/xml?inactive=1")).content.decode() == DOMAIN
    world.machine.inactive_xml = "<domain>later</domain>"
    world.machine.save()
    assert alice_api.get(_address(world, "/xml?inactive=1")).content == b"<domain>later</domain>"
    assert alice_api.get(_address(world, "/xml?inactive=0")).content.decode() == DOMAIN


def test_a_transient_machine_has_no_inactive_xml(alice_api: Client, world: World) -> None:
    world.machine.is_persistent = False
    world.machine.save()
    response = alice_api.get(_address(world, "/xml?inactive=1"))
    assert response.status_code == 404
    assert "transient" in response.json()["detail"]


def test_its_hardware_is_told_by_parts(alice_api: Client, world: World) -> None:
    items = alice_api.get(_address(world, "/hardware")).json()["items"]
    assert items[0]["label"] == "Overview"
    assert {"label": "Name", "value": "web1"} in items[0]["facts"]
    assert any("<graphics" in item["xml"] for item in items)


def test_of_two_with_one_uuid_the_active_one_is_meant(
    bob_api: Client, world: World, copy: Any
) -> None:
    assert bob_api.get(_address(world)).json()["host"] == "local"
    response = post(bob_api, _address(world, "/pause"))
    assert (response.status_code, response.json()["host"]) == (202, "local")


def test_the_host_says_which_of_two_is_meant(bob_api: Client, world: World, copy: Any) -> None:
    assert bob_api.get(_address(world, "?host=other")).json()["host"] == "other"
    assert bob_api.get(_address(world, "?host=nowhere")).status_code == 404
    response = post(bob_api, _address(world, "/start?host=other"))
    assert (response.status_code, response.json()["host"]) == (202, "other")


def test_nothing_is_changed_where_it_is_not_clear_which(
    bob_api: Client, world: World, copy: Any
) -> None:
    world.machine.state = State.SHUTOFF
    world.machine.save()
    response = post(bob_api, _address(world, "/start"))
    assert response.status_code == 409
    assert "local, other" in response.json()["detail"]
    assert Job.objects.count() == 1


@pytest.mark.parametrize("host", [None, "", "nowhere", 5, ["local"], {"name": "local"}])
def test_a_machine_is_made_on_a_host_that_there_is(
    host: object, alice_api: Client, world: World
) -> None:
    response = post(alice_api, "/api/v1/machines", {"host": host, "xml": DOMAIN})
    assert response.status_code == 422
    assert set(response.json()["fields"]) == {"host"}


def test_who_may_not_create_is_told_so_whatever_the_host(
    clients: dict[str, Client], world: World
) -> None:
    for name in ("charlie", "victor", "bob"):
        for host in ("local", "nowhere"):
            body = {"host": host, "xml": DOMAIN}
            response = post(clients[name], "/api/v1/machines", body)
            assert response.status_code == 403
            assert response.json()["detail"] == "You are not allowed to create machines."


def test_a_viewer_gets_a_ticket_to_look_only(clients: dict[str, Client], world: World) -> None:
    def ask(name: str, level: str) -> Any:
        return post(clients[name], _address(world, "/console"), {"level": level})

    ticket = ask("victor", "view").json()
    assert ticket["path"] == "/websockify"
    assert ticket["protocols"][0] == "binary"
    assert ticket["expires"]
    assert ask("victor", "control").status_code == 403
    assert ask("bob", "control").status_code == 200
