"""Routing between VLANs by a trunk (“router on a stick”), which takes a kernel with 802.1Q links,
and by legs in VLANs of a Linux bridge; on the distribution's kernel, guests are namespaces.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from kvmweb.net.client import Client
from kvmweb.net.errors import NetError
from tests import dumps
from tests.full_kernel import FullKernel
from tests.network import Applied
from tests.waiting import until

Part = dict[str, Any]
PORTS = {"pc10": 10, "pc20": 20}
TRUNK: Part = {"name": "trunk0", "switch": "sw0", "trunks": [10, 20]}
STICK: list[Part] = [
    TRUNK,
    {"name": "v10", "parent": "trunk0", "vlan": 10, "addresses": ["10.0.10.254/24"]},
    {"name": "v20", "parent": "trunk0", "vlan": 20, "addresses": ["10.0.20.254/24"]},
]
LEGS: list[Part] = [
    {"name": f"leg{vlan}", "switch": "sw0", "tag": vlan, "addresses": [f"10.0.{vlan}.254/24"]}
    for vlan in PORTS.values()
]
LINUX = {
    "links": [
        {"kind": "bridge", "name": "sw0", "vlan_filtering": True},
        *(
            {"kind": "physical", "name": f"e-{name}", "master": "sw0", "port": {"pvid": vlan}}
            for name, vlan in PORTS.items()
        ),
    ]
}
OVS = {
    "switches": [
        {
            "name": "sw0",
            "ports": [{"name": f"e-{name}", "tag": vlan} for name, vlan in PORTS.items()],
        }
    ]
}


@pytest.fixture(scope="module")
def guest() -> Iterator[FullKernel]:
    with FullKernel() as full:
        for name, vlan in PORTS.items():
            for words in (
                f"netns add {name}",
                f"link add e-{name} up type veth peer name eth0 netns {name}",
                f"-n {name} link set lo up",
                f"-n {name} link set eth0 up",
                f"-n {name} address add 10.0.{vlan}.1/24 dev eth0",
                f"-n {name} route add default via 10.0.{vlan}.254",
            ):
                full.execute("ip", *words.split())
        until(lambda: not is_in_doubt(full), what="IPv6 addresses that are usable")
        yield full


def is_in_doubt(guest: FullKernel) -> bool:
    within = [[], *(["-n", name] for name in PORTS)]
    return any("tentative" in guest.execute("ip", *one, "address") for one in within)


@pytest.fixture(scope="module")
def helper(guest: FullKernel) -> Iterator[Client]:
    """The guest's network is in the end as it was at first."""
    before = dumps.whole(guest.said)
    with Client(guest.helper) as client:
        yield client
    left = dumps.settled(before, guest.said)
    assert not left, f"the tests left this behind:\n{left}"


@pytest.fixture
def network(helper: Client) -> Iterator[Applied]:
    with Applied(helper) as applied:
        yield applied


def reaches(guest: FullKernel, caller: str, other: str) -> bool:
    """By TCP: a file that the other one sends."""
    enter = ("ip", "netns", "exec")
    listen = ("socat", "-u", "OPEN:/proc/version", "TCP-LISTEN:80,reuseaddr")
    address = f"10.0.{PORTS[other]}.1"
    with guest.running(*enter, other, "timeout", "20", *listen):
        told = guest.said(
            [*enter, caller, "socat", "-u", f"TCP:{address}:80,retry=20,interval=0.2", "-"]
        )
    return "Linux version" in told


@pytest.mark.parametrize(
    ("switch", "legs"),
    [(LINUX, STICK), (LINUX, LEGS), (OVS, STICK)],
    ids=["a trunk", "a leg in each VLAN", "a trunk on Open vSwitch"],
)
def test_it_routes_between_vlans(
    guest: FullKernel, network: Applied, switch: Part, legs: list[Part]
) -> None:
    network.apply(**switch, routers=[{"name": "rs", "legs": legs}])
    assert reaches(guest, "pc10", "pc20")
    assert reaches(guest, "pc20", "pc10")


def test_a_trunk_gains_and_loses_vlans(guest: FullKernel, network: Applied) -> None:
    trunk, ten, twenty = STICK
    network.apply(**LINUX, routers=[{"name": "rs", "legs": [{**trunk, "trunks": [10]}, ten]}])
    assert '"vlan":20' not in guest.execute("bridge", "-j", "vlan", "show", "dev", "rs-trunk0")
    network.apply(**LINUX, routers=[{"name": "rs", "legs": [trunk, ten, twenty]}])
    assert '"vlan":20' in guest.execute("bridge", "-j", "vlan", "show", "dev", "rs-trunk0")
    assert reaches(guest, "pc10", "pc20")
    # Made anew, with what is on it.
    guest.execute("ip", "link", "delete", "rs-trunk0")
    network.apply(**LINUX, routers=[{"name": "rs", "legs": [trunk, ten, twenty]}])
    assert reaches(guest, "pc20", "pc10")


def test_a_bridge_has_to_filter_vlans_for_it(network: Applied) -> None:
    plain = {"kind": "bridge", "name": "sw0"}
    with pytest.raises(NetError, match="sw0 does not filter VLANs") as refused:
        network.apply(links=[plain], routers=[{"name": "rs", "legs": LEGS}])
    assert refused.value.field == "routers.0.legs.0.tag"
