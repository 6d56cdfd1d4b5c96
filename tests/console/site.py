"""The console's part of the site: real uvicorn, ``ConsoleProtocol``, tickets; and a browser."""

import asyncio
import contextlib
import threading
import time
from typing import Any

import uvicorn
import uvloop
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from kvmweb.console import consoles, process
from kvmweb.console.handler import Dial
from kvmweb.console.protocol import ConsoleProtocol
from kvmweb.models import Level, Machine, User
from kvmweb.operations.consoles import issue_ticket
from tests.waiting import until

HANDSHAKE = b"RFB 003.008\n" + bytes([1, 0])
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Everything but consoles: a page, and a websocket that says what it hears."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a page"})


class ConsoleSite:
    """``dial`` stands where libvirt hands a display over."""

    def __init__(self, dial: Dial, *, loop: str = "uvloop") -> None:
        protocol = type("Protocol", (ConsoleProtocol,), {"dial": staticmethod(dial)})
        config = uvicorn.Config(
            application,
            port=0,
            ws=protocol,
            ws_per_message_deflate=False,
            lifespan="off",
            log_level="warning",
        )
        self._server = uvicorn.Server(config)
        self._loop = LOOPS[loop]()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started, what="uvicorn to start")
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"

    def _run(self) -> None:
        self._loop.run_until_complete(self._server.serve())
        self._loop.close()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        process.end()
        assert not consoles.all_open()

    def browser(self, user: User, machine: Machine, level: str = Level.CONTROL) -> ClientConnection:
        """A console, open, as a signed-in person's page opens it."""
        session = sign_in(user)
        issued = issue_ticket(user, machine, level, session_key=session)
        return self.connect(issued["protocols"], cookie=session)

    def connect(
        self,
        protocols: list[str],
        *,
        cookie: str | None = None,
        origin: str | None = "own",
        headers: dict[str, str] | None = None,
    ) -> ClientConnection:
        cookies = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={cookie}"} if cookie else {}
        return connect(
            f"ws://{self.host}/websockify",
            subprotocols=[Subprotocol(protocol) for protocol in protocols] or None,
            origin=Origin(f"http://{self.host}" if origin == "own" else origin) if origin else None,
            additional_headers=cookies | (headers or {}),
            compression=None,
            max_size=None,
            close_timeout=1,
        )


def sign_in(user: User) -> str:
    """The key of a new session, as ``django.contrib.auth.login`` makes it."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    assert session.session_key
    return session.session_key


def shake_hands(browser: ClientConnection) -> None:
    """RFB's handshake as noVNC does it, but asking to be alone (shared = 0)."""
    browser.send(HANDSHAKE)
    heard = b""
    while len(heard) < 12 + 2 + 4 + 24 + 4:
        message = browser.recv(10)
        assert isinstance(message, bytes)
        heard += message
    assert heard.startswith(b"RFB 003.008\n")


def ending(browser: ClientConnection, *, within: float = 2.0) -> tuple[int, str]:
    """Code and reason with which the site closes, in time."""
    ends = time.monotonic() + within
    with contextlib.suppress(ConnectionClosed):
        while time.monotonic() < ends:
            browser.recv(within)
    assert time.monotonic() < ends, f"it is still open after {within} s"
    assert browser.protocol.close_rcvd is not None, "the site said no goodbye"
    return browser.protocol.close_rcvd.code, browser.protocol.close_rcvd.reason
