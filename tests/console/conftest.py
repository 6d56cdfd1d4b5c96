import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmweb.models import Host, HostState, Machine, State
from tests.console.display import Display
from tests.console.site import ConsoleSite

XML = "<domain type='qemu'><devices><graphics type='vnc' port='5900'/></devices></domain>"


@pytest.fixture
def host(transactional_db: None) -> Host:
    return Host.objects.create(name="local", uri="qemu:///system", state=HostState.CONNECTED)


@pytest.fixture
def machine(host: Host) -> Machine:
    """As the mirror would have it: running, with a VNC display."""
    return Machine.objects.create(
        host=host, uuid=uuid.uuid4(), name="web1", state=State.RUNNING, graphics="vnc", xml=XML
    )


@pytest.fixture
def display() -> Iterator[Display]:
    made = Display()
    yield made
    made.close()


@pytest.fixture
def site(transactional_db: None, state_directory: Path, display: Display) -> Iterator[ConsoleSite]:
    made = ConsoleSite(display.dial)
    yield made
    made.close()
