"""The consoles that are open in this process."""

import contextlib
import logging
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from kvmweb.operations.consoles import OPEN_PER_USER

logger = logging.getLogger(__name__)

MAXIMUM = 1000

# WebSocket close codes of our own (RFC 6455, 7.4.2: 4000 to 4999) and the reasons that go with
# them; a reason has at most 123 bytes. The page shows the reason.
BROWSER_LEFT = 4000
WITHDRAWN = 4001
IDLE = 4002
TOO_LONG = 4003
MACHINE_GONE = 4004
UNREACHABLE = 4005
NOT_READING = 4006
BAD_STREAM = 4007
STOPPING = 1001


@dataclass(eq=False, slots=True)
class OpenConsole:
    """What is known of a console while bytes may flow. Its row is ``models.ConsoleSession``.

    The thread that carries the bytes writes the counts and times; others read them and may
    ``close`` it.
    """

    id: UUID
    user_id: int
    username: str
    password: str  # as stored: when it changes, every session of the user has ended
    session_key: str
    token_id: int | None
    host_id: int
    agent: str
    uri: str
    machine_uuid: UUID
    machine_name: str
    level: str
    address: str
    opened: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    stalled: float | None = None  # since when the browser takes nothing
    is_ready: bool = False
    bytes_to_browser: int = 0
    bytes_to_machine: int = 0
    verdict: tuple[int, str] | None = None
    _machine: socket.socket | None = None

    def attach(self, machine: socket.socket) -> None:
        """Its other end. From here on ``close`` wakes the thread that waits for it."""
        self._machine = machine
        if self.verdict:
            self._cut()

    def close(self, code: int, reason: str) -> None:
        """From any thread: no more bytes to or from the machine. The first reason stays."""
        if self.verdict is None:
            self.verdict = (code, reason)
            self._cut()

    def _cut(self) -> None:
        if self._machine is not None:
            with contextlib.suppress(OSError):  # it has gone by itself meanwhile
                self._machine.shutdown(socket.SHUT_RDWR)


class Full(Exception):
    """This user may have no more consoles open."""


_lock = threading.Condition()
_open: dict[UUID, OpenConsole] = {}
_per_user: Counter[int] = Counter()
_places = 0


def take_place() -> bool:
    """Whether there was one for another thread, be it that a console comes of it or a refusal."""
    global _places
    with _lock:
        if _places >= MAXIMUM:
            return False
        _places += 1
        return True


def give_place() -> None:
    global _places
    with _lock:
        _places -= 1


def add(console: OpenConsole) -> None:
    """Raises ``Full``."""
    with _lock:
        if _per_user[console.user_id] >= OPEN_PER_USER:
            raise Full
        _open[console.id] = console
        _per_user[console.user_id] += 1


def remove(console: OpenConsole) -> None:
    with _lock:
        if _open.pop(console.id, None) is not None:
            _per_user[console.user_id] -= 1
            if not _per_user[console.user_id]:
                del _per_user[console.user_id]
        _lock.notify_all()


def all_open() -> list[OpenConsole]:
    with _lock:
        return list(_open.values())


def close_all(*, seconds: float = 3.0) -> None:
    """Close every console, as at the end of the process, and wait until that is written."""
    for console in all_open():
        console.close(STOPPING, "The site is being restarted.")
    with _lock:
        if not _lock.wait_for(lambda: not _open, seconds):
            logger.warning("%d consoles are still open at the end", len(_open))
