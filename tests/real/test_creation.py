"""Creating machines on real libvirt and QEMU; libvirt itself and virsh are the witnesses."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest
from django.conf import settings
from lxml import etree

from kvmweb import tiny_guest
from kvmweb.models import Acceleration, Host, Job, JobState, Machine, Network, Pool, User
from kvmweb.operations import creation
from kvmweb.operations.operation import Invalid
from tests.conftest import Stage
from tests.guest import Serial
from tests.libvirtd import PrivateLibvirtd
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Workshop:
    """A real host and its witness: a connection that is not the agent's."""

    stage: Stage
    host: Host
    daemon: PrivateLibvirtd
    witness: libvirt.virConnect
    user: User

    def create(self, **wish: object) -> Job:
        return self.stage.finish(creation.create.submit(self.user, self.host, wish))

    def made(self, **wish: object) -> Job:
        job = self.create(**wish)
        assert job.state == JobState.DONE, (job.error, job.log)
        return job

    def failed(self, **wish: object) -> Job:
        job = self.create(**wish)
        assert job.state == JobState.FAILED, job.log
        assert "made" not in job.result, job.log
        return job

    def xml(self, name: str) -> etree._Element:
        return etree.fromstring(self.witness.lookupByName(name).XMLDesc())

    def domains(self) -> list[str]:
        return sorted(dom.name() for dom in self.witness.listAllDomains())

    def pools(self) -> list[str]:
        return sorted(pool.name() for pool in self.witness.listAllStoragePools())

    def files(self) -> list[str]:
        return sorted(path.name for path in self.daemon.images.iterdir())

    def image(self, name: str, *options: str, size: str = "16M") -> Path:
        path = self.daemon.images / name
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", path.suffix.lstrip("."), *options, path, size],
            check=True,
        )
        return path

    def pool(self, name: str = "default", path: Path | None = None) -> None:
        pool = self.witness.storagePoolDefineXML(
            f"<pool type='dir'><name>{name}</name><target><path>{path or self.daemon.images}"
            "</path></target></pool>"
        )
        pool.create()
        until(lambda: Pool.objects.filter(host=self.host, name=name, is_active=True).exists())

    def network(self, name: str, *, active: bool) -> None:
        bridge = f"kw{uuid.uuid4().hex[:8]}"
        network = self.witness.networkDefineXML(
            f"<network><name>{name}</name><bridge name='{bridge}'/></network>"
        )
        if active:
            network.create()
        rows = Network.objects.filter(host=self.host, name=name, is_active=active)
        until(rows.exists)


@pytest.fixture
def workshop(agent: Stage, alice: User, private_libvirtd: PrivateLibvirtd) -> Iterator[Workshop]:
    host = agent.connect("real", private_libvirtd.uri)
    until(lambda: Host.objects.get(pk=host.pk).acceleration != Acceleration.UNKNOWN, seconds=60)
    # What KVM is worth here is not the question, and these guests must boot.
    Host.objects.filter(pk=host.pk).update(acceleration=Acceleration.ABSENT)
    host.refresh_from_db()
    settings.STATE_DIR = ROOT / "var" / "test"
    witness = libvirt.open(private_libvirtd.uri)
    before = (witness.listAllDomains(), witness.listAllStoragePools(), witness.listAllNetworks())
    assert before == ([], [], [])
    try:
        yield Workshop(agent, host, private_libvirtd, witness, alice)
    finally:
        _empty(witness, private_libvirtd)
        witness.close()


def _empty(witness: libvirt.virConnect, daemon: PrivateLibvirtd) -> None:
    for dom in witness.listAllDomains():
        if dom.isActive():
            dom.destroy()
        dom.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
    for thing in (*witness.listAllStoragePools(), *witness.listAllNetworks()):
        if thing.isActive():
            thing.destroy()
        thing.undefine()
    for path in daemon.images.iterdir():
        path.unlink()


def test_a_tiny_machine_on_a_host_without_a_pool_boots_to_its_shell(workshop: Workshop) -> None:
    job = workshop.made(name="tiny1", source="tiny", memory_mib=128, start=True)

    assert workshop.pools() == ["default"]
    assert [name[:12] for name in workshop.files()] == ["kvmweb-tiny-"] * 2
    dom = workshop.witness.lookupByName("tiny1")
    assert dom.UUIDString() == job.result["uuid"]
    assert dom.isActive()
    with Serial(dom) as serial:
        serial.expect("LAB-GUEST-READY", seconds=60)
    commands = [command[:2] for command in job.commands]
    assert ["virsh", "pool-define-as"] in commands
    assert ["virsh", "vol-upload"] in commands
    assert commands[-3:-1] == [["virsh", "define"], ["virsh", "start"]]
    assert job.commands[-1][0] == "virt-install"
