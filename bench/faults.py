"""A healthy host beside three bad ones: frozen, one that accepts and never answers, one refused.

The median time of the healthy host's pages and operations must stay within 1.2 of what it is
without them. Measured alone, with the bad ones, and alone again; rounds of all three take turns.
"""

import socket
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import libvirt

from bench import world
from tests.guest import domain_xml
from tests.libvirtd import PrivateLibvirtd
from tests.site import Site, free_port
from tests.waiting import until

ROUNDS, TIMES, AIM = 3, 40, 1.2
NAME = "healthy"


def main() -> None:
    with ExitStack() as stack:
        good = stack.enter_context(PrivateLibvirtd())
        frozen = stack.enter_context(PrivateLibvirtd())
        stack.callback(frozen.thaw)
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        world.define(good.uri, 50)
        connection = libvirt.open(good.uri)
        connection.defineXML(domain_xml(NAME)).create()
        uuid = connection.lookupByName(NAME).UUIDString()
        site = stack.enter_context(Site(uri=good.uri))
        api = stack.enter_context(site.api())
        browser = stack.enter_context(site.browser_session())
        until(lambda: api.get(f"/machines/{uuid}").status_code == 200)
        bad = {
            "frozen": frozen.uri,
            "silent": f"qemu+tcp://127.0.0.1:{silent.getsockname()[1]}/system",
            "refused": f"qemu+tcp://127.0.0.1:{free_port()}/system",
        }
        took = _rounds(site, api, browser, uuid, frozen, bad)
    figures = {name: round(statistics.median(values) * 1000, 2) for name, values in took.items()}
    ratios = {
        f"{what}_ratio": round(figures[f"{what}_beside_bad"] / figures[f"{what}_alone"], 2)
        for what in ("page", "operation")
    }
    world.report({**figures, **ratios}, ok=max(ratios.values()) <= AIM)


def _rounds(
    site: Site,
    api: httpx.Client,
    browser: httpx.Client,
    uuid: str,
    frozen: PrivateLibvirtd,
    bad: dict[str, str],
) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {}

    def measure(when: str) -> None:
        page = _times(lambda: browser.get(f"/machines/{uuid}").raise_for_status())
        took.setdefault(f"page_{when}", []).extend(page)
        operation = [*_times(lambda: _act(api, uuid, "pause", "resume"), TIMES // 2)]
        took.setdefault(f"operation_{when}", []).extend(operation)

    for _ in range(ROUNDS):
        measure("alone")
        frozen.freeze()
        _set_hosts(site, bad)
        until(lambda: _are_bad(api), seconds=60, what="the bad hosts to be known as bad")
        measure("beside_bad")
        frozen.thaw()
        _set_hosts(site, {})
        until(lambda: len(api.get("/hosts").json()["items"]) == 1)
        measure("alone")
    return took


def _are_bad(api: httpx.Client) -> bool:
    hosts = api.get("/hosts").json()["items"]
    bad = [host for host in hosts if host["name"] != "local"]
    return len(bad) == 3 and all(host["state"] == "unreachable" for host in bad)


def _set_hosts(site: Site, hosts: dict[str, str]) -> None:
    """Beside the form, which would not take a host that does not answer."""
    code = (
        "from kvmweb.models import Host; Host.objects.exclude(name='local').delete();"
        f"[Host.objects.create(name=n, uri=u) for n, u in {hosts!r}.items()]"
    )
    site.manage("shell", "-v", "0", "-c", code)


def _act(api: httpx.Client, uuid: str, *names: str) -> None:
    for name in names:
        answer = api.post(f"/machines/{uuid}/{name}")
        assert answer.json().get("state") == "done", answer.text
        until(partial(_is, api, uuid, {"pause": "paused", "resume": "running"}[name]))


def _is(api: httpx.Client, uuid: str, state: str) -> bool:
    return bool(api.get(f"/machines/{uuid}").json()["state"] == state)


def _times(act: Callable[[], object], times: int = TIMES) -> list[float]:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        act()
        took.append(time.perf_counter() - started)
    return took


if __name__ == "__main__":
    main()
