"""Who is told of what."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from kvmweb.models import Host, Job, Machine, State, User
from kvmweb.web.live import visible_topics
from tests.site import Site

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine() -> Machine:
    host = Host.objects.create(name="local", uri="test:///default")
    return Machine.objects.create(host=host, uuid=uuid.uuid4(), name="web1", state=State.RUNNING)


def test_a_viewer_hears_of_machines_hosts_and_jobs(machine: Machine, victor: User) -> None:
    job = Job.objects.create(kind="machines.start")
    topics = {"machines", "jobs", machine.topic, machine.host.topic, job.topic}
    assert visible_topics(victor, topics) == topics


def test_a_stranger_hears_only_of_jobs_of_their_own(machine: Machine, charlie: User) -> None:
    own = Job.objects.create(kind="machines.start", user=charlie)
    other = Job.objects.create(kind="machines.start")
    topics = {"machines", "hosts", machine.topic, machine.host.topic, own.topic, other.topic}
    assert visible_topics(charlie, topics) == {own.topic}


@pytest.mark.parametrize(
    "topic",
    ["", ":", "machine:", "machine:x", "nonsense", "host:x", "host:" + "9" * 40, "jobs:1", "job:-"],
)
def test_nonsense_is_left_out(victor: User, topic: str) -> None:
    assert visible_topics(victor, [topic]) == set()


@contextmanager
def _socket(site: Site, cookies: httpx.Cookies, origin: str | None) -> Iterator[ClientConnection]:
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    with connect(
        site.url.replace("http", "ws") + "/live",
        origin=Origin(origin) if origin else None,
        additional_headers={"Cookie": cookie} if cookie else {},
    ) as socket:
        yield socket


def test_a_change_reaches_who_subscribed_and_nobody_else(site: Site) -> None:
    with site.browser_session() as browser, site.api() as api:
        machine = api.get("/machines?q=db1").json()["items"][0]["uuid"]
        with _socket(site, browser.cookies, site.url) as socket:
            socket.send(json.dumps({"subscribe": ["machines", "nonsense"]}))
            assert json.loads(socket.recv(5)) == {"subscribed": 1}
            api.post(f"/machines/{machine}/pause")
            assert json.loads(socket.recv(5)) == {"changed": "machines"}
            socket.send(json.dumps({"subscribe": []}))
            answers = iter(lambda: json.loads(socket.recv(5)), {"subscribed": 0})
            assert all(answer == {"changed": "machines"} for answer in answers)
            api.post(f"/machines/{machine}/resume")
            with pytest.raises(TimeoutError):
                socket.recv(0.3)


@pytest.mark.parametrize("origin", ["http://evil.example", None])
def test_a_foreign_origin_gets_no_socket(site: Site, origin: str | None) -> None:
    with (
        site.browser_session() as browser,
        pytest.raises(InvalidStatus),
        _socket(site, browser.cookies, origin),
    ):
        pass


def test_without_a_session_there_is_no_socket(site: Site) -> None:
    with pytest.raises(InvalidStatus), _socket(site, httpx.Cookies(), site.url):
        pass
