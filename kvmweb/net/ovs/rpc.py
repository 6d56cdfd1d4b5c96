"""JSON-RPC 1.0 as OVSDB (RFC 7047) and the daemons' control sockets (ovs-appctl) speak it.

Every exchange has a deadline, and a connection of its own: connecting costs 0.1 ms, and where none
is kept there is none to lose when a daemon is restarted.
Why neither ovsdbapp nor the ``ovs`` package: docs/decisions/0006-ovsdb.md.
"""

from __future__ import annotations

import codecs
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvmweb.net.errors import NetError

# Seconds. Both daemons answer within a millisecond or two; on a busy machine it takes longer.
ANSWER = 3.0


class Absent(NetError):
    """Nobody listens, or who did has ended."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, kind="missing")


class Silent(NetError):
    """Somebody listens and does not answer."""

    def __init__(self, program: str) -> None:
        super().__init__(f"{program} is there but does not answer: it hangs.", kind="deadline")


class Refused(NetError):
    """It answered, and the answer is no."""


class Connection:
    """``program`` is who should listen at ``path``, for the sentences."""

    def __init__(self, path: Path, program: str, *, seconds: float = ANSWER) -> None:
        self.program = program
        self.allow(seconds)
        self._text = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(seconds)
        try:
            self._socket.connect(str(path))
        except BlockingIOError:
            self.close()
            raise Silent(program) from None  # its queue of callers is full
        except OSError as error:
            self.close()
            raise Absent(
                f"{program} does not run on this host ({path}: {error.strerror})."
            ) from None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def allow(self, seconds: float) -> None:
        """How long whatever comes next may take."""
        self._end = time.monotonic() + seconds

    def call(self, method: str, params: list[Any]) -> Any:
        """The result. Raises ``Refused`` with the reason that the other side gives."""
        self._send({"method": method, "params": params, "id": 0})
        for message in self.messages():
            if message.get("id") == 0 and "method" not in message:
                return self._result(message)
        raise Absent(f"{self.program} ended before it answered.")

    def messages(self) -> Iterator[dict[str, Any]]:
        """Those that come in, until the other side closes. Its probes are answered here."""
        while True:
            for message in self._complete():
                if message.get("method") == "echo":
                    self._send({"result": message["params"], "error": None, "id": message["id"]})
                else:
                    yield message
            if not self._receive():
                return

    def _result(self, message: dict[str, Any]) -> Any:
        error = message.get("error")
        if error is None:
            return message["result"]
        words = error.get("details") or error.get("error") if isinstance(error, dict) else error
        raise Refused(f"{self.program}: {str(words).strip()}")

    def _complete(self) -> Iterator[dict[str, Any]]:
        # A long answer comes in many pieces: only after one that may be the last is it parsed.
        while self._text.endswith(("}", "}\n")):
            try:
                message, end = json.JSONDecoder().raw_decode(self._text)
            except ValueError:
                return
            self._text = self._text[end:].lstrip()
            yield message

    def _receive(self) -> bool:
        data = self._within(self._socket.recv, 1 << 20)
        self._text += self._decode(data)
        return bool(data)

    def _send(self, message: dict[str, Any]) -> None:
        self._within(self._socket.sendall, json.dumps(message).encode())

    def _within(self, function: Any, argument: Any) -> Any:
        left = self._end - time.monotonic()
        if left <= 0:
            raise Silent(self.program)
        self._socket.settimeout(None if left == float("inf") else left)
        try:
            return function(argument)
        except TimeoutError:
            raise Silent(self.program) from None
        except OSError:
            raise Absent(f"{self.program} ended before it answered.") from None


def call(
    path: Path, program: str, method: str, params: list[Any], *, seconds: float = ANSWER
) -> Any:
    """One exchange."""
    with Connection(path, program, seconds=seconds) as connection:
        return connection.call(method, params)
