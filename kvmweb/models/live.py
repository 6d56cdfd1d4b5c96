"""Names of things that changed, on their way to browsers and agents.

Nothing but names is sent. A thread that is not an event loop hands them to the one loop of its
process: the site's own under ``serve``, otherwise a small one that is started at the first use.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from channels.layers import get_channel_layer
from django.db import transaction

AGENTS = "agents"

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def group(topic: str) -> str:
    """The channel group of a topic; group names admit no colon."""
    return "live." + topic.replace(":", ".")


def announce(*topics: str) -> None:
    """Say, once the transaction is committed, that these things changed."""
    if topics:
        messages = [(group(topic), {"type": "changed", "topic": topic}) for topic in topics]
        transaction.on_commit(lambda: run_in_loop(_send(messages)))


def wake_agents() -> None:
    """Say, once the transaction is committed, that there is a job or a host to look at."""
    transaction.on_commit(lambda: run_in_loop(_send([(AGENTS, {"type": "wake"})])))


def use_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Send from this loop (an in-memory channel layer is not safe to use from two)."""
    global _loop
    _loop = loop


def run_in_loop(coroutine: Coroutine[Any, Any, Any]) -> None:
    asyncio.run_coroutine_threadsafe(coroutine, _running_loop())


async def _send(messages: list[tuple[str, dict[str, Any]]]) -> None:
    layer = get_channel_layer()
    assert layer is not None
    for group_name, message in messages:
        await layer.group_send(group_name, message)


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="live", daemon=True).start()
        return _loop
