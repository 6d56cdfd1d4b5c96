"""An open console closes within two seconds of what it rests on going away."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from kvmweb.console import consoles, watch
from kvmweb.models import ApiToken, ConsoleSession, Host, Level, Machine, Role, User
from kvmweb.operations.consoles import issue_ticket
from tests.console.display import Display
from tests.console.site import HANDSHAKE, ConsoleSite, ending, shake_hands
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


def log_out(bob: User) -> None:
    Session.objects.all().delete()


def become_viewer(bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(role=Role.VIEWER)


def be_disabled(bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=False)


def be_deleted(bob: User) -> None:
    User.objects.filter(pk=bob.pk).delete()


def change_password(bob: User) -> None:
    bob.set_password("another secret of bob's")
    bob.save()


def lose_machine(bob: User) -> None:
    Machine.objects.all().delete()


def lose_host(bob: User) -> None:
    Host.objects.all().delete()


@pytest.mark.parametrize(
    ("happens", "code", "reason"),
    [
        (become_viewer, 4001, "Your permission was withdrawn."),
        (be_disabled, 4001, "Your account was closed."),
        (be_deleted, 4001, "Your account was closed."),
        (log_out, 4001, "You were signed out."),
        (change_password, 4001, "You were signed out."),
        (lose_machine, 4004, "The machine is not there any more."),
        (lose_host, 4004, "The machine is not there any more."),
    ],
)
def test_it_closes_when(
    happens: Callable[[User], None],
    code: int,
    reason: str,
    site: ConsoleSite,
    display: Display,
    bob: User,
    alice: User,
    machine: Machine,
) -> None:
    with site.browser(bob, machine) as browser, site.browser(alice, machine) as other:
        shake_hands(browser)
        shake_hands(other)
        happens(bob)
        assert ending(browser) == (code, reason)
        until(display.viewer().is_gone.is_set, what="the display to be let go")
        if code == 4001 and happens is not log_out:
            until(lambda: still_open() == ["alice"], what="alice's to be the only one")
    until(lambda: not still_open(), what="both to be closed")
    assert ConsoleSession.objects.get(username="bob").close_reason == reason


def still_open() -> list[str]:
    return [console.username for console in consoles.all_open()]


@pytest.mark.parametrize(
    "change", [lambda: ApiToken.objects.all().delete(), lambda: expire_tokens()]
)
def test_it_closes_when_its_token_goes(
    change: Callable[[], object], site: ConsoleSite, bob: User, machine: Machine
) -> None:
    token, _ = ApiToken.issue(bob, "script")
    protocols = issue_ticket(bob, machine, "control", token=token)["protocols"]
    with site.connect(protocols, origin=None) as program:
        shake_hands(program)
        change()
        assert ending(program) == (4001, "The API token is not valid any more.")


def expire_tokens() -> None:
    ApiToken.objects.update(expires=timezone.now() - timedelta(seconds=1))


def test_a_viewer_stays_when_only_control_is_withdrawn(
    site: ConsoleSite, bob: User, machine: Machine
) -> None:
    with site.browser(bob, machine, Level.VIEW) as browser:
        shake_hands(browser)
        become_viewer(bob)
        watch.check(consoles.all_open())
        assert [console.verdict for console in consoles.all_open()] == [None]


def test_it_closes_even_a_browser_that_does_not_read(
    state_directory: object, bob: User, machine: Machine
) -> None:
    def flood(viewer: object) -> None:
        while True:
            viewer.connection.send(bytes(65536))  # type: ignore[attr-defined]

    display = Display(flood)
    site = ConsoleSite(display.dial)
    try:
        with site.browser(bob, machine) as browser:
            browser.send(HANDSHAKE)
            until(lambda: consoles.all_open()[0].stalled, what="it to be stalled")
            become_viewer(bob)
            until(display.viewer().is_gone.is_set, seconds=2, what="the display to be let go")
    finally:
        site.close()
        display.close()


def test_the_machine_s_end_ends_it(
    site: ConsoleSite, display: Display, bob: User, machine: Machine
) -> None:
    with site.browser(bob, machine) as browser:
        shake_hands(browser)
        display.close()
        assert ending(browser)[0] == 4004


def test_nobody_typing_is_idle_and_looking_is_not_typing(
    site: ConsoleSite, bob: User, victor: User, machine: Machine, settings: Settings
) -> None:
    with site.browser(bob, machine) as browser, site.browser(victor, machine, "view") as viewer:
        shake_hands(browser)
        shake_hands(viewer)
        until(lambda: all(console.is_ready for console in consoles.all_open()), what="both ready")
        browser.send(bytes([3, 0]) + bytes(8))
        settings.CONSOLE_IDLE_SECONDS = 0.01
        assert ending(browser) == (4002, "Nothing was typed for a long time.")
        until(lambda: still_open() == ["victor"], what="victor's to be the only one")


def test_no_console_is_open_for_longer_than_the_maximum(
    site: ConsoleSite, victor: User, machine: Machine, settings: Settings
) -> None:
    with site.browser(victor, machine, "view") as browser:
        shake_hands(browser)
        settings.CONSOLE_MAXIMUM_SECONDS = 0.01
        assert ending(browser)[0] == 4003


def test_zero_is_without_end(
    site: ConsoleSite, bob: User, machine: Machine, settings: Settings
) -> None:
    settings.CONSOLE_IDLE_SECONDS = settings.CONSOLE_MAXIMUM_SECONDS = 0
    with site.browser(bob, machine) as browser:
        shake_hands(browser)
        watch.check_times(consoles.all_open())
        assert consoles.all_open()[0].verdict is None


def test_a_handshake_has_an_end(
    site: ConsoleSite, bob: User, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.browser(bob, machine) as browser:
        browser.send(b"RFB")
        monkeypatch.setattr(watch, "HANDSHAKE_SECONDS", 0.01)
        assert ending(browser)[0] == 4002


def test_who_does_not_read_is_dropped_at_last(
    state_directory: object, bob: User, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    display = Display(lambda viewer: viewer.connection.sendall(bytes(100_000_000)))
    site = ConsoleSite(display.dial)
    try:
        with site.browser(bob, machine) as browser:
            browser.send(HANDSHAKE)
            until(lambda: consoles.all_open()[0].stalled, what="it to be stalled")
            monkeypatch.setattr(watch, "STALL_SECONDS", 0.01)
            until(lambda: not consoles.all_open(), seconds=5, what="it to be dropped")
    finally:
        site.close()
        display.close()
    assert "did not take" in ConsoleSession.objects.get().close_reason


def test_many_are_watched_with_two_queries(site: ConsoleSite, bob: User, machine: Machine) -> None:
    with site.browser(bob, machine), site.browser(bob, machine), site.browser(bob, machine):
        with CaptureQueriesContext(connection) as queries:
            watch.check(consoles.all_open())
        assert len(queries) == 2
