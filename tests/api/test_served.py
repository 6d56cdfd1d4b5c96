"""What only a real server shows: bodies that are too large or of unknown length, and HEAD."""

from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import WORLD
from tests.site import PASSWORD, Site
from tests.waiting import until

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(uri=f"test://{WORLD}") as served:
        yield served


@pytest.fixture(scope="module")
def api(site: Site) -> Iterator[httpx.Client]:
    with site.api() as client:
        until(lambda: client.get("/machines").json()["items"], what="the mirror to be filled")
        yield client


def test_a_machine_is_paused_and_seen_paused(api: httpx.Client) -> None:
    machine = api.get("/machines?q=web1").json()["items"][0]
    response = api.post(f"/machines/{machine['uuid']}/pause")
    assert (response.status_code, response.json()["state"]) == (200, "done")
    until(lambda: api.get("/machines?state=paused").json()["items"])


def test_a_body_over_the_limit_is_a_problem(api: httpx.Client) -> None:
    response = api.post("/hosts", json={"name": "x" * 6_000_000})
    assert (response.status_code, response.headers["Content-Type"]) == (413, PROBLEM)


def test_a_body_of_unknown_length_is_a_problem(api: httpx.Client) -> None:
    response = api.post("/hosts", content=iter([b"{}"]))
    assert (response.status_code, response.headers["Content-Type"]) == (411, PROBLEM)


def test_head_has_no_body(api: httpx.Client) -> None:
    response = api.head("/machines")
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("address", ["", "/machines", "/openapi.json", "/me"])
def test_nobody_gets_a_problem_and_no_redirect(site: Site, address: str) -> None:
    response = httpx.get(f"{site.url}/api/v1{address or '/'}")
    assert (response.status_code, response.headers["Content-Type"]) == (401, PROBLEM)


def test_answers_are_not_kept_by_caches(api: httpx.Client) -> None:
    assert "no-store" in api.get("/machines").headers["Cache-Control"]


def test_a_signed_in_browser_is_served_too(site: Site) -> None:
    with httpx.Client(base_url=site.url) as browser:
        form = browser.get("/accounts/login/")
        csrf = browser.cookies["csrftoken"]
        assert form.status_code == 200
        browser.post(
            "/accounts/login/",
            data={"login": "admin", "password": PASSWORD, "csrfmiddlewaretoken": csrf},
        )
        assert browser.get("/api/v1/me").json()["username"] == "admin"
        body = {"uri": "test:///default"}
        assert browser.post("/api/v1/hosts/test", json=body).status_code == 403
        headers = {"X-CSRFToken": browser.cookies["csrftoken"], "Origin": site.url}
        answer = browser.post("/api/v1/hosts/test", json=body, headers=headers)
        assert (answer.status_code, answer.json()["state"]) == (200, "done")
