"""Creating machines on real libvirt and QEMU; libvirt itself and virsh are the witnesses."""

import re
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import unified_diff
from pathlib import Path
from typing import Any

import libvirt
import pytest
from django.conf import settings
from lxml import etree

from kvmweb import tiny_guest
from kvmweb.agent import worker
from kvmweb.models import (
    Acceleration,
    Host,
    HostState,
    Job,
    JobState,
    Machine,
    Network,
    Pool,
    State,
    User,
)
from kvmweb.operations import creation
from kvmweb.operations.creation import made
from kvmweb.operations.creation.draft import capabilities_of
from kvmweb.operations.operation import Invalid
from kvmweb.spec.creation import Choices, DiskChoice, Firmware, Source, document
from kvmweb.spec.creation import virt_install_command as command_of
from tests.conftest import Stage
from tests.guest import Serial
from tests.libvirtd import PrivateLibvirtd
from tests.site import Site
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]
STATE = Path(__file__).resolve().parent.parent.parent / "var" / "test"


@pytest.fixture(scope="module")
def private_libvirtd() -> Iterator[PrivateLibvirtd]:
    """In place of the shared one: here nothing else may be on the host."""
    # Made from the system's packages at the first time, which may take longer than any test waits.
    tiny_guest.build(STATE / "tiny_guest")
    with PrivateLibvirtd() as daemon:
        yield daemon


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

    def refused(self, **wish: object) -> dict[str, str]:
        """The sentences, given before there is a job."""
        count = Job.objects.count()
        with pytest.raises(Invalid) as refused:
            creation.create.submit(self.user, self.host, wish)
        assert Job.objects.count() == count
        return refused.value.fields

    def holds_nothing(self) -> bool:
        """Whether libvirt and the file system are as bare as in the beginning."""
        return not (self.domains() or self.pools() or self.files())

    def xml(self, name: str) -> etree._Element:
        return etree.fromstring(self.witness.lookupByName(name).XMLDesc())

    def found(self, name: str, path: str) -> etree._Element:
        """An element of the machine's document, which must be there."""
        element = self.xml(name).find(path)
        assert element is not None, path
        return element

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
    # What KVM is worth here is not the question, and these guests must boot.
    host = Host.objects.create(
        name="real", uri=private_libvirtd.uri, acceleration=Acceleration.ABSENT
    )
    agent.agent.wake()
    # The question for QEMU's network cards is a short-lived domain of its own.
    asked = Host.objects.filter(pk=host.pk, state=HostState.CONNECTED).exclude(nic_models={})
    until(asked.exists, seconds=60, what="the host to be known")
    host.refresh_from_db()
    settings.STATE_DIR = STATE
    witness = libvirt.open(private_libvirtd.uri)
    until(lambda: not witness.listAllDomains(), what="that domain to be gone")
    assert (witness.listAllStoragePools(), witness.listAllNetworks()) == ([], [])
    try:
        yield Workshop(agent, host, private_libvirtd, witness, alice)
    finally:
        # Not the witness: a test may have killed its libvirtd.
        _empty(libvirt.open(private_libvirtd.uri), private_libvirtd)


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
    witness.close()


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

    files = workshop.files()
    again = workshop.made(name="tiny2", source="tiny", memory_mib=128)
    assert workshop.files() == files, "both share one upload"
    assert not [command for command in again.commands if "vol-upload" in command]


def test_an_upload_that_was_cut_off_is_done_again(workshop: Workshop) -> None:
    workshop.made(name="tiny1", source="tiny", memory_mib=128)
    [kernel] = workshop.daemon.images.glob("*vmlinuz")
    content = kernel.read_bytes()
    kernel.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    workshop.made(name="tiny2", source="tiny", memory_mib=128)
    assert kernel.read_bytes() == content


@pytest.mark.parametrize(
    "name", ["my <first> & “best” 'machine'", "größe-日本語-🐧", "-x", "n" * 200, "a.b:c;d|e$f`g"]
)
def test_any_name_libvirt_takes_is_taken(workshop: Workshop, name: str) -> None:
    workshop.made(name=name, source="blank", disk_gib=1, memory_mib=64, start=True)
    assert workshop.domains() == [name]
    [disk] = workshop.files()
    assert disk.endswith(".qcow2")
    assert workshop.found(name, "devices/disk/source").get("file", "").endswith("/" + disk)
    assert workshop.witness.lookupByName(name).isActive()


def test_a_new_disk_is_sparse_and_named_after_the_machine(workshop: Workshop) -> None:
    workshop.pool()
    (workshop.daemon.images / "web1.qcow2").touch()
    workshop.made(name="web1", source="blank", disk_gib=20, memory_mib=64, pool="default")
    path = workshop.daemon.images / "web1-1.qcow2"
    info = subprocess.run(["qemu-img", "info", path], check=True, capture_output=True, text=True)
    assert "virtual size: 20 GiB" in info.stdout
    assert "file format: qcow2" in info.stdout
    assert path.stat().st_size < 2**20
    assert workshop.found("web1", "devices/disk/driver").get("discard") == "unmap"


def test_the_format_of_an_image_is_found_and_not_believed(workshop: Workshop) -> None:
    image = workshop.image("liar.qcow2").rename(workshop.daemon.images / "liar.raw")
    workshop.made(name="web1", source="import", disk_path=str(image), memory_mib=64, start=True)
    assert workshop.found("web1", "devices/disk/driver").get("type") == "qcow2"


def test_an_image_in_no_pool_leaves_no_pool_behind(workshop: Workshop, tmp_path: Path) -> None:
    image = tmp_path / "boot.iso"
    image.write_bytes(bytes(2**20))
    workshop.made(name="web1", source="iso", iso=str(image), memory_mib=64)
    assert workshop.pools() == []
    disk = workshop.found("web1", "devices/disk")
    assert disk.get("device") == "cdrom"
    assert disk.find("readonly") is not None


def test_an_overlay_needs_the_image_below_it(workshop: Workshop) -> None:
    base = workshop.image("base.qcow2")
    overlay = workshop.image("top.qcow2", "-b", str(base), "-F", "qcow2")
    other = workshop.image("other.qcow2", "-b", str(base), "-F", "qcow2")
    workshop.made(name="web1", source="import", disk_path=str(other), memory_mib=64, start=True)
    base.unlink()
    job = workshop.failed(name="web2", source="import", disk_path=str(overlay), memory_mib=64)
    assert job.error_field == "disk_path"
    assert job.error == (
        f"{overlay} is an overlay, and the image below it can't be used: There is no file {base} "
        "on the host."
    )


def test_a_path_must_be_that_of_a_file(workshop: Workshop) -> None:
    folder = workshop.daemon.images / "folder.iso"
    folder.mkdir()
    try:
        cases = {
            str(folder): f"{folder} is a directory. Enter the path of a file.",
            "/nowhere/at/all.iso": "There is no file /nowhere/at/all.iso on the host.",
            str(workshop.daemon.images / "x.iso"): "There is no file",
        }
        for path, sentence in cases.items():
            job = workshop.failed(name="web1", source="iso", iso=path, memory_mib=64)
            assert job.error_field == "iso"
            assert sentence in job.error
    finally:
        folder.rmdir()
    assert workshop.holds_nothing()


def test_a_file_qemu_may_not_reach_is_told_at_its_field(workshop: Workshop, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    image = closed / "boot.iso"
    image.write_bytes(bytes(2**20))
    job = workshop.failed(name="web1", source="iso", iso=str(image), memory_mib=64, start=True)
    assert job.error_field == "iso"
    assert job.error.startswith(f"QEMU may not read {image}.")
    assert workshop.holds_nothing()


def test_a_disk_of_a_running_machine_is_refused(workshop: Workshop) -> None:
    image = workshop.image("shared.qcow2")
    wish = {"source": "import", "disk_path": str(image), "memory_mib": 64}
    workshop.made(name="web1", start=True, **wish)
    rows = Machine.objects.filter(name="web1", state=State.RUNNING)
    until(rows.exists)
    assert workshop.refused(name="web2", **wish) == {
        "disk_path": "The running machine “web1” uses this disk. Shut it down first, or choose "
        "another."
    }


def test_more_than_the_host_has_is_refused(workshop: Workshop) -> None:
    fields = workshop.refused(name="web1", source="blank", memory_mib=10**7, vcpus=5000)
    host_mib = workshop.host.memory_kib // 1024
    assert fields == {
        "memory_mib": f"The host has {host_mib} MiB in all. Enter at most that much.",
        "vcpus": "A machine on this host has at most 288 CPUs.",
    }
    assert workshop.refused(name="web1", source="blank", memory_mib=0, vcpus=0) == {
        "memory_mib": "Enter 16 or more.",
        "vcpus": "Enter 1 or more.",
    }


def test_an_inactive_network_is_started_if_wished(workshop: Workshop) -> None:
    workshop.network("lab", active=False)
    wish = {"name": "web1", "source": "blank", "memory_mib": 64, "network": "network:lab"}
    assert "is not active" in workshop.refused(**wish, start=True)["network"]
    workshop.made(**wish, start=True, start_network=True)
    assert workshop.witness.networkLookupByName("lab").isActive()


def test_a_failed_start_takes_everything_back(workshop: Workshop) -> None:
    workshop.network("lab", active=False)
    job = workshop.failed(
        name="web1",
        source="blank",
        memory_mib=64,
        disk_gib=1,
        network="bridge:missing0",
        start=True,
    )
    assert job.error_field == "network"
    assert "missing0" in job.error
    assert workshop.holds_nothing()


def test_a_network_started_for_a_failed_creation_is_stopped_again(workshop: Workshop) -> None:
    workshop.network("lab", active=False)
    with made.shared:
        # The tiny guest waits for the lock when its network is on already.
        job = creation.create.submit(
            workshop.user,
            workshop.host,
            {"name": "t", "source": "tiny", "network": "network:lab", "start_network": True},
        )
        until(lambda: workshop.witness.networkLookupByName("lab").isActive())
        Job.objects.filter(pk=job.pk).update(is_cancel_asked=True)
    assert workshop.stage.finish(job).state == JobState.CANCELLED
    assert not workshop.witness.networkLookupByName("lab").isActive()
    assert (workshop.domains(), workshop.pools()) == ([], [])


def test_a_name_taken_in_the_middle_takes_everything_back(workshop: Workshop) -> None:
    with made.shared:
        job = creation.create.submit(
            workshop.user, workshop.host, {"name": "web1", "source": "tiny", "disk_gib": 1}
        )
        until(lambda: Job.objects.get(pk=job.pk).message == "Waiting for another tiny guest")
        workshop.witness.defineXML(_domain_xml("web1"))
    job = workshop.stage.finish(job)
    assert job.state == JobState.FAILED
    assert job.error == "A machine with the name “web1” is already there. Choose another name."
    assert job.error_field == "name"
    assert workshop.domains() == ["web1"], "that of somebody else stays"
    assert workshop.found("web1", "description").text == "not ours"
    assert (workshop.pools(), workshop.files()) == ([], [])


def test_a_libvirtd_that_dies_in_the_middle_finds_nothing_left_when_it_is_back(
    workshop: Workshop,
) -> None:
    workshop.network("lab", active=False)
    with made.shared:
        job = creation.create.submit(
            workshop.user,
            workshop.host,
            {"name": "t", "source": "tiny", "network": "network:lab", "start_network": True},
        )
        until(lambda: workshop.witness.networkLookupByName("lab").isActive())
        workshop.daemon.kill()
    workshop.daemon.start()
    until(lambda: job.wait(0.2), seconds=90)
    witness = libvirt.open(workshop.daemon.uri)
    workshop.witness = witness
    assert job.state == JobState.FAILED, job.log
    assert "made" not in job.result, job.log
    assert not witness.networkLookupByName("lab").isActive()
    assert (workshop.domains(), workshop.pools(), workshop.files()) == ([], [], [])


def test_what_a_killed_agent_left_is_taken_back_by_the_next(workshop: Workshop) -> None:
    """Every kind of thing, noted and made, and noted but never made."""
    workshop.network("lab", active=True)
    key, pool_key = str(uuid.uuid4()), str(uuid.uuid4())
    pool = workshop.witness.storagePoolDefineXML(
        f"<pool type='dir'><name>default</name><uuid>{pool_key}</uuid><target>"
        f"<path>{workshop.daemon.images}</path></target></pool>"
    )
    pool.create()
    pool.createXML("<volume><name>a.qcow2</name><capacity>1048576</capacity></volume>")
    workshop.witness.defineXML(_domain_xml("web1", key)).create()
    things = [
        {"kind": "network start", "name": "lab"},
        {"kind": "pool", "name": "default", "uuid": pool_key, "path": str(workshop.daemon.images)},
        {"kind": "volume", "pool": pool_key, "name": "a.qcow2"},
        {"kind": "upload", "pool": pool_key, "name": "never made"},
        {"kind": "machine", "name": "web1", "uuid": key},
        {"kind": "machine", "name": "never made", "uuid": str(uuid.uuid4())},
    ]
    job = _half_run(workshop, things)
    worker.mark_lost(Job.objects.filter(pk=job.pk))
    job.refresh_from_db()
    assert job.state == JobState.LOST
    assert job.error == "The site was stopped in the middle of this. What was half made is removed."
    assert "made" not in job.result
    assert workshop.holds_nothing()
    assert not workshop.witness.networkLookupByName("lab").isActive()


def test_a_volume_somebody_uses_by_now_is_never_taken_back(workshop: Workshop) -> None:
    workshop.pool()
    image = workshop.image("a.qcow2")
    workshop.made(name="web1", source="import", disk_path=str(image), memory_mib=64)
    pool = workshop.witness.storagePoolLookupByName("default")
    thing = {"kind": "volume", "pool": pool.UUIDString(), "name": "a.qcow2"}
    made.undo(_half_run(workshop, [thing]))
    assert image.exists()


def _half_run(workshop: Workshop, things: list[dict[str, str]]) -> Job:
    return Job.objects.create(
        kind="machines.create",
        user=workshop.user,
        host=workshop.host,
        state=JobState.RUNNING,
        agent=workshop.host.agent or "dead",
        result={"made": things},
    )


def test_a_site_killed_in_the_middle_leaves_nothing(private_libvirtd: PrivateLibvirtd) -> None:
    with Site(uri=private_libvirtd.uri) as site, site.api() as api:
        wish = {"host": "local", "name": "tiny1", "source": "tiny", "start": True}
        job = api.post("/machines", json=wish).json()
        path = f"/jobs/{job['id']}"
        until(lambda: "Creating the storage pool" in api.get(path).text, seconds=60)
        site.kill()
        witness = libvirt.open(private_libvirtd.uri)
        assert [pool.name() for pool in witness.listAllStoragePools()] == ["default"]
        site.start()
        until(lambda: api.get(path).json()["state"] == "lost", seconds=60)
        assert "What was half made is removed." in api.get(path).text
        assert not witness.listAllStoragePools()
        # The new agent's probe of KVM may be among them.
        assert "tiny1" not in [dom.name() for dom in witness.listAllDomains()]
        assert not list(private_libvirtd.images.iterdir())
    until(lambda: not witness.listAllDomains(), what="the probe to go with its agent")


def test_pasted_xml_is_kept_whole(workshop: Workshop) -> None:
    xml = _domain_xml("web1").replace(
        "<memory", "<metadata><n:note xmlns:n='urn:n' a='1'>kept</n:note></metadata><memory"
    )
    job = workshop.made(xml=xml)
    made_xml = workshop.witness.lookupByName("web1").XMLDesc()
    assert "<n:note" in made_xml
    assert "not ours" in made_xml
    assert job.result["uuid"] in made_xml
    until(Machine.objects.filter(name="web1", uuid=job.result["uuid"]).exists)
    assert workshop.refused(xml=xml) == {
        "xml": "A machine with the name “web1” is already there. Choose another name."
    }
    copy = _domain_xml("web2", job.result["uuid"])
    assert workshop.refused(xml=copy)["xml"].startswith("The machine “web1” has the UUID")
    assert workshop.domains() == ["web1"]


def test_xml_that_libvirt_refuses_says_why(workshop: Workshop) -> None:
    job = workshop.failed(xml="<domain type='qemu'><name>web1</name></domain>")
    assert job.error_field == "xml"
    assert job.error.startswith("Libvirt says:")
    job = workshop.failed(xml=_domain_xml("web2", network="gone"), start=True)
    assert job.error_field == "xml"
    assert "gone" in job.error
    assert workshop.domains() == []


def test_uefi_leaves_no_variables_behind_when_its_start_fails(workshop: Workshop) -> None:
    wish = {"name": "web1", "source": "blank", "memory_mib": 128, "firmware": "uefi"}
    workshop.made(**wish, start=True)
    features = workshop.found("web1", "os/firmware/feature")
    assert dict(features.attrib) == {"enabled": "no", "name": "secure-boot"}
    variables = workshop.daemon.directory / "lib/qemu/nvram"
    assert [path.name for path in variables.iterdir()] == ["web1_VARS.fd"]
    workshop.failed(**wish | {"name": "web2", "network": "bridge:missing0"}, start=True)
    assert [path.name for path in variables.iterdir()] == ["web1_VARS.fd"]


def _domain_xml(name: str, key: str = "", *, network: str = "") -> str:
    domain = etree.fromstring(
        "<domain type='qemu'><name/><description>not ours</description><memory>65536</memory>"
        "<os><type arch='x86_64'>hvm</type></os><devices/></domain>"
    )
    for element in domain.iter("name"):
        element.text = name
    if key:
        etree.SubElement(domain, "uuid").text = key
    if network:
        for devices in domain.iter("devices"):
            interface = etree.SubElement(devices, "interface", type="network")
            etree.SubElement(interface, "source", network=network)
    return etree.tostring(domain, encoding="unicode")


CASES: dict[str, dict[str, Any]] = {
    "iso": {
        "source": Source.ISO,
        # Without quotes: virt-install 4.1 escapes those of paths twice.
        "iso": "/images/some, odd name.iso",
        "disk": DiskChoice(path="/images/new-a,b.qcow2", create_gib=1),
        "title": 'It\'s, "the" shop',
    },
    "import": {"source": Source.IMPORT, "disk": DiskChoice(path="/images/old.qcow2")},
    "pxe": {"source": Source.PXE, "network": "bridge:br0"},
    "uefi": {
        "source": Source.BLANK,
        "firmware": Firmware.UEFI,
        "network": "none",
        "vnc_listens_on": "127.0.0.1",
    },
    "secure": {"source": Source.BLANK, "firmware": Firmware.UEFI_SECURE},
    "tiny": {
        "source": Source.TINY,
        "kernel": "/images/a, b/vmlinuz",
        "initrd": "/images/initrd",
        "kernel_line": "console=tty0 console=ttyS0,115200 quiet",
    },
}


@pytest.mark.parametrize("case", CASES)
def test_virt_install_makes_the_same_machine(workshop: Workshop, case: str) -> None:
    """Both documents are defined, and what libvirt then has is compared."""
    images = str(workshop.daemon.images)
    choices = replace(
        Choices(
            name="my, \"first\" 'one'",
            source=Source.BLANK,
            capabilities=capabilities_of(workshop.host),
            uri=workshop.host.uri,
            memory_mib=300,
            vcpus=2,
        ),
        **CASES[case],
    )
    choices = _moved(choices, images)
    if choices.iso:
        Path(choices.iso).touch()
    if case == "import":
        workshop.image("old.qcow2")
    command = [*command_of(choices), "--print-xml", "--check", "all=off"]
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stderr
    theirs = _as_libvirt_has_it(workshop, printed.stdout)
    ours = _as_libvirt_has_it(workshop, document(choices))
    assert "\n".join(unified_diff(theirs, ours, "virt-install", "kvmweb", lineterm="")) == ""


def _moved(choices: Choices, images: str) -> Choices:
    """With all paths in the daemon's own directory."""
    fields = {
        name: getattr(choices, name).replace("/images", images)
        for name in ("iso", "kernel", "initrd")
    }
    if choices.disk:
        path = choices.disk.path.replace("/images", images)
        choices = replace(choices, disk=replace(choices.disk, path=path))
    return replace(choices, **fields)


def _as_libvirt_has_it(workshop: Workshop, xml: str) -> list[str]:
    dom = workshop.witness.defineXML(xml)
    text = dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    dom.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
    return re.sub(r"<uuid>.*</uuid>|<mac address='.*'/>", "", text).splitlines()
