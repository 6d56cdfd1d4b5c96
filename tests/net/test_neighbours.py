"""Who was heard of, on a kernel of our own to ask; ``ip neigh`` is the witness."""

import pytest

from kvmweb.net.client import Client
from tests.net.own_host import GATEWAY, GATEWAY6, OwnHost


@pytest.fixture
def heard(host: OwnHost) -> dict[str, str]:
    for address in (GATEWAY, GATEWAY6):
        host.execute("ping", "-n", "-c1", "-W2", address)
    rows = host.rows("ip", "-j", "neigh")
    return {row["dst"]: row["lladdr"] for row in rows if "lladdr" in row}


def test_whoever_answered_is_known_by_both_addresses(
    host: OwnHost, helper: Client, heard: dict[str, str]
) -> None:
    found = {row["address"]: row["mac"] for row in helper.call("neighbours")}
    assert {GATEWAY, GATEWAY6} <= found.keys()
    assert found == heard


def test_nobody_is_known_who_never_answered(host: OwnHost, helper: Client) -> None:
    host.execute("sh", "-c", "ping -n -c1 -W1 192.0.2.77 || true")
    assert "192.0.2.77" in host.execute("ip", "neigh")
    assert "192.0.2.77" not in {row["address"] for row in helper.call("neighbours")}


def test_a_namespace_has_neighbours_of_its_own(host: OwnHost, helper: Client) -> None:
    host.execute("ip", "netns", "add", "red")
    try:
        host.execute("ip", "-n", "red", "link", "set", "lo", "up")
        host.execute(
            "ip", "link", "add", "veth-a", "type", "veth", "peer", "name", "red0", "netns", "red"
        )
        host.execute("ip", "-n", "red", "link", "set", "red0", "up")
        mac = "52:54:00:00:00:77"
        host.execute(
            "ip", "-n", "red", "neigh", "add", "10.9.9.9", "lladdr", mac, "dev", "red0"
        )  # fmt: skip
        assert {"address": "10.9.9.9", "mac": mac} in helper.call("neighbours")
    finally:
        host.execute("ip", "netns", "delete", "red")
