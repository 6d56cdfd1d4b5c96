"""Leases, queues, lost jobs and hosts that do not answer."""

import socket
import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from kvmweb.agent.agent import Agent, AlreadyRunning
from kvmweb.models import Agent as AgentRow
from kvmweb.models import Host, HostState, Job, JobState, User
from kvmweb.operations import hosts, machines
from tests.conftest import WORLD, Stage
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_second_agent_of_the_same_name_is_refused(agent: Stage) -> None:
    with pytest.raises(AlreadyRunning):
        Agent(agent.agent.name).start()


def test_another_agent_leaves_the_hosts_of_a_living_one_alone(agent: Stage) -> None:
    other = Agent("other")
    other.start()
    try:
        other.wake()
        until(lambda: AgentRow.objects.filter(name="other").exists())
        assert Host.objects.get().agent == agent.agent.name
        assert not other.links
    finally:
        other.stop()


def test_it_takes_over_the_hosts_of_a_dead_agent_and_marks_its_jobs_lost(
    agent: Stage, alice: User
) -> None:
    long_ago = timezone.now() - timedelta(minutes=1)
    AgentRow.objects.create(name="dead", seen=long_ago)
    host = Host.objects.create(name="taken", uri=f"test://{WORLD}", agent="dead")
    job = Job.objects.create(
        kind="machines.start", host=host, state=JobState.RUNNING, agent="dead", username="alice"
    )
    agent.agent.wake()
    until(lambda: Job.objects.get(pk=job.pk).state == JobState.LOST)
    host.refresh_from_db()
    assert host.agent == agent.agent.name
    assert "stopped in the middle" in Job.objects.get(pk=job.pk).error


def test_it_marks_its_own_half_run_jobs_lost_at_the_start(
    transactional_db: None, state_directory: object
) -> None:
    job = Job.objects.create(kind="hosts.test", state=JobState.RUNNING, agent="again")
    fresh = Agent("again")
    fresh.start()
    try:
        until(lambda: Job.objects.get(pk=job.pk).state == JobState.LOST)
    finally:
        fresh.stop()


def test_a_host_that_accepts_and_never_answers_is_named_so_and_slows_nobody(
    agent: Stage, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        host = Host.objects.create(name="silent", uri=f"qemu+tcp://127.0.0.1:{port}/system")
        agent.agent.wake()
        peer, _address = silent.accept()
        with peer:
            job = agent.finish(machines.pause.submit(alice, agent.machine()))
            assert job.state == JobState.DONE
            host.refresh_from_db()
            assert host.state == HostState.CONNECTING
            until(lambda: _state(host) == HostState.UNREACHABLE, seconds=20)
            host.refresh_from_db()
            assert "does not answer" in host.state_reason
    host.delete()
    agent.agent.wake()
    until(lambda: host.pk not in agent.agent.links)


def test_a_refused_connection_says_what_to_do(agent: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    host = agent.connect("refused", f"qemu+tcp://127.0.0.1:{port}/system")
    assert host.state == HostState.UNREACHABLE
    assert "Nothing listens at that address" in host.state_reason


def test_a_removed_host_is_let_go(agent: Stage, alice: User) -> None:
    second = agent.connect("second", f"test://{WORLD}")
    job = agent.finish(hosts.remove.submit(alice, second))
    assert job.state == JobState.DONE
    until(lambda: second.pk not in agent.agent.links)
    until(lambda: f"host {second.name}" not in {thread.name for thread in threading.enumerate()})


def _state(host: Host) -> str:
    return Host.objects.values_list("state", flat=True).get(pk=host.pk)
