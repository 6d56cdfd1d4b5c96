"""TCP between two places of a lab: whether it passes, whole, and how fast."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.nodes import Place

PORT = 5001
# Prints what arrived of one connection: bytes, and megabits per second after its first half second,
# in which queues fill.
_SINK = """
import json, socket, sys, time
with socket.create_server(("", int(sys.argv[1]))) as server:
    print("ready", flush=True)
    server.settimeout(20)
    caller = server.accept()[0]
    caller.settimeout(20)
    began, total, counted, since = time.monotonic(), 0, 0, 0
    while data := caller.recv(65536):
        now = time.monotonic()
        total += len(data)
        if not since:
            since = now if now > began + 0.5 else 0
        else:
            counted, last = counted + len(data), now
    fast = counted * 8 / 1e6 / (last - since) if counted else 0
    print(json.dumps({"bytes": total, "megabit": fast}), flush=True)
"""
# For so many bytes, or so many seconds.
_SOURCE = """
import socket, sys, time
address, port, size, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
with socket.create_connection((address, port), 10) as target:
    target.settimeout(20)
    ends, piece = time.monotonic() + seconds, bytes(16384)
    while size > 0 and time.monotonic() < ends:
        target.sendall(piece[:size])
        size -= len(piece)
"""


def received(
    source: Place, source_netns: str, sink: Place, sink_netns: str, address: str, *, kib: int
) -> int:
    """Bytes that arrived of so many KiB."""
    told = _transfer(source, source_netns, sink, sink_netns, address, size=kib << 10, seconds=20)
    return int(told["bytes"])


def rate(source: Place, source_netns: str, sink: Place, sink_netns: str, address: str) -> float:
    """Megabits of payload per second."""
    told = _transfer(source, source_netns, sink, sink_netns, address, size=1 << 40, seconds=3)
    return float(told["megabit"])


def _transfer(
    source: Place, source_netns: str, sink: Place, sink_netns: str, address: str,
    *, size: int, seconds: float,
) -> Any:  # fmt: skip
    with _listening(sink, sink_netns) as listener:
        words = [*_python(source_netns), _SOURCE, address, str(PORT), str(size), str(seconds)]
        source.execute(*words, seconds=60)
        assert listener.stdout
        return json.loads(listener.stdout.readline())


@contextlib.contextmanager
def _listening(place: Place, netns: str) -> Iterator[subprocess.Popen[str]]:
    words = [*place.enter, *_python(netns), _SINK, str(PORT)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as listener:
        try:
            assert listener.stdout
            assert listener.stdout.readline() == "ready\n"
            yield listener
        finally:
            listener.kill()


def _python(netns: str) -> list[str]:
    return [*(["ip", "netns", "exec", netns] if netns else []), sys.executable, "-c"]
