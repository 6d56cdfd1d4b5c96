"""The few threads that talk to the database for all consoles.

A thread of its own per console would hold a database connection for as long as it lives, and five
hundred that start together would ask PostgreSQL for five hundred at once.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import close_old_connections, connections

P = ParamSpec("P")
R = TypeVar("R")
THREADS = 4

_pool: ThreadPoolExecutor | None = None
_pool_of = 0


def ask(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
    """The answer of ``function``, run by one of them."""
    global _pool, _pool_of
    if _pool is None or _pool_of != os.getpid():  # a forked process has no threads of its parent
        _pool, _pool_of = ThreadPoolExecutor(THREADS, "console clerk"), os.getpid()
    return _pool.submit(_done, partial(function, *args, **kwargs))


def _done(work: Callable[[], R]) -> R:
    close_old_connections()
    try:
        return work()
    finally:
        close_old_connections()


def dismiss() -> None:
    """Wait until all that was asked is done, and let their database connections go."""
    global _pool
    pool, _pool = _pool, None
    if pool is not None and _pool_of == os.getpid():
        for _ in range(THREADS):
            pool.submit(connections.close_all)
        pool.shutdown()
