"""Hosts: named in addresses, changed by jobs."""

from django.test import Client

from kvmweb.models import Host, Job
from tests.api.conftest import World

ASYNC = {"Prefer": "respond-async"}


def test_a_change_of_one_thing_keeps_the_other(alice_api: Client, world: World) -> None:
    response = alice_api.patch(
        "/api/v1/hosts/local", {"name": "here"}, content_type="application/json", headers=ASYNC
    )
    assert response.status_code == 202
    job = Job.objects.get(pk=response.json()["id"])
    assert job.arguments == {"name": "here", "uri": "qemu:///system"}
    assert response.json()["target"] == {
        "type": "host",
        "id": str(world.host.pk),
        "name": "local",
    }


def test_a_host_may_be_named_as_the_test_of_one(alice_api: Client, world: World) -> None:
    Host.objects.create(name="test", uri="test:///default")
    assert alice_api.get("/api/v1/hosts/test").json()["name"] == "test"
    for send in (alice_api.patch, alice_api.delete):
        response = send("/api/v1/hosts/test", {}, content_type="application/json", headers=ASYNC)
        assert response.json()["target"]["name"] == "test"


def test_a_host_says_what_may_be_done_with_it(clients: dict[str, Client], world: World) -> None:
    operations = clients["alice"].get("/api/v1/hosts/local").json()["operations"]
    assert operations == {"edit": None, "remove": None, "reconnect": None}
    operations = clients["bob"].get("/api/v1/hosts/local").json()["operations"]
    assert operations["remove"] == "You are not allowed to add, change and remove hosts."


def test_a_uri_with_a_password_is_refused(alice_api: Client, world: World) -> None:
    body = {"name": "other", "uri": "qemu+ssh://root:secret@host/system"}
    response = alice_api.post("/api/v1/hosts", body, content_type="application/json")
    assert response.status_code == 422
    assert set(response.json()["fields"]) == {"uri"}
    assert "secret" not in response.content.decode()


def test_its_documents_are_told(alice_api: Client, world: World) -> None:
    assert alice_api.get("/api/v1/hosts/local/xml").content == b"<a/>"
    address = "/api/v1/hosts/local/devices/computer/xml"
    assert alice_api.get(address).content == b"<device/>"
