"""A small mirrored world, and everyone who may ask about it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client

from kvmweb.models import (
    ApiToken,
    Host,
    HostState,
    Job,
    Machine,
    Network,
    Nic,
    NodeDevice,
    NwFilter,
    Pool,
    Role,
    SecurityGroup,
    State,
    User,
    Volume,
)

NOBODY = "nobody"
EVERYONE = (NOBODY, "charlie", "victor", "bob", "alice")
ROLES = {
    "charlie": Role.NONE,
    "victor": Role.VIEWER,
    "bob": Role.OPERATOR,
    "alice": Role.ADMINISTRATOR,
}
FILTER = "<filter name='mine'><rule action='drop' direction='in'><icmp/></rule></filter>"
NETWORK = """<network><name>default</name><forward mode='nat'/><bridge name='virbr0'/>
<ip address='192.168.122.1' prefix='24'/></network>"""
DOMAIN = (
    "<domain type='qemu'><name>web1</name><devices><graphics type='vnc'/>"
    "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>"
    "<model type='virtio'/></interface></devices></domain>"
)


@dataclass
class World:
    host: Host
    machine: Machine
    network: Network
    pool: Pool
    volume: Volume
    device: NodeDevice
    job: Job
    nwfilter: NwFilter
    group: SecurityGroup

    def add_machine(self, name: str, **fields: object) -> Machine:
        values = {"host": self.host, "uuid": uuid4(), "state": State.SHUTOFF, "xml": DOMAIN}
        return Machine.objects.create(name=name, **{**values, **fields})


@pytest.fixture
def people(db: None) -> dict[str, User]:
    """By name. Nobody here needs a password, and hashing four for every test takes a second."""
    return {name: User.objects.create(username=name, role=role) for name, role in ROLES.items()}


@pytest.fixture
def clients(people: dict[str, User]) -> dict[str, Client]:
    """Everyone with their token; ``NOBODY`` without."""
    return {NOBODY: Client(), **{name: client_of(user) for name, user in people.items()}}


@pytest.fixture
def alice_api(clients: dict[str, Client]) -> Client:
    return clients["alice"]


@pytest.fixture
def bob_api(clients: dict[str, Client]) -> Client:
    return clients["bob"]


@pytest.fixture
def world(people: dict[str, User]) -> World:
    host = Host.objects.create(
        name="local",
        uri="qemu:///system",
        state=HostState.CONNECTED,
        capabilities_xml="<a/>",
        has_filters=True,
    )
    pool = Pool.objects.create(
        host=host, uuid=uuid4(), name="default", is_active=True, xml="<pool/>"
    )
    found = World(
        host=host,
        machine=Machine.objects.create(
            host=host,
            uuid=UUID("9e3f5c1a-6d0b-4f5e-8a58-1f2f3c4d5e6f"),
            name="web1",
            state=State.RUNNING,
            graphics="vnc",
            xml=DOMAIN,
        ),
        network=Network.objects.create(
            host=host,
            uuid=uuid4(),
            name="default",
            is_active=True,
            forward_mode="nat",
            bridge="virbr0",
            xml=NETWORK,
        ),
        pool=pool,
        volume=Volume.objects.create(pool=pool, name="web1.qcow2", xml="<volume/>"),
        device=NodeDevice.objects.create(host=host, name="computer", xml="<device/>"),
        job=Job.objects.create(
            kind="machines.pause", user=people["bob"], username="bob", host=host
        ),
        nwfilter=NwFilter.objects.create(
            host=host, uuid=uuid4(), name="mine", chain="root", xml=FILTER
        ),
        group=SecurityGroup.objects.create(name="web", rules=[{"ports": "80"}]),
    )
    Nic.objects.create(
        machine=found.machine,
        host=host,
        index=0,
        mac="52:54:00:00:00:01",
        kind="bridge",
        source="br0",
        model="virtio",
        tap="vnet0",
        bridge="br0",
        addresses=[{"address": "192.168.122.23", "prefix": 24, "from": "lease"}],
    )
    return found


def post(client: Client, address: str, body: object = None, **headers: str) -> Any:
    """As JSON. Jobs are not waited for: no agent is here to end them."""
    return client.post(
        address,
        body or {},
        content_type="application/json",
        headers={"Prefer": "respond-async", **headers},
    )


def client_of(user: User) -> Client:
    return Client(headers={"Authorization": f"Bearer {ApiToken.issue(user, 'test')[1]}"})
