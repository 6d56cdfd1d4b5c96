"""The whole plan between what is there and what is wanted, its digest and its risk.

For whoever writes a part (a module with ``read`` and ``plan``): add it to ``PARTS``.

- ``read(context)`` returns its share of the actual state, JSON. The shares are merged into one
  dict, so keys must differ: links.py has ``links``, ``routes``, ``namespaces``, ``features``; ovs.py
  ``switches`` (each with ``name`` and ``ports``, each of these with ``name`` and ``interfaces``: risk
  follows them) and whatever more under ``ovs``; routers.py ``routers``; forwards.py ``forwards``.
  A part whose ``read`` raises ``NetError`` does not stop the others: its sentence is in
  ``actual["problems"][part]``, and its ``plan`` must refuse with it if the document needs it.
- ``plan(context, actual, desired, owned)`` returns steps. ``desired`` and ``owned`` are documents
  with all their defaults, or ``{}``; use ``.get("switches", [])``. It raises ``NetError(sentence,
  field="switches.0.ports.2.tag")`` for what can't be. It must return [] when there is nothing to do.
- Within one rank a part's steps stay in its order; parts come in the order of ``PARTS``.
- Links in ``actual["links"]`` have ``namespace`` ("" is the host) and ``name``; ``links.by_name(actual,
  namespace)`` is a dict of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from kvmweb.net import links
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.step import Step

State = dict[str, Any]

PARTS: list[ModuleType] = [
    links,
]


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
    return state


def plan(context: Context, actual: State, desired: State, owned: State) -> list[Step]:
    """All parts' steps in the order they are done."""
    steps = [step for part in PARTS for step in part.plan(context, actual, desired, owned)]
    return sorted(steps, key=lambda step: step.rank)


def digest(steps: list[Step]) -> str:
    """Two plans with the same digest do the same."""
    text = json.dumps([step.to_json() for step in steps], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
