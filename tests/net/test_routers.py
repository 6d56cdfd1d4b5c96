"""Routers on a host of our own: real namespaces, nftables and dnsmasq, guests that are namespaces.

pc1, pc2 - br-in - router - br-ex - internet (203.0.113.1, 198.51.100.1)
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kvmweb.net import namespaces
from kvmweb.net.client import Client
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from kvmweb.net.routers.legs import host_end
from kvmweb.net.step import ACTIONS
from tests.dumps import Dump, difference
from tests.net.own_host import OwnHost
from tests.network import Applied, document
from tests.waiting import until

pytestmark = pytest.mark.real

DHCP_CLIENT = Path(__file__).with_name("dhcp_client.py")
# Tells callers their addresses; asks for that. Without Python's site, to start in no time.
SERVE = """
import socket, sys
server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    caller, sender = server.accept()
    with caller:
        caller.sendall(sender[0].removeprefix("::ffff:").encode())
"""
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2) as wire:
    print(wire.recv(100).decode())
"""
PYTHON = [sys.executable, "-I", "-S"]
Part = dict[str, Any]


@dataclass
class Street:
    """The host, and who lives around it."""

    host: OwnHost
    helper: Client

    def within(self, name: str) -> list[str]:
        return [*self.host.prefix, "ip", "netns", "exec", name]

    def run(self, name: str, *command: str) -> str:
        return self.host.execute("ip", "netns", "exec", name, *command)

    def has_settled(self, name: str) -> bool:
        return "tentative" not in self.run(name, "ip", "address")

    def pings(self, name: str, address: str) -> bool:
        command = [*self.within(name), "ping", "-n", "-c1", "-W1", address]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def asks(self, name: str, address: str, port: int = 80) -> str:
        """The caller's address, as it is seen where it arrives; "" if nobody answers."""
        command = [*self.within(name), *PYTHON, "-c", ASK, address, str(port)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        return ended.stdout.strip()

    @contextmanager
    def serving(self, name: str, port: int) -> Iterator[None]:
        command = [*self.within(name), *PYTHON, "-c", SERVE, str(port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            assert server.stdout
            assert server.stdout.readline() == b"ready\n"
            yield
            server.kill()

    def leases(self, name: str, *, called: str = "") -> Part:
        """What the guest gets by DHCP."""
        command = [*self.within(name), *PYTHON, str(DHCP_CLIENT), "eth0", *called.split()]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert ended.returncode == 0, ended.stderr
        return dict(json.loads(ended.stdout))

    @contextmanager
    def address(self, name: str, cidr: str, via: str = "") -> Iterator[None]:
        self.run(name, "ip", "address", "add", cidr, "dev", "eth0", *["nodad"][: ":" in cidr])
        if via:
            self.run(name, "ip", "route", "add", "default", "via", via)
        try:
            yield
        finally:
            self.run(name, "ip", "address", "flush", "dev", "eth0", "scope", "global")
            self.run(name, "ip", "route", "flush", "default")

    def seen(self, name: str) -> Part:
        routers = self.helper.call("read")["routers"]
        return next(one for one in routers if one["name"] == name)

    def dnsmasqs(self) -> list[int]:
        """That run by this host's files."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                is_it = (entry / "comm").read_text() == "dnsmasq\n"
                if is_it and self.host.state.samefile(entry / "root/var/lib/kvmweb/net"):
                    found.append(int(entry.name))
        return found


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with OwnHost() as host, host.client() as helper, ExitStack() as servers:
        found = Street(host, helper)
        for name in ("pc1", "pc2", "internet"):
            host.execute("ip", "netns", "add", name)
            peer = ("peer", "name", "eth0", "netns", name)
            host.execute("ip", "link", "add", f"{name[:6]}-0", "up", "type", "veth", *peer)
            found.run(name, "ip", "link", "set", "lo", "up")
            found.run(name, "ip", "link", "set", "eth0", "up")
            settings = [f"net.ipv6.conf.eth0.accept_{one}=0" for one in ("dad", "ra")]
            found.run(name, "sysctl", "-qw", *settings)
        for address, link in (
            ("203.0.113.1/24", "eth0"),
            ("2001:db8:f::1/64", "eth0"),
            ("198.51.100.1/32", "lo"),
        ):
            option = ["nodad"] if ":" in address else []
            found.run("internet", "ip", "address", "add", address, "dev", link, *option)
        for name in ("pc1", "pc2", "internet"):
            until(partial(found.has_settled, name), what="addresses that are usable")
        until(lambda: "tentative" not in host.execute("ip", "address"), what="addresses")
        servers.enter_context(found.serving("internet", 80))
        servers.enter_context(found.serving("pc1", 80))
        yield found


@pytest.fixture(scope="module")
def clean(street: Street) -> Dump:
    return street.host.dump()


@pytest.fixture
def network(street: Street, clean: Dump) -> Iterator[Applied]:
    """All that was applied is gone at the end, and everything as it was."""
    with Applied(street.helper) as applied:
        yield applied
    text = left(street, clean)
    assert not text, text
    assert not street.dnsmasqs()


def left(street: Street, before: Dump) -> str:
    """What is not as before, when the kernel has had a moment to settle IPv6 addresses."""
    found: list[str] = []

    def is_equal() -> bool:
        found[:] = [difference(before, without_journals(street.host.dump(), before))]
        return not found[0]

    with suppress(AssertionError):
        until(is_equal, seconds=5)
    return found[0]


def without_journals(dump: Dump, before: Dump) -> Dump:
    """What the helper remembers of ended changes is meant to stay."""
    kept = [
        line
        for line in dump["files"].splitlines()
        if not line.endswith((".journal", "originals.json", "lock"))
        or line in before["files"].splitlines()
    ]
    return {**dump, "files": "\n".join(kept)}


def switches(*ports: str) -> list[Part]:
    """br-in with the guests, br-ex with the internet."""
    return [
        {"kind": "bridge", "name": "br-in"},
        {"kind": "bridge", "name": "br-ex"},
        *(
            {"kind": "physical", "name": name, "master": bridge}
            for name, bridge in (("pc1-0", "br-in"), ("pc2-0", "br-in"), ("intern-0", "br-ex"))
        ),
    ]


INSIDE: Part = {"name": "in0", "switch": "br-in", "addresses": ["10.0.1.254/24"]}
OUTSIDE: Part = {"name": "eth0", "switch": "br-ex", "addresses": ["203.0.113.21/24"]}
DEFAULT = {"to": "default", "via": "203.0.113.1"}
SNAT = {"source": "10.0.1.0/24", "except_to": "10.0.1.0/24", "to": "203.0.113.21"}
DHCP: Part = {
    "leg": "in0", "start": "10.0.1.100", "end": "10.0.1.120", "lease_seconds": 86400,
    "router": "10.0.1.254",
}  # fmt: skip


def router(**parts: Any) -> Part:
    return {"name": "r1", "legs": [INSIDE, OUTSIDE], "routes": [DEFAULT], **parts}


def apply(network: Applied, **parts: Any) -> list[list[str]]:
    return network.apply(links=switches(), routers=[router(**parts)])


def test_a_guest_gets_its_address_and_reaches_the_internet_by_snat(
    street: Street, network: Applied
) -> None:
    commands = apply(network, snat=[SNAT], dhcp=[DHCP])
    assert ["ip", "netns", "add", "r1"] in commands
    assert (
        "ip netns exec r1 nft add rule inet kvmweb postrouting "
        "ip saddr 10.0.1.0/24 ip daddr != 10.0.1.0/24 snat ip to 203.0.113.21"
    ) in [" ".join(words) for words in commands]
    got = street.leases("pc1", called="alice-pc")
    assert got | {"address": "", "dns": ""} == {
        "address": "", "mask": "255.255.255.0", "router": "10.0.1.254", "dns": "", "domain": "",
        "mtu": 0, "seconds": 86400,
    }  # fmt: skip
    assert got["address"] in {f"10.0.1.{number}" for number in range(100, 121)}
    with street.address("pc1", f"{got['address']}/24", via=got["router"]):
        assert street.pings("pc1", "10.0.1.254")
        assert street.pings("pc1", "198.51.100.1")
        assert street.asks("pc1", "198.51.100.1") == "203.0.113.21"
        # What goes to the guests' own network keeps its source.
        with street.address("pc2", "10.0.1.2/24", via="10.0.1.254"):
            assert street.asks("pc2", got["address"]) == "10.0.1.2"
    (lease,) = street.helper.call("router.leases", router="r1")
    assert (lease["address"], lease["name"]) == (got["address"], "alice-pc")
    assert street.seen("r1")["leases"] == [lease]


def test_it_is_seen_as_it_was_asked_for(street: Street, network: Applied) -> None:
    wanted = router(
        snat=[SNAT, {"source": "10.0.2.0/24", "out": "eth0"}],
        dnat=[
            {"protocol": "tcp", "address": "203.0.113.21", "port": 8080, "to": "10.0.1.1"},
            {"address": "203.0.113.121", "to": "10.0.1.1"},
            {"protocol": "udp", "port": 53, "to": "10.0.1.2", "to_port": 5353, "into": "eth0"},
        ],
        filters=[
            {"action": "accept", "source": "10.0.1.1/32", "protocol": "icmp"},
            {"action": "reject", "to": "198.51.100.0/24", "protocol": "tcp", "port": 25},
            {"action": "drop", "into": "eth0", "out": "in0", "protocol": "icmpv6"},
        ],
        dhcp=[DHCP],
    )
    network.apply(links=switches(), routers=[wanted])
    (told,) = network.document["routers"]
    seen = street.seen("r1")
    for part in ("name", "forwards", "snat", "dnat", "filters", "dhcp"):
        assert seen[part] == told[part], part
    assert seen["routes"] == [{"to": "default", "via": "203.0.113.1", "dev": "eth0", "metric": 0}]
    legs = {leg["name"]: leg for leg in seen["legs"]}
    assert legs["in0"]["addresses"] == ["10.0.1.254/24"]
    assert legs["eth0"]["addresses"] == ["203.0.113.21/24", "203.0.113.121/32"]
    assert [(leg["switch"], leg["end"]) for leg in (legs["in0"], legs["eth0"])] == [
        ("br-in", "r1-in0"),
        ("br-ex", "r1-eth0"),
    ]
    assert seen["dhcp_pid"]


def test_a_floating_address_works_both_ways(street: Street, network: Applied) -> None:
    floating = {"address": "203.0.113.121", "to": "10.0.1.1"}
    apply(network, snat=[SNAT], dnat=[floating])
    with street.address("pc1", "10.0.1.1/24", via="10.0.1.254"):
        assert street.asks("internet", "203.0.113.121") == "203.0.113.1"
        assert street.asks("pc1", "198.51.100.1") == "203.0.113.121"
        # From its own network, and from itself, by way of the router.
        with street.address("pc2", "10.0.1.2/24", via="10.0.1.254"):
            assert street.asks("pc2", "203.0.113.121") == "10.0.1.254"
            assert street.asks("pc2", "198.51.100.1") == "203.0.113.21"
        assert street.asks("pc1", "203.0.113.121") == "10.0.1.254"


def test_a_port_is_sent_on_and_others_are_not(street: Street, network: Applied) -> None:
    forward = {"protocol": "tcp", "port": 8080, "to": "10.0.1.1", "to_port": 80, "into": "eth0"}
    apply(network, dnat=[forward])
    with street.address("pc1", "10.0.1.1/24", via="10.0.1.254"):
        assert street.asks("internet", "203.0.113.21", 8080) == "203.0.113.1"
        assert street.asks("internet", "203.0.113.21", 80) == ""


def test_filters_decide_in_their_order(street: Street, network: Applied) -> None:
    apply(
        network,
        snat=[{"source": "10.0.1.0/24", "out": "eth0"}],
        filters=[
            {"action": "accept", "source": "10.0.1.1/32", "protocol": "tcp", "port": 80},
            {"action": "reject", "source": "10.0.1.0/24", "protocol": "tcp"},
            {"action": "drop", "source": "10.0.1.1/32", "protocol": "icmp"},
        ],
    )
    with (
        street.address("pc1", "10.0.1.1/24", via="10.0.1.254"),
        street.address("pc2", "10.0.1.2/24", via="10.0.1.254"),
    ):
        assert street.asks("pc1", "198.51.100.1") == "203.0.113.21"
        assert street.asks("pc2", "198.51.100.1") == ""
        assert not street.pings("pc1", "198.51.100.1")
        assert street.pings("pc2", "198.51.100.1")
        # The router itself is no way through.
        assert street.pings("pc1", "10.0.1.254")


def test_a_router_that_forwards_nothing_forwards_nothing(street: Street, network: Applied) -> None:
    with street.address("pc1", "10.0.1.1/24", via="10.0.1.254"):
        apply(network, snat=[SNAT], forwards=False)
        assert not street.pings("pc1", "198.51.100.1")
        apply(network, snat=[SNAT])
        assert street.pings("pc1", "198.51.100.1")


def test_it_routes_and_masquerades_ipv6(street: Street, network: Applied) -> None:
    apply(
        network,
        legs=[
            {**INSIDE, "addresses": ["10.0.1.254/24", "fd01::1/64"]},
            {**OUTSIDE, "addresses": ["203.0.113.21/24", "2001:db8:f::21/64"]},
        ],
        routes=[DEFAULT, {"to": "default", "via": "2001:db8:f::1"}],
        snat=[SNAT, {"source": "fd01::/64", "out": "eth0"}],
        dnat=[{"address": "2001:db8:f::121", "to": "fd01::2"}],
        dhcp=[{"leg": "in0", "start": "fd01::100", "end": "fd01::1ff", "dns": ["fd01::1"]}],
    )
    with street.address("pc2", "fd01::2/64"):
        # Asked for as the link comes up, and told by router advertisement.
        street.run("pc2", "sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=1")
        street.run("pc2", "ip", "link", "set", "eth0", "down")
        street.run("pc2", "ip", "link", "set", "eth0", "up")
        street.run("pc2", "ip", "address", "replace", "fd01::2/64", "dev", "eth0", "nodad")
        until(lambda: "default" in street.run("pc2", "ip", "-6", "route"), what="a default route")
        until(lambda: street.pings("pc2", "2001:db8:f::1"), what="the way to the internet")
        assert street.asks("pc2", "2001:db8:f::1") == "2001:db8:f::121"
        assert street.pings("internet", "2001:db8:f::121")
        street.run("pc2", "sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=0")
        street.run("pc2", "ip", "-6", "route", "flush", "proto", "ra")


def test_dhcp_tells_options_and_keeps_reservations(street: Street, network: Applied) -> None:
    mac = json.loads(street.run("pc1", "ip", "-j", "link", "show", "eth0"))[0]["address"]
    given = {
        **DHCP,
        "router": "",
        "dns": ["198.51.100.53"],
        "domain": "lab.example",
        "options": {"mtu": "1400"},
        "reservations": [{"mac": mac, "address": "10.0.1.77", "name": "web"}],
    }
    apply(network, dhcp=[given])
    assert street.leases("pc1") == {
        "address": "10.0.1.77", "mask": "255.255.255.0", "router": None, "dns": "198.51.100.53",
        "domain": "lab.example", "mtu": 1400, "seconds": 86400,
    }  # fmt: skip
    pid, before = street.seen("r1")["dhcp_pid"], street.leases("pc2")
    apply(network, dhcp=[{**given, "lease_seconds": 600}])
    assert street.seen("r1")["dhcp_pid"] not in (0, pid)
    assert len(street.dnsmasqs()) == 1
    assert {lease["address"] for lease in street.seen("r1")["leases"]} == {
        "10.0.1.77",
        before["address"],
    }
    assert street.leases("pc2") == {**before, "seconds": 600}


def test_a_lease_and_the_end_of_dnsmasq_are_heard_of(street: Street, network: Applied) -> None:
    apply(network, dhcp=[DHCP])
    heard: list[str] = []
    with street.host.client(heard.append) as listener:
        listener.call("watch")
        until(lambda: "routers" in heard, what="the first news, of what is there")
        for happens in (
            lambda: street.leases("pc1"),
            lambda: street.host.execute("kill", str(street.seen("r1")["dhcp_pid"])),
        ):
            heard.clear()
            happens()
            until(lambda: "routers" in heard, seconds=5, what="news of the router")


def test_two_routers_do_not_meet(street: Street, network: Applied) -> None:
    other = {
        "name": "r2", "legs": [{**OUTSIDE, "addresses": ["203.0.113.22/24"]}],
        "snat": [{"source": "default", "out": "eth0"}],
    }  # fmt: skip
    network.apply(links=switches(), routers=[router(dhcp=[DHCP]), other])
    assert street.pings("internet", "203.0.113.21")
    assert street.pings("internet", "203.0.113.22")
    network.apply(links=switches(), routers=[other])
    assert not street.pings("internet", "203.0.113.21")
    assert street.pings("internet", "203.0.113.22")


def test_legs_are_changed_in_place(street: Street, network: Applied) -> None:
    apply(network, dhcp=[DHCP])
    pid = street.seen("r1")["dhcp_pid"]
    index = street.run("r1", "ip", "-o", "link", "show", "in0").split(":")[0]
    inside = {
        **INSIDE, "mac": "52:54:00:00:01:fe", "mtu": 1400,
        "addresses": ["10.0.1.254/24", "10.0.9.1/24"],
    }  # fmt: skip
    apply(network, legs=[inside, OUTSIDE], dhcp=[DHCP])
    (link,) = json.loads(street.run("r1", "ip", "-j", "address", "show", "in0"))
    assert (link["address"], link["mtu"], str(link["ifindex"])) == (inside["mac"], 1400, index)
    assert {"10.0.1.254", "10.0.9.1"} <= {one["local"] for one in link["addr_info"]}
    (end,) = json.loads(street.host.execute("ip", "-j", "link", "show", "r1-in0"))
    assert (end["mtu"], end["address"][:3]) == (1400, "fe:")
    assert street.seen("r1")["dhcp_pid"] == pid
    # To another bridge, and without one address.
    apply(network, legs=[{**inside, "switch": "br-ex", "addresses": ["10.0.1.254/24"]}, OUTSIDE])
    (link,) = json.loads(street.run("r1", "ip", "-j", "address", "show", "in0"))
    assert "10.0.9.1" not in {one["local"] for one in link["addr_info"]}
    (end,) = json.loads(street.host.execute("ip", "-j", "link", "show", "r1-in0"))
    assert end["master"] == "br-ex"
    apply(network, legs=[OUTSIDE])
    assert [leg["name"] for leg in street.seen("r1")["legs"]] == ["eth0"]


def test_its_commands_do_the_same(street: Street, network: Applied) -> None:
    wanted = document(
        links=switches(),
        routers=[
            router(
                snat=[SNAT],
                dnat=[{"address": "203.0.113.121", "to": "10.0.1.1"}],
                filters=[{"action": "drop", "into": 'eth0', "protocol": "icmp"}],
            )
        ],
    )  # fmt: skip
    _type(street, street.helper.call("plan", desired=wanted, owned={})["steps"])
    network.document = wanted
    assert street.helper.call("plan", desired=wanted, owned=wanted)["steps"] == []
    assert street.pings("internet", "203.0.113.21")
    _type(street, street.helper.call("plan", desired=document(), owned=wanted)["steps"])
    network.document = document()


def _type(street: Street, steps: list[Part]) -> None:
    for command in (command for step in steps for command in step["commands"]):
        if "arping" not in command:  # not every machine has it
            street.host.execute(*command)
    street.run("internet", "ip", "neigh", "flush", "all")


MEDDLING = [
    ["ip", "netns", "exec", "r1", "nft", "flush", "ruleset"],
    ["ip", "netns", "exec", "r1", "nft", "add", "rule", "inet", "kvmweb", "forward", "drop"],
    ["ip", "netns", "exec", "r1", "sysctl", "-qw", "net.ipv4.ip_forward=0"],
    ["ip", "-n", "r1", "address", "delete", "10.0.1.254/24", "dev", "in0"],
    ["ip", "-n", "r1", "link", "set", "in0", "down"],
    ["ip", "-n", "r1", "link", "set", "in0", "name", "other"],
    ["ip", "-n", "r1", "route", "delete", "default"],
    ["ip", "link", "set", "r1-in0", "nomaster"],
    ["ip", "link", "delete", "r1-in0"],
    ["ip", "netns", "delete", "r1"],
    ["kill", "{dnsmasq}"],
]


def test_what_others_changed_is_seen_and_put_back(street: Street, network: Applied) -> None:
    parts = {"links": switches(), "routers": [router(snat=[SNAT], dhcp=[DHCP])]}
    network.apply(**parts)

    def drift() -> list[Any]:
        now = network.document
        return list(street.helper.call("plan", desired=now, owned=now)["steps"])

    with street.address("pc1", "10.0.1.1/24", via="10.0.1.254"):
        for words in MEDDLING:
            pid = str(street.seen("r1")["dhcp_pid"])
            street.host.execute(*(word.replace("{dnsmasq}", pid) for word in words))
            assert until(drift, what=f"a plan after {words}")
            network.apply(**parts)
            assert street.asks("pc1", "198.51.100.1") == "203.0.113.21", words
            assert {leg["name"] for leg in street.seen("r1")["legs"]} == {"in0", "eth0"}, words
            assert len(street.dnsmasqs()) == 1, words


def test_what_others_have_in_it_stays(street: Street, network: Applied) -> None:
    apply(network, snat=[SNAT])
    table = "table ip theirs { chain out { type filter hook output priority 5; }; }"
    street.run("r1", "nft", table)
    street.run("r1", "ip", "route", "add", "192.0.2.0/24", "via", "203.0.113.9")
    before = street.run("r1", "nft", "list", "table", "ip", "theirs")
    apply(network, snat=[SNAT, {"source": "10.0.2.0/24"}])
    apply(network)
    assert street.run("r1", "nft", "list", "ruleset") == before
    assert "192.0.2.0/24" in street.run("r1", "ip", "route")
    assert street.seen("r1")["other_tables"] == ["ip theirs"]


def test_namespaces_of_others_are_listed_and_left_alone(street: Street, network: Applied) -> None:
    apply(network)
    assert street.seen("pc1")["is_ours"] is False
    assert [leg["name"] for leg in street.seen("pc1")["legs"]] == ["eth0"]
    with pytest.raises(NetError, match="not made here") as refused:
        network.apply(links=switches(), routers=[router(name="pc1")])
    assert refused.value.field == "routers.0.name"


def test_it_does_not_take_away_what_others_moved_into_it(street: Street, network: Applied) -> None:
    apply(network)
    street.host.execute("ip", "link", "add", "theirs", "type", "veth", "peer", "name", "theirs2")
    street.host.execute("ip", "link", "set", "theirs2", "netns", "r1")
    with pytest.raises(NetError, match="The interface theirs2 in the router r1 is not of our mak"):
        network.apply(links=switches())
    street.host.execute("ip", "link", "delete", "theirs")
    with subprocess.Popen([*street.within("r1"), "sleep", "60"]) as sleeper:
        until(lambda: Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n")
        told = rf"other programs are running: “sleep” \(process {sleeper.pid}\)"
        with pytest.raises(NetError, match=told):
            network.apply(links=switches())
        sleeper.kill()


def test_another_dnsmasq_is_never_ended(street: Street, network: Applied) -> None:
    apply(network, dhcp=[DHCP])
    options = ["--conf-file=/dev/null", "--port=0", "--keep-in-foreground", "--pid-file"]
    options += ["--interface=lo", "--bind-interfaces"]
    with subprocess.Popen([*street.within("pc2"), "dnsmasq", *options]) as theirs:
        until(lambda: Path(f"/proc/{theirs.pid}/comm").read_text() == "dnsmasq\n")
        # Even if its number stands in our file.
        (street.host.state / "routers/r1/dnsmasq.pid").write_text(str(theirs.pid))
        apply(network)
        assert theirs.poll() is None
        theirs.kill()


def test_a_failure_half_way_leaves_nothing(street: Street, network: Applied, clean: Dump) -> None:
    # The kernel refuses it when the namespace and the first leg are there.
    legs = [INSIDE, {**OUTSIDE, "mac": "00:00:00:00:00:00"}]
    with pytest.raises(NetError, match="All is as it was before") as failed:
        network.apply(links=switches(), routers=[router(legs=legs, dhcp=[DHCP])])
    assert failed.value.kind == "failed"
    assert not left(street, clean)


def test_a_failure_at_the_end_leaves_all_as_it_was(street: Street, network: Applied) -> None:
    inside = {**INSIDE, "mac": "52:54:00:00:01:fe"}
    apply(network, legs=[inside, OUTSIDE], snat=[SNAT])
    before = street.host.dump()
    # The port is taken, which only dnsmasq itself finds out.
    with street.serving("r1", 53), pytest.raises(NetError, match="Address already in use"):
        apply(network, legs=[inside], routes=[], dhcp=[DHCP], forwards=False)
    after = without_journals(street.host.dump(), before)
    # What the host's end of a leg is called by others is no matter: it is made anew.
    assert "r1-eth0" in after["links of “”"]
    assert not difference(_without_ends(before), _without_ends(after))


def _without_ends(dump: dict[str, str]) -> dict[str, str]:
    """The MACs of ends on the host, which are random, and what follows from them."""
    left_out = ("links of “”", "addresses of “”", "routes6 of “”", "vlans of “”")
    return {title: text for title, text in dump.items() if title not in left_out}


def test_a_helper_killed_in_the_middle_leaves_nothing(
    street: Street, network: Applied, clean: Dump
) -> None:
    wanted = document(links=switches(), routers=[router(snat=[SNAT], dhcp=[DHCP])])
    victim = street.host.client()
    digest = victim.call("plan", desired=wanted, owned={})["digest"]
    with ThreadPoolExecutor() as pool:
        applied = pool.submit(victim.call, "apply", desired=wanted, owned={}, digest=digest)
        until(lambda: "r1-in0" in street.host.links(), what="the first leg")
        os.kill(victim.process_id, signal.SIGKILL)
        with pytest.raises(NetError):
            applied.result()
    victim.close()
    # The next one finishes what it left.
    with street.host.client():
        assert not left(street, clean)


def test_a_namespace_that_was_only_begun_is_undone() -> None:
    """The helper was killed before it could mark it; one that others use is left."""

    def undo() -> bool:
        with Context() as context:
            ACTIONS["router.remove"](context, name="kr-begun", lenient=True)
        return not namespaces.DIRECTORY.joinpath("kr-begun").exists()

    for words, is_gone in (((), True), (("lo", "up"), False)):
        subprocess.run(["ip", "netns", "add", "kr-begun"], check=True)
        if words:
            subprocess.run(["ip", "-n", "kr-begun", "link", "set", *words], check=True)
        assert undo() is is_gone
    subprocess.run(["ip", "netns", "delete", "kr-begun"], check=True)


LONG = "a-router-with-a-long-name"


@pytest.mark.parametrize(
    ("parts", "field", "says"),
    [
        ({"legs": [{**INSIDE, "switch": "br-no"}]}, "legs.0.switch", "There is no bridge br-no"),
        ({"legs": [{**INSIDE, "tag": 10}]}, "legs.0.tag", "VLAN"),
        ({"legs": [INSIDE, {**INSIDE, "addresses": []}]}, "legs.1.name", "a leg in0 already"),
        (
            {"legs": [INSIDE, {"name": "v10", "parent": "eth9", "vlan": 10}]},
            "legs.1.parent",
            "no leg eth9",
        ),
        (
            {"legs": [INSIDE, {"name": "v10", "parent": "in0", "vlan": 10}]},
            "legs.1.vlan",
            "This host's kernel has no .*Give the router a leg of its own in VLAN 10",
        ),
        (
            {"legs": [INSIDE, {**OUTSIDE, "addresses": ["10.0.1.7/25"]}]},
            "legs.1.addresses",
            "overlaps 10.0.1.0/24, where in0 is",
        ),
        ({"routes": [{"to": "default", "via": "192.0.2.1"}]}, "routes.0.via", "in no network"),
        ({"routes": [DEFAULT, DEFAULT]}, "routes.1.to", "already"),
        ({"snat": [{"source": "10.0.1.0/24", "to": "fd00::1"}]}, "snat.0.to", "not both"),
        ({"snat": [{"source": "10.0.1.0/24", "out": "no"}]}, "snat.0.out", "has no leg no"),
        ({"dnat": [{"to": "10.0.1.1"}]}, "dnat.0.address", "Say which address"),
        ({"filters": [{"action": "drop", "port": 22}]}, "filters.0.port", "Only tcp, udp"),
        ({"dhcp": [{**DHCP, "start": "10.0.2.100"}]}, "dhcp.0.start", "in no network of the leg"),
        ({"dhcp": [{**DHCP, "end": "10.0.1.99"}]}, "dhcp.0.end", "must end behind"),
        ({"dhcp": [{**DHCP, "options": {"no-such": "1"}}]}, "dhcp", "bad dhcp-option"),
        ({"dhcp": [{**DHCP, "domain": "x\ndhcp-script=/bin/sh"}]}, "dhcp.0", "dnsmasq takes"),
        ({"dhcp": [{**DHCP, "options": {"mtu": "1\nuser=root"}}]}, "dhcp.0", "dnsmasq takes"),
    ],
)
def test_it_refuses_with_a_sentence(street: Street, parts: Part, field: str, says: str) -> None:
    wanted = document(links=switches(), routers=[router(**parts)])
    with pytest.raises(NetError, match=says) as refused:
        street.helper.call("plan", desired=wanted, owned={})
    assert refused.value.field == f"routers.0.{field}"


def test_a_name_that_is_taken_on_the_host_is_refused(street: Street, network: Applied) -> None:
    street.host.execute("ip", "link", "add", "r1-in0", "type", "bridge")
    try:
        with pytest.raises(NetError, match="would be called r1-in0, and that name is taken"):
            apply(network)
    finally:
        street.host.execute("ip", "link", "delete", "r1-in0")
    with pytest.raises(NetError, match="taken by in0 of r1-x"):
        network.apply(
            links=switches(),
            routers=[
                {"name": "r1-x", "legs": [{"name": "in0"}]},
                {"name": "r1", "legs": [{"name": "x-in0"}]},
            ],
        )


def test_names_with_metacharacters_are_only_names(street: Street, network: Applied) -> None:
    odd = "$(id);\"'`&{*"
    apply(
        network,
        legs=[INSIDE, {**OUTSIDE, "name": odd}],
        snat=[{"source": "10.0.1.0/24", "out": odd}],
        filters=[{"action": "drop", "into": odd, "protocol": "tcp"}],
    )
    assert street.seen("r1")["snat"][0]["out"] == odd
    with street.address("pc1", "10.0.1.1/24", via="10.0.1.254"):
        assert street.asks("pc1", "198.51.100.1") == "203.0.113.21"


def test_ends_on_the_host_have_names_of_their_own() -> None:
    assert host_end("r1", "in0") == "r1-in0"
    names = {host_end(LONG, leg) for leg in ("in0", "in1", "ausgang-ü", "x" * 15)}
    assert len(names) == 4
    assert all(len(name.encode()) <= 15 for name in names)
