"""A host with machines of every kind, written into the mirror by hand: pages read nothing else."""

import uuid
from typing import Any

import pytest
from django.test import Client

from kvmweb.models import Host, HostState, Machine, Pool, State, User

XML = """<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='KiB'>524288</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'>
      <source file='/pool/debian.iso'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:00:00:01'/>
      <source network='default'/>
    </interface>
    <graphics type='vnc'/>
    <flux capacitor='yes'/>
  </devices>
</domain>
"""


def make_machine(host: Host, name: str, *, disk: str = "", **fields: Any) -> Machine:
    key = uuid.uuid4()
    document = XML.format(name=name, uuid=key, disk=disk or f"/pool/{name}.qcow2")
    given = {
        "state": State.RUNNING,
        "vcpus": 2,
        "memory_kib": 524288,
        "virtualization": "qemu",
        "graphics": "vnc",
        "xml": document,
        **fields,
    }
    return Machine.objects.create(host=host, uuid=key, name=name, **given)


@pytest.fixture
def local(db: None) -> Host:
    return Host.objects.create(
        name="local",
        uri="qemu:///system",
        state=HostState.CONNECTED,
        driver="QEMU",
        cpus=4,
        memory_kib=8 * 2**20,
        capabilities_xml="<capabilities><host/></capabilities>",
        usage={"cpu_percent": 12.5, "memory_used_kib": 2**20},
    )


@pytest.fixture
def rack7(db: None) -> Host:
    return Host.objects.create(
        name="rack7",
        uri="qemu+ssh://root@rack7/system",
        state=HostState.UNREACHABLE,
        state_reason="rack7 refused the connection.",
    )


@pytest.fixture
def web1(local: Host) -> Machine:
    return make_machine(local, "web1", title="The shop")


@pytest.fixture
def images(local: Host) -> Pool:
    pool = Pool.objects.create(
        host=local,
        uuid=uuid.uuid4(),
        name="images",
        type="dir",
        is_active=True,
        target_path="/pool",
        capacity_bytes=100 * 2**30,
        allocation_bytes=80 * 2**30,
        available_bytes=20 * 2**30,
        xml="<pool/>",
    )
    for name, kind in (("web1.qcow2", "qcow2"), ("debian.iso", "iso")):
        pool.volumes.create(
            name=name, path=f"/pool/{name}", format=kind, capacity_bytes=2**33, xml="<volume/>"
        )
    return pool


def signed_in(user: User) -> Client:
    client = Client(raise_request_exception=True)
    client.force_login(user)
    return client


@pytest.fixture
def admin(alice: User) -> Client:
    """Alice's browser."""
    return signed_in(alice)


@pytest.fixture
def operator(bob: User) -> Client:
    return signed_in(bob)


@pytest.fixture
def viewer(victor: User) -> Client:
    return signed_in(victor)


@pytest.fixture
def stranger(charlie: User) -> Client:
    return signed_in(charlie)
