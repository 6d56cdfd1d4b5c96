"""The machine operations on libvirt's test driver; what that lacks is in tests/real."""

import pytest

from kvmweb.models import Host, HostState, Job, JobState, Machine, State, User
from kvmweb.operations import jobs, machines, of_noun
from kvmweb.operations.operation import Conflict, Forbidden, Invalid, Operation
from tests.conftest import Stage
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


def _do(
    agent: Stage, user: User, operation: Operation, machine: str = "web1", **args: object
) -> Job:
    return agent.finish(operation.submit(user, agent.machine(machine), args))


def _becomes(agent: Stage, state: State, machine: str = "web1") -> None:
    until(lambda: agent.machine(machine).state == state)


@pytest.mark.parametrize(
    ("operation", "command", "state"),
    [
        (machines.pause, "suspend", State.PAUSED),
        (machines.force_off, "destroy", State.SHUTOFF),
        (machines.shut_down, "shutdown", State.SHUTOFF),
    ],
)
def test_it_acts_on_a_running_machine_and_notes_the_command(
    agent: Stage, bob: User, operation: Operation, command: str, state: State
) -> None:
    job = _do(agent, bob, operation)
    assert (job.state, job.error) == (JobState.DONE, "")
    assert job.commands == [["virsh", command, "web1"]]
    _becomes(agent, state)


def test_it_starts_and_resumes(agent: Stage, bob: User) -> None:
    _do(agent, bob, machines.force_off)
    _becomes(agent, State.SHUTOFF)
    _do(agent, bob, machines.start)
    _becomes(agent, State.RUNNING)
    _do(agent, bob, machines.pause)
    _becomes(agent, State.PAUSED)
    assert _do(agent, bob, machines.resume).state == JobState.DONE
    _becomes(agent, State.RUNNING)


def test_reboot_is_sent(agent: Stage, bob: User) -> None:
    assert _do(agent, bob, machines.reboot).state == JobState.DONE


def test_force_reset_is_sent(agent: Stage, bob: User) -> None:
    job = _do(agent, bob, machines.force_reset)
    assert (job.state, job.commands) == (JobState.DONE, [["virsh", "reset", "web1"]])


def test_autostart_is_set_and_seen(agent: Stage, bob: User) -> None:
    _do(agent, bob, machines.set_autostart, enabled=True)
    until(lambda: agent.machine().is_autostart)
    assert agent.connection.lookupByName("web1").autostart() == 1


@pytest.mark.parametrize("operation", [o for o in of_noun("machines") if o.target is Machine])
def test_a_stranger_and_a_viewer_are_refused(
    agent: Stage, charlie: User, victor: User, operation: Operation
) -> None:
    for user in (charlie, victor):
        with pytest.raises(Forbidden, match="not allowed"):
            operation.submit(user, agent.machine())
    assert not Job.objects.exists()


def test_an_operator_may_not_delete(agent: Stage, bob: User) -> None:
    assert (
        machines.delete.refusal(bob, agent.machine()) == "You are not allowed to delete machines."
    )


def test_a_refusal_names_the_state(agent: Stage, bob: User) -> None:
    machine = agent.machine()
    assert machines.start.refusal(bob, machine) == "The machine is already on."
    with pytest.raises(Conflict, match="already on"):
        machines.start.submit(bob, machine)


def test_a_refusal_names_the_host_that_can_not_be_reached(agent: Stage, bob: User) -> None:
    machine = agent.machine()
    machine.host.state, machine.host.state_reason = HostState.UNREACHABLE, "It is on fire."
    refusal = machines.force_off.refusal(bob, machine)
    assert refusal == "The host local can't be reached: It is on fire."


def test_two_presses_of_one_button_make_one_job(alice: User) -> None:
    host = Host.objects.create(name="h", uri="test:///default", state=HostState.CONNECTED)
    machine = Machine.objects.create(
        host=host, uuid="11111111-0000-4000-8000-000000000001", name="web1", state=State.RUNNING
    )
    machines.pause.submit(alice, machine)
    with pytest.raises(Conflict, match="already under way for web1"):
        machines.pause.submit(alice, machine)
    assert Job.objects.count() == 1


def test_arguments_are_checked_before_a_job_is_written(agent: Stage, alice: User) -> None:
    with pytest.raises(Invalid) as refused:
        machines.set_autostart.submit(alice, agent.machine(), {"enabled": "perhaps", "x": 1})
    assert refused.value.fields == {
        "enabled": "Answer yes or no.",
        "x": "There is no such field.",
    }
    assert not Job.objects.exists()


def test_delete_keeps_the_disks_unless_told(agent: Stage, alice: User) -> None:
    job = _do(agent, alice, machines.delete)
    assert (job.state, job.error) == (JobState.DONE, "")
    until(lambda: not Machine.objects.filter(name="web1").exists())
    assert agent.connection.storageVolLookupByPath("/pool/web1.qcow2").name() == "web1.qcow2"


def test_delete_takes_the_chosen_disks(agent: Stage, alice: User) -> None:
    job = _do(agent, alice, machines.delete, volumes=["/pool/web1.qcow2"], confirm_name="web1")
    assert (job.state, job.error) == (JobState.DONE, "")
    assert agent.connection.storagePoolLookupByName("images").listVolumes() == []


@pytest.mark.parametrize(
    ("arguments", "field", "sentence"),
    [
        ({"volumes": ["/pool/web1.qcow2"]}, "confirm_name", "Type the machine's name, web1"),
        ({"volumes": ["/etc/passwd"], "confirm_name": "web1"}, "volumes", "is not a disk of"),
    ],
)
def test_delete_refuses_and_leaves_everything(
    agent: Stage, alice: User, arguments: dict[str, object], field: str, sentence: str
) -> None:
    job = _do(agent, alice, machines.delete, **arguments)
    assert (job.state, job.error_field) == (JobState.FAILED, field)
    assert sentence in job.error
    assert agent.connection.lookupByName("web1").isActive()


def test_delete_leaves_a_disk_that_another_machine_uses(agent: Stage, alice: User) -> None:
    xml = agent.machine().xml.replace("web1</name>", "twin</name>").replace("0001<", "0009<", 1)
    agent.connection.defineXML(xml)
    until(lambda: Machine.objects.filter(name="twin").exists())
    job = _do(agent, alice, machines.delete, volumes=["/pool/web1.qcow2"], confirm_name="web1")
    assert "The machine twin uses /pool/web1.qcow2 too" in job.error
    assert agent.connection.lookupByName("web1").isActive()


def test_a_machine_that_is_gone_ends_in_a_sentence(agent: Stage, alice: User) -> None:
    machine = agent.machine("db1")
    dom = agent.connection.lookupByName("db1")
    dom.destroy()
    dom.undefine()
    job = agent.finish(machines.force_off.submit(alice, machine))
    assert job.state == JobState.FAILED
    assert "not there any more" in job.error


def test_cancel_ends_a_waiting_job_and_only_for_its_owner(alice: User, bob: User) -> None:
    job = Job.objects.create(kind="machines.start", user=alice, username="alice")
    assert jobs.refusal(bob, job)
    with pytest.raises(Forbidden):
        jobs.cancel(bob, job)
    jobs.cancel(alice, job)
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    with pytest.raises(Conflict):
        jobs.cancel(alice, job)
