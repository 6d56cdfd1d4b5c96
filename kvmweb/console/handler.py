"""One console: websockify's handler, with tickets before it and limits around it.

What differs from websockify's own ``do_proxy``: the sockets never block, whoever does not take
what was sent is not sent more, waiting is by ``poll`` (``select`` ends at descriptor 1023), and a
viewer's bytes go through ``rfb.ViewerStream``.
"""

import contextlib
import io
import ipaddress
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from websockify.websocketproxy import ProxyRequestHandler

from kvmweb.console import admission, audit, clerk, consoles, watch
from kvmweb.console.admission import Refusal
from kvmweb.console.browser import UNSENT, ConsoleSocket
from kvmweb.console.carrying import Carrying
from kvmweb.console.consoles import (
    BAD_STREAM,
    BROWSER_LEFT,
    STOPPING,
    UNREACHABLE,
    OpenConsole,
)
from kvmweb.console.rfb import RfbError
from kvmweb.operations.consoles import SUBPROTOCOL
from kvmweb.virt.errors import OperationError

logger = logging.getLogger("kvmweb.console")

STOPPED = (STOPPING, "The site is being restarted.")
Dial = Callable[[OpenConsole], socket.socket]

# Where websockify itself accepts: so long a client may take for its request, in all.
REQUEST_SECONDS = 10.0
CLERK_SECONDS = 30.0


class Facade:
    """What websockify's handler wants of its server, for one connection: ``LibProxyServer`` shares
    the target between all of them.
    """

    only_upgrade = True
    run_once = True  # one request, then the connection ends
    token_plugin = auth_plugin = heartbeat = None
    ws_connection = False
    logger = logger

    def __init__(self, request: bytes, dial: Dial) -> None:
        self.request = request
        self.dial = dial


class ConsoleHandler(ProxyRequestHandler):  # type: ignore[misc]  # websockify has no types
    """Serves one upgrade request, and the console that it opens, in the thread that makes it."""

    SocketClass = ConsoleSocket

    def setup(self) -> None:
        super().setup()
        self.console: OpenConsole | None = None
        self.ended = STOPPED
        if isinstance(self.server, Facade):
            self.rfile.close()  # type: ignore[has-type]
            self.rfile = io.BytesIO(self.server.request)
            self.hurry = None
        else:
            self.hurry = threading.Timer(REQUEST_SECONDS, self._cut)
            self.hurry.start()

    def finish(self) -> None:
        if self.hurry:
            self.hurry.cancel()
        super().finish()

    def _cut(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def version_string(self) -> str:
        return "kvmweb"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        logger.debug(format, *args)

    def handle_upgrade(self) -> None:
        if self.hurry:
            self.hurry.cancel()
        try:
            console = self._admitted()
        except Refusal as refusal:
            logger.warning("console refused to %s: %s", self._address(), refusal)
            self.close_connection = True
            self.send_error(refusal.status)
            return
        self.console = console
        watch.start()
        try:
            super().handle_upgrade()
        finally:
            self._leave(console)

    def _admitted(self) -> OpenConsole:
        if self.path.partition("?")[0] != "/websockify":
            raise Refusal(404, "there is no such address")
        get = self.headers.get
        request = admission.Request(
            protocols=",".join(self.headers.get_all("Sec-WebSocket-Protocol", [])),
            origin=get("Origin"),
            host=get("Host", ""),
            cookie="; ".join(self.headers.get_all("Cookie", [])),
            is_secure=self._is_behind_proxy() and get("X-Forwarded-Proto") == "https",
            address=self._address(),
        )
        admission.secret_of(request)
        # The secret ends here, and the answer names the one protocol there is.
        del self.headers["Sec-WebSocket-Protocol"]
        self.headers["Sec-WebSocket-Protocol"] = SUBPROTOCOL
        asked = clerk.ask(admission.admit, request)
        try:
            return asked.result(CLERK_SECONDS)
        except DatabaseError as error:
            raise Refusal(503, f"the database did not answer: {error}") from error
        except TimeoutError:
            if not asked.cancel():
                asked.add_done_callback(_abandon)
            raise Refusal(503, "the database did not answer in time") from None

    def _is_behind_proxy(self) -> bool:
        """A proxy is only believed where one is configured and runs on this computer."""
        peer = self.client_address[0] if self.client_address else ""
        return bool(settings.ALLOWED_ORIGINS) and peer in ("", "127.0.0.1", "::1")

    def _address(self) -> str:
        peer = self.client_address[0] if self.client_address else ""
        if self._is_behind_proxy():
            peer = self.headers.get("X-Forwarded-For", peer).split(",")[-1].strip()
        try:
            return str(ipaddress.ip_address(peer))
        except ValueError:
            return ""

    def _leave(self, console: OpenConsole) -> None:
        code, reason = self.ended
        logger.info(
            "console of %s closed for %s: %s (%d)",
            console.machine_name,
            console.username,
            reason,
            code,
        )
        # RuntimeError: the process ends and takes no work; the next one closes the row.
        with contextlib.suppress(RuntimeError, TimeoutError):
            clerk.ask(audit.closed, console, reason).result(CLERK_SECONDS)
        consoles.remove(console)

    def new_websocket_client(self) -> None:
        """Called by websockify when the upgrade is answered."""
        console = self.console
        assert console is not None
        logger.info(
            "console of %s opened for %s to %s from %s",
            console.machine_name,
            console.username,
            console.level,
            console.address,
        )
        try:
            machine = self.server.dial(console)
        except OperationError as error:
            self.ended = (UNREACHABLE, error.sentence)
        except OSError:
            logger.exception("no display of %s", console.machine_name)
            self.ended = (UNREACHABLE, "The display could not be reached.")
        else:
            with machine:
                self.request.prepare()
                _prepare(machine)
                console.attach(machine)
                self.ended = console.verdict or self._carry(machine, console)
        raise self.CClose(*self.ended)

    def _carry(self, machine: socket.socket, console: OpenConsole) -> tuple[int, str]:
        try:
            return Carrying(self.request, machine, console).run()
        except RfbError as error:
            logger.warning("%s's console was closed: it sent %s", console.username, error)
            return BAD_STREAM, "The browser sent what the site does not understand."
        except OSError:
            return console.verdict or (BROWSER_LEFT, "The connection to the browser broke.")

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        self.request.say_goodbye(code, reason)


def _prepare(machine: socket.socket) -> None:
    machine.settimeout(0)
    # Over TCP the kernel would let it grow to megabytes while the browser does not read.
    machine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNSENT)


def _abandon(asked: "Future[OpenConsole]") -> None:
    """It was admitted after all, when nobody waited any more."""
    if asked.exception() is None:
        consoles.remove(asked.result())
        audit.closed(asked.result(), "The database was too slow.")


def serve(connection: socket.socket, address: tuple[str, int], facade: Facade) -> None:
    """Serve this connection, whose request was read before, until it ends."""
    with connection:
        try:
            ConsoleHandler(connection, address, facade)
        except OSError as error:
            logger.debug("a console's browser went away: %s", error)
