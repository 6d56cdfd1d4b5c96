"""What tests on real QEMU share. They need root, libvirt and QEMU: ``make test`` installs them."""

import os
from collections.abc import Iterator

import pytest

from tests.libvirtd import PrivateLibvirtd


@pytest.fixture(scope="session")
def private_libvirtd() -> Iterator[PrivateLibvirtd]:
    """One for all; a test that kills, freezes or restarts it leaves it running."""
    if os.getuid() != 0:
        pytest.skip("a libvirtd of its own needs root: run `sudo make test`")
    with PrivateLibvirtd() as daemon:
        yield daemon
