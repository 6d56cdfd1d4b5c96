"""The cast and the stage: Alice administers, Bob operates, Victor looks, Charlie is a stranger."""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest
from django.conf import settings
from pytest_django import Settings

from kvmweb.agent.agent import Agent
from kvmweb.models import Host, HostState, Job, Machine, Role, User
from kvmweb.net.client import Client
from kvmweb.virt import connections
from tests import dumps
from tests.hostnet import Followed, OwnNetwork, followed_network, own_network
from tests.net.own_host import OwnHost
from tests.nodes import Lab
from tests.site import Site
from tests.waiting import until

# Playwright's synchronous interface runs an event loop in the test's own thread; Django's ORM is
# still called from plain functions there.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"

WORLD = Path(__file__).with_name("world.xml")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A database file: the agent's threads could not share one that lives in memory."""
    file = tmp_path_factory.mktemp("database") / "test.sqlite3"
    settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = str(file)


@pytest.fixture
def state_directory(tmp_path: Path, settings: Settings) -> Path:
    settings.STATE_DIR = tmp_path
    return tmp_path


def _user(name: str, role: Role) -> User:
    return User.objects.create_user(name, password=f"{name} has a secret", role=role)


@pytest.fixture
def alice(db: None) -> User:
    """Administrator."""
    return _user("alice", Role.ADMINISTRATOR)


@pytest.fixture
def bob(db: None) -> User:
    """Operator."""
    return _user("bob", Role.OPERATOR)


@pytest.fixture
def victor(db: None) -> User:
    """Viewer."""
    return _user("victor", Role.VIEWER)


@pytest.fixture
def charlie(db: None) -> User:
    """Signed in, without any role."""
    return _user("charlie", Role.NONE)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """This machine's network is after the test as it was before it."""
    before = dumps.whole()
    yield
    left = dumps.settled(before)
    assert not left, f"the test left this behind:\n{left}"


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two hosts with a network in between; a test takes away what it makes on them."""
    if os.getuid() != 0:
        pytest.skip("hosts of their own need root: run `sudo make test`")
    with Lab() as two_hosts:
        yield two_hosts


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The real site in a process of its own, its first host on libvirt's test driver."""
    with Site(uri=f"test://{WORLD}") as running:
        yield running


@dataclass
class Stage:
    """An agent in this process and its first host, on libvirt's test driver (tests/world.xml)."""

    agent: Agent
    host: Host

    @property
    def connection(self) -> libvirt.virConnect:
        """The agent's own: to the test driver, another one would be another world."""
        return connections.connection(self.host.pk)

    def machine(self, name: str = "web1") -> Machine:
        return Machine.objects.get(host=self.host, name=name)

    def connect(self, name: str, uri: str) -> Host:
        """One more host, settled: connected, or known not to be."""
        host = Host.objects.create(name=name, uri=uri)
        self.agent.wake()
        until(lambda: _state(host) != HostState.CONNECTING, what=f"{name} to be settled")
        host.refresh_from_db()
        return host

    def finish(self, job: Job) -> Job:
        """The job, ended."""
        until(lambda: job.wait(0.2), seconds=60, what=f"{job} to end")
        return job


@pytest.fixture
def agent(transactional_db: None, state_directory: Path) -> Iterator[Stage]:
    running = Agent(f"test-{uuid.uuid4().hex[:8]}")
    running.start()
    stage = Stage(running, Host(name="local"))
    try:
        stage.host = stage.connect("local", f"test://{WORLD}")
        assert stage.host.is_connected, stage.host.state_reason
        yield stage
    finally:
        running.stop()


@pytest.fixture(scope="module")
def own_host() -> Iterator[tuple[OwnHost, Client]]:
    """A network namespace that is a host of its own, and a helper in it."""
    with OwnHost() as own, own.client() as client:
        yield own, client


@pytest.fixture
def network(own_host: tuple[OwnHost, Client], db: None) -> Iterator[OwnNetwork]:
    """A host whose network can be changed, without an agent."""
    with own_network(*own_host) as found:
        yield found


@pytest.fixture
def followed(
    agent: Stage, own_host: tuple[OwnHost, Client], settings: Settings
) -> Iterator[Followed]:
    """A host whose network the agent follows and changes."""
    settings.NET_PREFIX = own_host[0].prefix
    with followed_network(agent, *own_host) as found:
        yield found


def _state(host: Host) -> str:
    return Host.objects.values_list("state", flat=True).get(pk=host.pk)
