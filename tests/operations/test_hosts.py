"""Adding, testing, editing and removing libvirt connections."""

import libvirt
import pytest

from kvmweb.models import Host, HostState, JobState, Machine, User
from kvmweb.operations import hosts
from kvmweb.operations.operation import Forbidden, Invalid
from kvmweb.virt.errors import OperationError
from tests.conftest import WORLD, Stage
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

GOOD = f"test://{WORLD}"


def test_adding_tests_the_connection_and_mirrors_the_host(agent: Stage, alice: User) -> None:
    job = agent.finish(hosts.add.submit(alice, None, {"name": "second", "uri": GOOD}))
    assert (job.state, job.error) == (JobState.DONE, "")
    assert job.result["driver"] == "TEST"
    until(lambda: Machine.objects.filter(host__name="second").count() == 2)


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("test:///nowhere.xml", "Libvirt says"),
        ("qemu+unix:///system?socket=/nowhere", "No libvirt daemon listens at /nowhere"),
        ("qemu+tcp://127.0.0.1:1/system", "Nothing listens at that address"),
    ],
)
def test_a_host_that_does_not_answer_is_not_kept(
    agent: Stage, alice: User, uri: str, sentence: str
) -> None:
    job = agent.finish(hosts.add.submit(alice, None, {"name": "bad", "uri": uri}))
    assert (job.state, job.error_field) == (JobState.FAILED, "uri")
    assert sentence in job.error
    assert not Host.objects.filter(name="bad").exists()


@pytest.mark.parametrize(
    ("name", "uri", "field", "sentence"),
    [
        ("", GOOD, "name", "Enter at least 1 character"),
        ("a b", GOOD, "name", "Use letters, digits"),
        ("../x", GOOD, "name", "Use letters, digits"),
        ("x" * 64, GOOD, "name", "Use at most 63 characters."),
        ("ok", "", "uri", "Enter at least 1 character"),
        ("ok", "system", "uri", "This is not a URI"),
        ("ok", "qemu:///system\nx", "uri", "A URI has no spaces or line breaks."),
        ("ok", "qemu+ext://h/system?command=/bin/sh", "uri", "The transport must be one of"),
        ("ok", "qemu+ssh://h/system?netcat=/bin/sh", "uri", "they run programs"),
        ("ok", "qemu+ssh://root:secret@h/system", "uri", "Leave the password out"),
    ],
)
def test_bad_input_is_refused_at_its_field(
    alice: User, name: str, uri: str, field: str, sentence: str
) -> None:
    with pytest.raises(Invalid) as refused:
        hosts.add.submit(alice, None, {"name": name, "uri": uri})
    assert sentence in refused.value.fields[field]


def test_a_name_is_used_once(agent: Stage, alice: User) -> None:
    job = agent.finish(hosts.add.submit(alice, None, {"name": "local", "uri": GOOD}))
    assert (job.error_field, job.state) == ("name", JobState.FAILED)
    assert "a host named local already" in job.error


def test_testing_keeps_nothing(agent: Stage, alice: User) -> None:
    job = agent.finish(hosts.test.submit(alice, None, {"uri": GOOD}))
    assert job.state == JobState.DONE
    assert Host.objects.count() == 1


def test_renaming_keeps_the_connection(agent: Stage, alice: User) -> None:
    link = agent.agent.links[agent.host.pk]
    arguments = {"name": "renamed", "uri": agent.host.uri}
    assert agent.finish(hosts.edit.submit(alice, agent.host, arguments)).state == JobState.DONE
    assert Host.objects.get().name == "renamed"
    assert agent.agent.links[agent.host.pk] is link


def test_a_new_uri_is_tried_before_it_is_taken(agent: Stage, alice: User) -> None:
    arguments = {"name": "local", "uri": "test:///nowhere.xml"}
    job = agent.finish(hosts.edit.submit(alice, agent.host, arguments))
    assert (job.state, job.error_field) == (JobState.FAILED, "uri")
    assert Host.objects.get().uri == agent.host.uri
    arguments = {"name": "local", "uri": "test:///default"}
    assert agent.finish(hosts.edit.submit(alice, agent.host, arguments)).state == JobState.DONE
    until(lambda: list(Machine.objects.values_list("name", flat=True)) == ["test"])


def test_removing_forgets_the_host_and_asks_libvirt_for_nothing(agent: Stage, alice: User) -> None:
    job = agent.finish(hosts.remove.submit(alice, agent.host))
    assert job.state == JobState.DONE
    assert not Host.objects.exists()
    assert not Machine.objects.exists()
    assert job.commands == []


def test_reconnecting_opens_a_new_connection(agent: Stage, alice: User) -> None:
    before = agent.connection
    agent.finish(hosts.reconnect.submit(alice, agent.host))
    until(lambda: _is_another(agent, before))
    until(lambda: Host.objects.get().state == HostState.CONNECTED)


def _is_another(agent: Stage, before: libvirt.virConnect) -> bool:
    try:
        return agent.connection is not before
    except OperationError:
        return False  # between the old and the new


def test_only_administrators_may(agent: Stage, bob: User, charlie: User) -> None:
    for user in (bob, charlie):
        with pytest.raises(Forbidden):
            hosts.add.submit(user, None, {"name": "x", "uri": GOOD})
        with pytest.raises(Forbidden):
            hosts.remove.submit(user, agent.host)
