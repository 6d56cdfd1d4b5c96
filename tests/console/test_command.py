"""``manage.py console``: websockify's own server."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from kvmweb.console.handler import REQUEST_SECONDS
from tests.site import free_port
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def port(state_directory: Path) -> Iterator[int]:
    number = free_port()
    environment = {
        **os.environ,
        "KVMWEB_STATE_DIR": str(state_directory),
        "DATABASE_URL": f"sqlite:///{settings.DATABASES['default']['NAME']}",
    }
    command = [sys.executable, "manage.py", "console", "--bind", f"127.0.0.1:{number}"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert b"kvmweb's consoles" in process.stdout.readline()
        until(lambda: _answers(number), what="the server")
        yield number
        process.terminate()
        assert process.wait(10) == 0


def _answers(number: int) -> bool:
    try:
        return b"404" in ask(number, "/other")
    except OSError:
        return False


def ask(number: int, path: str) -> bytes:
    """The answer to an upgrade request without a ticket."""
    with socket.create_connection(("127.0.0.1", number), 10) as client:
        client.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: binary, ticket.x\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: client.recv(4096), b""))


def test_it_has_consoles_and_nothing_else(port: int) -> None:
    assert ask(port, "/websockify").startswith(b"HTTP/1.1 403")
    assert ask(port, "/").startswith(b"HTTP/1.1 404")
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 405")


def test_a_request_that_never_ends_is_cut_off(port: int) -> None:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), REQUEST_SECONDS + 10) as client:
        client.sendall(b"GET /websockify HTTP/1.1\r\n")
        client.settimeout(0.5)
        while True:
            try:
                assert client.recv(1) == b""
                break
            except TimeoutError:
                # A header, a byte at a time: each would start a time-out for reading anew.
                client.sendall(b"x")
            except ConnectionResetError:
                break
    assert time.monotonic() - started < REQUEST_SECONDS + 2
