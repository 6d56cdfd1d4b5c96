"""Plans carried out: all or nothing, confirmed in time or reverted, whoever dies in between."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kvmweb.net import journal, originals, put_back
from kvmweb.net import plan as plans
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError, StepError
from kvmweb.net.journal import Journal
from kvmweb.net.step import Step, carry_out, groups

CONFIRM_SECONDS = 30.0
_TIMER = "import sys; sys.path.insert(0, sys.argv[1]); from kvmweb.net import timer; timer.main()"

Document = dict[str, Any]


class GroundMovedError(NetError):
    """The plan that was looked at is not what would be done now; ``plan`` is."""

    def __init__(self, plan: Document) -> None:
        super().__init__(
            "The ground has moved: the host's network is not as it was when this plan was made. "
            "Look at the new plan.",
            kind="ground-moved",
        )
        self.plan = plan


def apply(
    context: Context, desired: Document, owned: Document, digest: str, *,
    way: plans.Way, seconds: float = CONFIRM_SECONDS,
) -> Document:  # fmt: skip
    """Do what the plan with that digest says. A risky one is reverted after ``seconds`` unless its
    token is confirmed: ``state`` is then "unconfirmed", else "applied", or "unchanged".
    """
    with journal.alone():
        recover(context)
        _refuse_while_unconfirmed()
        actual = plans.read_all(context)
        plan = plans.make(context, actual, desired, owned, way=way)
        if plan.digest != digest:
            raise GroundMovedError(plan.told())
        if not plan.steps:
            return {"state": "unchanged", "token": None, "seconds": None, "commands": []}
        return _apply(context, plan, actual, desired, seconds)


def _refuse_while_unconfirmed() -> None:
    if any(one.state == journal.UNCONFIRMED for one in journal.everything()):
        raise NetError(
            "An earlier change waits for its confirmation. Confirm or revert that first.",
            kind="unconfirmed",
        )


def _apply(
    context: Context, plan: plans.Plan, actual: Document, desired: Document, seconds: float
) -> Document:
    touched = {name for step in plan.steps for name in step.touches}
    head = {
        "seconds": seconds,
        "before": put_back.snapshot(actual, touched),
        "originals": actual.get("originals", {}),
    }
    written = Journal.open(head, plan.steps)
    if plan.is_risky:
        _arm(written)
    try:
        originals.write(_remembered(actual, desired))
        _carry_out(context, written, plan.steps)
    except StepError as error:
        number = error.number if error.number is not None else context.number
        sentence = _failure(plan.steps[number], error, _undo(context, written))
        written.end(journal.UNDONE, sentence=sentence, is_told=True)
        raise NetError(sentence, kind="failed") from None
    except BaseException:
        written.end(journal.UNDONE, sentence=" ".join(_undo(context, written)), is_told=True)
        raise
    if plan.is_risky:
        written.note(deadline=time.monotonic() + seconds)
    else:
        written.end(journal.APPLIED, is_told=True)
    return {**written.told(), "commands": [one for step in plan.steps for one in step.commands]}


def _arm(written: Journal) -> None:
    """Start the timer (timer.py), from a zipapp as well: that can be in sys.path like a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", _TIMER, str(Path(__file__).parents[2]), written.token],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    written.note(timer=process.pid)


def _has_timer(written: Journal) -> bool:
    try:
        words = Path(f"/proc/{written.timer}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return written.token.encode() in words


def _carry_out(context: Context, written: Journal, steps: list[Step]) -> None:
    first = 0
    for group in groups(steps):
        written.note(begun=first + len(group))
        try:
            carry_out(context, group, first=first)
        except StepError as error:
            context.queues.clear()
            # Steps of the group behind the one that failed at once were not even asked for.
            behind = range(context.number + 1, first + len(group))
            written.note(untouched=sorted({*error.untouched, *behind}))
            raise
        first += len(group)


def _failure(step: Step, error: StepError, problems: list[str]) -> str:
    command = shlex.join(step.commands[0]) if step.commands else step.action
    why = error.sentence.rstrip(".")
    end = " ".join(problems) if problems else "All is as it was before."
    return f"“{command}” failed: {why}. {end}"


def _remembered(actual: Document, desired: Document) -> originals.Originals:
    """Links that are not ours, as they were before the document first named them."""
    there = {row["name"]: row for row in actual["links"] if not row["namespace"]}
    known = actual.get("originals", {})
    parts = ("mtu", "mac", "is_up", "master", "offloads")
    return {
        link["name"]: known.get(link["name"]) or {part: there[link["name"]][part] for part in parts}
        for link in desired.get("links", [])
        if link["kind"] == "physical" and link["name"] in there
    }


def _undo(context: Context, written: Journal) -> list[str]:
    """Sentences about what could not be undone."""
    problems = []
    context.number = 0
    for group in groups(written.to_undo):
        try:
            carry_out(context, group)
        except NetError as error:
            context.queues.clear()
            problems += _undo_singly(context, group) if len(group) > 1 else [error.sentence]
    problems += put_back.put_back(context, written.head["before"])
    originals.write(written.head["originals"])
    return problems


def _undo_singly(context: Context, group: list[Step]) -> list[str]:
    """One that fails is not to keep the others of its batch from being undone."""
    problems = []
    for step in group:
        try:
            carry_out(context, [step])
        except NetError as error:
            context.queues.clear()
            problems.append(error.sentence)
    return problems


def confirm(token: str) -> Document:
    """Keep what was applied."""
    with journal.alone():
        written = journal.read(token)
        if written.state == journal.UNCONFIRMED:
            written.end(journal.CONFIRMED, is_told=True)
        else:
            raise NetError(written.told()["sentence"], kind="late")
        return written.told()


def revert(context: Context, token: str) -> Document:
    """Undo what was applied and not confirmed, without waiting for its time to pass."""
    with journal.alone():
        written = journal.read(token)
        if written.state != journal.UNCONFIRMED:
            raise NetError(written.told()["sentence"], kind="late")
        _revert(context, written, "It was reverted, as asked.", is_told=True)
        return written.told()


def _revert(context: Context, written: Journal, sentence: str, *, is_told: bool) -> None:
    problems = _undo(context, written)
    sentence = " ".join([sentence, *problems])
    written.end(journal.REVERTED, sentence=sentence, is_told=is_told)


def recover(context: Context) -> list[Document]:
    """Finish what others left: whoever holds the lock may call it. How each of these ended."""
    found = []
    for written in journal.everything():
        if written.state == journal.APPLYING:
            problems = _undo(context, written)
            sentence = "The helper ended in the middle of the change; what it had done is undone."
            sentence = " ".join([sentence, *problems])
            written.end(journal.UNDONE, sentence=sentence, is_told=False)
            found.append(written.told())
        elif written.state == journal.UNCONFIRMED and written.deadline <= time.monotonic():
            late = f"Nobody confirmed it within {written.head['seconds']:g} s: it was reverted."
            _revert(context, written, late, is_told=False)
            found.append(written.told())
        elif written.state == journal.UNCONFIRMED and not _has_timer(written):
            _arm(written)
    return found


def pending() -> list[Document]:
    """Changes that wait for confirmation, and how those ended of which nobody has heard yet."""
    return [written.told() for written in journal.everything()]


def forget(token: str) -> None:
    """The site has heard how a change ended."""
    for written in journal.everything():
        if written.token == token and not written.is_open:
            written.forget()
