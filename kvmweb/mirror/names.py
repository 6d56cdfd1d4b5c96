"""Names of things that should be looked at again, waiting for their host's agent."""

import threading
from typing import NamedTuple


class Name(NamedTuple):
    kind: str
    key: str = ""


class Names:
    """A queue in which each name waits at most once."""

    def __init__(self) -> None:
        self._waiting: dict[Name, None] = {}
        self._changed = threading.Condition()

    def put(self, name: Name) -> None:
        with self._changed:
            self._waiting[name] = None
            self._changed.notify()

    def take(self, seconds: float) -> list[Name]:
        """All names that wait, after at most ``seconds``; empty where none came."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout=seconds)
            taken, self._waiting = list(self._waiting), {}
            return taken

    def wake(self) -> None:
        """Let ``take`` return now."""
        with self._changed:
            self._waiting.setdefault(Name("wake"))
            self._changed.notify()


_by_host: dict[int, Names] = {}


def names_of(host_id: int) -> Names:
    return _by_host.setdefault(host_id, Names())


def look_again(host_id: int, kind: str, key: str = "") -> None:
    """Ask the host's agent, in this process, to read this thing again: for changes that libvirt
    sends no event for. ``kind`` is a key of the table in ``mirror``.
    """
    names_of(host_id).put(Name(kind, key))
