"""Why something about a host's network can't be, as a sentence for the person at the screen."""

from __future__ import annotations


class NetError(Exception):
    """``field`` names what is to blame in the document: ``links.0.master``. ``kind`` is for
    programs: refused, ground-moved, missing, failed, deadline, lost.
    """

    def __init__(self, sentence: str, *, field: str = "", kind: str = "refused") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.field = field
        self.kind = kind


class StepError(NetError):
    """Why a step failed. ``untouched``: numbers of those steps of a batch (``Context.number``)
    that are known to have changed nothing; the others are undone.
    """

    def __init__(self, sentence: str, *, untouched: frozenset[int] = frozenset()) -> None:
        super().__init__(sentence, kind="failed")
        self.untouched = untouched
