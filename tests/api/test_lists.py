"""Lists: pages by cursor, filters, and as many queries for a thousand rows as for one."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from kvmweb.models import Host, HostState, Job, Machine, Network, NodeDevice, Pool, State, Volume
from tests.api.conftest import World

LISTS = ["machines", "hosts", "networks", "pools", "jobs", "pools/{pool}/volumes"]


def _get(client: Client, address: str, **query: Any) -> Any:
    response = client.get(f"/api/v1/{address}", query)
    assert response.status_code == 200, response.json()
    return response.json()


def _names(client: Client, address: str = "machines", **query: Any) -> list[str]:
    return [item["name"] for item in _get(client, address, **query)["items"]]


def _pages(client: Client, address: str, **query: Any) -> Iterator[list[Any]]:
    found = _get(client, address, **query)
    yield found["items"]
    while found["next"]:
        found = _get(client, address, cursor=found["next"], **query)
        yield found["items"]


def _fill(world: World, count: int) -> None:
    """So many more of everything, on two hosts, with names that repeat."""
    other = Host.objects.create(name="other", uri="test:///default", state=HostState.CONNECTED)
    for number in range(count):
        host = world.host if number % 2 else other
        common: Any = {"host": host, "name": f"n{number // 2:04}", "xml": "<x/>"}
        kept: Any = {**common, "uuid": uuid4(), "is_active": True}
        Machine.objects.create(**common, uuid=uuid4(), state=State.SHUTOFF)
        Network.objects.create(**kept)
        Pool.objects.create(**kept)
        Volume.objects.create(pool=world.pool, name=f"v{number:04}", xml="<x/>")
        NodeDevice.objects.create(host=world.host, name=f"d{number:04}", xml="<x/>")
        Job.objects.create(kind="machines.start", username="bob", host=host)
        Host.objects.create(name=f"h{number:04}", uri="test:///default")


def _address(template: str, world: World) -> str:
    return template.format(pool=world.pool.uuid)


@pytest.mark.parametrize("template", [*LISTS, "hosts/local/devices"])
def test_pages_together_are_everything_once_and_in_order(
    template: str, alice_api: Client, world: World
) -> None:
    _fill(world, 11)
    address = _address(template, world)
    everything = _get(alice_api, address, limit=1000)
    assert everything["next"] is None
    pages = list(_pages(alice_api, address, limit=5))
    assert [len(page) for page in pages[:-1]] == [5] * (len(pages) - 1)
    assert len(pages) >= 3
    assert [item for page in pages for item in page] == everything["items"]


@pytest.mark.parametrize("template", [*LISTS, "hosts/local/devices"])
def test_the_number_of_queries_does_not_grow_and_no_document_is_loaded(
    template: str, alice_api: Client, world: World
) -> None:
    address = _address(template, world)
    _get(alice_api, address)  # notes the token's use
    with CaptureQueriesContext(
        connection,
    ) as few:
        _get(alice_api, address)
    _fill(world, 20)
    with CaptureQueriesContext(connection) as many:
        _get(alice_api, address)
    assert len(many) == len(few) <= 3
    listing = many.captured_queries[-1]["sql"]
    for column in ("xml", "domain_capabilities", "log"):
        assert f'{column}"' not in listing


def test_a_page_follows_its_cursor_while_rows_come_and_go(alice_api: Client, world: World) -> None:
    for name in "bdfh":
        world.add_machine(name)
    first = _get(alice_api, "machines", limit=2)
    Machine.objects.filter(name="d").delete()
    world.add_machine("a")
    world.add_machine("e")
    assert _names(alice_api, cursor=first["next"]) == ["e", "f", "h", "web1"]


@pytest.mark.parametrize("cursor", ["x", "a:b:c", "é", "W10", "null", "1" * 5000])
def test_a_broken_cursor_is_named(cursor: str, alice_api: Client) -> None:
    response = alice_api.get("/api/v1/machines", {"cursor": cursor})
    assert response.status_code == 422
    assert response.json()["fields"] == {"cursor": "This is not a cursor of this list."}


def test_the_cursor_of_another_list_is_broken(alice_api: Client, world: World) -> None:
    _fill(world, 3)
    cursor = _get(alice_api, "hosts", limit=1)["next"]
    assert alice_api.get("/api/v1/machines", {"cursor": cursor}).status_code == 422


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many", "1.5", "9" * 5000])
def test_a_limit_out_of_range_is_named(limit: str, alice_api: Client) -> None:
    response = alice_api.get("/api/v1/machines", {"limit": limit})
    assert response.status_code == 422
    assert set(response.json()["fields"]) == {"limit"}


def test_a_state_that_does_not_exist_is_named(alice_api: Client) -> None:
    for noun in ("machines", "hosts", "networks", "pools", "jobs"):
        response = alice_api.get(f"/api/v1/{noun}", {"state": "floating"})
        assert response.status_code == 422
        assert "Choose one of" in response.json()["fields"]["state"]


def test_machines_are_found_by_state_host_and_text(alice_api: Client, world: World) -> None:
    other = Host.objects.create(name="other", uri="test:///default")
    db = world.add_machine("db", host=other, title="100% of the orders")
    world.add_machine("cache", state=State.PAUSED)
    assert _names(alice_api, state="running") == ["web1"]
    assert _names(alice_api, state=["running", "paused"]) == ["cache", "web1"]
    assert _names(alice_api, state="") == ["cache", "db", "web1"]
    assert _names(alice_api, host="other") == ["db"]
    assert _names(alice_api, host="nowhere") == []
    assert _names(alice_api, q="WEB") == ["web1"]
    assert _names(alice_api, q="100%") == ["db"]
    assert _names(alice_api, q="%") == ["db"]
    assert _names(alice_api, q=str(db.uuid)) == ["db"]
    assert _names(alice_api, q="web", host="other") == []
    assert alice_api.get("/api/v1/machines", {"q": "x" * 201}).status_code == 422


def test_networks_and_pools_are_found_by_activity(alice_api: Client, world: World) -> None:
    for noun in ("networks", "pools"):
        assert _names(alice_api, noun, state="active") == ["default"]
        assert _names(alice_api, noun, state="inactive") == []


def test_jobs_are_found_by_machine_host_and_state(alice_api: Client, world: World) -> None:
    uuid = str(world.machine.uuid)
    about = Job.objects.create(
        kind="machines.start", username="bob", target_type="machine", target_key=uuid, state="done"
    )

    def ids(**query: Any) -> list[str]:
        return [item["id"] for item in _get(alice_api, "jobs", **query)["items"]]

    assert ids() == [str(about.pk), str(world.job.pk)]
    assert ids(machine=uuid) == [str(about.pk)]
    assert ids(machine="") == ids()
    assert ids(machine=uuid4()) == []
    assert ids(host="local") == [str(world.job.pk)]
    assert ids(state="queued") == [str(world.job.pk)]
    assert ids(q="start") == [str(about.pk)]


def test_a_stranger_sees_empty_lists(clients: dict[str, Client], world: World) -> None:
    for noun in ("machines", "hosts", "networks", "pools", "jobs"):
        assert _get(clients["charlie"], noun) == {"items": [], "next": None}


def test_a_stranger_sees_only_the_own_jobs(
    clients: dict[str, Client], world: World, people: Any
) -> None:
    own = Job.objects.create(kind="hosts.test", username="charlie", user=people["charlie"])
    found = _get(clients["charlie"], "jobs")["items"]
    assert [item["id"] for item in found] == [str(own.pk)]
