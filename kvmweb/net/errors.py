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
    """Why a step failed. Of a batch: ``number`` is the step to blame (``Context.number``), and
    ``untouched`` those that are known to have changed nothing; the others are undone.
    """

    def __init__(
        self, sentence: str, *, number: int | None = None, untouched: frozenset[int] = frozenset()
    ) -> None:
        super().__init__(sentence, kind="failed")
        self.number = number
        self.untouched = untouched
