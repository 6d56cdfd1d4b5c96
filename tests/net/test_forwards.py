"""Forwarded ports on a real libvirt NAT network, whose guests are namespaces at its bridge.

The host is a namespace with a libvirtd of its own in it; an outside is joined to it by a cable.
"""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import libvirt
import pytest

from kvmweb.net import forwards, gates, links, namespaces, step
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.step import Step
from tests.net.places import ROOT, Places, ask
from tests.waiting import until

pytestmark = pytest.mark.real

HOST, OUTSIDE, GUEST, OTHER = "kf-host", "kf-outside", "kf-guest", "kf-other"
BRIDGE, NETWORK = "kf-virbr", "kf-nat"
NETWORK_XML = f"""
<network>
  <name>{NETWORK}</name>
  <forward mode='nat'/>
  <bridge name='{BRIDGE}' stp='off' delay='0'/>
  <ip address='10.91.0.1' netmask='255.255.254.0'/>
  <ip family='ipv6' address='fd91::1' prefix='64'/>
</network>
"""
LIBVIRTD = """
import sys
from tests.libvirtd import PrivateLibvirtd
with PrivateLibvirtd() as daemon:
    print(daemon.uri, flush=True)
    for line in sys.stdin:
        daemon.restart()
        print("restarted", flush=True)
"""
Forward = dict[str, Any]


def forward(port: int, to: str, to_port: int, **more: Any) -> Forward:
    plain = {"network": NETWORK, "protocol": "tcp", "address": None, "comment": ""}
    return {**plain, "port": port, "to": to, "to_port": to_port, **more}


@dataclass
class Stage:
    places: Places
    daemon: subprocess.Popen[str]
    uri: str

    def restart(self) -> None:
        assert self.daemon.stdin
        assert self.daemon.stdout
        self.daemon.stdin.write("restart\n")
        self.daemon.stdin.flush()
        assert self.daemon.stdout.readline() == "restarted\n"

    def network(self) -> libvirt.virNetwork:
        return libvirt.open(self.uri).networkLookupByName(NETWORK)

    def plug_in(self) -> None:
        """The guests' cables end at the bridge; it is a new one each time the network starts."""
        for end in ("guest", "other"):
            self.places.run(HOST, "ip", "link", "set", end, "master", BRIDGE)
        until(lambda: "tentative" not in self.places.run(HOST, "ip", "address"), what="addresses")

    def filter_bridges(self, is_filtered: str) -> None:
        for name in ("ip", "ip6"):
            setting = f"net.bridge.bridge-nf-call-{name}tables={is_filtered}"
            self.places.run(HOST, "sysctl", "-qw", setting)

    def dump(self) -> str:
        """Every rule of the host, ours and others'."""
        saved = [self.places.run(HOST, f"{name}tables-save") for name in ("ip", "ip6")]
        lines = [line for text in saved for line in text.splitlines() if line[:1] in "-*"]
        return "\n".join([*lines, self.places.run(HOST, "nft", "--stateless", "list", "ruleset")])

    def actual(self, context: Context) -> dict[str, Any]:
        return {"problems": {}, **links.read(context), **forwards.read(context)}

    def plan(self, wanted: list[Forward], *, owned: list[Forward] | None = None) -> list[Step]:
        with namespaces.entered(HOST), Context() as context:
            known = {"forwards": owned or []}
            return forwards.plan(context, self.actual(context), {"forwards": wanted}, known)

    def apply(self, steps: list[Step]) -> None:
        with namespaces.entered(HOST), Context() as context:
            for one in json.loads(json.dumps([one.to_json() for one in steps])):
                step.carry_out(context, [Step.from_json(one)])

    def seen(self) -> list[Forward]:
        with namespaces.entered(HOST), Context() as context:
            return list(forwards.read(context)["forwards"])


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Places(HOST, OUTSIDE, GUEST, OTHER) as places:
        places.join(HOST, "eth0", OUTSIDE, "eth0")
        places.join(HOST, "guest", GUEST, "eth0")
        places.join(HOST, "other", OTHER, "eth0")
        for name, v4, v6 in (
            (HOST, "192.0.2.1/24", "2001:db8::1/64"),
            (OUTSIDE, "192.0.2.9/24", "2001:db8::9/64"),
            (GUEST, "10.91.0.10/23", "fd91::10/64"),
            # In the network, though not in the same /24 as the guest.
            (OTHER, "10.91.1.20/23", "fd91::20/64"),
        ):
            places.run(name, "ip", "address", "add", v4, "dev", "eth0")
            places.run(name, "ip", "address", "add", v6, "dev", "eth0", "nodad")
        with (
            places.serving(GUEST, 80),
            places.serving(GUEST, 53, protocol="udp"),
            _libvirtd() as daemon,
        ):
            assert daemon.stdout
            found = Stage(places, daemon, daemon.stdout.readline().strip())
            connection = libvirt.open(found.uri)
            connection.networkDefineXML(NETWORK_XML).create()
            connection.close()
            found.plug_in()
            for name in (GUEST, OTHER):
                places.run(name, "ip", "route", "add", "default", "via", "10.91.0.1")
                # Before the one that the network's router advertisement may have brought already.
                by_hand = ("ip", "route", "add", "default", "via", "fd91::1", "metric", "1")
                places.run(name, *by_hand)
            yield found
            assert daemon.stdin
            daemon.stdin.close()
            assert daemon.wait(30) == 0


def _libvirtd() -> subprocess.Popen[str]:
    """In the host's namespace, where ``ip netns exec`` shows it its own /sys."""
    return subprocess.Popen(
        ["ip", "netns", "exec", HOST, sys.executable, "-c", LIBVIRTD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture
def clean(stage: Stage) -> Iterator[Stage]:
    """The rules are afterwards what they were before, to the letter."""
    before = stage.dump()
    yield stage
    stage.apply(stage.plan([], owned=[forward(1, "10.91.0.10", 1)]))
    assert stage.dump() == before


WEB = [forward(8080, "10.91.0.10", 80), forward(8080, "fd91::10", 80)]


def test_it_is_reached_from_outside_by_ipv4_and_ipv6(clean: Stage) -> None:
    with pytest.raises(OSError, match="refused"):
        ask(OUTSIDE, "192.0.2.1", 8080)
    clean.apply(clean.plan(WEB))
    # The guest sees who calls: nothing is in between.
    assert ask(OUTSIDE, "192.0.2.1", 8080) == "192.0.2.9"
    assert ask(OUTSIDE, "2001:db8::1", 8080) == "2001:db8::9"
    assert [one["is_open"] for one in clean.seen()] == [True, True]


def test_it_is_reached_from_the_host_itself(clean: Stage) -> None:
    clean.apply(clean.plan(WEB))
    assert ask(HOST, "192.0.2.1", 8080) == "192.0.2.1"
    assert ask(HOST, "2001:db8::1", 8080) == "2001:db8::1"
    with pytest.raises(ConnectionRefusedError):
        ask(HOST, "127.0.0.1", 8080)


@pytest.mark.parametrize("is_filtered", ["0", "1"])
def test_it_is_reached_from_another_guest(clean: Stage, is_filtered: str) -> None:
    clean.filter_bridges(is_filtered)
    clean.apply(clean.plan(WEB))
    # By the bridge, for the answer has to come back the same way.
    assert ask(OTHER, "192.0.2.1", 8080) == "10.91.0.1"
    assert ask(OTHER, "2001:db8::1", 8080) == "fd91::1"


def test_it_is_reached_from_the_guest_itself(clean: Stage) -> None:
    # Else the kernel translates in the bridge, which sends nothing back to where it came from.
    clean.filter_bridges("0")
    clean.apply(clean.plan(WEB))
    assert ask(GUEST, "192.0.2.1", 8080) == "10.91.0.1"
    assert ask(GUEST, "2001:db8::1", 8080) == "fd91::1"


def test_it_forwards_udp_of_one_address(clean: Stage) -> None:
    clean.apply(clean.plan([forward(5353, "10.91.0.10", 53, protocol="udp", address="192.0.2.1")]))
    assert ask(OUTSIDE, "192.0.2.1", 5353, protocol="udp") == "192.0.2.9"
    assert ask(HOST, "192.0.2.1", 5353, protocol="udp") == "192.0.2.1"
    with pytest.raises(OSError, match="refused"):
        ask(HOST, "10.91.0.1", 5353, protocol="udp")


def test_nothing_else_comes_past_libvirt(clean: Stage) -> None:
    clean.apply(clean.plan(WEB))
    clean.places.run(OUTSIDE, "ip", "route", "add", "10.91.0.0/23", "via", "192.0.2.1")
    try:
        # Not even the guest's own port, but by the host's.
        with pytest.raises(OSError, match="refused"):
            ask(OUTSIDE, "10.91.0.10", 80)
    finally:
        clean.places.run(OUTSIDE, "ip", "route", "delete", "10.91.0.0/23")


def test_a_second_plan_is_empty(clean: Stage) -> None:
    assert clean.plan([]) == []
    steps = clean.plan(WEB)
    clean.apply(steps)
    assert clean.plan(WEB, owned=WEB) == []
    before = clean.dump()
    clean.apply(steps)
    assert clean.dump() == before


def test_its_commands_do_the_same(clean: Stage) -> None:
    (told,) = clean.plan(WEB)
    for command in told.commands:
        clean.places.run(HOST, *command)
    assert clean.plan(WEB, owned=WEB) == []
    (told,) = clean.plan([], owned=WEB)
    for command in told.commands:
        clean.places.run(HOST, *command)
    assert clean.plan([], owned=WEB) == []


def test_it_survives_a_restart_of_libvirtd_and_of_the_network(clean: Stage) -> None:
    clean.apply(clean.plan(WEB))
    clean.restart()
    assert ask(OUTSIDE, "192.0.2.1", 8080) == "192.0.2.9"
    network = clean.network()
    network.destroy()
    # Nobody is behind it, and that alone is no reason to change something.
    assert clean.plan(WEB, owned=WEB) == []
    network.create()
    clean.plug_in()
    assert ask(OUTSIDE, "192.0.2.1", 8080) == "192.0.2.9"
    assert until(lambda: ask(OUTSIDE, "2001:db8::1", 8080)) == "2001:db8::9"
    assert clean.plan(WEB, owned=WEB) == []


def test_where_libvirt_came_later_it_is_seen_and_put_right(clean: Stage) -> None:
    clean.apply(clean.plan(WEB))
    # As libvirt does when its chains are not there yet: ahead of all.
    clean.places.run(HOST, "iptables", "-w", "-D", "FORWARD", "-j", "LIBVIRT_FWI")
    clean.places.run(HOST, "iptables", "-w", "-I", "FORWARD", "-j", "LIBVIRT_FWI")
    try:
        assert [one["is_open"] for one in clean.seen()] == [False, True]
        with pytest.raises(OSError, match="refused"):
            ask(OUTSIDE, "192.0.2.1", 8080)
        clean.apply(clean.plan(WEB, owned=WEB))
        assert ask(OUTSIDE, "192.0.2.1", 8080) == "192.0.2.9"
    finally:
        clean.places.run(HOST, "iptables", "-w", "-D", "FORWARD", "-j", "LIBVIRT_FWI")
        number = clean.places.run(HOST, "iptables", "-S", "FORWARD").splitlines()
        after = str(next(at for at, line in enumerate(number) if "LIBVIRT_FWX" in line) + 1)
        clean.places.run(HOST, "iptables", "-w", "-I", "FORWARD", after, "-j", "LIBVIRT_FWI")


def test_what_others_changed_is_put_back(clean: Stage) -> None:
    clean.apply(clean.plan(WEB))
    for command in (
        ["nft", "flush", "chain", "inet", forwards.TABLE, "output"],
        ["iptables", "-w", "-F", gates.CHAIN],
        ["ip6tables", "-w", "-D", "FORWARD", "1"],
    ):
        clean.places.run(HOST, *command)
        steps = clean.plan(WEB, owned=WEB)
        assert len(steps) == 1
        clean.apply(steps)
        assert clean.plan(WEB, owned=WEB) == []


def test_undo_brings_the_former_ones_back(clean: Stage) -> None:
    clean.apply(clean.plan(WEB))
    before = clean.dump()
    (changed,) = clean.plan([forward(9090, "10.91.0.10", 80)], owned=WEB)
    clean.apply([changed])
    assert ask(OUTSIDE, "192.0.2.1", 9090) == "192.0.2.9"
    clean.apply(changed.undo)
    assert clean.dump() == before


def test_rules_of_others_stay(clean: Stage) -> None:
    table = "table inet kf_other { chain pre { type nat hook prerouting priority -110; }; }"
    clean.places.run(HOST, "nft", table)
    clean.places.run(HOST, "iptables", "-w", "-I", "FORWARD", "-s", "198.51.100.7", "-j", "DROP")
    before = clean.dump()
    clean.apply(clean.plan(WEB))
    clean.apply(clean.plan([], owned=WEB))
    assert clean.dump() == before
    clean.places.run(HOST, "iptables", "-w", "-D", "FORWARD", "-s", "198.51.100.7", "-j", "DROP")
    clean.places.run(HOST, "nft", "delete table inet kf_other")


@pytest.mark.parametrize(
    ("wanted", "field", "says"),
    [
        ([forward(7777, "10.91.0.10", 80)], "0.port", "in use by “python.*” \\(process \\d+\\)"),
        (
            [*WEB, forward(8080, "10.91.0.11", 80, address="192.0.2.1")],
            "2.port",
            "already goes to 10.91.0.10",
        ),
        ([forward(1, "10.91.0.10", 80, address="2001:db8::1")], "0.address", "both must be IPv4"),
        ([forward(1, "10.91.0.10", 80, address="127.0.0.1")], "0.address", "nobody reaches it"),
        ([forward(1, "127.0.0.1", 80)], "0.to", "not a guest's address"),
    ],
)
def test_it_refuses_with_a_sentence(
    clean: Stage, wanted: list[Forward], field: str, says: str
) -> None:
    with clean.places.serving(HOST, 7777), pytest.raises(NetError, match=says) as refused:
        clean.plan(copy.deepcopy(wanted))
    assert refused.value.field == f"forwards.{field}"


def test_a_program_that_listens_later_is_named(clean: Stage) -> None:
    clean.apply(clean.plan(WEB))
    with clean.places.serving(HOST, 8080) as server:
        told = f"“python” (process {server.pid})"
        assert [one["listener"] for one in clean.seen()] == [told, told]
        assert clean.plan(WEB, owned=WEB) == []


def test_a_port_that_only_loopback_has_is_free_for_the_world(clean: Stage) -> None:
    with clean.places.serving(HOST, 7070, address="127.0.0.1"):
        assert clean.plan([forward(7070, "10.91.0.10", 80)])
