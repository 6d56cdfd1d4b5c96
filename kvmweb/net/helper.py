"""The helper: JSON lines on standard input and output, around all that ``net`` can do on a host.

    {"id": 1, "do": "read", "args": {"parts": ["links"]}}   ->   {"id": 1, "result": {...}}
    {"id": 2, "do": "apply", "args": {...}}  ->  {"id": 2, "error": {"sentence": ..., "field": ...}}
    {"event": "links"}                            after ``watch``: something of that changed, look

Each call runs in a thread of its own with a deadline: who hangs (Open vSwitch, say) holds up nobody
else. The helper ends when its input does, and lets a change that is being applied come to its end.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import signal
import sys
import threading
import time
from typing import Any, BinaryIO

from kvmweb.net import (
    apply,
    commands,
    features,
    journal,
    monitor,
    namespaces,
    neighbours,
    originals,
)
from kvmweb.net import plan as plans
from kvmweb.net.calls import CALLS, WATCHERS, call
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError

__all__ = ["commands", "main", "monitor", "neighbours"]  # these are imported for what they register

VERSION = 1
# Events of one kind are gathered for so long; while they go on, for longer and longer.
_GATHER, _GATHER_MOST = 0.05, 1.0

Document = dict[str, Any]


class Helper:
    """``ssh``: SSH_CONNECTION of the session it runs in."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, *, ssh: str) -> None:
        self._source, self._sink = source, sink
        self._writing = threading.Lock()
        self._changing: list[threading.Thread] = []
        self.ssh = ssh
        self.recovered: list[Document] = []
        self.announcer = Announcer(self.say)

    def run(self) -> None:
        """Until there is no more input."""
        self.recovered = _recover()
        for line in self._source:
            self._take(line)
        for thread in self._changing:
            thread.join(60)

    def say(self, message: Document) -> None:
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._writing:
            try:
                self._sink.write(data)
                self._sink.flush()
            except (BrokenPipeError, ValueError):
                return  # nobody listens any more; what was begun goes on

    def _take(self, line: bytes) -> None:
        try:
            request = json.loads(line)
            number, name = request["id"], request["do"]
            arguments = dict(request.get("args", {}))
        except (ValueError, KeyError, TypeError):
            self.say({"id": None, "error": _told(NetError("This is no call.", kind="call"))})
            return
        known = CALLS.get(name)
        if known is None:
            error = NetError(f"The helper on this host knows no call “{name}”.", kind="call")
            self.say({"id": number, "error": _told(error)})
            return
        answer = _Answer(self, number)
        work = functools.partial(self._work, name, arguments, answer)
        thread = threading.Thread(target=work, name=name, daemon=True)
        if name in ("apply", "confirm", "revert"):
            self._changing = [one for one in self._changing if one.is_alive()] + [thread]
        thread.start()
        answer.expire_after(known.seconds, name)

    def _work(self, name: str, arguments: Document, answer: _Answer) -> None:
        try:
            with Context() as context:
                context.helper = self
                result = CALLS[name].function(context, **arguments)
        except NetError as error:
            answer.give({"error": _told(error)})
        except BaseException as error:
            problem = f"The helper failed at “{name}”: {type(error).__name__}: {error}"
            answer.give({"error": _told(NetError(problem, kind="bug"))})
            raise  # with its traceback on standard error
        else:
            answer.give({"result": result})


class _Answer:
    """Given once: by the work, or at the deadline."""

    def __init__(self, helper: Helper, number: Any) -> None:
        self._helper, self._number = helper, number
        self._lock = threading.Lock()
        self._is_given = False
        self._timer: threading.Timer | None = None

    def give(self, what: Document) -> None:
        with self._lock:
            if self._is_given:
                return
            self._is_given = True
        if self._timer:
            self._timer.cancel()
        self._helper.say({"id": self._number, **what})

    def expire_after(self, seconds: float, name: str) -> None:
        sentence = f"The host did not answer “{name}” within {seconds:g} s."
        late = {"error": _told(NetError(sentence, kind="deadline"))}
        timer = threading.Timer(seconds, self.give, [late])
        timer.daemon = True
        self._timer = timer
        if not self._is_given:
            timer.start()


def _told(error: NetError) -> Document:
    told: Document = {"sentence": error.sentence, "field": error.field, "kind": error.kind}
    if isinstance(error, apply.GroundMovedError):
        told["plan"] = error.plan
    return told


class Announcer:
    """Gathers what changes into few events."""

    def __init__(self, say: Any) -> None:
        self._say = say
        self._topics: set[str] = set()
        self._news = threading.Event()
        self._lock = threading.Lock()
        self._is_running = False

    def start(self) -> None:
        with self._lock:
            if self._is_running:
                return
            self._is_running = True
        threading.Thread(target=self._run, name="announcer", daemon=True).start()
        for watch in WATCHERS:
            name = watch.__module__
            threading.Thread(target=watch, args=[self.changed], name=name, daemon=True).start()

    def changed(self, topic: str) -> None:
        with self._lock:
            self._topics.add(topic)
        self._news.set()

    def _run(self) -> None:
        gather = _GATHER
        while True:
            is_fresh = not self._news.is_set()
            self._news.wait()
            gather = _GATHER if is_fresh else min(gather * 2, _GATHER_MOST)
            time.sleep(gather)
            self._news.clear()
            with self._lock:
                topics, self._topics = sorted(self._topics), set()
            for topic in topics:
                self._say({"event": topic})
            # What goes on right now waits for its turn in the next round.
            time.sleep(0.02)


def _recover() -> list[Document]:
    """What was left half done; another helper that is at work sees to it itself."""
    if os.geteuid():
        return []
    try:
        with journal.alone(seconds=0.1), Context() as context:
            return apply.recover(context)
    except NetError:
        return []


@call("hello", seconds=30)
def hello(context: Context) -> Document:
    """``boot`` and ``namespace`` tell whether it is still the same network. ``recovered``: changes
    that were undone or reverted as this helper started.
    """
    return {
        "version": VERSION,
        "uid": os.geteuid(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "name": platform.node(),
        "boot": originals.boot(),
        "namespace": namespaces.inode(),
        "features": features.features(),
        "recovered": context.helper.recovered,
    }


@call("read", seconds=20)
def read(context: Context, *, parts: list[str] | None = None) -> Document:
    return plans.read_all(context, parts or ())


@call("plan", seconds=30)
def plan(
    context: Context, *, desired: Document, owned: Document, keep: list[str] | None = None
) -> Document:
    """``keep``: addresses of the host by which the site and it reach each other."""
    actual = plans.read_all(context)
    way = plans.Way(tuple(keep or ()), context.helper.ssh)
    return plans.make(context, actual, desired, owned, way=way).told()


@call("apply", seconds=180)
def apply_plan(
    context: Context, *, desired: Document, owned: Document, digest: str,
    keep: list[str] | None = None, seconds: float = apply.CONFIRM_SECONDS,
) -> Document:  # fmt: skip
    _need_root()
    way = plans.Way(tuple(keep or ()), context.helper.ssh)
    return apply.apply(context, desired, owned, digest, way=way, seconds=seconds)


@call("confirm", seconds=30)
def confirm(context: Context, *, token: str) -> Document:
    return apply.confirm(token)


@call("revert", seconds=120)
def revert(context: Context, *, token: str) -> Document:
    return apply.revert(context, token)


@call("pending")
def pending(context: Context) -> list[Document]:
    return apply.pending()


@call("forget")
def forget(context: Context, *, token: str) -> None:
    apply.forget(token)


@call("watch")
def watch(context: Context) -> None:
    context.helper.announcer.start()


def _need_root() -> None:
    if os.geteuid():
        raise NetError("The helper is not root, so it can't change the network.", kind="root")


def main(arguments: list[str]) -> None:
    """``--ssh-connection TEXT`` where sudo has taken it out of the environment."""
    ssh = os.environ.get("SSH_CONNECTION", "")
    if arguments[:1] == ["--ssh-connection"]:
        ssh = arguments[1]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # Whatever else prints is not to come between the lines.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Helper(sys.stdin.buffer, sink, ssh=ssh).run()
    # Threads that hang, and watchers, are not waited for.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
