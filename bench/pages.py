"""How fast the machine list is with 500 machines defined in a real libvirtd.

What is asked: no libvirt call (shown by freezing libvirtd and asking again), under 30 ms for one
client, under 120 kB, and at least 100 requests/s for 8 clients together. Served by one process, as
``make run`` does, and by two web processes beside an agent of their own, as deploy/ does.
"""

import http.client
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import world
from tests.libvirtd import PrivateLibvirtd
from tests.site import Site, free_port
from tests.waiting import until

COUNT, CLIENTS, SECONDS = 500, 8, 6.0
PATH = "/machines/"


def main() -> None:
    with ExitStack() as stack:
        daemon = stack.enter_context(PrivateLibvirtd())
        world.define(daemon.uri, COUNT)
        one = _measure(stack.enter_context(ExitStack()), daemon, processes=1)
        two = _measure(stack.enter_context(ExitStack()), daemon, processes=2)
    best = max(one["requests_per_second"], two["requests_per_second"])
    ok = one["median_ms"] < 30 and one["bytes"] < 120_000 and one["frozen_ratio"] < 1.5
    world.report({"one_process": one, "two_processes": two, "best": best}, ok=ok and best >= 100)


def _measure(stack: ExitStack, daemon: PrivateLibvirtd, *, processes: int) -> dict[str, float]:
    with stack:
        environment = {}
        if processes > 1:
            environment["REDIS_URL"] = f"redis://127.0.0.1:{_redis(stack)}/0"
        site = stack.enter_context(Site(uri=daemon.uri, environment=environment))
        api = stack.enter_context(site.api())
        until(lambda: api.get("/hosts").json()["items"][0]["state"] == "connected")
        ports = [site.port] + [_more(stack, site) for _ in range(processes - 1)]
        with site.browser_session() as client:
            cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        alone, size = _one_client(ports[0], cookie)
        daemon.freeze()
        try:
            frozen, _size = _one_client(ports[0], cookie)
        finally:
            daemon.thaw()
        return {
            "median_ms": round(alone * 1000, 2),
            "bytes": size,
            "frozen_ratio": round(frozen / alone, 2),
            "requests_per_second": round(_many_clients(ports, cookie), 1),
        }


def _redis(stack: ExitStack) -> int:
    port = free_port()
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return port


def _more(stack: ExitStack, site: Site) -> int:
    """One more web process of the same site, without an agent."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "serve", "--no-agent", "--bind", f"127.0.0.1:{port}"],
        env=site.environment,
        cwd=Path(__file__).resolve().parent.parent,
        stdout=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    until(lambda: _answers(port))
    return port


def _answers(port: int) -> bool:
    try:
        return _get(http.client.HTTPConnection("127.0.0.1", port), "/healthz", "")[0] == 200
    except OSError:
        return False


def _get(connection: http.client.HTTPConnection, path: str, cookie: str) -> tuple[int, int]:
    connection.request("GET", path, headers={"Cookie": cookie})
    answer = connection.getresponse()
    return answer.status, len(answer.read())


def _one_client(port: int, cookie: str) -> tuple[float, int]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took, size = [], 0
    for _ in range(60):
        started = time.perf_counter()
        status, size = _get(connection, PATH, cookie)
        took.append(time.perf_counter() - started)
        assert status == 200
    return statistics.median(took[10:]), size


def _many_clients(ports: list[int], cookie: str) -> float:
    done = [0] * CLIENTS
    end = time.monotonic() + SECONDS

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", ports[number % len(ports)])
        while time.monotonic() < end:
            status, _size = _get(connection, PATH, cookie)
            assert status == 200
            done[number] += 1

    threads = [threading.Thread(target=client, args=[number]) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / SECONDS


if __name__ == "__main__":
    main()
