"""Libvirt's own schema, the judge of every document we write."""

from pathlib import Path

import pytest
from lxml import etree

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")


@pytest.fixture(scope="session")
def domain_schema() -> etree.RelaxNG:
    """What ``virt-xml-validate`` uses."""
    if not SCHEMA.exists():
        pytest.skip(f"{SCHEMA} (package libvirt-daemon-system or libvirt0) is not installed")
    return etree.RelaxNG(etree.parse(SCHEMA))
