"""The rows that say who had which console open, from when to when, and why it ended.

A process that is killed can't write how its consoles ended. So each keeps a locked file in
``STATE_DIR/consoles`` with the ids it opened: the kernel drops the lock with the process, and the
next one to start closes what a file without a lock still names.
"""

import fcntl
import os
import threading
import uuid
from pathlib import Path
from typing import IO

from django.conf import settings
from django.utils import timezone

from kvmweb.console.consoles import OpenConsole
from kvmweb.models import ConsoleSession

KILLED = "The site was stopped."

_starting = threading.Lock()
_journals: dict[tuple[int, Path], tuple[Path, IO[str]]] = {}


def opened(console: OpenConsole) -> None:
    journal = _journal()
    journal.write(f"{console.id}\n")
    journal.flush()
    ConsoleSession.objects.create(
        id=console.id,
        user_id=console.user_id,
        username=console.username,
        session_key=console.session_key,
        token_id=console.token_id,
        host_id=console.host_id,
        machine_uuid=console.machine_uuid,
        machine_name=console.machine_name,
        level=console.level,
        address=console.address or None,
    )


def closed(console: OpenConsole, reason: str) -> None:
    ConsoleSession.objects.filter(pk=console.id, closed=None).update(
        closed=timezone.now(),
        close_reason=reason[:200],
        bytes_to_browser=console.bytes_to_browser,
        bytes_to_machine=console.bytes_to_machine,
    )


def close_left_open() -> int:
    """How many rows of killed processes were closed. To be called once when a process starts."""
    count = 0
    for path in _directory().glob("*.open"):
        with path.open() as journal:
            if _lock(journal):
                count += _close(journal.read().split())
                path.unlink(missing_ok=True)
    return count


def forget() -> None:
    """At the end of a process that has written all it had to."""
    path, journal = _journals.pop(_own_key(), (None, None))
    if path and journal:
        path.unlink(missing_ok=True)
        journal.close()


def _close(ids: list[str]) -> int:
    # The last line may be cut off; and a statement takes only so many parameters.
    whole = [uuid.UUID(text) for text in ids if len(text) == 36]
    count = 0
    for start in range(0, len(whole), 500):
        left = ConsoleSession.objects.filter(pk__in=whole[start : start + 500], closed=None)
        count += left.update(closed=timezone.now(), close_reason=KILLED)
    return count


def _journal() -> IO[str]:
    with _starting:
        if _own_key() not in _journals:
            _journals[_own_key()] = _new_journal()
        return _journals[_own_key()][1]


def _new_journal() -> tuple[Path, IO[str]]:
    """Locked before it has the name that others look for."""
    path = _directory() / uuid.uuid4().hex
    journal = path.open("w")
    _lock(journal)
    return path.rename(path.with_suffix(".open")), journal


def _own_key() -> tuple[int, Path]:
    # A forked process shares its parent's file and lock, and must not write there.
    return os.getpid(), settings.STATE_DIR


def _directory() -> Path:
    directory: Path = settings.STATE_DIR / "consoles"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def _lock(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
