"""The whole plan between what is there and what is wanted, its digest and its risk.

For whoever writes a part (a module with ``read`` and ``plan``): add it to ``PARTS``.

- ``read(context)`` returns its share of the actual state, JSON. The shares are merged into one
  dict, so keys must differ: links.py has ``links``, ``addresses``, ``routes``, ``namespaces``,
  ``features``, ``originals``; ovs ``switches`` (each with ``name`` and ``ports``, each of these
  with ``name`` and ``interfaces``: risk follows them) and whatever more under ``ovs``; routers
  ``routers``; forwards.py ``forwards``; bridging.py ``bridging``. A part whose ``read`` raises
  ``NetError`` does not stop the others: its sentence is in ``actual["problems"][part]``, and its
  ``plan`` must refuse with it if the document needs it.
- ``plan(context, actual, desired, owned)`` returns steps. ``desired`` and ``owned`` are documents
  with all their defaults, or ``{}``; use ``.get("switches", [])``. It raises ``NetError(sentence,
  field="switches.0.ports.2.tag")`` for what can't be. It returns [] when there is nothing to do.
- A plan made a second later must be the same: nothing in a step that passes (counters, lifetimes).
- Within one rank a part's steps stay in its order; parts come in the order of ``PARTS``.
- Links in ``actual["links"]`` have ``namespace`` ("" is the host) and ``name``;
  ``links.by_name(actual, namespace)`` is a dict of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

from kvmweb.net import bridging, forwards, links, ovs, risk, routers
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.step import Step

State = dict[str, Any]

PARTS: list[ModuleType] = [links, ovs, routers, forwards, bridging]

# The document's keys of each part.
_NAMES = {
    "links": ("links", "routes"),
    "ovs": ("switches",),
    "routers": ("routers",),
    "forwards": ("forwards",),
    "bridging": (),
}


def name_of(part: ModuleType) -> str:
    return part.__name__.rpartition(".")[2]


def read_all(context: Context, parts: Iterable[str] = ()) -> State:
    """The actual state; of ``parts`` only, if any are named."""
    wanted = set(parts)
    state: State = {"problems": {}}
    for part in PARTS:
        if not wanted or name_of(part) in wanted:
            try:
                state.update(part.read(context))
            except NetError as error:
                state["problems"][name_of(part)] = error.sentence
    if "routers" in state:
        routers.complete(context, state)
    return state


@dataclass(frozen=True)
class Way:
    """How the administrator reaches the host. ``keep``: addresses of the host that the site uses;
    ``ssh``: SSH_CONNECTION of the helper's session.
    """

    keep: tuple[str, ...] = ()
    ssh: str = ""


@dataclass(frozen=True)
class Plan:
    """``reasons``: why it is risky, in sentences; ``warnings``: what else is to be known."""

    steps: list[Step]
    reasons: list[str]
    warnings: list[str]

    @property
    def is_risky(self) -> bool:
        return any(step.is_risky for step in self.steps)

    @cached_property
    def digest(self) -> str:
        """Two plans with the same digest do the same."""
        text = json.dumps([step.to_json() for step in self.steps], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def told(self) -> dict[str, Any]:
        """For the site: what a person is shown."""
        return {
            "digest": self.digest,
            "is_risky": self.is_risky,
            "reasons": self.reasons,
            "warnings": self.warnings,
            "steps": [
                {
                    "action": step.action,
                    "commands": step.commands,
                    "undo": [command for undo in step.undo for command in undo.commands],
                    "touches": step.touches,
                    "is_risky": step.is_risky,
                }
                for step in self.steps
            ],
        }


def _is_needed(part: ModuleType, actual: State, desired: State, owned: State) -> bool:
    """A part that could not be read has nothing to plan, unless the documents name it."""
    problem = actual["problems"].get(name_of(part))
    named = [key for key in _NAMES[name_of(part)] if desired.get(key) or owned.get(key)]
    if problem and named:
        raise NetError(problem, field=named[0], kind="missing")
    return not problem


def make(
    context: Context, actual: State, desired: State, owned: State, *, way: Way = Way()
) -> Plan:
    """All parts' steps in the order they are done."""
    steps = [
        step
        for part in PARTS
        if _is_needed(part, actual, desired, owned)
        for step in part.plan(context, actual, desired, owned)
    ]
    steps.sort(key=lambda step: step.rank)
    reasons = risk.mark(steps, risk.path(actual, keep=way.keep, ssh=way.ssh))
    return Plan(steps, reasons, risk.warnings(steps, actual, desired))
