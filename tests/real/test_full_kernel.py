"""What this machine's kernel may lack, on a kernel that has it: our helper in a guest of its own.

The witnesses are the guest's own ``ip``, ``bridge``, ``ovs-vsctl`` and ``ovs-appctl``.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kvmweb.net.client import Client
from tests import dumps
from tests.full_kernel import FullKernel
from tests.network import Applied


@pytest.fixture(scope="module")
def guest() -> Iterator[FullKernel]:
    with FullKernel() as full:
        yield full


@pytest.fixture(scope="module")
def helper(guest: FullKernel) -> Iterator[Client]:
    with Client(guest.helper) as client:
        yield client


@pytest.fixture(scope="module")
def clean(guest: FullKernel) -> dumps.Dump:
    return dumps.whole(guest.said)


@pytest.fixture
def network(guest: FullKernel, helper: Client, clean: dumps.Dump) -> Iterator[Applied]:
    """The guest's network: what a test applies to it goes away after it, without a trace."""
    with Applied(helper) as applied:
        yield applied
    left = dumps.settled(clean, guest.said)
    assert not left, f"the test left this behind:\n{left}"


def _rows(guest: FullKernel, *command: str) -> list[dict[str, Any]]:
    return list(json.loads(guest.execute(*command)))


def test_the_helper_says_what_the_kernel_has(helper: Client) -> None:
    features = helper.hello["features"]
    wanted = ("vlan", "vlan_filtering", "bond", "gretap", "vxlan", "dummy", "macvtap")
    queues = ("htb", "hfsc", "sfq", "fq_codel", "netem", "prio", "tbf", "ingress")
    missing = [
        name for name in (*wanted, *(f"qdisc:{one}" for one in queues)) if not features[name]
    ]
    assert not missing


def test_an_802_1q_link(guest: FullKernel, network: Applied) -> None:
    network.apply(
        links=[
            {"kind": "dummy", "name": "trunk"},
            {"kind": "vlan", "name": "trunk.10", "parent": "trunk", "id": 10,
             "addresses": ["10.10.0.1/24"]},
        ]
    )  # fmt: skip
    link = _rows(guest, "ip", "-j", "-d", "link", "show", "trunk.10")[0]
    assert link["linkinfo"]["info_kind"] == "vlan"
    assert link["linkinfo"]["info_data"]["id"] == 10
    assert link["linkinfo"]["info_data"]["protocol"] == "802.1Q"
    assert link["link"] == "trunk"
    assert "10.10.0.1/24" in guest.execute("ip", "-br", "address", "show", "trunk.10")


def test_a_bridge_that_knows_vlans(guest: FullKernel, network: Applied) -> None:
    network.apply(
        links=[
            {"kind": "bridge", "name": "vbr", "vlan_filtering": True, "vlans": [20]},
            {"kind": "veth", "name": "p1", "peer": "q1", "master": "vbr",
             "port": {"pvid": 10, "vlans": [20, 30]}},
            {"kind": "veth", "name": "q1", "peer": "p1"},
        ]
    )  # fmt: skip
    rows = {row["ifname"]: row["vlans"] for row in _rows(guest, "bridge", "-j", "vlan")}
    untagged = {"vlan": 10, "flags": ["PVID", "Egress Untagged"]}
    assert rows["p1"] == [untagged, {"vlan": 20}, {"vlan": 30}]
    assert {"vlan": 20} in rows["vbr"]
    bridge = _rows(guest, "ip", "-j", "-d", "link", "show", "vbr")[0]
    assert bridge["linkinfo"]["info_data"]["vlan_filtering"] == 1


def test_a_bond_and_its_members(guest: FullKernel, network: Applied) -> None:
    network.apply(
        links=[
            {"kind": "bond", "name": "both", "mode": "active-backup", "primary": "m2"},
            {"kind": "dummy", "name": "m1", "master": "both"},
            {"kind": "dummy", "name": "m2", "master": "both"},
        ]
    )
    told = guest.execute("cat", "/proc/net/bonding/both")
    assert "Bonding Mode: fault-tolerance (active-backup)" in told
    assert "Primary Slave: m2 (primary_reselect always)" in told
    assert "Slave Interface: m1" in told


def test_open_vswitch_takes_the_kernels_datapath(guest: FullKernel, network: Applied) -> None:
    network.apply(
        switches=[
            {"name": "ovs0", "ports": [
                {"name": "in10", "kind": "internal", "tag": 10, "addresses": ["10.10.0.1/24"]},
                {"name": "trunk", "kind": "internal", "trunks": [10, 20]},
            ]},
        ]
    )  # fmt: skip
    assert guest.execute("ovs-vsctl", "get", "port", "in10", "tag").strip() == "10"
    assert guest.execute("ovs-vsctl", "get", "port", "trunk", "trunks").strip() == "[10, 20]"
    assert "system@" in guest.execute("ovs-appctl", "dpif/show")
    assert "ovs0" in guest.execute("ovs-dpctl", "show")


def _router(name: str, address: str, *, switch: str, tag: int) -> dict[str, Any]:
    leg = {"name": "eth0", "switch": switch, "tag": tag, "addresses": [f"{address}/24"]}
    return {"name": name, "legs": [leg]}


@pytest.mark.parametrize("switch", ["vbr", "ovs0"])
def test_routers_meet_in_one_vlan_and_not_across(
    guest: FullKernel, network: Applied, switch: str
) -> None:
    linux = {"kind": "bridge", "name": "vbr", "vlan_filtering": True}
    network.apply(
        links=[linux] if switch == "vbr" else [],
        switches=[{"name": "ovs0"}] if switch == "ovs0" else [],
        routers=[
            _router("red", "10.10.0.1", switch=switch, tag=10),
            _router("blue", "10.10.0.2", switch=switch, tag=10),
            _router("green", "10.10.0.3", switch=switch, tag=20),
        ],
    )
    red, blue = (("ip", "netns", "exec", name) for name in ("red", "blue"))
    guest.execute(*red, "ping", "-c1", "-W5", "10.10.0.2")
    with guest.running(*blue, "socat", "-u", "TCP-LISTEN:80", "OPEN:/run/got,creat,trunc"):
        send = ("socat", "-u", "OPEN:/bin/busybox", "TCP:10.10.0.2:80,retry=50,interval=0.1")
        guest.execute(*red, *send)
    guest.execute("cmp", "/run/got", "/bin/busybox")
    assert not guest.said([*red, "ping", "-c2", "-W1", "10.10.0.3"])
