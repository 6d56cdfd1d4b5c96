"""A token, or the site's own session with its CSRF token; all else is 401 and never a redirect."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from kvmweb.models import ApiToken, Job, User
from tests.api.conftest import World, client_of, post


def _bearer(text: str) -> Client:
    return Client(headers={"Authorization": text})


@pytest.fixture
def browser(people: dict[str, User]) -> Client:
    """Bob's, signed in; it checks CSRF as a real site does."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(people["bob"])
    return client


@pytest.mark.parametrize(
    "header",
    ["Bearer kvmweb_unknown", "Bearer", "Bearer ", "Basic Ym9iOmJvYg==", "kvmweb_x", "Bearer é"],
)
def test_a_wrong_token_is_unauthorized(header: str, world: World) -> None:
    response = _bearer(header).get("/api/v1/machines")
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("address", ["/api/v1/", "/api/v1/me", "/api/v1/openapi.json"])
def test_nobody_is_told_to_sign_in_and_not_redirected(address: str, world: World) -> None:
    response = Client().get(address)
    assert response.status_code == 401
    assert "Bearer kvmweb_" in response.json()["detail"]


def test_nobody_is_unauthorized_before_csrf_or_the_body_are_looked_at(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    response = client.post("/api/v1/hosts", b"{", content_type="application/json")
    assert response.status_code == 401


def test_a_token_tells_who_and_needs_no_csrf(people: dict[str, User], world: World) -> None:
    _token, text = ApiToken.issue(people["bob"], "laptop")
    client = Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {text}"})
    me = client.get("/api/v1/me").json()
    assert (me["username"], me["role"], me["token"]) == ("bob", "operator", "laptop")
    assert me["privileges"] == ["see", "operate", "console-view", "console-control"]
    response = post(client, f"/api/v1/machines/{world.machine.uuid}/pause")
    assert response.status_code == 202
    job = Job.objects.get(pk=response.json()["id"])
    assert (job.token, job.user, job.address) == (_token, people["bob"], "127.0.0.1")


def test_an_expired_token_is_unauthorized(people: dict[str, User]) -> None:
    yesterday = timezone.now() - timedelta(days=1)
    _token, text = ApiToken.issue(people["bob"], "old", expires=yesterday)
    assert _bearer(f"Bearer {text}").get("/api/v1/me").status_code == 401


def test_the_token_of_a_disabled_user_is_unauthorized(people: dict[str, User]) -> None:
    client = client_of(people["bob"])
    User.objects.filter(username="bob").update(is_active=False)
    assert client.get("/api/v1/me").status_code == 401


def test_the_session_may_look(browser: Client, world: World) -> None:
    me = browser.get("/api/v1/me").json()
    assert (me["username"], me["token"]) == ("bob", None)


def test_the_session_may_change_with_its_csrf_token_only(browser: Client, world: World) -> None:
    address = f"/api/v1/machines/{world.machine.uuid}/pause"
    refused = post(browser, address)
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["detail"]
    browser.cookies["csrftoken"] = csrf = "a" * 32
    assert post(browser, address, **{"X-CSRFToken": csrf}).status_code == 202


def test_a_wrong_token_is_not_made_good_by_a_session(browser: Client, world: World) -> None:
    response = browser.get("/api/v1/me", headers={"Authorization": "Bearer kvmweb_wrong"})
    assert response.status_code == 401


def test_the_token_counts_where_there_is_a_session_too(
    browser: Client, people: dict[str, User]
) -> None:
    text = ApiToken.issue(people["victor"], "test")[1]
    headers = {"Authorization": f"Bearer {text}"}
    assert browser.get("/api/v1/me", headers=headers).json()["username"] == "victor"


@pytest.mark.parametrize("address", ["203.0.113.9", "fe80::1%eth0", "", "nonsense"])
def test_any_peer_address_is_taken(address: str, people: dict[str, User], world: World) -> None:
    client = client_of(people["bob"])
    client.defaults["REMOTE_ADDR"] = address
    response = post(client, f"/api/v1/machines/{world.machine.uuid}/pause")
    assert response.status_code == 202
