"""A host for the helper, and what is applied to it: both as they were, test after test."""

from collections.abc import Iterator

import pytest

from kvmweb.net.client import Client
from tests import dumps
from tests.net.own_host import OwnHost
from tests.network import Applied


@pytest.fixture(scope="module")
def host() -> Iterator[OwnHost]:
    with OwnHost() as own:
        yield own


@pytest.fixture(scope="module")
def helper(host: OwnHost) -> Iterator[Client]:
    with host.client() as client:
        yield client


@pytest.fixture(scope="module")
def clean(host: OwnHost) -> dumps.Dump:
    return host.dump()


@pytest.fixture
def network(host: OwnHost, helper: Client, clean: dumps.Dump) -> Iterator[Applied]:
    """What a test applies goes away after it, without a trace."""
    with Applied(helper) as applied:
        yield applied
    host.assert_as(clean)
