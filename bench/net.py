"""How long a host's network takes to be planned and applied, against the same steps as commands.

In a network namespace with an Open vSwitch of its own: 100 Linux bridges, 200 veth pairs of which
one end each is a port of a bridge, and 100 ports of an OVS bridge, each with a tag of its own, that
are the other ends of half of them. ``engine`` is plan and apply by the helper, as the site asks for
them. ``commands`` is a shell that runs, step by step, the commands the plan shows (``ip``,
``ovs-vsctl``, ...). They take turns from the same empty start, median of the rounds. ``again`` is a
second apply, which has nothing to do and says so; after the commands there must be nothing left to
do either, else they would not have been the same steps.
"""

import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import world
from kvmweb.net import launch
from kvmweb.net.client import Client
from kvmweb.spec.hostnet import Bridge, HostNetwork, Port, Switch, Veth
from tests.ovs import PrivateOvs

BRIDGES, PAIRS, TAGGED, ROUNDS, FASTER, AGAIN_MS = 100, 200, 100, 3, 5.0, 200.0
Document = dict[str, Any]


def main() -> None:
    desired, nothing = (network.model_dump(mode="json") for network in (_network(), HostNetwork()))
    with PrivateOvs() as switch:
        before = _links(switch)
        with Client(launch.here(switch.enter)) as helper:
            figures = _measure(switch, helper, desired, nothing)
        is_clean = _links(switch) == before
    is_fast = figures["ratio"] >= FASTER and figures["again_ms"] <= AGAIN_MS
    world.report(figures, ok=is_fast and is_clean and figures["commands_left"] == 0)


def _network() -> HostNetwork:
    bridges = [Bridge(name=f"bench-br{number}") for number in range(BRIDGES)]
    pairs = [(f"bench-v{number}", f"bench-w{number}") for number in range(PAIRS)]
    ports = [
        Veth(name=name, peer=peer, master=bridges[number % BRIDGES].name)
        for number, (name, peer) in enumerate(pairs)
    ]
    others = [Veth(name=peer, peer=name) for name, peer in pairs]
    tagged = [Port(name=peer, tag=tag) for tag, (_, peer) in enumerate(pairs[:TAGGED], start=1)]
    return HostNetwork(
        links=[*bridges, *ports, *others],
        switches=[Switch(name="bench-ovs", datapath_type="netdev", ports=tagged)],
    )


def _measure(
    switch: PrivateOvs, helper: Client, desired: Document, nothing: Document
) -> dict[str, Any]:
    took: dict[str, list[float]] = {"engine": [], "again": [], "commands": [], "remove": []}
    left = 0
    for _ in range(ROUNDS):
        seconds, commands = _apply(helper, desired, nothing)
        took["engine"].append(seconds)
        seconds, nothing_done = _apply(helper, desired, desired)
        assert not nothing_done, nothing_done
        took["again"].append(seconds)
        took["remove"].append(_apply(helper, nothing, desired)[0])
        took["commands"].append(_run(switch, commands))
        left += len(helper.call("plan", desired=desired, owned=desired)["steps"])
        _apply(helper, nothing, desired)
    middle = {name: statistics.median(values) for name, values in took.items()}
    return {
        **{f"{name}_ms": round(value * 1000, 1) for name, value in middle.items()},
        "ratio": round(middle["commands"] / middle["engine"], 1),
        "steps": len(commands),
        "commands_left": left,
    }


def _apply(helper: Client, desired: Document, owned: Document) -> tuple[float, list[list[str]]]:
    """Seconds from asking for the plan to the end of its being applied, and its commands."""
    began = time.perf_counter()
    plan = helper.call("plan", desired=desired, owned=owned)
    ended = helper.call("apply", desired=desired, owned=owned, digest=plan["digest"])
    seconds = time.perf_counter() - began
    assert ended["state"] == ("applied" if plan["steps"] else "unchanged"), ended
    return seconds, ended["commands"]


def _run(switch: PrivateOvs, commands: list[list[str]]) -> float:
    """In one shell, so that entering the namespace is not counted once per command."""
    script = "set -e\n" + "\n".join(map(shlex.join, commands))
    began = time.perf_counter()
    subprocess.run(
        [*switch.enter, "sh"], input=script, text=True, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def _links(switch: PrivateOvs) -> str:
    return json.dumps([sorted(switch.links()), switch.dump()])


if __name__ == "__main__":
    main()
