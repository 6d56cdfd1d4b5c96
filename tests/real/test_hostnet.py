"""A remote host's own network: over ssh, to a host with libvirtd, Open vSwitch and sudo."""

import os
import signal

import pytest

from kvmweb.mirror import hostnet as mirror
from kvmweb.models import HostNetwork, Job, JobState, Role, User
from kvmweb.operations import hostnet
from tests import dumps
from tests.conftest import Stage
from tests.nodes import SUDOER, Lab
from tests.waiting import until

pytestmark = pytest.mark.real

DOCUMENT = {
    "links": [{"kind": "bridge", "name": "br-lab"}],
    "switches": [{"name": "br-tun", "ports": [
        {"name": "gre7", "kind": "gre", "remote_ip": "10.78.0.12", "key": "7"},
        {"name": "int7", "kind": "internal", "tag": 7, "addresses": ["10.7.7.1/24"]},
    ]}],
    "routers": [{"name": "lab", "legs": [
        {"name": "lan", "switch": "br-lab", "addresses": ["10.5.5.1/24"]},
    ]}],
}  # fmt: skip


@pytest.fixture
def alice(transactional_db: None) -> User:
    return User.objects.create(username="alice", role=Role.ADMINISTRATOR)


@pytest.mark.parametrize("user", ["root", SUDOER])
def test_a_remote_host_is_read_changed_and_put_back(
    agent: Stage, alice: User, lab: Lab, user: str
) -> None:
    host = agent.connect("far", lab.a.uri_of(user))
    until(lambda: HostNetwork.of(host).actual, seconds=60, what="the host's network to be read")
    before = _dump(lab)
    row = HostNetwork.of(host)
    assert row.problem == ""
    assert row.actual["ovs"]["is_running"]
    plan = _done(agent, hostnet.preview.submit(alice, host, {"document": DOCUMENT}))
    arguments = {"document": DOCUMENT, "digest": plan.result["digest"]}
    _done(agent, hostnet.apply.submit(alice, host, arguments))
    assert "br-tun" in lab.a.execute("ovs-vsctl", "list-br")
    assert lab.a.execute("ovs-vsctl", "get", "port", "int7", "tag").strip() == "7"
    assert "10.5.5.1/24" in lab.a.execute("ip", "-n", "lab", "address", "show", "lan")
    _looks(agent, alice, host)
    _done(agent, hostnet.undo.submit(alice, host))
    until(lambda: _dump(lab) == before, what="the host to be as it was")


def _dump(lab: Lab) -> dumps.Dump:
    """Without programs: the site tries out what the host's QEMU can do, when it likes."""
    return {**dumps.whole(lab.a.said), "programs": ""}


def _looks(agent: Stage, alice: User, host: object) -> None:
    rows = _ask(agent, alice, host, what="flows", name="br-tun")
    assert rows[0]["actions"] == "NORMAL"
    tables = _ask(agent, alice, host, what="table", name="Bridge")
    assert "br-tun" in {row["name"] for row in tables}
    assert [row["name"] for row in _ask(agent, alice, host, what="tunnels")] == ["gre7"]
    macs = _ask(agent, alice, host, what="macs", name="br-tun")
    assert all(row["port"] in ("br-tun", "int7") for row in macs)
    assert _ask(agent, alice, host, what="leases", name="lab") == []


def _ask(agent: Stage, alice: User, host: object, **arguments: str) -> list[dict[str, object]]:
    job = _done(agent, hostnet.look.submit(alice, host, arguments))  # type: ignore[arg-type]
    rows: list[dict[str, object]] = job.result["rows"]
    return rows


def _done(agent: Stage, job: Job) -> Job:
    job = agent.finish(job)
    assert job.state == JobState.DONE, job.error
    return job


def test_when_ssh_is_cut_the_reason_is_told_and_it_comes_back(
    agent: Stage, alice: User, lab: Lab
) -> None:
    host = agent.connect("far", lab.a.ssh_uri)
    until(lambda: HostNetwork.of(host).actual, seconds=60, what="the host's network to be read")
    client = mirror.helper(host.pk)
    os.kill(client._process.pid, signal.SIGKILL)
    until(lambda: HostNetwork.of(host).problem, what="the reason to be told")
    until(lambda: not HostNetwork.of(host).problem, seconds=60, what="it to come back")
    lab.a.execute("ip", "link", "add", "seen0", "type", "bridge")
    try:
        until(lambda: "seen0" in str(HostNetwork.of(host).actual["links"]))
    finally:
        lab.a.execute("ip", "link", "delete", "seen0")
