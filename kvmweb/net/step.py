"""A step of a plan: what is done, how it is undone, and the command a person would type for it.

Steps are plain data, so that they go over the wire, and into the journal on the host: whatever
finds a journal of a plan that did not end can undo it, long after the site is gone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# When it is done, among all parts' steps; stable within one rank. What is removed goes top down.
STOP_SERVICES, DROP_RULES, DROP_ROUTES, DROP_ADDRESSES = 10, 15, 18, 20
DROP_LEGS, DROP_PORTS, DROP_SWITCHES, DROP_LINKS, DROP_NAMESPACES = 25, 30, 33, 36, 39
ADD_NAMESPACES, ADD_LINKS, SET_LINKS, ADD_SWITCHES, ADD_PORTS, ADD_LEGS = 50, 53, 56, 60, 63, 66
ENSLAVE, SET_PORTS, ADD_ADDRESSES, SET_UP, ADD_ROUTES = 70, 73, 76, 80, 83
ADD_RULES, START_SERVICES = 90, 95


class StepError(Exception):
    """Why a step failed: a sentence for the person at the screen."""


@dataclass
class Step:
    """``action`` names a function registered with ``@action``, ``args`` are its arguments (JSON).

    ``commands``: what does the same on a command line, each a list of words. ``undo``: steps that
    bring back what was there, in the order they are to be run. ``touches``: names of links and
    bridges it disturbs; a step that touches one the administrator's own path runs over is risky.
    """

    action: str
    args: dict[str, Any]
    rank: int
    commands: list[list[str]] = field(default_factory=list)
    undo: list[Step] = field(default_factory=list)
    touches: list[str] = field(default_factory=list)
    is_risky: bool = False

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Step:
        return cls(**{**data, "undo": [cls.from_json(one) for one in data["undo"]]})


# context is net.context.Context: sockets to netlink (by namespace) and OVSDB, opened when needed.
Action = Callable[..., None]
ACTIONS: dict[str, Action] = {}


def action(name: str) -> Callable[[Action], Action]:
    """Register ``function(context, **args)`` as an action. It raises ``StepError``."""

    def register(function: Action) -> Action:
        ACTIONS[name] = function
        return function

    return register
