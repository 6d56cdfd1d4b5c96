"""Network namespaces by name, as ``ip netns`` keeps them: files in /run/netns.

setns(2) and unshare(2) change the calling thread only; os.setns came with Python 3.12, and hosts
may have 3.10, hence ctypes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvmweb.net.errors import NetError

DIRECTORY = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _own() -> str:
    # Of this thread: /proc/self is the first thread's.
    return "/proc/thread-self/ns/net"


def inode(path: str | Path | None = None) -> int:
    """What tells namespaces apart; of this thread's own without ``path``."""
    return Path(path or _own()).stat().st_ino


def names() -> list[str]:
    """The named ones, without that we live in (a test's host is a namespace itself)."""
    mine, found = inode(), []
    try:
        entries = sorted(DIRECTORY.iterdir())
    except FileNotFoundError:
        return []
    for entry in entries:
        try:
            if inode(entry) != mine and _is_namespace(entry):
                found.append(entry.name)
        except OSError:
            continue  # gone meanwhile
    return found


def _is_namespace(path: Path) -> bool:
    """A file of nsfs; an empty file is left where the namespace is half made or half removed."""
    return path.stat().st_dev == Path(_own()).stat().st_dev


def _call(function: str, *arguments: int) -> None:
    if getattr(_libc, function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread works in the namespace ``name``; "" is where it is already."""
    if not name:
        yield
        return
    back = os.open(_own(), os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            there = os.open(DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            raise NetError(
                f"There is no network namespace “{name}” on this host.", kind="missing"
            ) from None
        try:
            _call("setns", there, _CLONE_NEWNET)
        except OSError as error:
            sentence = f"The namespace “{name}” can't be entered: {error.strerror}."
            raise NetError(sentence, kind="missing") from None
        finally:
            os.close(there)
        try:
            yield
        finally:
            _call("setns", back, _CLONE_NEWNET)
    finally:
        os.close(back)


def leave_for_a_new_one() -> None:
    """This thread gets an empty namespace of its own, which ends with it."""
    _call("unshare", _CLONE_NEWNET)
