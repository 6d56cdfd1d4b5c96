"""The mirror of a host's network: parts, rates, problems, and who is touched by what."""

from typing import Any

import pytest
from pytest_django import Settings

from kvmweb.mirror import hostnet as mirror
from kvmweb.models import Host, HostNetwork, HostState, Machine, Network, Nic, State
from kvmweb.operations.hostnet.touched import carried, machines
from kvmweb.operations.hostnet.ways import addresses_of_site
from kvmweb.virt.errors import OperationError
from tests.hostnet import OwnNetwork


@pytest.fixture
def host(db: None) -> Host:
    return Host.objects.create(name="lab", uri="qemu:///system", state=HostState.CONNECTED)


def test_reading_a_part_keeps_the_others(network: OwnNetwork) -> None:
    HostNetwork.objects.update(actual={**network.row.actual, "forwards": ["kept"]})
    network.own.execute("ip", "link", "add", "d0", "type", "bridge")
    try:
        mirror.read(network.host.pk, network.client, ["links"])
        actual = network.row.actual
    finally:
        network.own.execute("ip", "link", "delete", "d0")
    assert actual["forwards"] == ["kept"]
    assert "d0" in {one["name"] for one in actual["links"]}


def test_reading_what_did_not_change_writes_nothing_but_when(network: OwnNetwork) -> None:
    before = network.row
    after = network.read()
    assert (after.actual, after.drift) == (before.actual, before.drift)
    assert after.read is not None
    assert before.read is not None
    assert after.read > before.read


def test_rates_are_of_the_time_between(db: None) -> None:
    # With a number that no other test's host has: rates outlive their test.
    host = Host.objects.create(pk=987654, name="rates", uri="qemu:///system")
    HostNetwork.objects.create(host=host)
    for seconds, received, rate in (
        (0, 1000, None),
        (0.2, 9999, None),  # too soon to say anything
        (10, 11000, 8000),
        (20, 500, 0),  # the link was made anew
    ):
        counters = {"eth0": {"rx_bytes": received, "tx_bytes": 0}}
        mirror.write_usage(host.pk, counters, at=1000 + seconds)
        found = HostNetwork.of(host).usage["eth0"]
        assert found.get("rx_rate") == rate, seconds


def test_a_problem_is_said_until_it_is_gone(host: Host) -> None:
    mirror.write_problem(host.pk, "No sudo.")
    with pytest.raises(OperationError, match=r"No sudo\."):
        mirror.helper(host.pk)
    mirror.write_problem(host.pk, "")
    with pytest.raises(OperationError, match="yet"):
        mirror.helper(host.pk)


def _link(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "namespace": "",
        "name": name,
        "kind": "physical",
        "addresses": [],
        "master": None,
    } | fields


ACTUAL = {
    "links": [
        _link("eth0", master="br0"),
        _link("br0", kind="bridge", addresses=["192.0.2.7/24"]),
        _link("eth0.10", kind="vlan", parent="eth0", addresses=["198.51.100.7/24"]),
        _link("vnet0", kind="tap", master="br0"),
        _link("virbr0", kind="bridge", addresses=["192.168.122.1/24"]),
        _link("eth0", namespace="red", master="no"),
    ],
    "switches": [{"name": "br-int", "ports": [{"interfaces": [{"name": "eth0.10"}]}]}],
}  # fmt: skip


def test_what_lies_on_a_link_is_disturbed_with_it() -> None:
    assert carried(ACTUAL, ["eth0"]) == {"eth0", "br0", "eth0.10", "br-int"}
    assert carried(ACTUAL, ["vnet0"]) == {"vnet0", "br0"}
    assert carried({}, ["x"]) == {"x"}


def test_machines_are_found_by_tap_bridge_and_network(host: Host) -> None:
    def machine(name: str, **nic: str) -> None:
        row = Machine.objects.create(
            host=host, name=name, uuid=f"00000000-0000-4000-8000-{len(name):012}",
            state=State.SHUTOFF, xml="<a/>",
        )  # fmt: skip
        Nic.objects.create(machine=row, host=host, index=0, **nic)

    machine("a", kind="bridge", source="br0")
    machine("bb", kind="network", source="default")
    machine("ccc", kind="network", source="other", tap="vnet7")
    machine("dddd", kind="user")
    Network.objects.create(
        host=host, name="default", uuid="00000000-0000-4000-8000-000000000099", is_active=True,
        bridge="virbr0",
    )  # fmt: skip
    assert [one["name"] for one in machines(host, ACTUAL, ["eth0"])] == ["a"]
    assert [one["name"] for one in machines(host, ACTUAL, ["virbr0", "vnet7"])] == ["bb", "ccc"]
    assert machines(host, ACTUAL, []) == []


def test_the_way_to_a_site_that_listens_everywhere_leads_by_what_leads_out(
    host: Host, settings: Settings
) -> None:
    HostNetwork.objects.create(host=host, actual=ACTUAL)
    settings.BIND = "0.0.0.0:8000"
    assert addresses_of_site(host) == ["192.0.2.7", "198.51.100.7"]
    settings.BIND = "192.0.2.7:8000"
    assert addresses_of_site(host) == ["192.0.2.7"]
    host.uri = "qemu+ssh://root@far/system"
    assert addresses_of_site(host) == []
