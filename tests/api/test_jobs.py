"""Jobs: the answer to every change, 200 when it ended in time and 202 when not."""

from typing import Any

import pytest
from django.test import Client

from kvmweb.models import Job, Machine, Role, State, User
from tests.api.conftest import World, client_of, post
from tests.conftest import Stage
from tests.waiting import until


def test_a_queued_job_is_accepted_and_found_at_its_location(bob_api: Client, world: World) -> None:
    address = f"/api/v1/machines/{world.machine.uuid}/pause"
    response = post(bob_api, address)
    assert response.status_code == 202
    found = bob_api.get(response["Location"]).json()
    assert found == response.json()
    assert found.pop("created")
    assert found == {
        "id": response["Location"].rpartition("/")[2],
        "operation": "machines.pause",
        "target": {"type": "machine", "id": str(world.machine.uuid), "name": "web1"},
        "host": "local",
        "state": "queued",
        "percent": None,
        "message": "",
        "error": "",
        "error_field": "",
        "commands": [],
        "result": {},
        "user": "bob",
        "started": None,
        "ended": None,
        "log": "",
    }


def test_without_an_agent_the_answer_comes_after_two_seconds(bob_api: Client, world: World) -> None:
    response = post(bob_api, f"/api/v1/machines/{world.machine.uuid}/pause", Prefer="")
    assert (response.status_code, response.json()["state"]) == (202, "queued")


def test_a_queued_job_is_cancelled_at_once(bob_api: Client, world: World) -> None:
    response = post(bob_api, f"/api/v1/jobs/{world.job.pk}/cancel")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    assert response.json()["ended"]


def test_a_running_job_is_asked_to_stop(bob_api: Client, world: World) -> None:
    Job.objects.update(state="running")
    response = post(bob_api, f"/api/v1/jobs/{world.job.pk}/cancel")
    assert (response.status_code, response.json()["state"]) == (200, "running")
    assert Job.objects.get().is_cancel_asked


def test_an_ended_job_can_not_be_cancelled(bob_api: Client, world: World) -> None:
    Job.objects.update(state="done")
    response = post(bob_api, f"/api/v1/jobs/{world.job.pk}/cancel")
    assert response.status_code == 409
    assert response.json()["detail"] == "The job has ended already."


def test_only_its_person_or_an_administrator_cancels_a_job(
    clients: dict[str, Client], world: World
) -> None:
    Job.objects.update(user=User.objects.get(username="alice"))
    response = post(clients["bob"], f"/api/v1/jobs/{world.job.pk}/cancel")
    assert response.status_code == 403


@pytest.mark.django_db(transaction=True)
class TestWithAnAgent:
    def _api(self, role: Role = Role.ADMINISTRATOR) -> Client:
        return client_of(User.objects.create(username="api", role=role))

    def _post(self, client: Client, address: str, **body: object) -> Any:
        return client.post(f"/api/v1/{address}", body, content_type="application/json")

    def test_what_ends_in_time_is_answered_with_how_it_ended(self, agent: Stage) -> None:
        api, machine = self._api(Role.OPERATOR), agent.machine()
        response = self._post(api, f"machines/{machine.uuid}/pause")
        assert response.status_code == 200
        assert "Location" not in response
        job = response.json()
        assert (job["state"], job["commands"]) == ("done", [["virsh", "suspend", "web1"]])
        assert job["started"] <= job["ended"]
        address = f"/api/v1/machines/{machine.uuid}"
        until(lambda: api.get(address).json()["state"] == "paused")

    def test_a_failure_is_a_job_too_and_names_its_argument(self, agent: Stage) -> None:
        body = {"volumes": ["/etc/passwd"], "confirm_name": "wrong"}
        response = self._post(self._api(), f"machines/{agent.machine().uuid}/delete", **body)
        assert response.status_code == 200
        job = response.json()
        assert (job["state"], job["error_field"]) == ("failed", "confirm_name")
        assert agent.machine()

    def test_a_machine_is_deleted(self, agent: Stage) -> None:
        api, uuid = self._api(), agent.machine().uuid
        response = api.delete(f"/api/v1/machines/{uuid}")
        assert (response.status_code, response.json()["state"]) == (200, "done")
        until(lambda: not Machine.objects.filter(uuid=uuid).exists())
        assert api.get(f"/api/v1/machines/{uuid}").status_code == 404

    def test_a_host_comes_and_goes(self, agent: Stage) -> None:
        api = self._api()
        uri = "test:///default"
        job = self._post(api, "hosts", name="other", uri=uri).json()
        assert (job["state"], job["error"]) == ("done", "")
        until(lambda: api.get("/api/v1/hosts/other").json()["state"] == "connected")
        assert api.get("/api/v1/machines?host=other").json()["items"]
        again = self._post(api, "hosts", name="other", uri=uri).json()
        assert (again["state"], again["error_field"]) == ("failed", "name")
        assert api.delete("/api/v1/hosts/other").json()["state"] == "done"
        assert api.get("/api/v1/hosts/other").status_code == 404

    def test_a_machine_is_made_from_its_xml(self, agent: Stage) -> None:
        api = self._api()
        xml = (
            "<domain type='test'><name>new1</name><memory>65536</memory>"
            "<os><type>hvm</type></os></domain>"
        )
        job = self._post(api, "machines", host="local", xml=xml).json()
        assert (job["state"], job["error"]) == ("done", "")
        address = f"/api/v1/machines/{job['result']['uuid']}"
        until(lambda: api.get(address).status_code == 200)
        assert api.get(address).json()["name"] == "new1"
        assert api.get(address).json()["state"] in (State.SHUTOFF, State.RUNNING)
