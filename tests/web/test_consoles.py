"""The page of a console and its tickets; what opens with a ticket is in tests/console."""

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from kvmweb.models import ConsoleTicket, Host, HostState, Machine, State, User
from kvmweb.models.access import digest


@pytest.fixture
def machine(db: None) -> Machine:
    host = Host.objects.create(name="local", uri="qemu:///system", state=HostState.CONNECTED)
    return Machine.objects.create(
        host=host,
        uuid=uuid.uuid4(),
        name="web <1>",
        state=State.RUNNING,
        graphics="vnc",
        xml="<domain/>",
    )


def browser_of(user: User, *, checks_csrf: bool = False) -> Client:
    client = Client(enforce_csrf_checks=checks_csrf)
    client.force_login(user)
    return client


def screen(machine: Machine) -> str:
    return reverse("console", args=[machine.uuid])


def ticket(machine: Machine) -> str:
    return reverse("console_ticket", args=[machine.uuid])


def test_its_own_window_is_named_after_the_machine(bob: User, machine: Machine) -> None:
    text = browser_of(bob).get(screen(machine)).content.decode()
    assert "<title>web &lt;1&gt;</title>" in text
    assert 'data-level="control"' in text


def test_a_stranger_finds_nothing_at_its_addresses(charlie: User, machine: Machine) -> None:
    client = browser_of(charlie)
    assert client.get(screen(machine)).status_code == 404
    assert client.get(screen(machine) + "?fragment=machine").status_code == 404
    assert client.post(ticket(machine)).status_code == 404
    assert not ConsoleTicket.objects.exists()


def test_without_signing_in_everything_leads_to_the_sign_in_page(machine: Machine) -> None:
    for response in (Client().get(screen(machine)), Client().post(ticket(machine))):
        assert response.status_code == 302
        assert response["Location"].startswith("/accounts/login/")


def test_a_ticket_says_where_and_with_what_to_connect(bob: User, machine: Machine) -> None:
    response = browser_of(bob).post(ticket(machine), {"level": "control"})
    assert response.status_code == 200
    answer = response.json()
    assert sorted(answer) == ["expires", "path", "protocols"]
    assert answer["path"] == "/websockify"
    assert answer["protocols"][0] == "binary"


def test_a_ticket_belongs_to_the_session_that_asked(bob: User, machine: Machine) -> None:
    client = browser_of(bob)
    answer = client.post(ticket(machine), {"level": "view"}).json()
    secret = answer["protocols"][1].removeprefix("ticket.")
    row = ConsoleTicket.objects.get(digest=digest(secret))
    assert row.session_key == client.session.session_key
    assert (row.user, row.machine_uuid, row.level) == (bob, machine.uuid, "view")


def test_every_connection_takes_a_new_ticket(bob: User, machine: Machine) -> None:
    client = browser_of(bob)
    first, second = (client.post(ticket(machine)).json()["protocols"] for _ in range(2))
    assert first != second


def test_no_get_makes_a_ticket(bob: User, machine: Machine) -> None:
    assert browser_of(bob).get(ticket(machine)).status_code == 405
    assert browser_of(bob).post(screen(machine)).status_code == 405
    assert not ConsoleTicket.objects.exists()


def test_another_site_can_not_ask_for_a_ticket(bob: User, machine: Machine) -> None:
    assert browser_of(bob, checks_csrf=True).post(ticket(machine)).status_code == 403
    assert not ConsoleTicket.objects.exists()


def test_a_viewer_may_look_and_not_control(victor: User, machine: Machine) -> None:
    client = browser_of(victor)
    refused = client.post(ticket(machine), {"level": "control"})
    assert refused.status_code == 403
    assert "not allowed" in refused.json()["sentence"]
    assert client.post(ticket(machine), {"level": "view"}).status_code == 200


def test_the_page_tells_a_viewer_so(victor: User, machine: Machine) -> None:
    text = browser_of(victor).get(screen(machine)).content.decode()
    assert 'data-level="view"' in text
    assert 'data-action="view-only"' not in text
    assert "nothing you type or click reaches the machine" in text


def test_a_level_that_does_not_exist_is_refused(bob: User, machine: Machine) -> None:
    response = browser_of(bob).post(ticket(machine), {"level": "root"})
    assert response.status_code == 422
    assert response.json()["sentence"]


def test_a_machine_that_is_off_has_no_console(bob: User, machine: Machine) -> None:
    Machine.objects.update(state=State.SHUTOFF)
    response = browser_of(bob).post(ticket(machine))
    assert response.status_code == 409
    assert response.json()["is_off"] is True
    assert "not running" in response.json()["sentence"]


def test_a_host_out_of_reach_is_worth_another_try(bob: User, machine: Machine) -> None:
    Host.objects.update(state=HostState.UNREACHABLE, state_reason="Connection refused.")
    response = browser_of(bob).post(ticket(machine))
    assert response.status_code == 409
    assert response.json()["is_passing"] is True
    assert "Connection refused." in response.json()["sentence"]


def test_it_offers_to_start_what_is_off(bob: User, victor: User, machine: Machine) -> None:
    address = screen(machine) + "?fragment=machine"
    assert b"<button" not in browser_of(bob).get(address).content
    Machine.objects.update(state=State.SHUTOFF)
    text = browser_of(bob).get(address).content.decode()
    assert 'data-is-active="false"' in text
    assert "hx-post" in text
    refused = browser_of(victor).get(address).content.decode()
    assert "hx-post" not in refused
    assert "not allowed" in refused


def test_a_removed_machine_is_said_to_be_gone(bob: User, machine: Machine) -> None:
    client, address, own_ticket = browser_of(bob), screen(machine), ticket(machine)
    machine.delete()
    assert client.get(address).status_code == 404
    assert client.post(own_ticket).status_code == 404
    assert b"not there any more" in client.get(address + "?fragment=machine").content
