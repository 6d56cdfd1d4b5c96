"""The list of virtual networks."""

import uuid

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from kvmweb.models import Host, Network

pytestmark = pytest.mark.django_db


def make_network(host: Host, name: str, *, mode: str = "nat", is_active: bool = True) -> Network:
    return Network.objects.create(
        host=host,
        uuid=uuid.uuid4(),
        name=name,
        is_active=is_active,
        forward_mode=mode,
        bridge="virbr0",
        xml="<network/>",
    )


def test_it_shows_state_mode_and_bridge(viewer: Client, local: Host) -> None:
    make_network(local, "default")
    make_network(local, "alone", mode="", is_active=False)
    text = viewer.get("/networks/").content.decode()
    for part in ("default", "NAT", "virbr0", "alone", "isolated", "inactive"):
        assert part in text


def test_without_one_it_says_so(viewer: Client) -> None:
    assert "No virtual network" in viewer.get("/networks/").content.decode()


def test_it_needs_few_queries(
    viewer: Client, local: Host, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(30):
        make_network(local, f"n{number}")
    with django_assert_num_queries(5):  # session, user, networks, hosts, running jobs
        viewer.get("/networks/")


def test_a_stranger_sees_none(stranger: Client, local: Host) -> None:
    make_network(local, "secret-network")
    assert "secret-network" not in stranger.get("/networks/").content.decode()
