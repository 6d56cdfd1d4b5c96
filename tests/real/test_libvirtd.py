"""The private libvirtd, on which all other tests of real machines stand."""

from pathlib import Path

import libvirt

from tests.libvirtd import PrivateLibvirtd

DOMAIN = """
<domain type='qemu'><name>stays</name><memory unit='MiB'>32</memory>
<os><type machine='q35'>hvm</type></os><devices/></domain>
"""


def test_machines_outlive_a_killed_libvirtd_and_nothing_outlives_the_end() -> None:
    with PrivateLibvirtd() as daemon:
        libvirt.open(daemon.uri).createXML(DOMAIN)
        before = daemon.pid
        daemon.kill()
        assert daemon.pid == 0
        daemon.start()
        assert daemon.pid != before
        names = [domain.name() for domain in libvirt.open(daemon.uri).listAllDomains()]
        assert names == ["stays"]
        processes = daemon.processes()
        daemon.freeze()
    assert "qemu-system-x86" in processes.values()
    assert not any(Path("/proc", str(pid)).exists() for pid in processes)
    assert not daemon.directory.exists()
