"""Bytes between a browser and a machine."""

import select
import socket
import time

from websockify.websocket import WebSocketWantReadError, WebSocketWantWriteError

from kvmweb.console.browser import ConsoleSocket
from kvmweb.console.consoles import BROWSER_LEFT, MACHINE_GONE, OpenConsole
from kvmweb.console.rfb import ViewerStream

# As much as malloc still takes from its own heap: from 128 KiB on, every piece would be a mapping.
PIECE = 98304
# So many full ones are passed on before anything else is looked at.
PIECES = 16
POLLRDHUP = 0x2000  # linux/poll.h
LEFT = (BROWSER_LEFT, "The browser left.")
GONE = (MACHINE_GONE, "The machine's display was closed: it was shut down or restarted.")


class Carrying:
    """Bytes between a browser and a machine until one of them leaves, or the console is closed.

    At most one piece waits in each direction, and while it does, no more is read from the side it
    came from: who does not read stops the other side, and costs nobody else anything.
    """

    def __init__(
        self, browser: ConsoleSocket, machine: socket.socket, console: OpenConsole
    ) -> None:
        self.browser, self.machine, self.console = browser, machine, console
        self.stream = ViewerStream(console.level)
        self.to_machine = b""
        self.poll = select.poll()
        self.masks: dict[int, int] = {}
        self.descriptors = browser.fileno(), machine.fileno()

    def run(self) -> tuple[int, str]:
        """The websocket's close code and reason."""
        browser, machine = self.descriptors
        while True:
            has_unsent = self.browser.has_unsent
            self._wait_for(browser, not self.to_machine, has_unsent)
            self._wait_for(machine, not has_unsent, bool(self.to_machine))
            events = dict(self.poll.poll())
            ended = self.console.verdict or self._step(
                events.get(browser, 0), events.get(machine, 0)
            )
            if ended:
                return ended

    def _wait_for(self, descriptor: int, is_reading: bool, is_writing: bool) -> None:  # noqa: FBT001
        mask = POLLRDHUP | is_reading * select.POLLIN | is_writing * select.POLLOUT
        if self.masks.get(descriptor) != mask:
            self.masks[descriptor] = mask
            self.poll.register(descriptor, mask)

    def _step(self, browser: int, machine: int) -> tuple[int, str] | None:
        if browser & select.POLLOUT:
            self.browser.flush()
            self._note_stall()
        if machine & select.POLLOUT:
            self._send_on()
        if browser & select.POLLIN:
            if not self._read_browser():
                return LEFT
        elif browser & (POLLRDHUP | select.POLLHUP | select.POLLERR):
            return LEFT
        if machine & ~select.POLLOUT and not self.browser.has_unsent:
            if not self._read_machine():
                return self.console.verdict or GONE
        elif machine & (POLLRDHUP | select.POLLHUP | select.POLLERR):
            return self.console.verdict or GONE
        return None

    def _read_browser(self) -> bool:
        """Whether it is still there."""
        while True:
            try:
                message = self.browser.recvmsg()
            except WebSocketWantReadError:
                break
            except WebSocketWantWriteError:
                return False  # its goodbye could not be answered at once
            if message is None:
                return False
            self.to_machine += self.stream.feed(message)
            self._note_input()
            if not self.browser.pending():
                break
        if self.to_machine:
            self._send_on()
        return not self.browser.is_closing

    def _note_input(self) -> None:
        self.console.is_ready = self.stream.is_ready
        if self.stream.has_input:
            self.console.heard = time.monotonic()

    def _send_on(self) -> None:
        try:
            sent = self.machine.send(self.to_machine)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            sent = len(self.to_machine)  # reading will tell that it is gone
        self.to_machine = self.to_machine[sent:]
        self.console.bytes_to_machine += sent

    def _read_machine(self) -> bool:
        """Whether it is still there."""
        for _ in range(PIECES):
            try:
                data = self.machine.recv(PIECE)
            except BlockingIOError:
                break
            except ConnectionResetError:
                return False
            if not data:
                return False
            self.browser.push(data)
            self.console.bytes_to_browser += len(data)
            if self.browser.has_unsent or len(data) < PIECE:
                break
        self._note_stall()
        return True

    def _note_stall(self) -> None:
        if not self.browser.has_unsent:
            self.console.stalled = None
        elif self.console.stalled is None:
            self.console.stalled = time.monotonic()
