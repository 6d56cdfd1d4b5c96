"""Browsers that do not behave."""

import contextlib
import os
import socket
import threading

import pytest
from websockets.exceptions import ConnectionClosed

from kvmweb.console import consoles
from kvmweb.console.browser import LONGEST_MESSAGE
from kvmweb.models import Machine, User
from tests.console.display import Display
from tests.console.site import ConsoleSite, ending, shake_hands
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)
KEY = bytes([4, 1, 0, 0, 0, 0, 0, 97])


def frame(first: int, payload: bytes, *, says: int | None = None) -> bytes:
    """Masked with zeroes; ``says`` is the length it tells."""
    length = len(payload) if says is None else says
    return bytes([first, 0xFF]) + length.to_bytes(8, "big") + bytes(4) + payload


@pytest.mark.parametrize(
    "endless",
    [
        frame(0x82, b"", says=2**62),
        frame(0x02, bytes(LONGEST_MESSAGE // 2)) + frame(0x00, bytes(LONGEST_MESSAGE // 2)) * 3,
    ],
    ids=["a frame", "a message of many"],
)
def test_a_message_without_an_end_is_not_kept(
    endless: bytes, site: ConsoleSite, bob: User, machine: Machine
) -> None:
    with site.browser(bob, machine) as browser:
        shake_hands(browser)
        flood = threading.Thread(target=_send, args=[browser.socket, endless + bytes(2**22)])
        flood.start()
        assert ending(browser, within=5)[0] == 4007
        flood.join(10)
    until(lambda: not consoles.all_open(), what="it to be closed")


def _send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the site does not take it all, and shall not
        connection.sendall(data)


def test_a_message_in_pieces_arrives_whole(
    site: ConsoleSite, display: Display, bob: User, machine: Machine
) -> None:
    with site.browser(bob, machine) as browser:
        shake_hands(browser)
        browser.send([KEY[:1], KEY[1:5], KEY[5:]])
        until(lambda: display.viewer().heard == KEY, what="the key at the display")


def test_a_long_paste_arrives(
    site: ConsoleSite, display: Display, bob: User, machine: Machine
) -> None:
    text = os.urandom(200_000)
    paste = b"\6\0\0\0" + len(text).to_bytes(4, "big") + text
    with site.browser(bob, machine) as browser:
        shake_hands(browser)
        browser.send(paste)
        until(lambda: len(display.viewer().heard) == len(paste), what="all of it")
        assert display.viewer().heard == paste


def test_a_ping_is_answered_beside_the_picture(
    site: ConsoleSite, display: Display, bob: User, machine: Machine
) -> None:
    with site.browser(bob, machine) as browser:
        shake_hands(browser)
        assert browser.ping().wait(5)
        display.viewer().connection.sendall(b"x" * 300_000)
        received = 0
        while received < 300_000:
            received += len(browser.recv(5))
            assert browser.ping().wait(5)


def test_text_is_refused(site: ConsoleSite, bob: User, machine: Machine) -> None:
    with site.browser(bob, machine) as browser:
        shake_hands(browser)
        browser.send("text")
        assert ending(browser)[0] == 1003


def test_a_frame_without_a_mask_is_refused(
    site: ConsoleSite, display: Display, bob: User, machine: Machine
) -> None:
    with site.browser(bob, machine) as browser:
        shake_hands(browser)
        browser.socket.sendall(bytes([0x82, len(KEY)]) + KEY)
        assert ending(browser)[0] == 1002
    assert display.viewer().heard == b""


def test_one_that_vanishes_lets_the_display_go(
    site: ConsoleSite, display: Display, bob: User, machine: Machine
) -> None:
    with site.browser(bob, machine) as browser:
        shake_hands(browser)
        browser.socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionClosed):
            browser.recv(5)
    until(display.viewer().is_gone.is_set, what="the display to be let go")


def test_its_goodbye_is_answered(site: ConsoleSite, bob: User, machine: Machine) -> None:
    with site.browser(bob, machine) as browser:
        shake_hands(browser)
        browser.close(1000, "enough")
    assert browser.protocol.close_rcvd is not None
    assert browser.protocol.close_rcvd.code == 1000
