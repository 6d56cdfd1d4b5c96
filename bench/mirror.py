"""How long 500 machines take to be mirrored after a reconnect, against a bare loop over libvirt.

Both read the same real libvirtd over the same kind of connection, taking turns, median of five.
``first`` fills an empty database, ``again`` finds every row as it was, ``changed`` finds every
machine with a new title.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
_state = tempfile.TemporaryDirectory(prefix="kvmweb-bench-")
os.environ["KVMWEB_STATE_DIR"] = _state.name
os.environ["DJANGO_SETTINGS_MODULE"] = "kvmweb.settings"

import django

django.setup()

import libvirt
from django.core.management import call_command

from bench import world
from kvmweb.mirror import machines
from kvmweb.models import Host, Machine
from kvmweb.virt.connections import open_connection
from tests.libvirtd import PrivateLibvirtd

COUNT, ROUNDS, AIM = 500, 5, 3.0


def main() -> None:
    call_command("migrate", verbosity=0)
    with PrivateLibvirtd() as daemon:
        world.define(daemon.uri, COUNT)
        figures = _measure(daemon)
    ratios = [value for name, value in figures.items() if name.endswith("_ratio")]
    world.report({"machines": COUNT, **figures}, ok=max(ratios) <= AIM)


def _measure(daemon: PrivateLibvirtd) -> dict[str, float]:
    host = Host.objects.create(name="local", uri=daemon.uri)
    took: dict[str, list[float]] = {"bare": [], "first": [], "again": [], "changed": []}
    for _ in range(ROUNDS):
        Machine.objects.all().delete()
        took["bare"].append(_after_reconnect(daemon, _bare))
        took["first"].append(_after_reconnect(daemon, lambda c: machines.read_all(host, c)))
        took["again"].append(_after_reconnect(daemon, lambda c: machines.read_all(host, c)))
        _retitle(daemon)
        took["changed"].append(_after_reconnect(daemon, lambda c: machines.read_all(host, c)))
        assert Machine.objects.count() == COUNT
    medians = {name: statistics.median(values) for name, values in took.items()}
    return {
        **{f"{name}_ms": round(value * 1000, 1) for name, value in medians.items()},
        **{
            f"{name}_ratio": round(value / medians["bare"], 2)
            for name, value in medians.items()
            if name != "bare"
        },
    }


def _after_reconnect(daemon: PrivateLibvirtd, read: Callable[[libvirt.virConnect], None]) -> float:
    connection = open_connection(daemon.uri)
    started = time.perf_counter()
    read(connection)
    took = time.perf_counter() - started
    connection.close()
    return took


def _bare(connection: libvirt.virConnect) -> None:
    for dom in connection.listAllDomains():
        dom.XMLDesc()


def _retitle(daemon: PrivateLibvirtd) -> None:
    connection = libvirt.open(daemon.uri)
    title = str(time.monotonic())
    for dom in connection.listAllDomains():
        dom.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, title, None, None)
    connection.close()


if __name__ == "__main__":
    main()
