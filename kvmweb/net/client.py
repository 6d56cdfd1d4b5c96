"""Talks to a helper, from the site's side: calls with deadlines, from any thread, and events.

    with Client(launch.by_uri("qemu+ssh://root@host/system"), on_event=heard) as helper:
        state = helper.call("read", parts=["links"])

``Client(["socat", "-", ...])`` takes plain words too. One client is one helper process; when that
ends, every call raises ``NetError`` of kind "lost", and a new client is the caller's business.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from kvmweb.net import launch
from kvmweb.net.errors import NetError
from kvmweb.net.launch import Launch

# Python, the archive and ssh have to come first.
START_SECONDS = 60.0
# Beyond the helper's own deadlines.
CALL_SECONDS = 200.0
# Of what is said on standard error, for the reason.
_SAID_BYTES = 8000

Answer = dict[str, Any]


class GroundMovedError(NetError):
    """``plan``: what would be done now, in place of what was looked at."""

    def __init__(self, sentence: str, plan: Answer) -> None:
        super().__init__(sentence, kind="ground-moved")
        self.plan = plan


class Client:
    """``on_event`` hears topics (links, ovs, routers, forwards) after ``call("watch")``. It has a
    thread to itself, so it may call. ``on_end`` hears that the helper is gone. ``hello``: what it
    told of itself first.
    """

    def __init__(
        self, how: Launch | Sequence[str], *, on_event: Callable[[str], None] | None = None,
        on_end: Callable[[], None] | None = None, start_seconds: float = START_SECONDS,
        environment: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._launch = how if isinstance(how, Launch) else Launch(list(how))
        self._on_event, self._on_end = on_event, on_end
        self._numbers = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[Answer]] = {}
        self._events: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._said = b""
        self._is_closed = False
        self.hello: Answer = {}
        self._process = self._start(environment)
        # Whoever receives the archive would take a call for a part of it.
        self._may_call = threading.Event()
        if not self._launch.archive:
            self._may_call.set()
        self._ear = threading.Thread(target=self._overhear, name="net-said", daemon=True)
        self._ear.start()
        for work in (self._listen, self._announce):
            threading.Thread(target=work, name="net-client", daemon=True).start()
        try:
            self._may_call.wait(start_seconds)
            self.hello = self.call("hello", within=start_seconds)
        except BaseException:
            self.close()
            raise

    def _start(self, environment: dict[str, str] | None) -> subprocess.Popen[bytes]:
        words = self._launch.words
        try:
            return subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                # Ctrl-C at the site's terminal is the site's: helpers end when their input does.
                start_new_session=True,
            )
        except OSError as error:
            said = f"{error.strerror}: '{words[0]}'"
            raise NetError(launch.reason(said, self._launch.where), kind="start") from None

    def call(self, name: str, *, within: float = CALL_SECONDS, **arguments: Any) -> Any:
        """The result, ``within`` so many seconds. Raises ``NetError``."""
        number = next(self._numbers)
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._waiting[number] = answers
        try:
            self._send({"id": number, "do": name, "args": arguments})
            answer = answers.get(timeout=within)
        except queue.Empty:
            raise NetError(
                f"The helper on {self._launch.where} did not answer within {within:g} s.",
                kind="deadline",
            ) from None
        finally:
            del self._waiting[number]
        if "error" in answer:
            raise _error(answer["error"])
        return answer["result"]

    def _send(self, request: Answer) -> None:
        assert self._process.stdin
        data = json.dumps(request).encode() + b"\n"
        with self._lock:
            if self._is_closed:
                raise self._lost()
            # Where it is broken, the end of its output says why, and answers this call.
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.write(data)
                self._process.stdin.flush()

    @property
    def process_id(self) -> int:
        """Of what was started: the helper, or ssh to it."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self._is_closed

    def _listen(self) -> None:
        assert self._process.stdout
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                self._hear(line)
        self._process.wait()
        self._ear.join(1)
        with self._lock:
            self._is_closed = True
        lost = self._lost()
        error = {"sentence": lost.sentence, "field": "", "kind": lost.kind}
        for answers in list(self._waiting.values()):
            answers.put({"error": error})
        self._may_call.set()
        self._events.put(None)

    def _lost(self) -> NetError:
        where, said = self._launch.where, self._said.decode(errors="replace")
        if not self.hello:
            return NetError(launch.reason(said, where), kind="start")
        return NetError(f"The connection to the helper on {where} was lost.", kind="lost")

    def _hear(self, line: bytes) -> None:
        if not self._may_call.is_set() and line in (b"have\n", b"send\n"):
            self._ship(is_there=line == b"have\n")
            return
        try:
            message = json.loads(line)
        except ValueError:
            self._said += line  # a login script that prints, or what ends up in the reason
            return
        if "event" in message:
            self._events.put(message["event"])
        elif message.get("id") in self._waiting:
            self._waiting[message["id"]].put(message)

    def _ship(self, *, is_there: bool) -> None:
        assert self._process.stdin
        if self._launch.archive and not is_there:
            self._process.stdin.write(self._launch.archive.data)
            self._process.stdin.flush()
        self._may_call.set()

    def _overhear(self) -> None:
        """Keep the end of what is said on standard error."""
        assert self._process.stderr
        with contextlib.suppress(OSError, ValueError):
            while more := os.read(self._process.stderr.fileno(), 4096):
                self._said = (self._said + more)[-_SAID_BYTES:]

    def _announce(self) -> None:
        while (topic := self._events.get()) is not None:
            if self._on_event:
                self._on_event(topic)
        if self._on_end:
            self._on_end()

    def close(self) -> None:
        """End the helper; a change that is being applied comes to its end there."""
        with self._lock:
            self._is_closed = True
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin
            self._process.stdin.close()
        try:
            self._process.wait(5 if self.hello else 0.2)
        except subprocess.TimeoutExpired:
            self._process.terminate()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def _error(told: Answer) -> NetError:
    if told["kind"] == "ground-moved":
        return GroundMovedError(told["sentence"], told["plan"])
    return NetError(told["sentence"], field=told["field"], kind=told["kind"])
