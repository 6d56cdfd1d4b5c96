"""Tickets: who gets one, and the sentence for who does not."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from kvmweb.models import ConsoleTicket, Host, HostState, Level, Machine, State, User
from kvmweb.operations.consoles import PER_MINUTE, TooMany, issue_ticket
from kvmweb.operations.operation import Conflict, Forbidden, Invalid

VNC = "<domain><devices><graphics type='spice'/><graphics type='vnc'/></devices></domain>"
SPICE = "<domain><devices><graphics type='spice'/></devices></domain>"
NONE = "<domain><devices/></domain>"


@pytest.fixture
def machine(db: None) -> Machine:
    host = Host.objects.create(name="local", uri="qemu:///system", state=HostState.CONNECTED)
    return Machine.objects.create(
        host=host, uuid=uuid.uuid4(), name="web1", state=State.RUNNING, graphics="vnc", xml=VNC
    )


def test_it_is_what_a_browser_needs(bob: User, machine: Machine) -> None:
    issued = issue_ticket(bob, machine, Level.CONTROL, session_key="s")
    assert issued["path"] == "/websockify"
    assert issued["protocols"][0] == "binary"
    ticket = ConsoleTicket.objects.get()
    assert issued["expires"] == ticket.expires.isoformat()
    assert (ticket.user, ticket.session_key, ticket.machine_uuid) == (bob, "s", machine.uuid)
    assert ticket.expires - timezone.now() <= timedelta(seconds=30)


def test_a_viewer_may_look_only(victor: User, machine: Machine) -> None:
    issue_ticket(victor, machine, Level.VIEW, session_key="s")
    with pytest.raises(Forbidden, match="only to look"):
        issue_ticket(victor, machine, Level.CONTROL, session_key="s")


@pytest.mark.parametrize("level", Level.values)
def test_charlie_gets_none(charlie: User, machine: Machine, level: str) -> None:
    with pytest.raises(Forbidden):
        issue_ticket(charlie, machine, level, session_key="s")
    assert not ConsoleTicket.objects.exists()


@pytest.mark.parametrize("level", ["", "all", "CONTROL"])
def test_another_level_is_no_level(bob: User, machine: Machine, level: str) -> None:
    with pytest.raises(Invalid):
        issue_ticket(bob, machine, level, session_key="s")


@pytest.mark.parametrize("state", [State.SHUTOFF, State.CRASHED])
def test_a_machine_that_is_off_has_none(bob: User, machine: Machine, state: State) -> None:
    machine.state = state
    with pytest.raises(Conflict, match="Start it"):
        issue_ticket(bob, machine, Level.VIEW, session_key="s")


def test_a_paused_one_has(bob: User, machine: Machine) -> None:
    machine.state = State.PAUSED
    issue_ticket(bob, machine, Level.VIEW, session_key="s")


@pytest.mark.parametrize(("xml", "graphics"), [(SPICE, "spice"), (NONE, "")])
def test_one_without_vnc_is_told_what_to_do(
    bob: User, machine: Machine, xml: str, graphics: str
) -> None:
    machine.xml, machine.graphics = xml, graphics
    with pytest.raises(Conflict, match="add VNC"):
        issue_ticket(bob, machine, Level.VIEW, session_key="s")


def test_vnc_may_be_the_second_display(bob: User, machine: Machine) -> None:
    machine.graphics = "spice"
    issue_ticket(bob, machine, Level.VIEW, session_key="s")


def test_a_host_that_is_away_says_why(bob: User, machine: Machine) -> None:
    machine.host.state, machine.host.state_reason = HostState.UNREACHABLE, "It was switched off."
    with pytest.raises(Conflict, match="It was switched off"):
        issue_ticket(bob, machine, Level.VIEW, session_key="s")


@pytest.mark.parametrize("uri", ["qemu+tcp://far.example/system", "qemu+tls://far.example/system"])
def test_vnc_never_crosses_a_network_in_clear(bob: User, machine: Machine, uri: str) -> None:
    machine.host.uri = uri
    with pytest.raises(Conflict, match="unencrypted"):
        issue_ticket(bob, machine, Level.VIEW, session_key="s")


def test_nobody_gets_more_than_so_many_a_minute(bob: User, alice: User, machine: Machine) -> None:
    for _ in range(PER_MINUTE):
        issue_ticket(bob, machine, Level.VIEW, session_key="s")
    with pytest.raises(TooMany, match="Wait"):
        issue_ticket(bob, machine, Level.VIEW, session_key="s")
    issue_ticket(alice, machine, Level.VIEW, session_key="s")
    ConsoleTicket.objects.update(expires=timezone.now() - timedelta(seconds=31))
    issue_ticket(bob, machine, Level.VIEW, session_key="s")


def test_old_tickets_go_with_the_next_one(bob: User, machine: Machine) -> None:
    issue_ticket(bob, machine, Level.VIEW, session_key="s")
    ConsoleTicket.objects.update(expires=timezone.now() - timedelta(minutes=2))
    issue_ticket(bob, machine, Level.VIEW, session_key="s")
    assert ConsoleTicket.objects.count() == 1


def test_it_costs_few_queries(
    bob: User, machine: Machine, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(4):
        issue_ticket(bob, machine, Level.VIEW, session_key="s")
