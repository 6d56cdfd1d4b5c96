"""Links, addresses and routes on a real kernel; ``ip`` and ``bridge`` are the witnesses."""

from typing import Any

import pytest

from kvmweb.net.client import Client
from kvmweb.net.errors import NetError
from tests.net.own_host import ADDRESS, GATEWAY, OwnHost
from tests.network import Applied, document
from tests.waiting import until

BRIDGE = {"kind": "bridge", "name": "br0"}
PAIR = [
    {"kind": "veth", "name": "v0", "peer": "v1"},
    {"kind": "veth", "name": "v1", "peer": "v0"},
]


def _there(helper: Client, namespace: str = "") -> dict[str, dict[str, Any]]:
    rows = helper.call("read", parts=["links"])["links"]
    return {row["name"]: row for row in rows if row["namespace"] == namespace}


def test_it_reads_what_ip_says(host: OwnHost, helper: Client) -> None:
    ours = _there(helper)
    for name, row in host.links().items():
        mine = ours[name]
        assert (mine["mtu"], mine["mac"]) == (row["mtu"], row["address"])
        assert mine["is_up"] == ("UP" in row["flags"])
        assert mine["kind"] == row["linkinfo"]["info_kind"] if "linkinfo" in row else "loopback"
    assert set(ours) == set(host.links())
    assert [one for one in ours["eth0"]["addresses"] if "fe80" not in one] == host.addresses("eth0")


def test_it_knows_where_the_default_route_goes(helper: Client) -> None:
    assert [name for name, row in _there(helper).items() if row["is_default"]] == ["eth0"]


def test_it_reads_routes_in_full(host: OwnHost, helper: Client) -> None:
    state = helper.call("read", parts=["links"])
    theirs = {
        (row["dst"], row.get("gateway"), row["dev"], row.get("metric", 0))
        for family in ("-4", "-6")
        for row in host.rows("ip", "-j", family, "route")
    }
    ours = {(row["to"], row["via"], row["dev"], row["metric"]) for row in state["routes"]}
    assert ours == theirs


def test_it_counts_what_a_link_carries(host: OwnHost, helper: Client) -> None:
    before = _there(helper)["eth0"]["counters"]["rx_packets"]
    assert host.is_reachable()
    assert _there(helper)["eth0"]["counters"]["rx_packets"] > before


def test_it_names_the_other_end_of_a_pair_in_a_namespace(host: OwnHost, helper: Client) -> None:
    host.execute("ip", "netns", "add", "red")
    try:
        host.execute("ip", "link", "add", "a0", "type", "veth", "peer", "a1", "netns", "red")
        ours, theirs = _there(helper)["a0"], _there(helper, "red")["a1"]
        assert (ours["peer"], ours["peer_namespace"]) == ("a1", "red")
        assert (theirs["peer"], theirs["peer_namespace"]) == ("a0", "")
    finally:
        host.execute("ip", "netns", "delete", "red")
    until(lambda: "a0" not in _there(helper), what="the namespace to be gone with all in it")


def test_a_bridge_with_all_it_has(host: OwnHost, network: Applied) -> None:
    network.apply(
        links=[
            BRIDGE
            | {
                "stp": True, "priority": 8192, "forward_delay": 4, "ageing_time": 120,
                "mac": "52:54:00:00:00:01", "mtu": 1400, "addresses": ["10.9.0.1/24", "fd09::1/64"],
            }
        ]
    )  # fmt: skip
    row = host.links()["br0"]
    data = row["linkinfo"]["info_data"]
    assert row["ifalias"] == "kvmweb"
    assert (row["address"], row["mtu"]) == ("52:54:00:00:00:01", 1400)
    assert (data["stp_state"], data["priority"]) == (1, 8192)
    assert (data["forward_delay"], data["ageing_time"]) == (400, 12000)
    assert host.addresses("br0") == ["10.9.0.1/24", "fd09::1/64"]


def test_a_bridge_is_changed_in_place(host: OwnHost, network: Applied) -> None:
    network.apply(links=[BRIDGE])
    index = host.links()["br0"]["ifindex"]
    network.apply(links=[BRIDGE | {"stp": True, "ageing_time": 60, "is_up": False}])
    row = host.links()["br0"]
    assert row["ifindex"] == index
    assert row["linkinfo"]["info_data"]["stp_state"] == 1
    assert "UP" not in row["flags"]


def test_a_port_of_a_bridge(host: OwnHost, network: Applied) -> None:
    port = {"cost": 7, "priority": 3, "is_isolated": True, "is_hairpin": True}
    network.apply(links=[BRIDGE, PAIR[0] | {"master": "br0", "port": port}, PAIR[1]])
    row = host.links()["v0"]
    data = row["linkinfo"]["info_slave_data"]
    assert row["master"] == "br0"
    assert (data["cost"], data["priority"], data["isolated"]) == (7, 3, True)
    assert data["hairpin"]
    network.apply(links=[BRIDGE, PAIR[0] | {"master": "br0"}, PAIR[1]])
    assert not host.links()["v0"]["linkinfo"]["info_slave_data"]["isolated"]


def test_a_port_moves_to_another_bridge(host: OwnHost, network: Applied) -> None:
    other = {"kind": "bridge", "name": "br1"}
    network.apply(links=[BRIDGE, other, PAIR[0] | {"master": "br0"}, PAIR[1]])
    network.apply(links=[BRIDGE, other, PAIR[0] | {"master": "br1"}, PAIR[1]])
    assert host.links()["v0"]["master"] == "br1"
    network.apply(links=[BRIDGE, other, *PAIR])
    assert "master" not in host.links()["v0"]


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ({"remote": "192.0.2.7", "local": ADDRESS}, {"remote": "192.0.2.7", "local": ADDRESS}),
        ({"remote": "2001:db8::7"}, {"remote6": "2001:db8::7"}),
        ({"group": "239.1.1.1", "dev": "eth0"}, {"group": "239.1.1.1", "link": "eth0"}),
    ],
)
def test_a_vxlan_tunnel(
    host: OwnHost, network: Applied, link: dict[str, Any], says: dict[str, Any]
) -> None:
    network.apply(links=[{"kind": "vxlan", "name": "vx0", "id": 77, "port_number": 4790} | link])
    data = host.links()["vx0"]["linkinfo"]["info_data"]
    assert (data["id"], data["port"]) == (77, 4790)
    assert {key: data[key] for key in says} == says


def test_what_can_not_change_is_made_again_and_stays_a_port(
    host: OwnHost, network: Applied
) -> None:
    tunnel = {"kind": "vxlan", "name": "vx0", "id": 77, "remote": "192.0.2.7", "master": "br0"}
    network.apply(links=[BRIDGE, tunnel])
    network.apply(links=[BRIDGE, tunnel | {"id": 78}])
    row = host.links()["vx0"]
    assert (row["linkinfo"]["info_data"]["id"], row["master"]) == (78, "br0")


def test_a_macvlan_on_a_pair(host: OwnHost, network: Applied) -> None:
    network.apply(
        links=[*PAIR, {"kind": "macvlan", "name": "mv0", "parent": "v0", "mode": "private"}]
    )
    row = host.links()["mv0"]
    assert (row["link"], row["linkinfo"]["info_data"]["mode"]) == ("v0", "private")


def test_what_stands_on_a_link_goes_and_comes_with_it(host: OwnHost, network: Applied) -> None:
    above = {"kind": "macvlan", "name": "mv0", "parent": "v0", "addresses": ["10.9.1.1/24"]}
    network.apply(links=[*PAIR, above])
    again = [
        {"kind": "veth", "name": "v0", "peer": "v2"},
        {"kind": "veth", "name": "v2", "peer": "v0"},
    ]
    network.apply(links=[*again, above])
    assert host.links()["mv0"]["link"] == "v0"
    assert host.addresses("mv0") == ["10.9.1.1/24"]
    assert "v1" not in host.links()


def test_a_tap_for_a_machine(host: OwnHost, network: Applied) -> None:
    network.apply(links=[BRIDGE, {"kind": "tap", "name": "tap7", "master": "br0"}])
    row = host.links()["tap7"]
    assert row["linkinfo"]["info_data"]["type"] == "tap"
    assert row["linkinfo"]["info_data"]["persist"]
    assert row["master"] == "br0"


def test_both_ends_of_a_pair_have_their_own(host: OwnHost, network: Applied) -> None:
    network.apply(
        links=[
            PAIR[0] | {"mtu": 1400, "mac": "52:54:00:00:00:02"},
            PAIR[1] | {"mtu": 1300, "is_up": False, "addresses": ["10.9.2.1/24"]},
        ]
    )
    links = host.links()
    assert (links["v0"]["mtu"], links["v0"]["address"]) == (1400, "52:54:00:00:00:02")
    assert (links["v1"]["mtu"], "UP" in links["v1"]["flags"]) == (1300, False)


def test_offloads_are_switched_and_switched_back(host: OwnHost, network: Applied) -> None:
    def transmits() -> str:
        lines = host.execute("ethtool", "-k", "v0").splitlines()
        return next(line.split()[1] for line in lines if line.startswith("tx-checksumming"))

    network.apply(links=PAIR)
    assert transmits() == "on"
    commands = network.apply(links=[PAIR[0] | {"offloads": {"tx-checksumming": False}}, PAIR[1]])
    assert commands == [["ethtool", "-K", "v0", "tx-checksumming", "off"]]
    assert transmits() == "off"
    network.apply(links=[PAIR[0] | {"offloads": {"tx-checksumming": True}}, PAIR[1]])
    assert transmits() == "on"


def test_a_static_route_and_its_removal(host: OwnHost, network: Applied) -> None:
    routes = [
        {"to": "10.50.0.0/16", "via": "192.0.2.3"},
        {"to": "10.51.0.0/16", "dev": "eth0", "metric": 7},
        {"to": "fd50::/64", "via": "2001:db8::3"},
    ]
    network.apply(routes=routes)
    there = {
        row["dst"]: row
        for family in ("-4", "-6")
        for row in host.rows("ip", "-j", family, "route", "show", "proto", "107")
    }
    assert there["10.50.0.0/16"]["gateway"] == "192.0.2.3"
    assert there["10.51.0.0/16"]["metric"] == 7
    assert there["fd50::/64"]["gateway"] == "2001:db8::3"
    network.apply(routes=routes[:1])
    assert len(host.rows("ip", "-j", "route", "show", "proto", "107")) == 1


def test_an_address_that_is_there_already_is_ours_from_now_on(
    host: OwnHost, network: Applied
) -> None:
    network.apply(links=[BRIDGE])
    host.execute("ip", "address", "add", "10.9.3.1/24", "dev", "br0")
    assert network.apply(links=[BRIDGE | {"addresses": ["10.9.3.1/24"]}]) == []
    network.apply(links=[BRIDGE])
    assert host.addresses("br0") == []


def test_what_others_added_stays(host: OwnHost, network: Applied) -> None:
    host.execute("ip", "link", "add", "theirs0", "type", "veth", "peer", "theirs1")
    try:
        network.apply(links=[BRIDGE])
        host.execute("ip", "address", "add", "10.9.4.1/24", "dev", "br0")
        network.apply(links=[BRIDGE | {"stp": True}])
        assert host.addresses("br0") == ["10.9.4.1/24"]
        network.apply()
        assert "theirs0" in host.links()
    finally:
        host.execute("ip", "link", "delete", "theirs0")


def test_a_link_we_did_not_make_is_put_back_as_it_was(host: OwnHost, network: Applied) -> None:
    host.execute("ip", "link", "add", "nic0", "mtu", "1450", "type", "veth", "peer", "nic1")
    try:
        mac = host.links()["nic0"]["address"]
        nic = {"kind": "physical", "name": "nic0", "mtu": 1400, "mac": "52:54:00:00:00:09"}
        network.apply(
            links=[BRIDGE, nic | {"master": "br0", "offloads": {"tx-checksumming": False}}]
        )
        row = host.links()["nic0"]
        assert (row["mtu"], row["address"], row["master"]) == (1400, "52:54:00:00:00:09", "br0")
        network.apply(links=[BRIDGE])
        row = host.links()["nic0"]
        assert (row["mtu"], row["address"], "UP" in row["flags"]) == (1450, mac, False)
        assert "master" not in row
        assert "tx-checksumming: on" in host.execute("ethtool", "-k", "nic0")
    finally:
        host.execute("ip", "link", "delete", "nic0")


def test_a_link_we_did_not_make_keeps_what_is_not_said(host: OwnHost, network: Applied) -> None:
    host.execute("ip", "link", "add", "nic0", "type", "veth", "peer", "nic1")
    try:
        host.execute("ip", "address", "add", "10.9.5.1/24", "dev", "nic0")
        nic = {"kind": "physical", "name": "nic0", "addresses": ["10.9.6.1/24"]}
        network.apply(links=[nic])
        assert host.addresses("nic0") == ["10.9.5.1/24", "10.9.6.1/24"]
        network.apply()
        assert host.addresses("nic0") == ["10.9.5.1/24"]
    finally:
        host.execute("ip", "link", "delete", "nic0")


def test_drift_is_planned_away(host: OwnHost, helper: Client, network: Applied) -> None:
    parts = {
        "links": [BRIDGE | {"addresses": ["10.9.7.1/24"]}, PAIR[0] | {"master": "br0"}, PAIR[1]]
    }
    network.apply(**parts)
    host.execute("ip", "link", "set", "v0", "nomaster")
    host.execute("ip", "address", "del", "10.9.7.1/24", "dev", "br0")
    wanted = document(**parts)
    commands = [
        " ".join(command)
        for step in helper.call("plan", desired=wanted, owned=wanted)["steps"]
        for command in step["commands"]
    ]
    assert commands == [
        "ip link set dev v0 master br0",
        "ip address add 10.9.7.1/24 broadcast 10.9.7.255 dev br0",
    ]


def test_what_somebody_else_removed_is_not_missed(host: OwnHost, network: Applied) -> None:
    network.apply(links=[BRIDGE, *PAIR])
    host.execute("ip", "link", "delete", "v0")
    network.apply(links=[BRIDGE])
    assert "v0" not in host.links()


def test_a_name_that_another_took_over_is_left_alone(
    host: OwnHost, helper: Client, network: Applied
) -> None:
    network.apply(links=[BRIDGE])
    host.execute("ip", "link", "delete", "br0")
    host.execute("ip", "link", "add", "br0", "type", "bridge")
    try:
        network.apply()
        assert "br0" in host.links()
        with pytest.raises(NetError, match="not made here"):
            helper.call("plan", desired=document(links=[BRIDGE]), owned={})
    finally:
        host.execute("ip", "link", "delete", "br0")


def test_the_uplink_test_in_small(host: OwnHost, network: Applied) -> None:
    mac = host.links()["eth0"]["address"]
    network.apply(links=[BRIDGE | {"uplink": "eth0", "addresses": ["10.9.8.1/24"]}])
    assert host.links()["br0"]["address"] == mac
    assert host.links()["eth0"]["master"] == "br0"
    assert host.addresses("eth0") == []
    assert "10.9.8.1/24" in host.addresses("br0")
    default = host.rows("ip", "-j", "route", "show", "default")[0]
    assert (default["gateway"], default["dev"]) == (GATEWAY, "br0")
    assert host.is_reachable()
