"""Every route for everyone. A new route without a row here fails."""

import re
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from kvmweb.api.openapi import document
from kvmweb.api.root import api
from kvmweb.models import ChangeState, HostNetwork, Job, Machine, NetworkChange, State
from kvmweb.operations.operation import OPERATIONS
from tests.api.conftest import EVERYONE, World

# What they get: nobody, Charlie (no role), Victor (viewer), Bob (operator), Alice (administrator).
ANYONE = (401, 200, 200, 200, 200)
SEEN = (401, 404, 200, 200, 200)
OPERATES = (401, 404, 403, 202, 202)
ADMINISTERS = (401, 404, 403, 403, 202)
MAKES = (401, 403, 403, 403, 202)

NAME_AND_URI = {"name": "other", "uri": "test:///default"}
TABLE: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "GET /": (ANYONE, {}),
    "GET /me": (ANYONE, {}),
    "GET /machines": (ANYONE, {}),
    "POST /machines": (
        MAKES,
        {"host": "local", "xml": "<domain type='kvm'><name>new</name></domain>"},
    ),
    "GET /machines/{uuid}": (SEEN, {}),
    "DELETE /machines/{uuid}": (ADMINISTERS, {}),
    "GET /machines/{uuid}/xml": (SEEN, {}),
    "GET /machines/{uuid}/hardware": (SEEN, {}),
    "POST /machines/{uuid}/console": (SEEN, {"level": "view"}),
    "POST /machines/{uuid}/start": (OPERATES, {}),
    "POST /machines/{uuid}/shut_down": (OPERATES, {}),
    "POST /machines/{uuid}/reboot": (OPERATES, {}),
    "POST /machines/{uuid}/force_off": (OPERATES, {}),
    "POST /machines/{uuid}/force_reset": (OPERATES, {}),
    "POST /machines/{uuid}/pause": (OPERATES, {}),
    "POST /machines/{uuid}/resume": (OPERATES, {}),
    "POST /machines/{uuid}/set_autostart": (OPERATES, {"enabled": True}),
    "POST /machines/{uuid}/delete": (ADMINISTERS, {}),
    "GET /hosts": (ANYONE, {}),
    "POST /hosts": (MAKES, NAME_AND_URI),
    "POST /hosts/test": (MAKES, {"uri": "test:///default"}),
    "GET /hosts/{name}": (SEEN, {}),
    "PATCH /hosts/{name}": (ADMINISTERS, {"name": "other"}),
    "DELETE /hosts/{name}": (ADMINISTERS, {}),
    "GET /hosts/{name}/xml": (SEEN, {}),
    "GET /hosts/{name}/devices": (SEEN, {}),
    "GET /hosts/{name}/devices/{device}/xml": (SEEN, {}),
    "POST /hosts/{name}/edit": (ADMINISTERS, NAME_AND_URI),
    "POST /hosts/{name}/remove": (ADMINISTERS, {}),
    "POST /hosts/{name}/reconnect": (ADMINISTERS, {}),
    "GET /hosts/{name}/network": (SEEN, {}),
    "GET /hosts/{name}/network.yaml": (SEEN, {}),
    "GET /hosts/{name}/network/changes": (SEEN, {}),
    "POST /hosts/{name}/network/preview": (ADMINISTERS, {"document": {}}),
    "POST /hosts/{name}/network/apply": (ADMINISTERS, {"document": {}, "digest": "1-2"}),
    "POST /hosts/{name}/network/confirm": (ADMINISTERS, {}),
    "POST /hosts/{name}/network/revert": (ADMINISTERS, {}),
    "POST /hosts/{name}/network/undo": (ADMINISTERS, {}),
    "POST /hosts/{name}/network/put_back": (ADMINISTERS, {}),
    "POST /hosts/{name}/network/take_over": (ADMINISTERS, {}),
    "POST /hosts/{name}/network/run": (ADMINISTERS, {"command": ["ip", "a"]}),
    "POST /hosts/{name}/network/look": (ADMINISTERS, {"what": "tunnels"}),
    "GET /networks": (ANYONE, {}),
    "GET /networks/{uuid}": (SEEN, {}),
    "GET /networks/{uuid}/xml": (SEEN, {}),
    "GET /pools": (ANYONE, {}),
    "GET /pools/{uuid}": (SEEN, {}),
    "GET /pools/{uuid}/xml": (SEEN, {}),
    "GET /pools/{uuid}/volumes": (SEEN, {}),
    "GET /pools/{uuid}/volumes/{name}/xml": (SEEN, {}),
    "GET /jobs": (ANYONE, {}),
    "GET /jobs/{key}": (SEEN, {}),
    "POST /jobs/{key}/cancel": ((401, 404, 403, 200, 200), {}),
}


def _routes() -> set[str]:
    return {
        f"{method.upper()} {address.removeprefix('/api/v1')}"
        for address, methods in document(api)["paths"].items()
        for method in methods
    }


def test_every_route_is_in_the_table() -> None:
    assert _routes() == set(TABLE)


@pytest.mark.parametrize("route", TABLE)
def test_everyone_gets_what_the_table_says(
    route: str, world: World, clients: dict[str, Client]
) -> None:
    statuses, body = TABLE[route]
    method, address = _address(route, world)
    _ready_for(route, world)
    got = []
    for name in EVERYONE:
        response = _send(clients[name], method, address, body)
        got.append(response.status_code)
        if response.status_code >= 400:
            assert response["Content-Type"] == "application/problem+json"
        Job.objects.exclude(pk=world.job.pk).delete()
        Job.objects.update(state="queued")
    assert tuple(got) == statuses


@pytest.mark.parametrize("route", [route for route in TABLE if "{" in route])
def test_what_is_not_there_is_a_problem(route: str, world: World, alice_api: Client) -> None:
    method, _space, address = route.partition(" ")
    missing = re.sub(r"{(uuid|key)}", str(uuid4()), address).replace("{name}", "nothing")
    response = _send(alice_api, method, "/api/v1" + missing, TABLE[route][1])
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"


def _send(client: Client, method: str, address: str, body: dict[str, Any]) -> Any:
    kind = {"content_type": "application/json", "headers": {"Prefer": "respond-async"}}
    data = body if method != "GET" else None
    return getattr(client, method.lower())(address, data, **kind)


def _address(route: str, world: World) -> tuple[str, str]:
    method, _space, address = route.partition(" ")
    noun = address.split("/")[1]
    things: dict[str, Any] = {
        "machines": world.machine,
        "networks": world.network,
        "pools": world.pool,
    }
    return method, "/api/v1" + address.format(
        uuid=things[noun].uuid if noun in things else "",
        name=world.volume.name if noun == "pools" else world.host.name,
        device=world.device.name,
        key=world.job.pk,
    )


def _ready_for(route: str, world: World) -> None:
    """The machine in a state in which the operation is not refused; the host's network too."""
    is_waiting = route.endswith(("/confirm", "/revert"))
    state = ChangeState.UNCONFIRMED if is_waiting else ChangeState.APPLIED
    HostNetwork.objects.create(host=world.host, drift=[{"commands": [["ip", "a"]]}])
    NetworkChange.objects.create(host=world.host, state=state)
    operation = OPERATIONS.get("machines." + route.rpartition("/")[2])
    if operation and operation.when:
        Machine.objects.update(state=operation.when[0])
    else:
        Machine.objects.update(state=State.RUNNING)
