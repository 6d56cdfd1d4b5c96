"""Whether an upgrade request opens a console: ticket, session, origin and permission.

Whoever is refused learns nothing but the status; the reason is in the log.
"""

import uuid
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.http import parse_cookie
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from kvmweb.console import audit, consoles
from kvmweb.console.consoles import OpenConsole
from kvmweb.models import ConsoleTicket, Machine, User
from kvmweb.models.access import digest, may
from kvmweb.operations.consoles import NEEDS, PREFIX, SUBPROTOCOL
from kvmweb.origins import is_own_origin


class Refusal(Exception):
    """``status`` is for the client, the text for the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Request:
    """What of an upgrade request matters."""

    protocols: str
    origin: str | None
    host: str
    cookie: str
    is_secure: bool
    address: str


def secret_of(request: Request) -> str:
    """The ticket's text. Raises ``Refusal``; needs no database, and comes before all that does."""
    if request.origin is not None and not is_own_origin(
        request.origin, request.host, secure=request.is_secure
    ):
        raise Refusal(403, f"the origin {request.origin[:200]!r} is foreign")
    offered = [protocol.strip() for protocol in request.protocols.split(",")]
    tickets = [protocol for protocol in offered if protocol.startswith(PREFIX)]
    if SUBPROTOCOL not in offered or len(tickets) != 1:
        raise Refusal(403, "no ticket was shown")
    return tickets[0].removeprefix(PREFIX)


def admit(request: Request) -> OpenConsole:
    """The console that this request opens: ticket redeemed, audit row written, in the list of the
    open ones. Raises ``Refusal``.
    """
    ticket = _ticket(secret_of(request))
    if ticket.token_id is None:
        _check_session(ticket, request)
    elif ticket.token is None or not ticket.token.is_valid(timezone.now()):
        raise Refusal(403, f"{ticket.user}'s token is not valid any more")
    machine = _machine(ticket)
    console = _console(ticket, machine, request.address)
    try:
        consoles.add(console)
    except consoles.Full:
        raise Refusal(503, f"too many consoles are open for {ticket.user}") from None
    try:
        _redeem(ticket)
        audit.opened(console)
    except BaseException:
        consoles.remove(console)
        raise
    return console


def _ticket(secret: str) -> ConsoleTicket:
    rows = ConsoleTicket.objects.select_related("user", "token__user", "host")
    ticket = rows.filter(digest=digest(secret)).first()
    if ticket is None:
        raise Refusal(403, "there is no such ticket")
    if ticket.used is not None:
        raise Refusal(403, f"{ticket.user}'s ticket was used before")
    if ticket.expires <= timezone.now():
        raise Refusal(403, f"{ticket.user}'s ticket has expired")
    return ticket


def _redeem(ticket: ConsoleTicket) -> None:
    """The database decides who was first, if several come with the same."""
    now = timezone.now()
    unused = ConsoleTicket.objects.filter(pk=ticket.pk, used=None, expires__gt=now)
    if unused.update(used=now) != 1:
        raise Refusal(403, f"{ticket.user}'s ticket was used before")


def _check_session(ticket: ConsoleTicket, request: Request) -> None:
    """The browser session that asked for the ticket, still signed in, on a page of ours."""
    if request.origin is None:
        raise Refusal(403, "a browser says where it comes from, and this one did not")
    key = parse_cookie(request.cookie).get(settings.SESSION_COOKIE_NAME, "")
    if not key or not constant_time_compare(key, ticket.session_key):
        raise Refusal(403, f"{ticket.user}'s ticket came with another session")
    if not is_signed_in(key, ticket.user):
        raise Refusal(403, f"{ticket.user}'s session has ended")


def is_signed_in(session_key: str, user: User) -> bool:
    """Whether this session is there, this user's, and made under the present password."""
    session: dict[str, Any] = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    return session.get(SESSION_KEY) == str(user.pk) and constant_time_compare(
        session.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash()
    )


def _machine(ticket: ConsoleTicket) -> Machine:
    visible = Machine.objects.visible_to(ticket.user).select_related("host").defer("inactive_xml")
    machine = visible.filter(host=ticket.host_id, uuid=ticket.machine_uuid).first()
    if machine is None:
        raise Refusal(404, f"the machine {ticket.machine_uuid} is not there for {ticket.user}")
    if not may(ticket.user, NEEDS[ticket.level], machine):
        raise Refusal(403, f"{ticket.user} may not {ticket.level} {machine}")
    return machine


def _console(ticket: ConsoleTicket, machine: Machine, address: str) -> OpenConsole:
    return OpenConsole(
        id=uuid.uuid4(),
        user_id=ticket.user.pk,
        username=ticket.user.username,
        password=ticket.user.password,
        session_key=ticket.session_key,
        token_id=ticket.token_id,
        host_id=machine.host_id,
        agent=machine.host.agent,
        uri=machine.host.uri,
        machine_uuid=machine.uuid,
        machine_name=machine.name,
        level=ticket.level,
        address=address,
    )
