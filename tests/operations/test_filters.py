"""Network filters where there are none, and for whom they are not; tests/real has them in force."""

import uuid

import pytest

from kvmweb.mirror import look_again
from kvmweb.models import Host, HostState, Job, NwFilter, User
from kvmweb.operations import filters
from kvmweb.operations.operation import Conflict, Forbidden, Invalid
from tests.conftest import Stage
from tests.waiting import until


@pytest.fixture
def host(db: None) -> Host:
    return Host.objects.create(
        name="h", uri="qemu:///system", state=HostState.CONNECTED, has_filters=True
    )


@pytest.fixture
def mine(host: Host) -> NwFilter:
    xml = "<filter name='mine'><rule action='drop' direction='in'/></filter>"
    return NwFilter.objects.create(host=host, uuid=uuid.uuid4(), name="mine", xml=xml)


@pytest.mark.django_db(transaction=True)
def test_a_driver_without_filters_says_so(agent: Stage, alice: User) -> None:
    assert not agent.host.has_filters
    assert not NwFilter.objects.exists()
    for operation, arguments in (
        (filters.create, {"name": "mine"}),
        (filters.define, {"xml": "<filter name='mine'/>"}),
    ):
        with pytest.raises(Conflict, match=r"host local \(TEST\) has no network filters"):
            operation.submit(alice, agent.host, arguments)
    NwFilter.objects.create(host=agent.host, uuid=uuid.uuid4(), name="gone", xml="<filter/>")
    look_again(agent.host.pk, "everything")
    until(lambda: not NwFilter.objects.exists())


@pytest.mark.django_db
def test_only_who_may_change_networks_changes_filters(
    bob: User, victor: User, charlie: User, host: Host, mine: NwFilter
) -> None:
    for user in (bob, victor, charlie):
        for operation, target in (
            (filters.create, host),
            (filters.define, host),
            (filters.show_bridged, host),
            (filters.edit, mine),
            (filters.clone, mine),
            (filters.delete, mine),
            (filters.add_rule, mine),
            (filters.edit_rule, mine),
            (filters.add_reference, mine),
            (filters.move, mine),
            (filters.remove, mine),
        ):
            assert operation.refusal(user, target) == "You are not allowed to change networks."
            with pytest.raises(Forbidden):
                operation.submit(user, target, {})
    assert not Job.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "field", "sentence"),
    [
        ({"action": "let"}, "action", "Choose one of"),
        ({"protocol": "quic"}, "protocol", "Choose one of tcp"),
        ({"protocol": "tcp", "conditions": {"port": "1"}}, "conditions", "no such field"),
        ({"conditions": {"srcipaddr": "10.0.0.1"}}, "conditions", "Choose a protocol first"),
        (
            {"protocol": "tcp", "conditions": {"srcipaddr": "$(id)"}},
            "conditions",
            "is not an IPv4 address",
        ),
        ({"priority": -1001}, "priority", "Enter -1000 or more."),
        ({"comment": "x" * 251}, "comment", "at most 250"),
        ({"when": "now"}, "when", "no such field"),
    ],
)
def test_a_rule_is_checked_before_there_is_a_job(
    alice: User, mine: NwFilter, arguments: dict[str, object], field: str, sentence: str
) -> None:
    with pytest.raises(Invalid) as caught:
        filters.add_rule.submit(alice, mine, arguments)
    assert sentence in caught.value.fields[field]
    assert not Job.objects.exists()


@pytest.mark.django_db
def test_names_and_documents_are_checked_before_there_is_a_job(
    alice: User, host: Host, mine: NwFilter
) -> None:
    for operation, target, arguments, field, sentence in (
        (filters.create, host, {"name": "mine"}, "name", "filter named mine on this host already"),
        (filters.create, host, {"name": "a/b"}, "name", "Begin with a letter"),
        (filters.create, host, {"name": "x", "chain": "y"}, "chain", "is not a chain"),
        (filters.define, host, {"xml": "<filter name='mine'/>"}, "xml", "already"),
        (filters.define, host, {"xml": "<!DOCTYPE a><filter name='b'/>"}, "xml", "DOCTYPE"),
        (filters.edit, mine, {"xml": "<filter name='other'/>"}, "xml", "keeps its name, mine"),
        (filters.clone, mine, {"name": "mine"}, "name", "already"),
        (filters.move, mine, {"place": -1, "to": 0}, "place", "Enter 0 or more."),
    ):
        with pytest.raises(Invalid) as caught:
            operation.submit(alice, target, arguments)
        assert sentence in caught.value.fields[field]
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_host_whose_network_is_not_reached_says_so(agent: Stage, alice: User) -> None:
    """The switch of the kernel is the helper's to set; the test driver's host has none."""
    with pytest.raises(Conflict, match="see bridged packets"):
        filters.show_bridged.submit(alice, agent.host)
