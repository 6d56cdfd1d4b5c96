"""Plans against a real host: what is refused, in which order things are done, what is risky."""

from collections.abc import Iterator
from typing import Any

import pytest

from kvmweb.net.client import Client
from kvmweb.net.errors import NetError
from tests.net.own_host import OwnHost
from tests.network import Applied, document

Part = dict[str, Any]


def bridge(name: str = "br0", **more: Any) -> Part:
    return {"kind": "bridge", "name": name, **more}


def nic(name: str, **more: Any) -> Part:
    return {"kind": "physical", "name": name, **more}


def pair(one: str, other: str, **more: Any) -> list[Part]:
    return [
        {"kind": "veth", "name": one, "peer": other, **more},
        {"kind": "veth", "name": other, "peer": one},
    ]


@pytest.fixture(scope="module")
def theirs(host: OwnHost) -> Iterator[None]:
    """What is on the host already: a NIC in a bridge, a free one, and a machine's tap."""
    for words in (
        "link add theirs type bridge",
        "link add nic0 type veth peer far0",
        "link set nic0 master theirs",
        "link add nic1 up type veth peer far1",
        "address add 10.20.0.1/24 dev nic1",
        "route add 10.30.0.0/16 via 192.0.2.30",
    ):
        host.execute("ip", *words.split())
    yield
    for words in ("link delete theirs", "link delete nic0", "link delete nic1"):
        host.execute("ip", *words.split())
    host.execute("ip", "route", "del", "10.30.0.0/16")


# field, words of the sentence, document
REFUSED: list[tuple[str, str, Part]] = [
    ("links.0.name", "There is no interface “nosuch0”", {"links": [nic("nosuch0")]}),
    ("links.0.name", "was not made here", {"links": [bridge("theirs")]}),
    ("links.0.name", "was not made here", {"links": pair("nic1", "v1")}),
    ("links.1.master", "is a port of theirs already", {
        "links": [bridge(), nic("nic0", master="br0")]}),
    ("links.0.master", "There is no bridge or bond “nosuch”", {
        "links": [nic("nic1", master="nosuch")]}),
    ("links.0.master", "There is no bridge or bond “eth0”", {
        "links": [nic("nic1", master="eth0")]}),
    ("links.1.master", "A bridge can't be a port", {
        "links": [bridge(), bridge("br1", master="br0")]}),
    ("links.1.master", "would be a loop", {"links": [
        bridge(), *[end | {"master": "br0"} for end in pair("v0", "v1")]]}),
    ("links.0.master", "is an Open vSwitch bridge", {
        "links": [nic("nic1", master="ovs0")], "switches": [{"name": "ovs0"}]}),
    ("links.0.master", "can't be a port", {"links": [nic("lo", master="br0"), bridge()]}),
    ("links.0.parent", "There is no interface “nosuch0”", {
        "links": [{"kind": "macvlan", "name": "mv0", "parent": "nosuch0"}]}),
    ("links.0.parent", "There is no interface “mv0”", {
        "links": [{"kind": "macvlan", "name": "mv0", "parent": "mv0"}]}),
    ("links.0.parent", "would stand on itself", {"links": [
        {"kind": "macvlan", "name": "mv0", "parent": "mv1"},
        {"kind": "macvlan", "name": "mv1", "parent": "mv0"}]}),
    ("links.0.dev", "There is no interface “nosuch0”", {
        "links": [{"kind": "vxlan", "name": "vx0", "id": 1, "dev": "nosuch0"}]}),
    ("links.0.peer", "must be in the document", {"links": pair("v0", "v1")[:1]}),
    ("links.0.kind", "kernel has no VLAN interfaces (the module “8021q”)", {
        "links": [{"kind": "vlan", "name": "v7", "parent": "eth0", "id": 7}]}),
    ("links.0.kind", "kernel has no bonds", {"links": [{"kind": "bond", "name": "bond0"}]}),
    ("links.0.vlan_filtering", "kernel has no bridges that filter VLANs", {
        "links": [bridge(vlan_filtering=True)]}),
    ("links.1.port.pvid", "does not tell VLANs apart", {
        "links": [bridge(), nic("nic1", master="br0", port={"pvid": 7})]}),
    ("links.0.addresses.0", "overlaps the network 10.20.0.0/24 of nic1", {
        "links": [bridge(addresses=["10.20.0.9/25"])]}),
    ("links.0.addresses.0", "overlaps the route to 10.30.0.0/16", {
        "links": [bridge(addresses=["10.30.5.1/24"])]}),
    ("links.0.addresses.0", "overlaps the network 10.40.0.0/24 of br1", {
        "links": [bridge(addresses=["10.40.0.1/24"]), bridge("br1", addresses=["10.40.0.2/24"])]}),
    ("links.0.addresses.0", "overlaps the network 2001:db8::/64 of eth0", {
        "links": [bridge(addresses=["2001:db8::99/64"])]}),
    ("links.0.uplink", "There is no interface “nosuch0”", {"links": [bridge(uplink="nosuch0")]}),
    ("links.0.uplink", "is a port of theirs already", {"links": [bridge(uplink="nic0")]}),
    ("links.0.uplink", "can't be a port of a bridge", {"links": [bridge(uplink="lo")]}),
    ("links.1.uplink", "the uplink of br0 and of br1", {
        "links": [bridge(uplink="nic1"), bridge("br1", uplink="nic1")]}),
    ("links.1.uplink", "is wanted as a port of br0 as well", {"links": [
        bridge(), bridge("br1", uplink="nic1"), nic("nic1", master="br0")]}),
    ("links.1.addresses", "give the addresses to br0", {
        "links": [bridge(uplink="nic1"), nic("nic1", addresses=["10.41.0.1/24"])]}),
    ("links.0.offloads.receive-hashing", "can't change it", {
        "links": [nic("nic1", offloads={"receive-hashing": True})]}),
    ("routes.0.via", "is on none of the networks", {
        "routes": [{"to": "10.42.0.0/16", "via": "10.99.9.9"}]}),
    ("routes.0.dev", "There is no interface “nosuch0”", {
        "routes": [{"to": "10.42.0.0/16", "dev": "nosuch0"}]}),
    ("routes.0.via", "needs a gateway", {"routes": [{"to": "10.42.0.0/16"}]}),
    ("routes.0.to", "There is a route to default by 192.0.2.1 already", {
        "routes": [{"to": "default", "via": "192.0.2.40"}]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "words", "wanted"), REFUSED, ids=[f"{one[0]} {one[1]}" for one in REFUSED]
)
@pytest.mark.usefixtures("theirs")
def test_it_refuses(helper: Client, field: str, words: str, wanted: Part) -> None:
    with pytest.raises(NetError) as refused:
        helper.call("plan", desired=document(**wanted), owned={})
    assert (refused.value.field, refused.value.kind) == (field, "refused")
    assert words in refused.value.sentence


def test_it_refuses_to_delete_a_bridge_in_use(host: OwnHost, network: Applied) -> None:
    network.apply(links=[bridge()])
    host.execute("ip", "tuntap", "add", "vnet7", "mode", "tap")
    host.execute("ip", "link", "set", "vnet7", "master", "br0")
    try:
        with pytest.raises(NetError, match=r"br0 is in use: vnet7 is in it\. Take that out first"):
            network.apply()
    finally:
        host.execute("ip", "link", "delete", "vnet7")


def test_it_refuses_to_remove_what_a_router_stands_on(helper: Client, network: Applied) -> None:
    network.apply(links=[bridge()])
    router = {"name": "r1", "legs": [{"name": "in0", "switch": "br0"}]}
    with pytest.raises(NetError, match="br0"):
        helper.call("plan", desired=document(routers=[router]), owned=network.document)


def _steps(helper: Client, owned: Part | None = None, **parts: Any) -> list[Part]:
    told = helper.call("plan", desired=document(**parts), owned=owned or {})
    steps: list[Part] = told["steps"]
    return steps


def _commands(steps: list[Part]) -> list[str]:
    return [" ".join(command) for step in steps for command in step["commands"]]


def test_steps_come_in_an_order_that_works(helper: Client) -> None:
    links = [
        {"kind": "macvlan", "name": "mv0", "parent": "v0"},
        *pair("v0", "v1"),
        {"kind": "tap", "name": "tap0", "master": "br0"},
        bridge(addresses=["10.43.0.1/24"]),
    ]
    commands = _commands(_steps(helper, links=links, routes=[{"to": "10.44.0.0/16", "dev": "br0"}]))
    made = [
        "ip link add name v0 type veth peer name v1",
        "ip link add link v0 name mv0 type macvlan mode bridge",
        "ip tuntap add dev tap0 mode tap",
        "ip link add name br0 type bridge",
        "ip link set dev tap0 master br0",
        "ip address add 10.43.0.1/24 broadcast 10.43.0.255 dev br0",
        "ip link set dev br0 up",
        "ip route add 10.44.0.0/16 dev br0 proto 107",
    ]
    assert [one for one in commands if one in made] == made


def test_each_step_says_how_it_is_undone(helper: Client) -> None:
    steps = _steps(helper, links=[bridge(), {"kind": "tap", "name": "tap0", "master": "br0"}])
    undos = [" ".join(command) for step in steps for command in step["undo"]]
    assert undos == [
        "ip link delete dev br0",
        "ip link delete dev tap0",
        "ip link set dev tap0 nomaster",
    ]


def test_a_plan_is_the_same_when_it_is_made_again(helper: Client) -> None:
    wanted = document(links=[bridge(uplink="eth0"), *pair("v0", "v1", master="br0")])
    first, second = (helper.call("plan", desired=wanted, owned={}) for _ in range(2))
    assert first["digest"] == second["digest"]
    other = helper.call("plan", desired=document(links=[bridge(uplink="eth0")]), owned={})
    assert other["digest"] != first["digest"]


def test_what_touches_nobodys_way_is_not_risky(helper: Client) -> None:
    links = [bridge(addresses=["10.45.0.1/24"]), *pair("v0", "v1", master="br0")]
    told = helper.call("plan", desired=document(links=links), owned={})
    assert (told["is_risky"], told["reasons"]) == (False, [])


@pytest.mark.parametrize(
    "parts",
    [
        {"links": [bridge(uplink="eth0")]},
        {"links": [nic("eth0", mtu=1400)]},
        {"links": [nic("eth0", is_up=False)]},
        {"links": [nic("eth0", offloads={"tx-checksumming": False})]},
        {"links": [bridge(), nic("eth0", master="br0")]},
        {"routes": [{"to": "default", "via": "192.0.2.40", "metric": 5}]},
    ],
    ids=lambda parts: str(parts)[:70],
)
def test_what_touches_the_default_route_is_risky(helper: Client, parts: Part) -> None:
    told = helper.call("plan", desired=document(**parts), owned={})
    assert told["is_risky"]
    assert told["reasons"] == ["eth0 carries the default route."]


def test_only_the_step_itself_is_risky(helper: Client) -> None:
    steps = _steps(helper, links=[bridge("br1"), nic("eth0", mtu=1400)])
    assert [step["commands"][0][3:] for step in steps if step["is_risky"]] == [
        ["dev", "eth0", "mtu", "1400"]
    ]


@pytest.mark.usefixtures("theirs")
def test_the_sites_own_address_is_kept(host: OwnHost, helper: Client) -> None:
    change = document(links=[nic("nic1", mtu=1400)])
    assert not helper.call("plan", desired=change, owned={})["is_risky"]
    told = helper.call("plan", desired=change, owned={}, keep=["10.20.0.1"])
    assert told["reasons"] == ["nic1 carries the site's own address."]


def test_risk_runs_through_bridges_to_their_ports(host: OwnHost, network: Applied) -> None:
    network.apply(links=[bridge(uplink="eth0"), *pair("v0", "v1")])
    told = network.helper.call(
        "plan",
        desired=document(links=[bridge(uplink="eth0"), *pair("v0", "v1"), nic("eth0", mtu=1400)]),
        owned=network.document,
    )
    assert told["reasons"] == ["eth0 carries the default route."]
    assert [step["is_risky"] for step in told["steps"]] == [True]


def test_a_lease_that_moves_is_pointed_out(host: OwnHost, helper: Client) -> None:
    host.execute(
        "ip",
        "address",
        "add",
        "192.0.2.50/24",
        "dev",
        "eth0",
        "valid_lft",
        "600",
        "preferred_lft",
        "600",
    )
    try:
        wanted = document(links=[bridge(uplink="eth0")])
        (warning,) = helper.call("plan", desired=wanted, owned={})["warnings"]
        assert warning.startswith("192.0.2.50/24 of eth0 is a lease: let the host's DHCP client")
    finally:
        host.execute("ip", "address", "del", "192.0.2.50/24", "dev", "eth0")


def test_a_bridge_that_learns_first_is_pointed_out(helper: Client) -> None:
    wanted = document(links=[bridge(uplink="eth0", stp=True, forward_delay=4)])
    (warning,) = helper.call("plan", desired=wanted, owned={})["warnings"]
    assert warning.startswith("br0 passes nothing for its first 8 s")
