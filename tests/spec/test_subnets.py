"""Free and taken subnets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmweb.spec.subnets import Taken, free_ipv4, free_ipv6, other_half, overlap, taken


def _all(*addresses: str) -> list[Taken]:
    return [one for address in addresses if (one := taken(address, f"the link {address}"))]


def test_the_first_is_virt_managers() -> None:
    assert free_ipv4([]) == "192.168.100.1/24"
    assert free_ipv6([]) == "fd00:100::1/64"


def test_it_goes_on_to_the_next_that_is_free() -> None:
    known = _all("192.168.100.1/24", "192.168.101.7/32", "192.168.102.0/23", "fd00:100::/48")
    assert free_ipv4(known) == "192.168.104.1/24"
    assert free_ipv6(known) == "fd00:101::1/64"


def test_where_none_is_left_it_says_nothing() -> None:
    assert free_ipv4(_all("192.168.0.0/16")) == ""


def test_an_overlap_names_what_it_meets() -> None:
    known = [found for found in [taken("10.0.0.0/8", "the route via tun0")] if found]
    assert str(overlap("10.1.2.1/24", known)) == "the route via tun0 (10.0.0.0/8)"
    assert overlap("172.16.0.1/12", known) is None
    assert overlap("fd00::1/64", known) is None


@pytest.mark.parametrize(
    "address", ["0.0.0.0/0", "::/0", "127.0.0.1/8", "fe80::1/64", "224.0.0.0/4", "default", ""]
)
def test_what_is_on_every_host_is_not_taken(address: str) -> None:
    assert taken(address, "it") is None


@pytest.mark.parametrize(
    ("address", "half"),
    [
        ("192.168.100.1/24", ("192.168.100.128", "192.168.100.254")),
        ("192.168.100.254/24", ("192.168.100.1", "192.168.100.127")),
        ("10.0.0.1/29", ("10.0.0.4", "10.0.0.6")),
        ("10.0.0.1/30", None),
        ("fd00:100::1/64", ("fd00:100::100", "fd00:100::1ff")),
    ],
)
def test_the_range_is_the_other_half(address: str, half: tuple[str, str] | None) -> None:
    assert other_half(address) == half


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(17, 32)), max_size=30))
def test_what_it_proposes_meets_nothing(known: list[tuple[int, int]]) -> None:
    others = _all(*(f"192.168.{third}.1/{prefix}" for third, prefix in known))
    proposed = free_ipv4(others)
    assert not proposed or overlap(proposed, others) is None
