"""Routers on Open vSwitch (userspace datapath), by TCP: ping passes there where that does not."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from kvmweb.net.errors import NetError
from tests.net.switches import Switches, document
from tests.net.test_routers import ASK, DHCP_CLIENT, PYTHON, SERVE

pytestmark = pytest.mark.real

Part = dict[str, Any]


class Stage(Switches):
    """``a`` and ``b``: guests whose links v-a and v-b are on the host, with a server each."""

    def asks(self, name: str, address: str) -> str:
        """The caller's address, as it arrives; "" if nobody answers."""
        command = [*self.of(name), *PYTHON, "-c", ASK, address, "80"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        return ended.stdout.strip()

    @contextmanager
    def serving(self, name: str, port: str) -> Iterator[None]:
        # What is killed is nsenter, which is in between.
        program = ["setpriv", "--pdeathsig", "KILL", *PYTHON, "-c", SERVE, port]
        with subprocess.Popen([*self.of(name), *program], stdout=subprocess.PIPE) as server:
            assert server.stdout
            assert server.stdout.readline() == b"ready\n"
            yield
            server.kill()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as found, ExitStack() as ends:
        for name, cidr, gateway in (
            ("a", "10.0.10.1/24", "10.0.10.254"),
            ("b", "10.0.20.1/24", "10.0.20.254"),
        ):
            ends.enter_context(found.guest(name, cidr))
            found.execute("ip", "-n", name, "route", "add", "default", "via", gateway)
            ends.enter_context(found.serving(name, "80"))
        yield found


def switch(*ports: Part, name: str = "sw0") -> Part:
    return {"name": name, "ports": list(ports)}


GUESTS = [{"name": "v-a", "tag": 10}, {"name": "v-b", "tag": 20}]
LEGS: list[Part] = [
    {"name": "v10", "switch": "sw0", "tag": 10, "addresses": ["10.0.10.254/24"]},
    {"name": "v20", "switch": "sw0", "tag": 20, "addresses": ["10.0.20.254/24"]},
]


def router(*legs: Part, **more: Any) -> Part:
    return {"name": "ro1", "legs": list(legs), **more}


def test_it_routes_between_vlans_by_a_leg_in_each(stage: Stage) -> None:
    with stage.having(switches=[switch(*GUESTS)], routers=[router(*LEGS)]) as commands:
        assert stage.asks("a", "10.0.20.1") == "10.0.10.1"
        assert stage.asks("b", "10.0.10.1") == "10.0.20.1"
        assert ["ovs-vsctl", "add-port", "sw0", "ro1-v10", "tag=10"] in [
            words[:5] for words in commands
        ]
        (seen,) = [one for one in stage.read()["routers"] if one["is_ours"]]
        assert {(leg["name"], leg["switch"], leg["tag"], leg["end"]) for leg in seen["legs"]} == {
            ("v10", "sw0", 10, "ro1-v10"),
            ("v20", "sw0", 20, "ro1-v20"),
        }


def test_a_leg_changes_its_vlan_and_its_bridge(stage: Stage) -> None:
    switches = [switch(*GUESTS), switch(name="sw1")]
    first, second = LEGS
    moved = {**second, "switch": "sw1", "tag": None, "trunks": [20, 30]}
    with stage.changed(
        before={"switches": switches, "routers": [router(first, {**second, "tag": 21})]},
        after={"switches": switches, "routers": [router(first, second)]},
    ):
        assert stage.asks("a", "10.0.20.1") == "10.0.10.1"
    with stage.changed(
        before={"switches": switches, "routers": [router(first, second)]},
        after={"switches": switches, "routers": [router(first, moved)]},
    ):
        assert stage.vsctl("port-to-br", "ro1-v20") == "sw1"
        assert stage.vsctl("get", "port", "ro1-v20", "trunks", "tag") == "[20, 30]\n[]"
        assert stage.asks("a", "10.0.20.1") == ""


def test_a_guest_in_a_vlan_gets_its_address(stage: Stage) -> None:
    given = {"leg": "v10", "start": "10.0.10.50", "end": "10.0.10.50"}
    snat = {"source": "10.0.10.0/24", "out": "v20"}
    with stage.having(
        switches=[switch(*GUESTS)], routers=[router(*LEGS, dhcp=[given], snat=[snat])]
    ):
        command = [*stage.of("a"), *PYTHON, str(DHCP_CLIENT), "eth0"]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        told = json.loads(ended.stdout)
        assert (told["address"], told["router"]) == ("10.0.10.50", "10.0.10.254")
        assert stage.asks("a", "10.0.20.1") == "10.0.20.254"


def test_what_others_changed_is_put_back(stage: Stage) -> None:
    parts = {"switches": [switch(*GUESTS)], "routers": [router(*LEGS)]}
    with stage.having(**parts):
        for words in (
            ["ovs-vsctl", "del-port", "sw0", "ro1-v10"],
            ["ovs-vsctl", "set", "port", "ro1-v10", "tag=11"],
            ["ip", "link", "delete", "ro1-v20"],
            ["ip", "netns", "delete", "ro1"],
            ["ip", "netns", "exec", "ro1", "ethtool", "-K", "v10", "tx", "on"],
        ):
            stage.execute(*words)
            desired = document(**parts)
            assert stage.plan(desired, desired)["steps"], words
            stage.apply(desired, desired)
            assert stage.asks("a", "10.0.20.1") == "10.0.10.1", words


def test_a_failure_half_way_leaves_nothing(stage: Stage) -> None:
    before = stage.everything()
    wrong = {**LEGS[1], "mac": "00:00:00:00:00:00"}
    desired = document(switches=[switch(*GUESTS)], routers=[router(LEGS[0], wrong)])
    with pytest.raises(NetError, match="All is as it was before"):
        stage.apply(desired, {})
    assert stage.everything() == before
    assert "ro1" not in stage.execute("ip", "netns")


def test_a_failure_at_the_end_brings_legs_back(stage: Stage) -> None:
    parts = {"switches": [switch(*GUESTS)], "routers": [router(*LEGS)]}
    with stage.having(**parts):
        owned, before = document(**parts), stage.everything()
        given = {"leg": "v10", "start": "10.0.10.50", "end": "10.0.10.60"}
        desired = document(switches=[switch(*GUESTS)], routers=[router(LEGS[0], dhcp=[given])])
        with (
            stage.serving("ro1", "53"),
            pytest.raises(NetError, match="Address already in use"),
        ):
            stage.apply(desired, owned)
        assert unnumbered(stage.everything()) == unnumbered(before)
        assert stage.asks("a", "10.0.20.1") == "10.0.10.1"


def unnumbered(everything: Part) -> str:
    """Without the numbers of links: those that come back have new ones."""
    return re.sub(r"@if\d+", "", json.dumps(everything, sort_keys=True))


def test_a_trunk_needs_a_kernel_with_vlan_links(stage: Stage) -> None:
    if stage.helper.hello["features"]["vlan"]:
        return  # then it works: tests/real/test_full_kernel_routers.py
    trunk = {"name": "t", "switch": "sw0", "trunks": [10, 20]}
    desired = document(
        switches=[switch()], routers=[router(trunk, {"name": "v10", "parent": "t", "vlan": 10})]
    )
    with pytest.raises(NetError, match="Give the router a leg of its own in VLAN 10") as refused:
        stage.plan(desired, {})
    assert refused.value.field == "routers.0.legs.1.vlan"
