"""Whatever goes wrong, the answer is a problem (RFC 9457) with a sentence, and never a 500."""

import json
from typing import Any

import pytest
from django.test import Client, RequestFactory

from kvmweb.api.root import api
from kvmweb.models import Job, State
from tests.api.conftest import World, post

HOSTS = "/api/v1/hosts"


def _problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["status"] == status
    assert found["type"] == "about:blank"
    assert found["title"]
    assert found["detail"].endswith((".", "…”."))
    return found


def _post(client: Client, body: bytes | str, address: str = HOSTS) -> Any:
    return client.post(address, body, content_type="application/json")


@pytest.mark.parametrize(
    "address",
    [
        "/api/v1/nothing",
        "/api/v1/machines/",
        "/api/v1/machines/not-a-uuid",
        "/api/v1/hosts/a/b/c/d",
        "/api/v1/docs",
        "/api/v1/hosts/%00",
        "/api/v1/a%0Ab",
        "/api/v1/machines%0A",
        "/api/v1/hosts/%ff%fe",
    ],
)
def test_an_unknown_address_is_not_found(address: str, alice_api: Client, world: World) -> None:
    _problem(alice_api.get(address), 404)


def test_an_unknown_operation_is_not_found(alice_api: Client, world: World) -> None:
    _problem(_post(alice_api, "{}", f"/api/v1/machines/{world.machine.uuid}/explode"), 404)


def test_another_method_says_which_there_are(alice_api: Client, world: World) -> None:
    response = alice_api.put("/api/v1/machines", {}, content_type="application/json")
    assert "GET" in _problem(response, 405)["detail"]
    assert set(response["Allow"].split(", ")) == {"GET", "POST"}


def test_a_host_can_not_be_posted_to(alice_api: Client, world: World) -> None:
    response = post(alice_api, "/api/v1/hosts/local")
    _problem(response, 405)
    assert response["Allow"] == "GET, PATCH, DELETE"


def test_nothing_changes_by_get(alice_api: Client, world: World) -> None:
    _problem(alice_api.get(f"/api/v1/machines/{world.machine.uuid}/pause"), 405)
    assert Job.objects.count() == 1


def test_head_is_as_get(alice_api: Client, world: World) -> None:
    response = alice_api.head("/api/v1/machines")
    assert response.status_code == 200
    assert not response.content


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b'{"name": "\xff\xfe"}',
        b'{"name": NaN}',
        b'{"name": 1e999}',
        b'{"name": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
    ],
)
def test_what_is_not_json_is_a_bad_request(body: bytes, alice_api: Client) -> None:
    _problem(_post(alice_api, body), 400)


def test_a_form_is_told_to_be_json(alice_api: Client) -> None:
    _problem(alice_api.post(HOSTS, {"name": "other"}), 415)


@pytest.mark.parametrize("body", ["[]", "null", "3", '"text"'])
def test_json_that_is_no_object_is_refused(body: str, alice_api: Client) -> None:
    assert "object" in _problem(_post(alice_api, body), 422)["detail"]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("a\0b", "This can't contain a NUL character."),
        ("\ud800", "This contains half a character (a lone surrogate)."),
        (2**64, "This number is too large."),
        ([{"deep": ["\0"]}], "This can't contain a NUL character."),
        ({"\0": 1}, "This can't contain a NUL character."),
        (5, "Enter text."),
        (None, "Enter text."),
        ("", "Enter at least 1 characters."),
        ("x" * 64, "Use at most 63 characters."),
        ("a b", "Use letters, digits, dots, dashes and underscores only."),
    ],
)
def test_a_bad_value_is_named_with_a_sentence(
    value: object, sentence: str, alice_api: Client
) -> None:
    body = json.dumps({"name": value, "uri": "test:///default"})
    assert _problem(_post(alice_api, body), 422)["fields"] == {"name": sentence}
    assert not Job.objects.exists()


def test_every_bad_field_has_its_sentence(alice_api: Client) -> None:
    fields = _problem(_post(alice_api, '{"uri": "", "colour": "red"}'), 422)["fields"]
    assert set(fields) == {"name", "uri", "colour"}


def test_no_body_is_an_empty_object(alice_api: Client) -> None:
    assert set(_problem(_post(alice_api, ""), 422)["fields"]) == {"name", "uri"}


def test_a_body_that_is_too_large_is_said_to_be(alice_api: Client, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    _problem(_post(alice_api, json.dumps({"name": "x" * 1000})), 413)


def test_a_body_of_unknown_length_is_refused_before_it_is_read(alice_api: Client) -> None:
    response = alice_api.generic("POST", HOSTS, headers={"Transfer-Encoding": "chunked"})
    _problem(response, 411)


def test_too_many_parameters_are_a_bad_request(alice_api: Client) -> None:
    _problem(alice_api.get("/api/v1/machines?" + "&".join(["a=1"] * 2000)), 400)


def test_a_nul_in_a_filter_is_named(alice_api: Client) -> None:
    assert set(_problem(alice_api.get("/api/v1/machines?q=a%00b"), 422)["fields"]) == {"q"}


def test_a_refusal_for_the_state_is_a_conflict(bob_api: Client, world: World) -> None:
    response = _post(bob_api, "", f"/api/v1/machines/{world.machine.uuid}/start")
    assert _problem(response, 409)["detail"] == "The machine is already on."


def test_a_refusal_for_the_person_says_what_is_missing(
    clients: dict[str, Client], world: World
) -> None:
    response = _post(clients["victor"], "", f"/api/v1/machines/{world.machine.uuid}/pause")
    detail = _problem(response, 403)["detail"]
    assert detail == "You are not allowed to start, shut down, reboot and pause."


def test_the_person_is_refused_before_the_arguments_are_read(
    clients: dict[str, Client], world: World
) -> None:
    machine = f"/api/v1/machines/{world.machine.uuid}/set_autostart"
    _problem(_post(clients["victor"], '{"enabled": "perhaps"}', machine), 403)
    _problem(_post(clients["charlie"], '{"enabled": "perhaps"}', machine), 404)


def test_the_same_twice_is_a_conflict(bob_api: Client, world: World) -> None:
    address = f"/api/v1/machines/{world.machine.uuid}/pause"
    assert post(bob_api, address).status_code == 202
    assert "under way" in _problem(post(bob_api, address), 409)["detail"]


def test_an_unreachable_host_is_a_conflict_with_its_reason(bob_api: Client, world: World) -> None:
    world.host.state, world.host.state_reason = "unreachable", "Connection refused."
    world.host.save()
    response = _post(bob_api, "", f"/api/v1/machines/{world.machine.uuid}/pause")
    assert "Connection refused" in _problem(response, 409)["detail"]


def test_a_fault_of_ours_keeps_its_details_to_the_log(
    rf: RequestFactory, caplog: pytest.LogCaptureFixture
) -> None:
    response = api.on_exception(rf.get("/api/v1/"), ZeroDivisionError("secret"))
    assert (response.status_code, response["Content-Type"]) == (500, "application/problem+json")
    assert json.loads(response.content)["title"] == "Internal Server Error"
    assert b"secret" not in response.content
    assert "secret" in caplog.text


@pytest.mark.parametrize("state", [State.SHUTOFF, State.RUNNING])
def test_the_console_level_is_one_of_two(state: State, alice_api: Client, world: World) -> None:
    world.machine.state = state
    world.machine.save()
    address = f"/api/v1/machines/{world.machine.uuid}/console"
    assert set(_problem(_post(alice_api, '{"level": "steal"}', address), 422)["fields"]) == {
        "level"
    }
