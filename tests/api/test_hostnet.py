"""A host's own network for programs: read, planned, applied; and what is refused."""

from typing import Any

import pytest
import yaml
from django.test import Client

from kvmweb.models import ChangeState, Job, NetworkChange, User
from kvmweb.operations import hostnet
from tests.api.conftest import client_of, post
from tests.hostnet import BRIDGE, Followed, OwnNetwork, finish, whole

LAB = {"links": [BRIDGE]}
AT = "/api/v1/hosts/lab/network"


@pytest.fixture
def api(network: OwnNetwork, people: dict[str, User]) -> Client:
    return client_of(people["alice"])


def _done(answer: Any) -> dict[str, Any]:
    """The job, finished here for want of an agent."""
    assert answer.status_code == 202, answer.content
    return finish(Job.objects.get(pk=answer.json()["id"])).result


def _applied(api: Client, document: dict[str, Any]) -> dict[str, Any]:
    digest = _done(post(api, f"{AT}/preview", {"document": document}))["digest"]
    return _done(post(api, f"{AT}/apply", {"document": document, "digest": digest}))


def test_what_is_wanted_and_what_is_there(api: Client, network: OwnNetwork) -> None:
    _applied(api, LAB)
    network.read()
    found = api.get(AT).json()
    assert found["desired"] == LAB
    assert "br-lab" in {one["name"] for one in found["actual"]["links"]}
    assert found["drift"] == []
    assert found["unconfirmed"] is None
    assert found["operations"]["undo"] is None
    assert found["operations"]["confirm"] == "No change waits for confirmation."
    assert set(found["operations"]) == {
        "preview", "apply", "confirm", "revert", "undo", "put_back", "take_over", "run", "look",
    }  # fmt: skip


def test_of_a_host_of_which_nothing_is_known_it_says_so(api: Client, network: OwnNetwork) -> None:
    network.row.delete()
    found = api.get(AT).json()
    assert (found["desired"], found["actual"], found["read"]) == ({}, {}, None)


def test_its_yaml_can_be_sent_back(api: Client, network: OwnNetwork) -> None:
    _applied(api, LAB)
    answer = api.get(f"{AT}.yaml")
    assert answer["Content-Type"].startswith("application/yaml")
    document = yaml.safe_load(answer.content)
    result = _done(post(api, f"{AT}/preview", {"document": document}))
    assert result["steps"] == []


def test_changes_are_listed_the_newest_first(api: Client, network: OwnNetwork) -> None:
    first = _applied(api, LAB)["change"]
    _done(post(api, f"{AT}/undo"))
    items = api.get(f"{AT}/changes").json()["items"]
    assert [one["state"] for one in items] == ["applied", "undone"]
    assert (items[1]["id"], items[1]["user"]) == (first, "alice")
    assert items[1]["after"] == whole(LAB)
    page = api.get(f"{AT}/changes?limit=1").json()
    assert page["next"]
    assert api.get(f"{AT}/changes?state=undone").json()["items"] == [items[1]]
    assert api.get(f"{AT}/changes?state=nonsense").status_code == 422


def test_a_change_that_waits_is_named(api: Client, network: OwnNetwork) -> None:
    uplink = {"links": [{"kind": "bridge", "name": "br0", "uplink": "eth0"}]}
    change = _applied(api, uplink)["change"]
    found = api.get(AT).json()
    assert found["unconfirmed"] == change
    assert "still waits" in found["operations"]["apply"]
    answer = post(api, f"{AT}/apply", {"document": {}, "digest": "x"})
    assert answer.status_code == 409
    _done(post(api, f"{AT}/confirm"))
    assert NetworkChange.objects.get().state == ChangeState.APPLIED


@pytest.mark.parametrize(
    ("body", "field", "sentence"),
    [
        ({}, "document", "needed"),
        ({"document": []}, "document", "valid"),
        ({"document": {"links": [{"kind": "bridge"}]}}, "document.links.0.bridge.name", "needed"),
        ({"document": {"links": [{"kind": "spoon"}]}}, "document.links.0", "spoon"),
        ({"document": {"links": [{"name": "a"}]}}, "document.links.0", "discriminator"),
        ({"document": {}, "more": 1}, "more", "no such field"),
        (
            {"document": {"switches": [{"name": "s", "ports": [{"name": "p", "tag": 4095}]}]}},
            "document.switches.0.ports.0",
            "4095 is reserved",
        ),
        ({"document": {"routes": [{"to": "10.0.0.1/8"}]}}, "document.routes.0.to", "must be 0"),
    ],
)
def test_what_is_wrong_is_a_problem_that_names_its_place(
    api: Client, body: dict[str, Any], field: str, sentence: str
) -> None:
    answer = post(api, f"{AT}/preview", body)
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert sentence in answer.json()["fields"][field]
    assert not Job.objects.exists()


def test_what_the_host_finds_wrong_is_in_the_job(api: Client) -> None:
    answer = post(api, f"{AT}/preview", {"document": {"links": [{**BRIDGE, "name": "eth0"}]}})
    job = finish(Job.objects.get(pk=answer.json()["id"]))
    told = api.get(f"/api/v1/jobs/{job.pk}").json()
    assert (told["state"], told["error_field"]) == ("failed", "document.links.0.name")
    assert "was not made here" in told["error"]


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        ("run", {"command": []}, "command"),
        ("run", {"command": "ip a"}, "command"),
        ("run", {}, "command"),
        ("look", {"what": "passwords"}, "what"),
    ],
)
def test_a_question_that_is_none(api: Client, route: str, body: dict[str, Any], field: str) -> None:
    answer = post(api, f"{AT}/{route}", body)
    assert answer.status_code == 422
    assert field in answer.json()["fields"]


def test_the_output_of_a_command_is_in_the_result(api: Client) -> None:
    result = _done(post(api, f"{AT}/run", {"command": ["ip", "-br", "link"]}))
    assert "eth0" in result["output"]
    assert result["code"] == 0


def test_it_is_described_with_its_document(api: Client) -> None:
    paths = api.get("/api/v1/openapi.json").json()["paths"]
    route = paths["/api/v1/hosts/{name}/network/apply"]["post"]
    schema = route["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["required"]) == {"document", "digest"}
    for operation in hostnet.ALL:
        name = "run" if operation is hostnet.run_command else operation.name
        assert f"/api/v1/hosts/{{name}}/network/{name}" in paths


def test_with_an_agent_quick_work_is_answered_at_once(followed: Followed) -> None:
    api = client_of(followed.alice)
    wait = {"content_type": "application/json"}
    plan = api.post(f"{AT}/preview", {"document": LAB}, **wait).json()
    assert plan["state"] == "done"
    body = {"document": LAB, "digest": plan["result"]["digest"]}
    assert api.post(f"{AT}/apply", body, **wait).json()["state"] == "done"
    again = api.post(f"{AT}/apply", body, **wait).json()
    assert (again["state"], again["error_field"]) == ("failed", "digest")
    assert api.post(f"{AT}/undo", {}, **wait).json()["state"] == "done"
