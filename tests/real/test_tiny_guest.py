"""The tiny guest in QEMU, as a person meets it: screen, keyboard, power button, network, agent."""

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest

from kvmweb import tiny_guest
from kvmweb.tiny_guest import TinyGuest, media
from tests.guest import Serial, domain_xml, type_keys
from tests.libvirtd import PrivateLibvirtd, wait_until

NETWORK = """
<network><name>tiny</name><bridge name='tiny-test'/>
<ip address='192.168.177.1' netmask='255.255.255.0'>
<dhcp><range start='192.168.177.10' end='192.168.177.20'/></dhcp></ip></network>
"""
CARD = "<interface type='network'><source network='tiny'/><model type='virtio'/></interface>"


@pytest.fixture(scope="module")
def guest(private_libvirtd: PrivateLibvirtd) -> TinyGuest:
    return tiny_guest.build(private_libvirtd.images / "tiny_guest")


@pytest.fixture
def connection(private_libvirtd: PrivateLibvirtd) -> Iterator[libvirt.virConnect]:
    connection = libvirt.open(private_libvirtd.uri)
    yield connection
    for domain in connection.listAllDomains():
        domain.destroy()
    for network in connection.listAllNetworks():
        network.destroy()
    connection.close()


def test_it_takes_keys_and_the_power_button(
    connection: libvirt.virConnect, guest: TinyGuest
) -> None:
    domain = connection.createXML(domain_xml("keys", guest=guest))
    with Serial(domain) as serial:
        ready = serial.expect(r"LAB-GUEST-READY name=(\S+) up=([\d.]+)\s")
        assert ready[1] == "keys"
        assert float(ready[2]) < 60, "three seconds on an idle machine without KVM"
        type_keys(domain, "echo typed-ok > /dev/ttyS0\n")
        serial.expect("typed-ok")
        domain.shutdown()
        serial.expect("reboot: Power down|Requesting system poweroff")
    wait_until(lambda: not connection.listAllDomains(), "the guest powered off")


def test_it_takes_an_address_and_answers_the_agent(
    connection: libvirt.virConnect, guest: TinyGuest
) -> None:
    connection.networkCreateXML(NETWORK)
    domain = connection.createXML(domain_xml("net", guest=guest, devices=[CARD]))
    with Serial(domain) as serial:
        assert serial.expect(r"LAB-DHCP eth0 (\S+)\s")[1].startswith("192.168.177.")
        serial.send("httpget 127.0.0.1\n")
        serial.expect("\nnet")
    wait_until(lambda: _agent_answers(domain), "the guest agent answers")


def _agent_answers(domain: libvirt.virDomain) -> bool:
    try:
        answer = libvirt_qemu.qemuAgentCommand(domain, '{"execute": "guest-get-host-name"}', 5, 0)
    except libvirt.libvirtError:
        return False
    return json.loads(answer)["return"]["host-name"] == "net"


def _boots(connection: libvirt.virConnect, device: str) -> None:
    with Serial(connection.createXML(domain_xml("media", devices=[device]))) as serial:
        serial.expect(r"LAB-GUEST-READY")


def test_it_boots_from_a_cd(connection: libvirt.virConnect, guest: TinyGuest) -> None:
    image = media.iso(guest.kernel.parent)
    _boots(
        connection,
        f"<disk type='file' device='cdrom'><source file='{image}'/>"
        "<target dev='sda' bus='sata'/><boot order='1'/></disk>",
    )


def test_it_boots_from_a_disk(connection: libvirt.virConnect, guest: TinyGuest) -> None:
    image = media.disk(guest.kernel.parent)
    _boots(
        connection,
        f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{image}'/>"
        "<target dev='vda' bus='virtio'/><boot order='1'/></disk>",
    )


def test_two_builders_at_once_give_one_whole_guest(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(tiny_guest.build, [tmp_path, tmp_path])
    assert first == second
    assert not list(tmp_path.glob("*.part"))
    assert first.initrd.stat().st_mode & 0o777 == 0o644
