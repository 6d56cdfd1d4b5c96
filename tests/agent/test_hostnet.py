"""The helper of a host's network: kept running, heard, and outlived."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kvmweb.agent.hostnet import NetLink, has_network
from kvmweb.mirror import hostnet as mirror
from kvmweb.models import ChangeState, Host, HostNetwork, Job, JobState, NetworkChange
from kvmweb.net.client import Client
from kvmweb.operations import hostnet
from tests.conftest import Stage
from tests.hostnet import BRIDGE, Followed, whole
from tests.net.own_host import OwnHost
from tests.waiting import until

LAB = {"links": [BRIDGE]}
UPLINK = {"links": [{"kind": "bridge", "name": "br0", "uplink": "eth0"}]}


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def test_it_reads_the_host_and_says_how_it_is_named(followed: Followed) -> None:
    links = {one["name"]: one for one in followed.row.actual["links"]}
    assert "192.0.2.10/24" in links["eth0"]["addresses"]
    assert followed.row.problem == ""
    assert followed.row.identity


def test_counters_are_beside_the_mirror_not_in_it(followed: Followed) -> None:
    row = followed.row
    assert not any("counters" in one for one in row.actual["links"])
    assert row.usage["eth0"]["rx_bytes"] > 0


def test_what_somebody_does_at_a_shell_is_seen_at_once(followed: Followed) -> None:
    followed.own.execute("ip", "link", "add", "d0", "type", "bridge")
    with within(2):
        until(lambda: followed.sees("d0"))
    followed.own.execute("ip", "link", "delete", "d0")
    until(lambda: not followed.sees("d0"))


def test_drift_is_shown_within_two_seconds_and_put_back(followed: Followed) -> None:
    followed.apply(LAB)
    followed.own.execute("ip", "link", "delete", "br-lab")
    with within(2):
        until(lambda: followed.row.drift)
    followed.finish(hostnet.put_back.submit(followed.alice, followed.host))
    with within(2):
        until(lambda: not followed.row.drift and followed.sees("br-lab"))


def test_a_helper_that_is_killed_is_started_again(followed: Followed) -> None:
    client = mirror.helper(followed.host.pk)
    os.kill(client._process.pid, signal.SIGKILL)
    until(lambda: not followed.is_followed())
    until(lambda: "ended" in followed.row.problem, what="the reason to be told")
    until(followed.is_followed, what="another helper")
    until(lambda: not followed.row.problem)


def test_a_helper_that_hangs_holds_up_nobody_else(followed: Followed) -> None:
    client = mirror.helper(followed.host.pk)
    os.kill(client._process.pid, signal.SIGSTOP)
    try:
        job = hostnet.preview.submit(followed.alice, followed.host, {"document": LAB})
        other = followed.stage.connect("other", "test:///default")
        assert other.is_connected
    finally:
        os.kill(client._process.pid, signal.SIGCONT)
    followed.finish(job)


@pytest.fixture
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostnet, "CONFIRM_SECONDS", 2)


@pytest.mark.usefixtures("_quickly")
class TestNobodyConfirms:
    def test_the_host_puts_it_back_and_the_site_says_so(self, followed: Followed) -> None:
        followed.apply(UPLINK)
        assert followed.last.state == ChangeState.UNCONFIRMED
        until(lambda: followed.last.state == ChangeState.REVERTED, seconds=10)
        assert "Nobody confirmed" in followed.last.note
        assert followed.own.is_reachable()
        assert followed.row.desired == {}
        until(lambda: not followed.sees("br0"))

    def test_also_while_the_site_is_gone(self, followed: Followed) -> None:
        followed.apply(UPLINK)
        followed.stop()
        until(lambda: "br0" not in followed.own.execute("ip", "link"), seconds=10)
        assert followed.last.state == ChangeState.UNCONFIRMED
        followed.start()
        until(lambda: followed.last.state == ChangeState.REVERTED)
        assert followed.own.is_reachable()

    def test_a_site_that_comes_back_in_time_can_still_keep_it(self, followed: Followed) -> None:
        followed.apply(UPLINK)
        followed.stop()
        followed.start()
        followed.finish(hostnet.confirm.submit(followed.alice, followed.host))
        assert followed.last.state == ChangeState.APPLIED
        assert followed.row.desired == whole(UPLINK)


class TestStoppedInTheMiddle:
    """The site was killed between asking the host and writing down its answer."""

    def _change(self, followed: Followed) -> NetworkChange:
        return NetworkChange.objects.create(
            host=followed.host,
            before=whole({}),
            after=whole(LAB),
            state=ChangeState.UNCONFIRMED,
        )

    def test_what_was_done_is_kept(
        self, followed: Followed, own_host: tuple[OwnHost, Client]
    ) -> None:
        followed.stop()
        change, client = self._change(followed), own_host[1]
        wanted = whole(LAB)
        plan = client.call("plan", desired=wanted, owned=whole({}))
        client.call("apply", desired=wanted, owned=whole({}), digest=plan["digest"])
        followed.start()
        change.refresh_from_db()
        assert change.state == ChangeState.APPLIED
        assert followed.row.desired == wanted

    def test_what_was_not_begun_is_not(self, followed: Followed) -> None:
        followed.stop()
        change = self._change(followed)
        followed.start()
        change.refresh_from_db()
        assert change.state == ChangeState.REVERTED
        assert followed.row.desired == {}

    def test_what_waits_on_the_host_gets_its_name(
        self, followed: Followed, own_host: tuple[OwnHost, Client]
    ) -> None:
        followed.stop()
        change, client = self._change(followed), own_host[1]
        wanted = whole(UPLINK)
        NetworkChange.objects.update(after=wanted)
        plan = client.call("plan", desired=wanted, owned=whole({}))
        done = client.call("apply", desired=wanted, owned=whole({}), digest=plan["digest"])
        followed.start()
        change.refresh_from_db()
        assert (change.token, change.state) == (done["token"], ChangeState.UNCONFIRMED)
        assert change.deadline is not None
        followed.finish(hostnet.revert.submit(followed.alice, followed.host))


def test_a_helper_killed_in_the_middle_of_a_plan_leaves_nothing_half_made(
    followed: Followed,
) -> None:
    """The next one undoes what that had done, and the site says so."""
    before = followed.own.dump()
    many = [{"kind": "bridge", "name": f"many{number}"} for number in range(400)]
    document = {"links": many}
    plan = followed.finish(
        hostnet.preview.submit(followed.alice, followed.host, {"document": document})
    )
    client = mirror.helper(followed.host.pk)
    arguments = {"document": document, "digest": plan.result["digest"]}
    job = hostnet.apply.submit(followed.alice, followed.host, arguments)
    until(lambda: [*followed.own.state.glob("*.journal")], what="the helper to have begun")
    os.kill(client._process.pid, signal.SIGKILL)
    job = followed.stage.finish(job)
    assert job.state == JobState.FAILED, job.state
    until(lambda: followed.last.state == ChangeState.REVERTED, what="the change to be settled")
    assert "undone" in followed.last.note
    assert followed.row.desired == {}
    until(lambda: followed.own.dump() == before, what="the host to be as it was")


def test_after_a_reboot_what_we_made_is_made_again(followed: Followed) -> None:
    followed.apply(LAB)
    followed.stop()
    followed.own.execute("ip", "link", "delete", "br-lab")
    HostNetwork.objects.update(identity="another boot")
    followed.start()
    until(lambda: followed.sees("br-lab"), what="the bridge to be there again")
    job = Job.objects.get(kind="hostnet.put_back")
    followed.finish(job)
    assert job.username == "kvmweb"
    assert "10.5.5.1/24" in followed.own.execute("ip", "address", "show", "br-lab")


def test_what_was_removed_by_hand_while_nobody_looked_is_only_shown(followed: Followed) -> None:
    followed.apply(LAB)
    followed.stop()
    followed.own.execute("ip", "link", "delete", "br-lab")
    followed.start()
    until(lambda: followed.row.drift)
    assert not Job.objects.filter(kind="hostnet.put_back").exists()
    assert not followed.sees("br-lab")


def test_a_host_without_ssh_says_what_to_do(agent: Stage) -> None:
    host = Host.objects.create(name="far", uri="qemu+tls://rack7/system")
    link = NetLink(host, when_asked=agent.agent.wake)
    link.start()
    try:
        until(lambda: "connect to it by ssh" in HostNetwork.of(host).problem)
    finally:
        link.stop()
        link.join(10)
    assert link.name not in {thread.name for thread in threading.enumerate()}


def test_libvirts_test_driver_has_no_network(agent: Stage) -> None:
    assert not has_network(agent.host)
    assert not HostNetwork.objects.exists()
    assert has_network(Host(uri="qemu+ssh://root@rack7/system"))
    assert has_network(Host(uri="xen:///system"))
