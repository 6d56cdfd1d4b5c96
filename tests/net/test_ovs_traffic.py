"""What gets through the bridges that a helper made: by TCP, for ping passes where that dies."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kvmweb.net import ovs
from tests.net.switches import Switches, document
from tests.waiting import until

# Takes whatever comes and tells how much it was, and the seconds from the first byte to the last.
_SERVE = """
import socket, sys, time
server = socket.create_server((sys.argv[1], 5001), family=socket.AF_INET)
print("ready", flush=True)
server.settimeout(30)
caller, _ = server.accept()
count = len(caller.recv(1 << 16))
began = time.monotonic()
while data := caller.recv(1 << 16):
    count += len(data)
print(count, time.monotonic() - began)
"""
_SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 5001), 3) as to:
    to.settimeout(20)
    to.sendall(bytes(int(sys.argv[2])))
"""
_BYTES = 300_000


@pytest.fixture(scope="module")
def switches() -> Iterator[Switches]:
    with Switches() as host:
        yield host


@pytest.fixture
def host(switches: Switches) -> Iterator[Switches]:
    before = switches.everything()
    yield switches
    assert switches.everything() == before


def _bridge(*ports: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"switches": [{"name": "br0", "ports": list(ports), **more}]}


def _transfer(host: Switches, source: str, target: str, address: str, count: int = _BYTES) -> float:
    return _transfer_between(host.of(source), host.of(target), address, count)


def _transfer_between(
    source: list[str], target: list[str], address: str, count: int = _BYTES
) -> float:
    """Bytes per second by TCP; raises if it does not come through whole."""
    server = subprocess.Popen(
        [*target, sys.executable, "-c", _SERVE, address], stdout=subprocess.PIPE, text=True
    )
    with server:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        try:
            send = [*source, sys.executable, "-c", _SEND, address, str(count)]
            subprocess.run(send, check=True, capture_output=True, timeout=30)
            arrived, seconds = server.stdout.readline().split()
        finally:
            server.kill()
    assert int(arrived) == count
    return count / float(seconds)


def _reaches(host: Switches, source: str, address: str) -> str:
    """What ping says."""
    words = [*host.of(source), "ping", "-n", "-c2", "-i0.2", "-W1", address]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=20).stdout


def _is_reached(host: Switches, source: str, address: str) -> bool:
    return " 0% packet loss" in _reaches(host, source, address)


def _offload(host: Switches, guest: str, link: str, feature: str) -> str:
    words = [*host.of(guest), "ethtool", "-k", link]
    told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout
    found = re.search(rf"^{feature}: (\w+)", told, re.MULTILINE)
    assert found
    return found[1]


def test_tcp_passes_between_veths_of_a_userspace_bridge(host: Switches) -> None:
    """By hand it dies: the same bridge and ports, without the steps on checksums."""
    with host.guest("a", "10.99.0.1/24") as a, host.guest("b", "10.99.0.2/24") as b:
        host.vsctl("add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev")
        host.vsctl("add-port", "br0", a, "--", "add-port", "br0", b)
        assert " 0% packet loss" in _reaches(host, "a", "10.99.0.2")
        with pytest.raises(subprocess.CalledProcessError):
            _transfer(host, "a", "b", "10.99.0.2")
        host.vsctl("del-br", "br0")
        with host.having(**_bridge({"name": a}, {"name": b})) as commands:
            assert ["ethtool", "-K", a, "tx-checksumming", "off"] in commands
            far = ["ip", "netns", "exec", "a", "ethtool", "-K", "eth0", "tx-checksumming", "off"]
            assert far in commands
            for guest, link in (("", a), ("a", "eth0"), ("", b), ("b", "eth0")):
                assert _offload(host, guest, link, "tx-checksumming") == "off"
            _transfer(host, "a", "b", "10.99.0.2")


def test_veths_made_by_the_same_plan_finish_their_checksums(host: Switches) -> None:
    pair = [
        {"kind": "veth", "name": "left", "peer": "right", "addresses": ["10.95.0.1/24"]},
        {"kind": "veth", "name": "right", "peer": "left"},
    ]
    with host.having(links=pair, **_bridge({"name": "right"})):
        for link in ("left", "right"):
            assert _offload(host, "", link, "tx-checksumming") == "off"


def test_what_the_document_says_of_offloads_is_left_to_it(host: Switches) -> None:
    pair = [
        {"kind": "veth", "name": "left", "peer": "right"},
        {"kind": "veth", "name": "right", "peer": "left", "offloads": {"tx-checksumming": True}},
    ]
    with host.having(links=pair, **_bridge({"name": "right"})):
        assert _offload(host, "", "right", "tx-checksumming") == "on"


def test_tags_keep_apart_and_a_trunk_carries_them(host: Switches) -> None:
    guests = {"a": 10, "b": 10, "c": 20}
    with host.guest("a", "10.99.0.1/24") as a, host.guest("b", "10.99.0.2/24") as b, host.guest(
        "c", "10.99.0.3/24"
    ) as c:  # fmt: skip
        ports = [{"name": end, "tag": guests[end[-1]]} for end in (a, b, c)]
        with host.having(**_bridge(*ports)):
            _transfer(host, "a", "b", "10.99.0.2")
            assert "100% packet loss" in _reaches(host, "a", "10.99.0.3")
            with pytest.raises(subprocess.CalledProcessError):
                _transfer(host, "a", "c", "10.99.0.3")
            macs = {(one["port"], one["vlan"]) for one in _fdb(host)}
            assert {(a, 10), (b, 10), (c, 20)} <= macs
        ports = [{"name": a, "tag": 10}, {"name": "to1", "kind": "patch", "peer": "to0"}]
        other = [{"name": b, "tag": 10}, {"name": "to0", "kind": "patch", "peer": "to1"}]
        switches = [{"name": "br0", "ports": ports}, {"name": "br1", "ports": other}]
        with host.having(switches=switches):
            _transfer(host, "a", "b", "10.99.0.2")


def _fdb(host: Switches) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host.helper.call("ovs.fdb", bridge="br0")
    return found


def test_the_host_does_not_answer_in_vlans_that_it_has_no_part_in(host: Switches) -> None:
    """Its kernel hears what the link of a userspace bridge receives, whatever the tag."""
    with host.guest("a", "10.99.0.1/24") as a, host.guest("b", "10.99.0.2/24") as b:
        ports: list[dict[str, Any]] = [{"name": a, "tag": 10}, {"name": b}]
        with host.having(**_bridge(*ports, addresses=["10.99.0.9/24"])):
            assert " 0% packet loss" in _reaches(host, "b", "10.99.0.9")
            _transfer(host, "b", "", "10.99.0.9")
            _reaches(host, "a", "10.99.0.9")
            asked = ("ip", "-n", "a", "neigh", "show", "10.99.0.9")
            until(lambda: "FAILED" in host.execute(*asked), what="ARP to have had no answer")


def test_a_link_that_the_host_needs_itself_goes_on_hearing(host: Switches) -> None:
    with host.guest("a", "10.99.0.1/24") as a:
        host.execute("ip", "address", "add", "10.99.0.8/24", "dev", a)
        with host.having(**_bridge({"name": a})) as commands:
            assert not [words for words in commands if words[0] == "nft"]
            assert " 0% packet loss" in _reaches(host, "a", "10.99.0.8")


def test_an_uplink_gives_its_bridge_what_it_has_and_gets_it_back(host: Switches) -> None:
    """As a NIC: addresses, default route, MAC; nothing is received twice; TCP passes."""
    with host.guest("router", "10.94.0.1/24", "fd94::1/64") as nic:
        for address in ("10.94.0.9/24", "10.94.0.10/24", "fd94::9/64"):
            host.execute("ip", "address", "add", address, "dev", nic)
        until(lambda: "tentative" not in host.execute("ip", "address"), what="IPv6 to be usable")
        host.execute("ip", "route", "add", "default", "via", "10.94.0.1")
        host.execute("ip", "-6", "route", "add", "default", "via", "fd94::1")
        before = _routes(host)
        with host.having(**_bridge(uplink=nic)):
            assert "10.94.0.9/24" in host.execute("ip", "-br", "address", "show", "dev", "br0")
            assert "fd94::9/64" in host.execute("ip", "-br", "address", "show", "dev", "br0")
            assert "10.94" not in host.execute("ip", "-br", "address", "show", "dev", nic)
            assert "default via 10.94.0.1 dev br0" in host.execute("ip", "route")
            assert "default via fd94::1 dev br0" in host.execute("ip", "-6", "route")
            assert _mac(host, "br0") == _mac(host, nic)
            pinged = _reaches(host, "router", "10.94.0.9")
            assert " 0% packet loss" in pinged
            assert "duplicates" not in pinged
            until(lambda: _is_reached(host, "router", "fd94::9"), what="IPv6 to be usable")
            _transfer(host, "router", "", "10.94.0.9")
            _transfer(host, "", "router", "10.94.0.1")
        assert _routes(host) == before


def _routes(host: Switches) -> list[str]:
    lines = host.execute("ip", "-4", "route") + host.execute("ip", "-6", "route")
    return sorted(line for line in lines.splitlines() if not line.startswith("fe80"))


def _mac(host: Switches, link: str) -> str:
    return str(json.loads(host.execute("ip", "-j", "link", "show", "dev", link))[0]["address"])


def test_an_uplink_without_confirmation_is_as_it_was(host: Switches) -> None:
    """The helper's own timer brings it back, here after two seconds."""
    with host.guest("router", "10.94.0.1/24") as nic:
        host.execute("ip", "address", "add", "10.94.0.9/24", "dev", nic)
        host.execute("ip", "route", "add", "default", "via", "10.94.0.1")
        before = (host.everything(), _routes(host))
        desired = document(**_bridge(uplink=nic))
        plan = host.plan(desired, {})
        assert plan["is_risky"]
        arguments = {"desired": desired, "owned": {}, "digest": plan["digest"]}
        done = host.helper.call("apply", **arguments, seconds=2)
        assert done["state"] == "unconfirmed"
        assert host.vsctl("list-ports", "br0") == nic
        until(lambda: "br0" not in host.links(), what="the bridge to be gone")
        until(lambda: (host.everything(), _routes(host)) == before, what="all to be as before")
        assert " 0% packet loss" in _reaches(host, "router", "10.94.0.9")


def test_a_rate_limit_is_kept(host: Switches) -> None:
    rate = 8_000_000
    with host.guest("a", "10.99.0.1/24") as a, host.guest("b", "10.99.0.2/24") as b:
        limited = {"name": b, "qos": {"max_rate": rate}}
        with host.having(**_bridge({"name": a}, limited)):
            bits = 8 * _transfer(host, "a", "b", "10.99.0.2", 3_000_000)
            assert 0.85 * rate < bits < 1.15 * rate


def _sent(host: Switches) -> int:
    (told,) = host.helper.call("ovs.tunnels")
    return int(told["statistics"].get("tx_packets", 0))


@pytest.fixture
def wired(host: Switches) -> Iterator[Switches]:
    """Another host, with a wire between eth1 of both."""
    with Switches() as other:
        peer = ("type", "veth", "peer", "name", "eth1", "netns", other.name)
        command = ["ip", "-n", host.name, "link", "add", "eth1", "up", *peer]
        subprocess.run(command, check=True, timeout=30)
        for number, end in enumerate((host, other), 1):
            end.execute("ip", "link", "set", "eth1", "up")
            end.execute("ip", "address", "add", f"10.93.0.{number}/24", "dev", "eth1")
        yield other
        host.execute("ip", "link", "delete", "eth1")


@pytest.mark.parametrize("kind", ["gre", "vxlan", "geneve"])
def test_a_tunnel_carries_vlans_and_tells_what_is_in_its_way(
    host: Switches, wired: Switches, kind: str
) -> None:
    def inner(guest: str, remote: str) -> dict[str, Any]:
        tunnel = {"name": "tun0", "kind": kind, "remote_ip": remote, "key": "77"}
        return {"name": "br0", "ports": [{"name": guest, "tag": 10}, tunnel]}

    under = {"name": "br-under", "uplink": "eth1"}
    with host.guest("a", "10.99.0.1/24") as a, wired.guest("b", "10.99.0.2/24") as b:
        for end, guest in ((host, "a"), (wired, "b")):
            mtu = str(ovs.tunnel_mtu(kind))
            end.execute("ip", "-n", guest, "link", "set", "eth0", "mtu", mtu)
        with host.having(switches=[inner(a, "10.93.0.2")]):
            (told,) = host.helper.call("ovs.tunnels")
            assert "leads through eth1, which the userspace datapath does not" in told["problem"]
        with (
            host.having(switches=[inner(a, "10.93.0.2"), under]),
            wired.having(switches=[inner(b, "10.93.0.1"), under]),
        ):
            (told,) = host.helper.call("ovs.tunnels")
            assert told["problem"] == ""
            assert (told["bridge"], told["options"]["remote_ip"]) == ("br0", "10.93.0.2")
            _transfer_between(host.of("a"), wired.of("b"), "10.99.0.2")
            if kind == "gre":  # ovs-vswitchd writes counters down every five seconds
                until(lambda: _sent(host) > 100, what="the tunnel to have counted")
            wired.vsctl("set", "Port", b, "tag=20")
            assert "100% packet loss" in _reaches(host, "a", "10.99.0.2")
            wired.vsctl("set", "Port", b, "tag=10")
