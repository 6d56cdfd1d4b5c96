"""Tickets for consoles. What redeems them is ``kvmweb.console.admission``."""

import secrets
from datetime import datetime, timedelta
from typing import TypedDict

from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from kvmweb.models import ApiToken, ConsoleSession, ConsoleTicket, Level, Machine, Privilege, User
from kvmweb.models.access import CONSOLE_CONTROL, CONSOLE_VIEW, digest, may
from kvmweb.operations.operation import Conflict, Forbidden, Invalid, Refused, Text
from kvmweb.virt.displays import Way, has_vnc, route

PATH = "/websockify"
SUBPROTOCOL = "binary"
PREFIX = "ticket."
LIFE = timedelta(seconds=30)
PER_MINUTE = 30
OPEN_PER_USER = 50
NEEDS: dict[str, Privilege] = {Level.VIEW: CONSOLE_VIEW, Level.CONTROL: CONSOLE_CONTROL}


class TooMany(Refused):
    """Asked too often, or too much is open already."""


class Ticket(TypedDict):
    """What a client hands to ``new WebSocket(path, protocols)``, until ``expires`` (ISO 8601)."""

    path: str
    protocols: list[str]
    expires: str


def issue_ticket(
    user: User,
    machine: Machine,
    level: str,
    *,
    session_key: str = "",
    token: ApiToken | None = None,
) -> Ticket:
    """A ticket for one console of this machine, bound to the browser's session or to the token.

    ``level``: "view" or "control". Raises ``Forbidden``, ``Conflict``, ``Invalid`` or ``TooMany``.
    """
    if level not in NEEDS:
        raise Invalid(_("Choose “view” or “control”."), fields={"level": "view, control"})
    if not may(user, NEEDS[level], machine):
        raise Forbidden(_FORBIDDEN[Level(level)])
    problem = unreachable(machine)
    if problem:
        raise Conflict(problem)
    now = timezone.now()
    _purge(now)
    _check_rate(user, now)
    secret = secrets.token_urlsafe(32)
    ConsoleTicket.objects.create(
        digest=digest(secret),
        user=user,
        session_key="" if token else session_key,
        token=token,
        host_id=machine.host_id,
        machine_uuid=machine.uuid,
        level=level,
        expires=now + LIFE,
    )
    protocols = [SUBPROTOCOL, PREFIX + secret]
    return {"path": PATH, "protocols": protocols, "expires": (now + LIFE).isoformat()}


def unreachable(machine: Machine) -> Text | None:
    """Why this machine's display can't be opened now, as a sentence; None where it can."""
    host = machine.host
    if host.absence:
        return host.absence
    if not machine.is_active:
        return _("The machine is not running. Start it, then open its console.")
    if machine.graphics != "vnc" and not has_vnc(machine.xml):
        return _NO_VNC.get(machine.graphics, _NO_VNC["other"])
    if route(host.uri).way is Way.NONE:
        return _("The console would cross the network unencrypted. Connect this host by qemu+ssh.")
    return None


_FORBIDDEN = {
    Level.VIEW: _("You are not allowed to look at consoles."),
    Level.CONTROL: _("You are not allowed to use consoles, only to look at them."),
}
_NO_VNC = {
    "": _("This machine has no display. Shut it down, add VNC graphics, and start it again."),
    "other": _(
        "The browser shows VNC displays only, and this machine has another kind. "
        "Shut it down, add VNC graphics, and start it again."
    ),
}


def _check_rate(user: User, now: datetime) -> None:
    # A ticket lives LIFE, so those that expire after this were issued within the last minute.
    recent = ConsoleTicket.objects.filter(user=user, expires__gt=now + LIFE - timedelta(minutes=1))
    if recent.count() >= PER_MINUTE:
        raise TooMany(_("Too many consoles were opened within a minute. Wait a little."))
    if ConsoleSession.objects.filter(user=user, closed=None).count() >= OPEN_PER_USER:
        raise TooMany(
            format_lazy(
                _("You have {count} consoles open, and no more are allowed. Close some."),
                count=OPEN_PER_USER,
            )
        )


def _purge(now: datetime) -> None:
    """Tickets count for the rate until a minute is over, and are of no use after that."""
    old = ConsoleTicket.objects.filter(expires__lt=now - timedelta(minutes=1))
    if old.exists():  # a read is cheaper than a write that finds nothing
        old.delete()
