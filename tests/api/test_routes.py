"""Every route for everyone. A new route without a row here fails."""

import re
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from kvmweb.api.openapi import document
from kvmweb.api.root import api
from kvmweb.models import ChangeState, HostNetwork, Job, Machine, Network, NetworkChange, State
from kvmweb.operations.operation import OPERATIONS
from tests.api.conftest import EVERYONE, World

# What they get: nobody, Charlie (no role), Victor (viewer), Bob (operator), Alice (administrator).
ANYONE = (401, 200, 200, 200, 200)
SEEN = (401, 404, 200, 200, 200)
OPERATES = (401, 404, 403, 202, 202)
ADMINISTERS = (401, 404, 403, 403, 202)
MAKES = (401, 403, 403, 403, 202)

MEMBER = {"machine": "9e3f5c1a-6d0b-4f5e-8a58-1f2f3c4d5e6f", "mac": "52:54:00:00:00:01"}
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
    "GET /networks/{uuid}/leases": (SEEN, {}),
    "GET /networks/{uuid}/forwards": (SEEN, {}),
    "POST /networks": (
        MAKES,
        {"host": "local", "name": "lab", "ips": [{"address": "10.1.0.1/16"}]},
    ),
    "PATCH /networks/{uuid}": (ADMINISTERS, {"mtu": 1400}),
    "DELETE /networks/{uuid}": (ADMINISTERS, {}),
    "POST /networks/{uuid}/edit": (ADMINISTERS, {"domain": "lab.example"}),
    "POST /networks/{uuid}/start": (ADMINISTERS, {}),
    "POST /networks/{uuid}/stop": (ADMINISTERS, {}),
    "POST /networks/{uuid}/restart": (ADMINISTERS, {}),
    "POST /networks/{uuid}/set_autostart": (ADMINISTERS, {"enabled": True}),
    "POST /networks/{uuid}/delete": (ADMINISTERS, {}),
    "POST /networks/{uuid}/add_reservation": (
        ADMINISTERS,
        {"mac": "52:54:00:00:00:01", "address": "192.168.122.7"},
    ),
    "POST /networks/{uuid}/remove_reservation": (ADMINISTERS, {"address": "192.168.122.7"}),
    "POST /networks/{uuid}/add_forward": (ADMINISTERS, {"port": 8080, "to": "192.168.122.7"}),
    "POST /networks/{uuid}/remove_forward": (ADMINISTERS, {"protocol": "tcp", "port": 8080}),
    "GET /filters": (ANYONE, {}),
    "POST /filters": (MAKES, {"host": "local", "name": "new"}),
    "POST /filters/define": (MAKES, {"host": "local", "xml": "<filter name='new'/>"}),
    "GET /filters/{uuid}": (SEEN, {}),
    "GET /filters/{uuid}/xml": (SEEN, {}),
    "PUT /filters/{uuid}": (ADMINISTERS, {"xml": "<filter name='mine'/>"}),
    "DELETE /filters/{uuid}": (ADMINISTERS, {}),
    "POST /filters/{uuid}/edit": (ADMINISTERS, {"xml": "<filter name='mine'/>"}),
    "POST /filters/{uuid}/clone": (ADMINISTERS, {"name": "new"}),
    "POST /filters/{uuid}/delete": (ADMINISTERS, {}),
    "POST /filters/{uuid}/add_rule": (ADMINISTERS, {"action": "drop", "protocol": "tcp"}),
    "POST /filters/{uuid}/edit_rule": (ADMINISTERS, {"place": 0, "action": "drop"}),
    "POST /filters/{uuid}/add_reference": (ADMINISTERS, {"filter": "clean-traffic"}),
    "POST /filters/{uuid}/move": (ADMINISTERS, {"place": 0, "to": 1}),
    "POST /filters/{uuid}/remove": (ADMINISTERS, {"place": 0}),
    "GET /security-groups": (ANYONE, {}),
    "POST /security-groups": (MAKES, {"name": "new"}),
    "GET /security-groups/{name}": (SEEN, {}),
    "GET /security-groups/{name}/xml": (SEEN, {}),
    "PATCH /security-groups/{name}": (ADMINISTERS, {"description": "new"}),
    "DELETE /security-groups/{name}": (ADMINISTERS, {}),
    "POST /security-groups/{name}/edit": (ADMINISTERS, {"rules": []}),
    "POST /security-groups/{name}/add_rule": (ADMINISTERS, {"ports": "22"}),
    "POST /security-groups/{name}/edit_rule": (ADMINISTERS, {"place": 0, "ports": "22"}),
    "POST /security-groups/{name}/remove_rule": (ADMINISTERS, {"place": 0}),
    "POST /security-groups/{name}/delete": (ADMINISTERS, {}),
    "POST /security-groups/{name}/attach": (ADMINISTERS, MEMBER),
    "POST /security-groups/{name}/detach": (ADMINISTERS, MEMBER),
    "GET /machines/{uuid}/nics": (SEEN, {}),
    "POST /machines/{uuid}/nics": (ADMINISTERS, {"source": "network:default"}),
    "GET /machines/{uuid}/nics/{mac}": (SEEN, {}),
    "PATCH /machines/{uuid}/nics/{mac}": (ADMINISTERS, {"mtu": 1400}),
    "DELETE /machines/{uuid}/nics/{mac}": (ADMINISTERS, {}),
    "POST /machines/{uuid}/nics/{mac}/link": (OPERATES, {"up": False}),
    "POST /machines/{uuid}/nics/{mac}/security_groups": (ADMINISTERS, {"groups": ["web"]}),
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
        "filters": world.nwfilter,
    }
    names = {"pools": world.volume.name, "security-groups": world.group.name}
    return method, "/api/v1" + address.format(
        uuid=things[noun].uuid if noun in things else "",
        name=names.get(noun, world.host.name),
        mac="52:54:00:00:00:01",
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
    Network.objects.update(is_active=not route.endswith("networks/{uuid}/start"))
