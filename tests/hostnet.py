"""A host's own network for tests of the site: a namespace, a real helper in it, and its row.

    job = network.run(hostnet.preview, alice, document={"links": [...]})

Jobs are run here and now, by the agent's own code, so that a test needs no second thread.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kvmweb.agent import worker
from kvmweb.agent.hostnet import NetLink
from kvmweb.mirror import hostnet as mirror
from kvmweb.models import Host, HostNetwork, HostState, Job, JobState, NetworkChange, Role, User
from kvmweb.net.client import Client
from kvmweb.operations import hostnet
from kvmweb.operations.operation import Operation
from kvmweb.spec.hostnet import HostNetwork as Document
from kvmweb.virt.errors import OperationError
from tests.net.own_host import OwnHost
from tests.waiting import until

# libvirt is not there: only the helper is asked.
NOWHERE = "qemu+unix:///system?socket=/nowhere"
BRIDGE = {"kind": "bridge", "name": "br-lab", "addresses": ["10.5.5.1/24"]}


def whole(document: dict[str, Any]) -> dict[str, Any]:
    return Document.model_validate(document).model_dump(mode="json")


@dataclass
class OwnNetwork:
    own: OwnHost
    client: Client
    host: Host

    @property
    def row(self) -> HostNetwork:
        return HostNetwork.of(self.host)

    @property
    def last(self) -> NetworkChange:
        return NetworkChange.objects.latest("created")

    def read(self) -> HostNetwork:
        """As the agent does when something changed."""
        mirror.read(self.host.pk, self.client)
        return self.row

    def run(self, operation: Operation, user: User, **arguments: Any) -> Job:
        """The job, ended."""
        return finish(operation.submit(user, self.host, arguments))

    def plan(self, user: User, document: dict[str, Any]) -> Job:
        return self.run(hostnet.preview, user, document=document)

    def apply(self, user: User, document: dict[str, Any]) -> Job:
        """Planned, looked at and applied."""
        plan = self.plan(user, document)
        assert plan.state == JobState.DONE, plan.error
        return self.run(hostnet.apply, user, document=document, digest=plan.result["digest"])

    def has(self, link: str) -> bool:
        lines = self.own.execute("ip", "-o", "link").splitlines()
        return link in {line.split(": ")[1].split("@")[0] for line in lines}


class Followed:
    """A host in a namespace of its own, followed by an agent that can be stopped and started."""

    def __init__(self, stage: Any, own: OwnHost) -> None:
        self.stage, self.own = stage, own
        self.host = stage.connect("lab", NOWHERE)
        self.alice = User.objects.create(username="alice", role=Role.ADMINISTRATOR)
        self.link: NetLink | None = None

    @property
    def row(self) -> HostNetwork:
        return HostNetwork.of(self.host)

    @property
    def last(self) -> NetworkChange:
        return NetworkChange.objects.latest("created")

    def start(self) -> None:
        self.link = NetLink(self.host, when_asked=self.stage.agent.wake)
        self.link.start()
        until(self.is_followed, what="the helper to be there")

    def is_followed(self) -> bool:
        try:
            mirror.helper(self.host.pk)
        except OperationError:
            return False
        return True

    def stop(self) -> None:
        if self.link:
            self.link.stop()
            self.link.join(10)
            assert not self.link.is_alive()

    def apply(self, document: dict[str, object]) -> Job:
        plan = self.finish(hostnet.preview.submit(self.alice, self.host, {"document": document}))
        arguments = {"document": document, "digest": plan.result["digest"]}
        return self.finish(hostnet.apply.submit(self.alice, self.host, arguments))

    def finish(self, job: Job) -> Job:
        job = self.stage.finish(job)
        assert job.state == JobState.DONE, job.error
        return job

    def sees(self, name: str) -> bool:
        return name in {one["name"] for one in self.row.actual.get("links", [])}


@contextmanager
def followed_network(stage: Any, own: OwnHost, client: Client) -> Iterator[Followed]:
    """With its helper running; at the end everything is as it was."""
    before = own.dump()
    with in_environment(KVMWEB_NET_STATE=str(own.state)):
        found = Followed(stage, own)
        found.start()
        try:
            yield found
        finally:
            found.stop()
            _clean(client, found.row.desired)
    assert own.dump() == before


def finish(job: Job) -> Job:
    job.write(state=JobState.RUNNING, agent="test")
    worker.end(job, **worker._outcome(job))
    job.refresh_from_db()
    return job


@contextmanager
def own_network(own: OwnHost, client: Client) -> Iterator[OwnNetwork]:
    """A row for this host; at the end everything is as it was."""
    before = own.dump()
    host = Host.objects.create(name="lab", uri=NOWHERE, state=HostState.CONNECTED, driver="QEMU")
    mirror.keep(host.pk, client)
    network = OwnNetwork(own, client, host)
    network.read()
    try:
        yield network
    finally:
        _clean(client, network.row.desired)
        mirror.forget(host.pk)
    assert own.dump() == before


def _clean(client: Client, desired: dict[str, Any]) -> None:
    for told in client.call("pending"):
        name = "revert" if told["state"] == "unconfirmed" else "forget"
        client.call(name, token=told["token"])
    owned = whole(desired)
    plan = client.call("plan", desired={}, owned=owned)
    done = client.call("apply", desired={}, owned=owned, digest=plan["digest"])
    if done["state"] == "unconfirmed":
        client.call("confirm", token=done["token"])


@contextmanager
def in_environment(**variables: str) -> Iterator[None]:
    """For helpers that the site starts itself."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
