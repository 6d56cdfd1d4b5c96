"""The way past the firewall rules of libvirt from 10.4 on, which uses nftables, and past others.

The rules are those that libvirt's src/network/network_nftables.c adds for a NAT network; libvirt
itself, of whichever version this machine has, is in test_forwards.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kvmweb.net import forwards, gates, links, namespaces, step
from kvmweb.net.context import Context
from kvmweb.net.step import Step
from tests.net.places import Places, ask

pytestmark = pytest.mark.real

HOST, OUTSIDE, GUEST = "kg-host", "kg-outside", "kg-guest"
BRIDGE = "kg-virbr"
# In the order libvirt runs them: each rule is put before those that are there.
LIBVIRT = """
add table {f} libvirt_network
add chain {f} libvirt_network forward {{ type filter hook forward priority 0; policy accept; }}
add chain {f} libvirt_network guest_output
insert rule {f} libvirt_network forward counter jump guest_output
add chain {f} libvirt_network guest_input
insert rule {f} libvirt_network forward counter jump guest_input
add chain {f} libvirt_network guest_cross
insert rule {f} libvirt_network forward counter jump guest_cross
add chain {f} libvirt_network guest_nat {{ type nat hook postrouting priority 100; policy accept; }}
"""
NETWORK = """
insert rule {f} libvirt_network guest_output iif {bridge} counter reject
insert rule {f} libvirt_network guest_input oif {bridge} counter reject
insert rule {f} libvirt_network guest_cross iif {bridge} oif {bridge} counter accept
insert rule {f} libvirt_network guest_output {f} saddr {net} iif {bridge} counter accept
insert rule {f} libvirt_network guest_input oif {bridge} {f} daddr {net} ct state \
related,established counter accept
"""
NETWORKS = {"ip": "10.92.0.0/24", "ip6": "fd92::/64"}
FORWARDS = [
    {
        "network": "default", "protocol": "tcp", "address": None, "port": 8080, "to": to,
        "to_port": 80, "comment": "",
    }
    for to in ("10.92.0.10", "fd92::10")
]  # fmt: skip
ADDRESSES = {"192.0.2.1": "192.0.2.9", "2001:db8::1": "2001:db8::9"}


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    with Places(HOST, OUTSIDE, GUEST) as found:
        found.join(HOST, "eth0", OUTSIDE, "eth0")
        found.run(HOST, "ip", "link", "add", BRIDGE, "up", "type", "bridge")
        found.join(HOST, "guest", GUEST, "eth0")
        found.run(HOST, "ip", "link", "set", "guest", "master", BRIDGE)
        for name, link, *cidrs in (
            (HOST, "eth0", "192.0.2.1/24", "2001:db8::1/64"),
            (OUTSIDE, "eth0", "192.0.2.9/24", "2001:db8::9/64"),
            (HOST, BRIDGE, "10.92.0.1/24", "fd92::1/64"),
            (GUEST, "eth0", "10.92.0.10/24", "fd92::10/64"),
        ):
            for cidr in cidrs:
                option = ["nodad"] if ":" in cidr else []
                found.run(name, "ip", "address", "add", cidr, "dev", link, *option)
        for gateway in ("10.92.0.1", "fd92::1"):
            found.run(GUEST, "ip", "route", "add", "default", "via", gateway)
        found.run(HOST, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        with found.serving(GUEST, 80):
            yield found


def load(places: Places, text: str) -> None:
    for family, network in NETWORKS.items():
        for line in text.strip().splitlines():
            places.run(HOST, "nft", line.format(f=family, bridge=BRIDGE, net=network))


def rules(places: Places) -> str:
    return places.run(HOST, "nft", "--stateless", "list", "ruleset")


@contextmanager
def libvirt(places: Places) -> Iterator[None]:
    """Its rules with a network that runs; as they were, when all of ours are gone."""
    load(places, LIBVIRT)
    load(places, NETWORK)
    before = rules(places)
    yield
    apply(plan([]))
    assert rules(places) == before
    places.run(HOST, "nft", "flush", "ruleset")


def plan(wanted: list[dict[str, Any]]) -> list[Step]:
    with namespaces.entered(HOST), Context() as context:
        actual = {"problems": {}, **links.read(context), **forwards.read(context)}
        return forwards.plan(context, actual, {"forwards": wanted}, {"forwards": FORWARDS})


def apply(steps: list[Step]) -> None:
    with namespaces.entered(HOST), Context() as context:
        for one in steps:
            step.carry_out(context, [one])


def reached() -> list[str]:
    return [ask(OUTSIDE, address, 8080) for address in ADDRESSES]


def test_it_comes_past_libvirts_table(places: Places) -> None:
    with libvirt(places):
        with pytest.raises(OSError, match="refused"):
            ask(OUTSIDE, "192.0.2.1", 8080)
        apply(plan(FORWARDS))
        assert reached() == list(ADDRESSES.values())
        assert plan(FORWARDS) == []


def test_its_commands_do_the_same(places: Places) -> None:
    with libvirt(places):
        for wanted in (FORWARDS, FORWARDS[:1], []):
            for one in plan(wanted):
                for command in one.commands:
                    places.run(HOST, *command)
            assert plan(wanted) == []


def test_it_survives_a_restart_of_the_network(places: Places) -> None:
    with libvirt(places):
        apply(plan(FORWARDS))
        for chain in ("guest_input", "guest_output", "guest_cross"):
            load(places, f"flush chain {{f}} libvirt_network {chain}")
        load(places, NETWORK)
        assert reached() == list(ADDRESSES.values())
        assert plan(FORWARDS) == []


def test_where_libvirts_table_is_new_it_is_seen_and_put_right(places: Places) -> None:
    with libvirt(places):
        apply(plan(FORWARDS))
        load(places, "delete table {f} libvirt_network")
        load(places, LIBVIRT)
        load(places, NETWORK)
        with namespaces.entered(HOST), Context() as context:
            assert [one["is_open"] for one in forwards.read(context)["forwards"]] == [False, False]
        with pytest.raises(OSError, match="refused"):
            ask(OUTSIDE, "192.0.2.1", 8080)
        apply(plan(FORWARDS))
        assert reached() == list(ADDRESSES.values())


def test_it_comes_past_a_policy_that_drops(places: Places) -> None:
    """As docker sets it, without a rule of libvirt's."""
    for program in gates.PROGRAMS.values():
        places.run(HOST, program, "-w", "-P", "FORWARD", "DROP")
    before = rules(places)
    apply(plan(FORWARDS))
    assert reached() == list(ADDRESSES.values())
    apply(plan([]))
    assert rules(places) == before
    places.run(HOST, "nft", "flush", "ruleset")


def test_nothing_is_opened_where_nothing_is_closed(places: Places) -> None:
    apply(plan(FORWARDS))
    assert reached() == list(ADDRESSES.values())
    assert gates.CHAIN not in rules(places)
    apply(plan([]))
    assert rules(places) == ""
