"""The columns of the mirror, from recorded documents."""

import time
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from kvmweb.spec import capabilities, domain, network, nodedev, storage
from kvmweb.spec.xml import parse

HERE = Path(__file__).parent


def _read(name: str) -> str:
    return (HERE / name).read_text()


def test_a_machine() -> None:
    facts = domain.facts(_read("golden/whole.xml"))
    assert [(nic.kind, nic.source, nic.mac) for nic in facts.nics] == [
        ("network", "default", "52:54:00:aa:bb:cc")
    ]
    assert replace(facts, nics=()) == domain.DomainFacts(
        name="web1",
        uuid=UUID("6695eb01-f6a4-8304-79aa-97f2502e193f"),
        title="The shop",
        description="Sells things.",
        vcpus=2,
        memory_kib=4 * 2**20,
        virtualization="kvm",
        graphics="",
        is_agent_connected=False,
        nics=(),
    )


def test_five_hundred_machines_take_well_under_half_a_second() -> None:
    text = _read("golden/whole.xml")
    started = time.process_time()
    for _ in range(500):
        domain.facts(text)
    assert time.process_time() - started < 0.4


@pytest.mark.parametrize(
    ("forward", "mode"),
    [("", ""), ("<forward/>", "nat"), ("<forward mode='nat'/>", "nat"),
     ("<forward mode='bridge'/>", "bridge")],
)  # fmt: skip
def test_a_network(forward: str, mode: str) -> None:
    facts = network.facts(
        f"<network><name>n</name><uuid>{UUID(int=1)}</uuid>{forward}<bridge name='br0'/></network>"
    )
    assert (facts.forward_mode, facts.bridge, facts.name) == (mode, "br0", "n")


def test_a_pool_and_its_volume() -> None:
    pool = storage.pool_facts(
        f"<pool type='dir'><name>p</name><uuid>{UUID(int=2)}</uuid><capacity unit='bytes'>10"
        "</capacity><available unit='KiB'>1</available><target><path>/p</path></target></pool>"
    )
    assert (pool.type, pool.target_path, pool.capacity_bytes) == ("dir", "/p", 10)
    assert pool.available_bytes == 1024
    volume = storage.volume_facts(
        "<volume><name>v</name><capacity unit='GiB'>1</capacity><allocation>5</allocation>"
        "<target><path>/p/v</path><format type='qcow2'/></target></volume>"
    )
    assert volume == storage.VolumeFacts("v", "/p/v", "qcow2", 2**30, 5)


def test_a_device() -> None:
    facts = nodedev.facts(
        "<device><name>net_eth0</name><parent>computer</parent><capability type='net'/></device>"
    )
    assert facts == nodedev.NodeDeviceFacts("net_eth0", "computer", "net")


def test_a_host() -> None:
    text = _read("recorded/host.xml")
    assert capabilities.host_facts(text) == capabilities.HostFacts("x86_64", "kvm64")
    host = capabilities.HostCapabilities(parse(text))
    assert {"q35", "pc"} <= set(host.machine_types("x86_64"))
    assert host.machine_types("vax") == []


def test_what_a_machine_may_have() -> None:
    found = capabilities.domain_capabilities(_read("recorded/domain-qemu.xml"))
    assert found.virtualization == "qemu"
    assert found.is_pc
    assert found.vcpus_maximum == 288
    assert found.has_uefi
    assert found.has_secure_boot
    assert {"virtio", "sata", "scsi", "usb"} <= found.disk_buses
    assert {"virtio", "vga"} <= found.video_models
    assert "vnc" in found.graphics
    assert "random" in found.rng_backends
    assert found.tpm_backends == {"passthrough"}
    assert found.cpu_modes == {"maximum", "host-model", "custom"}


def test_kvm_is_taken_only_where_it_serves() -> None:
    documents = {name: _read(f"recorded/domain-{name}.xml") for name in ("kvm", "qemu")}
    for is_usable, taken in ((True, "kvm"), (False, "qemu")):
        found = capabilities.best(
            documents, driver="QEMU", architecture="x86_64", is_kvm_usable=is_usable
        )
        assert found.virtualization == taken
    nothing = capabilities.best({}, driver="TEST", architecture="i686", is_kvm_usable=False)
    assert nothing.virtualization == "test"
