"""What a helper can be asked, by name, and what it watches: each part adds its own.

    @call("ovs.flows", seconds=10)
    def flows(context: Context, *, bridge: str) -> list[Any]: ...

    @watcher
    def watch(changed: Callable[[str], None]) -> None: ...

A call returns JSON or raises ``NetError``; it has a context to itself, in a thread of its own. A
watcher runs in its own thread for ever, and says ``changed("ovs")`` as often as it likes: the
helper gathers that into few events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    function: Callable[..., Any]
    seconds: float


CALLS: dict[str, Call] = {}
WATCHERS: list[Callable[[Callable[[str], None]], None]] = []


def call(name: str, *, seconds: float = 10) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        CALLS[name] = Call(function, seconds)
        return function

    return register


def watcher(
    function: Callable[[Callable[[str], None]], None],
) -> Callable[[Callable[[str], None]], None]:
    WATCHERS.append(function)
    return function
