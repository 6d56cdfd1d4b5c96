"""Two texts and what differs, line by line."""

import difflib
from typing import NamedTuple


class Line(NamedTuple):
    """``kind``: added, removed, same or place (where the lines are from)."""

    kind: str
    text: str


_KINDS = {"+": "added", "-": "removed", "@": "place"}


def unified(before: str, after: str) -> list[Line]:
    """As ``diff -u`` shows it, without its head; empty where nothing differs."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=4)
    return [Line(_KINDS.get(line[:1], "same"), line) for line in list(lines)[2:]]
