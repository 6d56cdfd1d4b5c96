"""What a running network can be told, and what waits for its restart."""

from pathlib import Path

import pytest

from kvmweb.spec.network_updates import is_same, live_updates, needs_restart

NAT = (Path(__file__).with_name("networks") / "nat.xml").read_text()
OVS = (Path(__file__).with_name("networks") / "ovs.xml").read_text()
MACVTAP = (Path(__file__).with_name("networks") / "macvtap-vepa.xml").read_text()
WEB1 = '<host mac="52:54:00:00:00:01" name="web1" ip="192.168.100.10">'
HOSTS = "<dns><host ip='192.168.100.2'><hostname>gate</hostname></host></dns>"


def _done(before: str, after: str) -> list[tuple[str, str, int]]:
    return [(one.command, one.section, one.parent) for one in live_updates(before, after)]


@pytest.mark.parametrize(
    ("old", "new", "done"),
    [
        ('ip="192.168.100.11"/>', 'ip="192.168.100.12"/>', [("modify", "ip-dhcp-host", 0)]),
        (
            '<host mac="52:54:00:00:00:02" ip="192.168.100.11"/>',
            '<host mac="52:54:00:00:00:03" ip="192.168.100.11"/>',
            [("delete", "ip-dhcp-host", 0), ("add-last", "ip-dhcp-host", 0)],
        ),
        (
            "192.168.100.254",
            "192.168.100.250",
            [("delete", "ip-dhcp-range", 0), ("add-last", "ip-dhcp-range", 0)],
        ),
        (
            "fd00:100::1ff",
            "fd00:100::1fe",
            [("delete", "ip-dhcp-range", 1), ("add-last", "ip-dhcp-range", 1)],
        ),
        ("</network>", HOSTS + "</network>", [("add-last", "dns-host", -1)]),
        ("</network>", "<portgroup name='x'/></network>", [("add-last", "portgroup", -1)]),
    ],
)
def test_it_is_done_while_the_network_runs(
    old: str, new: str, done: list[tuple[str, str, int]]
) -> None:
    after = NAT.replace(old, new)
    assert after != NAT
    assert _done(NAT, after) == done
    assert not needs_restart(NAT, after)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('stp="off"', 'stp="on"'),
        ("lab.example", "other.example"),
        ('mode="nat"', 'mode="route"'),
        ('<mtu size="1400"/>', ""),
        ("</network>", "<dns enable='no'/></network>"),
        ("</network>", "<dns><forwarder addr='9.9.9.9'/></dns></network>"),
        ('address="192.168.100.1"', 'address="192.168.100.3"'),
        ("</dhcp>", "<bootp file='x'/></dhcp>"),
    ],
)
def test_it_waits_for_a_restart(old: str, new: str) -> None:
    after = NAT.replace(old, new, 1)
    assert needs_restart(NAT, after)
    assert not is_same(NAT, after)
    assert _done(NAT, after) == []


def test_a_port_group_and_an_interface_are_changed() -> None:
    assert _done(OVS, OVS.replace('average="500"', 'average="600"')) == [
        ("modify", "portgroup", -1)
    ]
    assert _done(MACVTAP, MACVTAP.replace('<interface dev="eth1"/>', "")) == [
        ("delete", "forward-interface", -1)
    ]


def test_what_only_a_running_network_says_is_no_difference() -> None:
    running = OVS.replace("<network>", "<network connections='3'>")
    assert is_same(running, OVS)
    assert not needs_restart(running, OVS)


def test_the_ports_that_nat_uses_anyway_are_no_difference() -> None:
    network = "<network><name>a</name><forward mode='nat'>{}</forward></network>"
    ports = "<nat><port start='1024' end='65535'/></nat>"
    assert is_same(network.format(ports), network.format(""))


def test_the_functions_of_a_pool_are_no_difference() -> None:
    pool = "<network><name>a</name><forward mode='hostdev'><pf dev='p'/>{}</forward></network>"
    vf = "<address type='pci' domain='0' bus='3' slot='0' function='1' connections='1'/>"
    assert is_same(pool.format(vf), pool.format(""))
