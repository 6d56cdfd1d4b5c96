"""A step of a plan: what is done, how it is undone, and the command a person would type for it.

Steps are plain data, so that they go over the wire, and into the journal on the host: whatever
finds a journal of a plan that did not end can undo it, long after the site is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kvmweb.net.errors import StepError

if TYPE_CHECKING:
    from kvmweb.net.context import Context

__all__ = ["ACTIONS", "BATCHES", "Step", "StepError", "action", "batch", "carry_out", "groups"]

# When it is done, among all parts' steps; stable within one rank. What is removed goes top down.
STOP_SERVICES, DROP_RULES, DROP_ROUTES, DROP_ADDRESSES = 10, 15, 18, 20
RELEASE_UPLINKS = 22
DROP_LEGS, DROP_PORTS, DROP_SWITCHES, DROP_LINKS, DROP_NAMESPACES = 25, 30, 33, 36, 39
ADD_NAMESPACES, ADD_LINKS, SET_LINKS, ADD_SWITCHES, ADD_PORTS, ADD_LEGS = 50, 53, 56, 60, 63, 66
ENSLAVE, SET_PORTS, ADD_ADDRESSES, SET_UP, ADD_ROUTES = 70, 73, 76, 80, 83
ADD_RULES, START_SERVICES = 90, 95


@dataclass
class Step:
    """``action`` names a function registered with ``@action``, ``args`` are its arguments (JSON).

    ``commands``: what does the same on a command line, each a list of words. ``undo``: steps that
    bring back what was there, in the order they are to be run; they must do no harm, and raise
    nothing, where the step was begun but did nothing (the helper may have been killed just then).
    ``touches``: names of the host's links and bridges it disturbs; a step that touches one the
    administrator's own path runs over is risky (plan.py finds out, and sets ``is_risky``).
    """

    action: str
    args: dict[str, Any]
    rank: int
    commands: list[list[str]] = field(default_factory=list)
    undo: list[Step] = field(default_factory=list)
    touches: list[str] = field(default_factory=list)
    is_risky: bool = False

    def to_json(self) -> dict[str, Any]:
        # Not dataclasses.asdict: that copies all of it, 0.2 ms per step.
        return {**vars(self), "undo": [one.to_json() for one in self.undo]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Step:
        return cls(**{**data, "undo": [cls.from_json(one) for one in data["undo"]]})


Action = Callable[..., None]
ACTIONS: dict[str, Action] = {}
_BATCH_OF: dict[str, str] = {}
BATCHES: dict[str, Callable[[Context], None]] = {}


def action(name: str, *, batch: str = "") -> Callable[[Action], Action]:
    """Register ``function(context, **args)`` as an action. It raises ``StepError``.

    With ``batch`` it only queues what is to be done, in ``context.queues[batch]``; the function
    registered with ``@batch`` does it, once for all steps of that batch that stand in a row.
    """

    def register(function: Action) -> Action:
        ACTIONS[name] = function
        _BATCH_OF[name] = batch
        return function

    return register


def batch(name: str) -> Callable[[Callable[[Context], None]], Callable[[Context], None]]:
    """Register ``function(context)``: it does what ``context.queues[name]`` holds and empties it.

    It raises ``StepError``. A queued thing remembers ``context.number``, its step's number, if it
    can tell which steps of the batch were ``untouched``.
    """

    def register(function: Callable[[Context], None]) -> Callable[[Context], None]:
        BATCHES[name] = function
        return function

    return register


def groups(steps: Iterable[Step]) -> list[list[Step]]:
    """Steps that are carried out together: those of one batch and rank in a row; any other alone.

    By rank, so that nothing is built on a link before it is known that it could be made.
    """
    found: list[list[Step]] = []
    last = ("", 0)
    for step in steps:
        key = (_BATCH_OF.get(step.action, ""), step.rank)
        if key[0] and key == last:
            found[-1].append(step)
        else:
            found.append([step])
        last = key
    return found


def carry_out(context: Context, group: list[Step], *, first: int = 0) -> None:
    """Do one of ``groups()``; ``first`` is the number of its first step in the plan."""
    for number, step in enumerate(group, first):
        context.number = number
        ACTIONS[step.action](context, **step.args)
    name = _BATCH_OF[group[0].action]
    if name:
        BATCHES[name](context)
