"""Closes open consoles whose permission, session, machine or time has gone.

One thread and two queries a second for all consoles of a process, however many.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable
from datetime import datetime

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import DatabaseError, connection
from django.db.models import Exists, OuterRef
from django.utils import timezone

from kvmweb.console import consoles
from kvmweb.console.consoles import (
    IDLE,
    MACHINE_GONE,
    NOT_READING,
    TOO_LONG,
    WITHDRAWN,
    OpenConsole,
)
from kvmweb.models import ConsoleSession, Level, Machine
from kvmweb.models.access import may
from kvmweb.operations.consoles import NEEDS

logger = logging.getLogger(__name__)

EVERY = 1.0
# A person may have to type the display's password in between.
HANDSHAKE_SECONDS = 120
# A browser that takes nothing for so long does not come back.
STALL_SECONDS = 300
# So long the database may be away before consoles are closed because nothing can be checked.
UNCHECKED_SECONDS = 30

_starting = threading.Lock()
_thread: threading.Thread | None = None
_thread_of = 0


def start() -> None:
    """Have this process's consoles watched, if they are not yet."""
    global _thread, _thread_of
    with _starting:
        if _thread is None or not _thread.is_alive() or _thread_of != os.getpid():
            _thread = threading.Thread(target=_watch, name="console watch", daemon=True)
            _thread_of = os.getpid()
            _thread.start()


def _watch() -> None:
    """Ends when there is nothing to watch; the next console starts it again."""
    checked = time.monotonic()
    while True:
        with _starting:
            opened = consoles.all_open()
            if not opened:
                global _thread
                _thread = None
                break
        try:
            check(opened)
            checked = time.monotonic()
        except DatabaseError:
            logger.exception("the database did not answer; open consoles were not checked")
            connection.close()
            if time.monotonic() - checked > UNCHECKED_SECONDS:
                _close(opened, WITHDRAWN, "Your permission could not be checked.")
        check_times(opened)
        time.sleep(EVERY)
    connection.close()


def check(opened: Iterable[OpenConsole]) -> None:
    """Ask the database about all of them, and close those that may not be open any more."""
    by_id = {console.id: console for console in opened}
    for row in _rows(by_id, timezone.now()):
        reason = _withdrawn(row, by_id[row.pk])
        if reason:
            by_id[row.pk].close(WITHDRAWN, reason)
    there = set(
        Machine.objects.filter(uuid__in={console.machine_uuid for console in by_id.values()})
        .order_by()
        .values_list("host_id", "uuid")
    )
    for console in by_id.values():
        if (console.host_id, console.machine_uuid) not in there:
            console.close(MACHINE_GONE, "The machine is not there any more.")


def _rows(ids: Iterable[object], now: datetime) -> Iterable[ConsoleSession]:
    session = Session.objects.filter(session_key=OuterRef("session_key"), expire_date__gt=now)
    rows = ConsoleSession.objects.filter(pk__in=list(ids)).select_related("user", "token__user")
    return rows.annotate(has_session=Exists(session))


def _withdrawn(row: ConsoleSession, console: OpenConsole) -> str:
    user = row.user
    if user is None or not user.is_active:
        return "Your account was closed."
    if not may(user, NEEDS[console.level]):
        return "Your permission was withdrawn."
    if console.token_id:
        is_valid = row.token is not None and row.token.is_valid(timezone.now())
        return "" if is_valid else "The API token is not valid any more."
    if not row.has_session or user.password != console.password:  # type: ignore[attr-defined]
        return "You were signed out."
    return ""


def check_times(opened: Iterable[OpenConsole]) -> None:
    """Close those that are open, idle, in their handshake or stalled for too long."""
    now = time.monotonic()
    for console in opened:
        if _is_over(now - console.opened, settings.CONSOLE_MAXIMUM_SECONDS):
            console.close(TOO_LONG, "The console was open for the longest time allowed.")
        elif not console.is_ready:
            if _is_over(now - console.opened, HANDSHAKE_SECONDS):
                console.close(IDLE, "The connection was opened and not used.")
        elif console.stalled is not None and _is_over(now - console.stalled, STALL_SECONDS):
            console.close(NOT_READING, "The browser did not take what the display sent.")
        elif console.level == Level.CONTROL and _is_over(
            now - console.heard, settings.CONSOLE_IDLE_SECONDS
        ):
            console.close(IDLE, "Nothing was typed for a long time.")


def _is_over(seconds: float, limit: float) -> bool:
    return bool(limit) and seconds > limit


def _close(opened: Iterable[OpenConsole], code: int, reason: str) -> None:
    for console in opened:
        console.close(code, reason)
