"""What is being done to the host's network, written down before it is done.

A file of JSON lines per plan, below ``originals.directory()``: first the plan with its undo, then
each group of steps as it is begun. Writes reach the page cache at once, which outlives any process;
a reboot undoes everything anyway, so a journal of another boot is void.

When it ended and whoever asked for it is told at once, its journal goes. What ended otherwise, by
the timer or because its helper died, is kept until the site has heard of it and says ``forget``.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvmweb.net import namespaces, originals
from kvmweb.net.errors import NetError
from kvmweb.net.step import Step

_KEPT_SECONDS = 24 * 3600
APPLYING, UNCONFIRMED = "applying", "unconfirmed"
APPLIED, CONFIRMED, REVERTED, UNDONE = "applied", "confirmed", "reverted", "undone"


def _folder() -> Path:
    folder = originals.directory()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The site's user owns what is above: he is not to have it undone by root what he wrote there.
    found = folder.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise NetError(f"{folder} can be changed by others than root: remove it.", kind="root")
    return folder


@contextmanager
def alone(*, seconds: float = 10) -> Iterator[None]:
    """Nobody else on this host changes its network meanwhile. The kernel frees it for the dead."""
    file = os.open(_folder(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + seconds
        while not _locked(file):
            if time.monotonic() > until:
                raise NetError(
                    "Somebody else is changing this host's network. Try again in a moment.",
                    kind="busy",
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(file)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Journal:
    def __init__(self, file: Path, lines: list[dict[str, Any]]) -> None:
        self._file = file
        self.head = lines[0]
        self.token: str = self.head["token"]
        self._lines = lines[1:]

    @classmethod
    def open(cls, head: dict[str, Any], steps: list[Step]) -> Journal:
        token = uuid.uuid4().hex
        head = {
            **head, "token": token, "boot": originals.boot(), "namespace": namespaces.inode(),
            "pid": os.getpid(), "began": time.time(), "clock": time.monotonic(),
            "steps": [step.to_json() for step in steps],
        }  # fmt: skip
        journal = cls(_folder() / f"{token}.journal", [head])
        journal._write(head)
        return journal

    def _write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        file = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, data)
        finally:
            os.close(file)

    def note(self, **line: Any) -> None:
        self._write(line)
        self._lines.append(line)

    def _last(self, key: str) -> Any:
        return next((line[key] for line in reversed(self._lines) if key in line), None)

    @property
    def state(self) -> str:
        return str(self._last("ended") or (UNCONFIRMED if self._last("deadline") else APPLYING))

    @property
    def is_open(self) -> bool:
        return self.state in (APPLYING, UNCONFIRMED)

    @property
    def deadline(self) -> float:
        """When it is reverted by itself, by the monotonic clock; 0 before all of it is done."""
        return float(self._last("deadline") or 0)

    @property
    def timer(self) -> int:
        """The process that reverts it; 0 if it needs none."""
        return int(self._last("timer") or 0)

    @property
    def to_undo(self) -> list[Step]:
        """Undos of all that was begun and may have done something, the last first."""
        untouched = {number for line in self._lines for number in line.get("untouched", [])}
        begun = max((line["begun"] for line in self._lines if "begun" in line), default=0)
        return [
            Step.from_json(undo)
            for number in reversed(range(begun))
            if number not in untouched
            for undo in self.head["steps"][number]["undo"]
        ]

    def end(self, state: str, *, sentence: str = "", is_told: bool) -> None:
        """``is_told``: whoever asked for the change hears of this as it happens."""
        self.note(ended=state, at=time.time(), sentence=sentence)
        if is_told:
            self.forget()

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)

    def told(self) -> dict[str, Any]:
        """For the site."""
        left = self.deadline - time.monotonic()
        return {
            "token": self.token,
            "state": self.state,
            "seconds": round(max(0.0, left), 1) if self.state == UNCONFIRMED else None,
            "began": self.head["began"],
            "ended": self._last("at"),
            "sentence": self._last("sentence") or "",
        }


def read(token: str) -> Journal:
    for journal in everything():
        if journal.token == token:
            return journal
    raise NetError("This host knows nothing of that change any more.", kind="missing")


def everything() -> list[Journal]:
    """Of this boot and of this network namespace, the oldest first; older ones are removed."""
    found = []
    for file in _folder().glob("*.journal"):
        journal = _read(file)
        if journal is None or journal.head["boot"] != originals.boot() or _is_old(journal):
            file.unlink(missing_ok=True)
        elif journal.head["namespace"] == namespaces.inode():
            found.append(journal)
    return sorted(found, key=lambda journal: journal.head["began"])


def _is_old(journal: Journal) -> bool:
    return not journal.is_open and journal.head["began"] < time.time() - _KEPT_SECONDS


def _read(file: Path) -> Journal | None:
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    # The last one may have been half written as its writer was killed.
    whole = [line for line in lines if line.endswith(b"}")]
    return Journal(file, [json.loads(line) for line in whole]) if whole else None
