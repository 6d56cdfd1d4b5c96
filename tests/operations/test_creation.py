"""Creating machines on libvirt's test driver; what that lacks is in tests/real."""

import pytest

from kvmweb.models import Job, JobState, Machine, Pool, State, User
from kvmweb.operations import creation, of_noun
from kvmweb.operations.operation import OPERATIONS, Forbidden, Invalid
from tests.conftest import Stage
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)
XML = (
    "<domain type='test'><name>web2</name><memory>65536</memory><os><type>hvm</type></os></domain>"
)


def _create(agent: Stage, user: User, **wish: object) -> Job:
    return agent.finish(creation.create.submit(user, agent.host, wish))


def _domains(agent: Stage) -> list[str]:
    return sorted(dom.name() for dom in agent.connection.listAllDomains())


def test_it_is_registered_among_the_machines() -> None:
    assert OPERATIONS["machines.create"] is creation.create
    assert creation.create in of_noun("machines")


def test_the_wizards_fields_make_a_machine_with_a_disk(agent: Stage, alice: User) -> None:
    job = _create(agent, alice, name="web2", source="blank", disk_gib=1, memory_mib=64, start=True)
    assert job.state == JobState.DONE, (job.error, job.log)
    assert job.result == {"uuid": job.result["uuid"], "name": "web2"}
    assert job.target_name == "web2"
    until(lambda: Machine.objects.filter(name="web2", state=State.RUNNING).exists())
    pool = agent.connection.storagePoolLookupByName("images")
    assert sorted(pool.listVolumes()) == ["web1.qcow2", "web2.qcow2"]
    until(lambda: Pool.objects.get(name="images").volumes.filter(name="web2.qcow2").exists())
    assert ["virsh", "start", "web2"] in job.commands
    pool.storageVolLookupByName("web2.qcow2").delete()


def test_xml_makes_a_machine_that_stays_off(agent: Stage, alice: User) -> None:
    job = _create(agent, alice, xml=XML)
    assert job.state == JobState.DONE, job.error
    until(lambda: Machine.objects.filter(name="web2", state=State.SHUTOFF).exists())
    assert job.commands == [["virsh", "define", "web2.xml"]]


def test_a_document_libvirt_refuses_leaves_nothing(agent: Stage, alice: User) -> None:
    job = _create(agent, alice, xml=XML.replace("'test'", "'vax'"))
    assert job.state == JobState.FAILED
    assert job.error_field == "xml"
    assert "made" not in job.result
    assert _domains(agent) == ["db1", "web1"]


@pytest.mark.parametrize(
    ("wish", "field", "sentence"),
    [
        ({}, "name", "Give the machine a name."),
        ({"name": "web2"}, "source", "Choose where the operating system comes from."),
        ({"name": "web1", "source": "blank"}, "name", "A machine with the name “web1”"),
        ({"name": "x", "source": "cloud"}, "source", "Choose one of"),
        ({"name": "x", "source": "iso"}, "iso", "Choose an ISO image"),
        ({"name": "x", "source": "iso", "iso": "a.iso"}, "iso", "Enter the whole path"),
        ({"name": "x", "source": "iso", "iso": "/pool/"}, "iso", "This is a directory."),
        ({"name": "x", "source": "pxe", "network": "none"}, "network", "To boot from the network"),
        ({"name": "x", "source": "blank", "network": "lan"}, "network", "Choose a network"),
        ({"name": "x", "source": "blank", "network": "network:no"}, "network", "There is no"),
        ({"name": "x", "source": "blank", "memory_mib": 0}, "memory_mib", "Enter 16 or more."),
        ({"name": "x", "source": "blank", "memory_mib": 10**7}, "memory_mib", "The host has"),
        ({"name": "x", "source": "blank", "vcpus": "two"}, "vcpus", "Enter a whole number."),
        ({"name": "x", "source": "blank", "disk_gib": 1, "pool": "no"}, "pool", "There is no"),
        (
            {"name": "x", "source": "import", "disk_path": "/a", "disk_gib": 1},
            "disk_gib",
            "Either a new disk or an existing one",
        ),
        (
            {"name": "x", "source": "import", "disk_path": "/pool/web1.qcow2"},
            "disk_path",
            "The running machine “web1” uses this disk.",
        ),
        ({"name": "x", "source": "blank", "colour": "red"}, "colour", "There is no such field."),
        ({"xml": "<domain>"}, "xml", "This is not well-formed XML"),
        ({"xml": XML.replace("web2", "web1")}, "xml", "A machine with the name “web1”"),
    ],
)
def test_what_is_wrong_is_told_before_there_is_a_job(
    agent: Stage, alice: User, wish: dict[str, object], field: str, sentence: str
) -> None:
    with pytest.raises(Invalid) as refused:
        creation.create.submit(alice, agent.host, wish)

    assert sentence in refused.value.fields[field]
    assert not Job.objects.exists()


def test_a_host_that_is_away_is_told_at_once(agent: Stage, alice: User) -> None:
    away = agent.connect("away", "qemu+unix:///system?socket=/nowhere/sock")
    with pytest.raises(Invalid) as refused:
        creation.create.submit(alice, away, {"xml": XML})
    assert refused.value.fields["host"].startswith("The host away can't be reached: ")


@pytest.mark.parametrize("name", ["bob", "victor", "charlie"])
def test_only_those_who_may_create_are_heard(
    agent: Stage, name: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(Forbidden, match="You are not allowed to create machines"):
        creation.create.submit(request.getfixturevalue(name), agent.host, {"xml": XML})
    assert not Job.objects.exists()
