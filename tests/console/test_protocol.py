"""Who gets a console and who does not, over real sockets."""

import socket
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone
from pytest_django import Settings
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from kvmweb.console import consoles
from kvmweb.console.dial import dial
from kvmweb.models import ApiToken, ConsoleSession, ConsoleTicket, Level, Machine, Role, User
from kvmweb.models.access import digest
from kvmweb.operations.consoles import issue_ticket
from tests.console.display import Display, Viewing
from tests.console.site import HANDSHAKE, LOOPS, ConsoleSite, ending, shake_hands, sign_in
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)
KEY = bytes([4, 1, 0, 0, 0, 0, 0, 97])
UPDATE = bytes([3, 0, 0, 0, 0, 0, 0, 4, 0, 4])


def refused(site: ConsoleSite, protocols: list[str], **how: Any) -> int:
    """The HTTP status of the refusal."""
    with pytest.raises(InvalidStatus) as caught, site.connect(protocols, **how):
        pass
    assert caught.value.response.status_code < 500 or caught.value.response.status_code == 503
    return caught.value.response.status_code


@pytest.mark.parametrize("loop", LOOPS)
def test_bytes_go_both_ways_and_the_rest_of_the_site_is_as_ever(
    loop: str, state_directory: Path, display: Display, bob: User, machine: Machine
) -> None:
    site = ConsoleSite(display.dial, loop=loop)
    try:
        with site.browser(bob, machine) as browser:
            assert browser.subprotocol == "binary"
            shake_hands(browser)
            browser.send(KEY)
            until(lambda: display.viewer().heard == KEY, what="the key at the display")
            display.viewer().connection.sendall(b"x" * 1_000_000)
            received = 0
            while received < 1_000_000:
                received += len(browser.recv(10))
        with connect(f"ws://{site.host}/live", origin=None) as other:
            other.send("hello")
            assert other.recv(10) == "hello"
    finally:
        site.close()
    row = ConsoleSession.objects.get()
    assert (row.user, row.level, row.machine_name) == (bob, "control", "web1")
    assert row.address == "127.0.0.1"
    assert row.closed is not None
    assert row.close_reason == "The browser left."
    assert row.bytes_to_browser > 1_000_000
    assert row.bytes_to_machine == 12 + 1 + 1 + len(KEY)


def test_nobody_throws_another_viewer_out(
    site: ConsoleSite, display: Display, bob: User, machine: Machine
) -> None:
    with site.browser(bob, machine) as browser:
        shake_hands(browser)
        assert display.viewer().shared == b"\1"


def test_a_viewer_s_keys_do_not_arrive(
    site: ConsoleSite, display: Display, victor: User, machine: Machine
) -> None:
    with site.browser(victor, machine, Level.VIEW) as browser:
        shake_hands(browser)
        browser.send(KEY + UPDATE + KEY[:3])
        browser.send(KEY[3:] + UPDATE)
        until(lambda: len(display.viewer().heard) >= 2 * len(UPDATE), what="the requests")
        assert display.viewer().heard == UPDATE * 2


def test_what_a_viewer_may_not_say_closes_the_console(
    site: ConsoleSite, display: Display, victor: User, machine: Machine
) -> None:
    with site.browser(victor, machine, Level.VIEW) as browser:
        shake_hands(browser)
        browser.send(bytes([99]) * 20)
        assert ending(browser)[0] == 4007
    assert display.viewer().heard == b""


def test_it_refuses_without_a_ticket(site: ConsoleSite, bob: User) -> None:
    session = sign_in(bob)
    assert refused(site, ["binary"], cookie=session) == 403
    assert refused(site, [], cookie=session) == 403
    assert refused(site, ["binary", "ticket.made-up"], cookie=session) == 403


def test_a_ticket_serves_once(site: ConsoleSite, bob: User, machine: Machine) -> None:
    session = sign_in(bob)
    protocols = issue_ticket(bob, machine, "control", session_key=session)["protocols"]
    with site.connect(protocols, cookie=session):
        assert refused(site, protocols, cookie=session) == 403


def test_of_many_that_come_with_one_ticket_one_gets_in(
    site: ConsoleSite, bob: User, machine: Machine
) -> None:
    session = sign_in(bob)
    protocols = issue_ticket(bob, machine, "control", session_key=session)["protocols"]
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def attempt() -> None:
        start.wait()
        try:
            with site.connect(protocols, cookie=session) as browser:
                outcomes.append("in")
                browser.recv(10)
        except InvalidStatus:
            outcomes.append("refused")

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == ["in"] + ["refused"] * 7
    assert ConsoleSession.objects.count() == 1


def test_a_ticket_expires(site: ConsoleSite, bob: User, machine: Machine) -> None:
    session = sign_in(bob)
    protocols = issue_ticket(bob, machine, "control", session_key=session)["protocols"]
    ConsoleTicket.objects.update(expires=timezone.now() - timedelta(seconds=1))
    assert refused(site, protocols, cookie=session) == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None])
def test_a_foreign_page_is_refused_and_the_ticket_still_serves_its_owner(
    origin: str | None, site: ConsoleSite, bob: User, machine: Machine
) -> None:
    session = sign_in(bob)
    protocols = issue_ticket(bob, machine, "control", session_key=session)["protocols"]
    assert refused(site, protocols, cookie=session, origin=origin) == 403
    with site.connect(protocols, cookie=session):
        pass


def test_another_session_is_refused(
    site: ConsoleSite, bob: User, alice: User, machine: Machine
) -> None:
    protocols = issue_ticket(bob, machine, "control", session_key=sign_in(bob))["protocols"]
    assert refused(site, protocols, cookie=sign_in(bob)) == 403
    assert refused(site, protocols, cookie=sign_in(alice)) == 403
    assert refused(site, protocols) == 403


def test_a_ticket_without_any_session_serves_nobody(
    site: ConsoleSite, bob: User, machine: Machine
) -> None:
    protocols = issue_ticket(bob, machine, "control")["protocols"]
    assert refused(site, protocols) == 403
    assert refused(site, protocols, cookie=sign_in(bob)) == 403


def test_a_session_that_ended_is_refused(site: ConsoleSite, bob: User, machine: Machine) -> None:
    session = sign_in(bob)
    protocols = issue_ticket(bob, machine, "control", session_key=session)["protocols"]
    Session.objects.all().delete()
    assert refused(site, protocols, cookie=session) == 403


def test_a_session_from_before_the_password_changed_is_refused(
    site: ConsoleSite, bob: User, machine: Machine
) -> None:
    session = sign_in(bob)
    protocols = issue_ticket(bob, machine, "control", session_key=session)["protocols"]
    bob.set_password("another secret of bob's")
    bob.save()
    assert refused(site, protocols, cookie=session) == 403


@pytest.mark.parametrize(
    "change", [{"role": Role.VIEWER}, {"role": Role.NONE}, {"is_active": False}]
)
def test_the_permission_is_looked_at_again(
    change: dict[str, object], site: ConsoleSite, bob: User, machine: Machine
) -> None:
    session = sign_in(bob)
    protocols = issue_ticket(bob, machine, "control", session_key=session)["protocols"]
    User.objects.filter(pk=bob.pk).update(**change)
    assert refused(site, protocols, cookie=session) in (403, 404)


def test_a_machine_that_went_is_not_found(site: ConsoleSite, bob: User, machine: Machine) -> None:
    session = sign_in(bob)
    protocols = issue_ticket(bob, machine, "control", session_key=session)["protocols"]
    machine.delete()
    assert refused(site, protocols, cookie=session) == 404


def test_a_program_needs_no_session_and_no_origin(
    site: ConsoleSite, bob: User, machine: Machine
) -> None:
    token, _ = ApiToken.issue(bob, "script")
    protocols = issue_ticket(bob, machine, "control", token=token)["protocols"]
    assert refused(site, protocols, origin="http://evil.example") == 403
    with site.connect(protocols, origin=None) as program:
        shake_hands(program)
    until(lambda: ConsoleSession.objects.exclude(closed=None).exists(), what="the row's end")
    assert ConsoleSession.objects.get().token == token


def test_a_token_that_expired_is_refused(site: ConsoleSite, bob: User, machine: Machine) -> None:
    token, _ = ApiToken.issue(bob, "script")
    protocols = issue_ticket(bob, machine, "control", token=token)["protocols"]
    ApiToken.objects.update(expires=timezone.now() - timedelta(seconds=1))
    assert refused(site, protocols, origin=None) == 403


def test_only_the_digest_of_a_ticket_is_kept(bob: User, machine: Machine) -> None:
    protocols = issue_ticket(bob, machine, "control", session_key="x")["protocols"]
    secret = protocols[1].removeprefix("ticket.")
    assert len(secret) >= 43  # 256 bits
    assert ConsoleTicket.objects.get().digest == digest(secret)


def test_a_user_has_no_more_than_so_many_open(
    site: ConsoleSite, bob: User, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consoles, "OPEN_PER_USER", 2)
    session = sign_in(bob)
    tickets = [issue_ticket(bob, machine, "control", session_key=session) for _ in range(3)]
    with (
        site.connect(tickets[0]["protocols"], cookie=session),
        site.connect(tickets[1]["protocols"], cookie=session),
    ):
        assert refused(site, tickets[2]["protocols"], cookie=session) == 503
    until(lambda: not consoles.all_open(), what="both to be closed")
    with site.connect(tickets[2]["protocols"], cookie=session):
        pass


def test_the_process_has_no_more_than_so_many_open(
    site: ConsoleSite, bob: User, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consoles, "MAXIMUM", 1)
    session = sign_in(bob)
    tickets = [issue_ticket(bob, machine, "control", session_key=session) for _ in range(2)]
    with site.connect(tickets[0]["protocols"], cookie=session):
        assert refused(site, tickets[1]["protocols"], cookie=session) == 503


def test_the_handshake_s_refusals_tell_nothing(site: ConsoleSite, bob: User) -> None:
    with socket.create_connection(("127.0.0.1", site.port)) as client:
        client.sendall(
            b"GET /websockify HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary, ticket.x\r\n\r\n"
        )
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"ticket" not in answer
    assert b"Python" not in answer


def test_a_display_that_can_t_be_reached_is_told_to_the_page(
    state_directory: Path, bob: User, machine: Machine
) -> None:
    site = ConsoleSite(dial)
    try:
        with site.browser(bob, machine) as browser:
            code, reason = ending(browser)
            assert code == 4005
            assert "agent" in reason
    finally:
        site.close()


def test_a_browser_that_stops_reading_is_not_read_for(
    state_directory: Path, bob: User, machine: Machine
) -> None:
    sent = [0]

    def flood(viewer: Viewing) -> None:
        while True:
            sent[0] += viewer.connection.send(bytes(65536))

    display = Display(flood)
    site = ConsoleSite(display.dial)
    try:
        with site.browser(bob, machine) as browser:
            browser.send(HANDSHAKE)
            # websockets reads ahead a little; then its socket fills, and nothing moves any more.
            until(lambda: stalled_for() > 0.5, what="the browser to be stalled")
            assert sent[0] < 16_000_000  # what the kernel holds on both sides
    finally:
        site.close()
        display.close()


def stalled_for() -> float:
    """Seconds; anything the browser takes ends it."""
    since = consoles.all_open()[0].stalled
    return 0 if since is None else time.monotonic() - since


def test_closing_the_site_says_so_and_writes_the_row(
    state_directory: Path, display: Display, bob: User, machine: Machine
) -> None:
    site = ConsoleSite(display.dial)
    with site.browser(bob, machine) as browser:
        shake_hands(browser)
        site.close()
        assert ending(browser)[0] == 1001
    assert ConsoleSession.objects.get().close_reason == "The site is being restarted."


def test_behind_a_proxy_the_address_is_the_browser_s(
    site: ConsoleSite, bob: User, machine: Machine, settings: Settings
) -> None:
    settings.ALLOWED_ORIGINS = [f"http://{site.host}"]
    session = sign_in(bob)
    protocols = issue_ticket(bob, machine, "view", session_key=session)["protocols"]
    forwarded = {"X-Forwarded-For": "10.9.9.9, 203.0.113.7"}
    with site.connect(protocols, cookie=session, headers=forwarded):
        until(lambda: ConsoleSession.objects.exists(), what="the row")
    assert ConsoleSession.objects.get().address == "203.0.113.7"
