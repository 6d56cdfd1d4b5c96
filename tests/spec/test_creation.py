"""New machines: one golden document and command for every source (``created/``).

``KVMWEB_GOLDEN=write pytest tests/spec`` writes them anew. That virt-install really makes the same
is shown in tests/real/test_creation.py.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from kvmweb.spec.capabilities import DomainCapabilities, domain_capabilities
from kvmweb.spec.creation import (
    Choices,
    DiskChoice,
    Firmware,
    Source,
    build,
    document,
    virt_install_command,
    volume_name,
)

HERE = Path(__file__).parent
CAPABILITIES = {
    name: domain_capabilities((HERE / f"recorded/domain-{name}.xml").read_text())
    for name in ("kvm", "qemu")
}
WITH_TPM = replace(CAPABILITIES["kvm"], tpm_backends=frozenset({"emulator"}))
NEW_DISK = DiskChoice(path="/pool/web1.qcow2", create_gib=20)
PLAIN = Choices(
    name="web1", source=Source.BLANK, capabilities=CAPABILITIES["kvm"], memory_mib=2048, vcpus=2
)
CASES = {
    "iso": replace(
        PLAIN, source=Source.ISO, iso="/iso/debian, 12.iso", disk=NEW_DISK, title="It's a shop"
    ),
    "iso-uefi": replace(
        PLAIN,
        source=Source.ISO,
        iso="/iso/d.iso",
        disk=NEW_DISK,
        firmware=Firmware.UEFI,
        capabilities=WITH_TPM,
    ),
    "iso-uefi-secure": replace(
        PLAIN, source=Source.ISO, iso="/iso/d.iso", disk=NEW_DISK, firmware=Firmware.UEFI_SECURE
    ),
    "import": replace(
        PLAIN, source=Source.IMPORT, disk=DiskChoice(path="/pool/old.img", format="raw")
    ),
    "import-block": replace(
        PLAIN,
        source=Source.IMPORT,
        disk=DiskChoice(path="/dev/vg/lv", format="raw", is_block=True),
        network="bridge:br0",
        vnc_listens_on="127.0.0.1",
    ),
    "pxe": replace(PLAIN, source=Source.PXE, disk=NEW_DISK),
    "pxe-without-disk": replace(PLAIN, source=Source.PXE),
    "blank": replace(PLAIN, disk=NEW_DISK, capabilities=CAPABILITIES["qemu"], network="none"),
    "tiny": replace(
        PLAIN,
        name="tiny1",
        source=Source.TINY,
        memory_mib=128,
        vcpus=1,
        capabilities=CAPABILITIES["qemu"],
        kernel="/pool/vmlinuz",
        initrd="/pool/initrd.gz",
        kernel_line="console=tty0 console=ttyS0,115200 quiet",
        start=True,
    ),
    "aarch64": replace(
        PLAIN,
        source=Source.ISO,
        iso="/iso/arm.iso",
        disk=NEW_DISK,
        firmware=Firmware.UEFI,
        capabilities=DomainCapabilities("qemu", "aarch64", cpu_modes=frozenset({"maximum"})),
    ),
    "test-driver": replace(PLAIN, disk=NEW_DISK, capabilities=DomainCapabilities("test", "i686")),
}


def _golden(name: str, text: str) -> str:
    path = HERE / "created" / name
    if os.environ.get("KVMWEB_GOLDEN") == "write":
        path.write_text(text)
    return path.read_text()


@pytest.mark.parametrize("name", CASES)
def test_the_document_is_that(name: str, domain_schema: etree.RelaxNG) -> None:
    text = document(CASES[name])
    assert text == _golden(f"{name}.xml", text)
    domain_schema.assertValid(etree.fromstring(text))


@pytest.mark.parametrize("name", CASES)
def test_the_command_is_that(name: str) -> None:
    text = "\n".join(virt_install_command(CASES[name])) + "\n"
    assert text == _golden(f"{name}.command", text)


def test_every_source_has_a_golden_document() -> None:
    assert {case.source for case in CASES.values()} == set(Source)


def test_kvm_gives_the_hosts_processor_and_emulation_the_largest() -> None:
    assert PLAIN.cpu_mode == "host-passthrough"
    assert replace(PLAIN, capabilities=CAPABILITIES["qemu"]).cpu_mode == "maximum"


def test_the_disk_is_tried_before_the_medium_that_installs_on_it() -> None:
    assert CASES["iso"].boot == ("hd", "cdrom")
    assert CASES["pxe"].boot == ("hd", "network")
    assert CASES["pxe-without-disk"].boot == ("network",)
    with_old_disk = replace(CASES["pxe"], disk=DiskChoice(path="/pool/old.qcow2"))
    assert with_old_disk.boot == ("network", "hd")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=50))
def test_any_name_survives_in_the_document(name: str) -> None:
    assert build(replace(PLAIN, name=name)).findtext("name") == name


@pytest.mark.parametrize(
    ("machine", "taken", "name"),
    [
        ("web1", (), "web1.qcow2"),
        ("web1", ("web1.qcow2",), "web1-1.qcow2"),
        ("web1", ("web1.qcow2", "web1-1.qcow2"), "web1-2.qcow2"),
        ("My “first” <machine>", (), "My-first-machine.qcow2"),
        ("../../etc", (), "etc.qcow2"),
        ("…", (), "machine.qcow2"),
        ("größe 3", (), "größe-3.qcow2"),
    ],
)
def test_a_volume_is_named_after_its_machine(
    machine: str, taken: tuple[str, ...], name: str
) -> None:
    assert volume_name(machine, taken=taken) == name


@given(st.text(max_size=300))
def test_a_volumes_name_is_a_file_name(machine: str) -> None:
    name = volume_name(machine, taken=())
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name.encode()) < 250
