"""Tunnels between two hosts, made by documents through helpers that ssh started there.

Host b is entered as somebody who is not root. At the ends are routers, which are namespaces: the
MTU is the one the site proposes, and what goes through are pings of full size and TCP.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from kvmweb.net import launch
from kvmweb.net.client import Client
from kvmweb.net.ovs import tunnel_mtu
from tests import dumps
from tests.network import Applied
from tests.nodes import SUDOER, Lab, Node
from tests.transfer import rate, received

# What a tunnel carries beside the payload of a ping: IP and ICMP.
PING_HEADERS = 20 + 8


@pytest.fixture(scope="module")
def helpers(lab: Lab) -> Iterator[dict[str, Client]]:
    uris = {"a": lab.a.ssh_uri, "b": lab.b.uri_of(SUDOER)}
    with ExitStack() as ends:
        yield {name: ends.enter_context(Client(launch.by_uri(uri))) for name, uri in uris.items()}


@pytest.fixture
def hosts(lab: Lab, helpers: dict[str, Client]) -> Iterator[dict[str, Applied]]:
    """Both hosts' networks; what a test applies to them goes away, without a trace."""
    nodes = {"a": lab.a, "b": lab.b}
    before = {name: dumps.whole(node.said) for name, node in nodes.items()}
    with ExitStack() as ends:
        yield {name: ends.enter_context(Applied(helper)) for name, helper in helpers.items()}
    for name, node in nodes.items():
        left = dumps.settled(before[name], node.said)
        assert not left, f"the test left this behind on {name}:\n{left}"


def _router(name: str, address: str, *, switch: str, mtu: int, tag: int | None = None) -> Any:
    leg = {"name": "eth0", "switch": switch, "tag": tag, "addresses": [address], "mtu": mtu}
    return {"name": name, "legs": [leg]}


def _ends(number: int, *, switch: str, mtu: int, tags: tuple[int | None, int | None]) -> list[Any]:
    """Two routers of a host: red and blue have the same subnet, and meet if their tags do."""
    return [
        _router("red", f"10.90.0.{number}/24", switch=switch, mtu=mtu, tag=tags[0]),
        _router("blue", f"10.90.0.{number + 100}/24", switch=switch, mtu=mtu, tag=tags[1]),
    ]


def _pings(node: Node, router: str, address: str, *, mtu: int = 1000, seconds: int = 5) -> bool:
    """In one piece of this size."""
    size = ("-M", "do", "-s", str(mtu - PING_HEADERS))
    ping = ("ping", "-c1", "-w", str(seconds), *size, address)
    return node.succeeds("ip", "netns", "exec", router, *ping)


def _passes(lab: Lab, *, mtu: int) -> None:
    assert _pings(lab.a, "red", "10.90.0.12", mtu=mtu)
    assert _pings(lab.b, "blue", "10.90.0.111", mtu=mtu)
    content = received(lab.a, "red", lab.b, "red", "10.90.0.12", kib=2000)
    assert content == 2000 * 1024


@pytest.mark.parametrize("kind", ["gre", "vxlan"])
def test_an_open_vswitch_tunnel_joins_vlans_and_keeps_them_apart(
    lab: Lab, hosts: dict[str, Applied], kind: str
) -> None:
    mtu = tunnel_mtu(kind)
    for name, number, other in (("a", 11, 12), ("b", 12, 11)):
        tunnel = {"name": "tun0", "kind": kind, "remote_ip": f"10.78.0.{other}", "key": "5000"}
        hosts[name].apply(
            switches=[
                # Where the tunnel's own packets leave: the userspace datapath asks for that.
                {"name": "br-phy", "uplink": "eth1", "ports": [{"name": "eth1"}]},
                {"name": "br-int", "ports": [tunnel]},
            ],
            routers=_ends(number, switch="br-int", mtu=mtu, tags=(10, 20)),
        )
    assert lab.a.execute("ovs-vsctl", "get", "interface", "tun0", "type").strip() == kind
    assert '"10.78.0.12"' in lab.a.execute("ovs-vsctl", "get", "interface", "tun0", "options")
    _passes(lab, mtu=mtu)
    for blue in ("10.90.0.112", "10.90.0.111"):
        assert not _pings(lab.a, "red", blue, seconds=1)


def test_a_vxlan_of_the_kernel_joins_two_linux_bridges(lab: Lab, hosts: dict[str, Applied]) -> None:
    mtu = tunnel_mtu("vxlan")
    for name, number, other in (("a", 11, 12), ("b", 12, 11)):
        vxlan = {"kind": "vxlan", "name": "vx77", "id": 77, "remote": f"10.78.0.{other}"}
        hosts[name].apply(
            links=[
                {"kind": "bridge", "name": "joined"},
                {**vxlan, "local": f"10.78.0.{number}", "dev": "eth1", "master": "joined"},
            ],
            routers=_ends(number, switch="joined", mtu=mtu, tags=(None, None)),
        )
    assert "vxlan id 77 remote 10.78.0.12" in lab.a.execute("ip", "-d", "link", "show", "vx77")
    _passes(lab, mtu=mtu)


def test_a_ports_rate_is_what_was_asked_for(lab: Lab, hosts: dict[str, Applied]) -> None:
    megabit = 20
    qos = {"type": "linux-htb", "max_rate": megabit * 1_000_000}
    links = [
        {"kind": "veth", "name": "slow", "peer": "end"},
        {"kind": "veth", "name": "end", "peer": "slow", "addresses": ["10.90.0.1/24"]},
    ]
    routers = [_router("red", "10.90.0.11/24", switch="br-int", mtu=1500)]
    for wanted in (qos, None):
        switch = {"name": "br-int", "ports": [{"name": "slow", "qos": wanted}]}
        hosts["a"].apply(links=links, switches=[switch], routers=routers)
        measured = rate(lab.a, "red", lab.a, "", "10.90.0.1")
        print(f"{measured:.1f} Mbit/s with {wanted}")
        if wanted:
            assert measured == pytest.approx(megabit, rel=0.15)
        else:
            assert measured > 2 * megabit
