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
from kvmweb.mirror import hostnet as mirror
from kvmweb.models import Host, HostNetwork, HostState, Job, JobState, NetworkChange, User
from kvmweb.net.client import Client
from kvmweb.operations import hostnet
from kvmweb.operations.operation import Operation
from kvmweb.spec.hostnet import HostNetwork as Document
from tests.net.own_host import OwnHost

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
        _clean(network)
        mirror.forget(host.pk)
    assert own.dump() == before


def _clean(network: OwnNetwork) -> None:
    for told in network.client.call("pending"):
        name = "revert" if told["state"] == "unconfirmed" else "forget"
        network.client.call(name, token=told["token"])
    owned = whole(network.row.desired)
    plan = network.client.call("plan", desired={}, owned=owned)
    done = network.client.call("apply", desired={}, owned=owned, digest=plan["digest"])
    if done["state"] == "unconfirmed":
        network.client.call("confirm", token=done["token"])


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
