"""The private libvirtd, on which all other tests of real machines stand."""

import subprocess
import sys
from pathlib import Path

import libvirt

from tests.libvirtd import PrivateLibvirtd, wait_until

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


def test_nothing_outlives_a_test_run_that_is_killed() -> None:
    program = (
        "import os; from tests.libvirtd import PrivateLibvirtd; daemon = PrivateLibvirtd();"
        "daemon.__enter__(); print(daemon.directory, *daemon.processes(), flush=True);"
        "os.kill(os.getpid(), 9)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    directory, *processes = result.stdout.split()
    assert len(processes) == 3
    wait_until(lambda: not Path(directory).exists(), "its files are removed")
    wait_until(lambda: not any(Path("/proc", pid).exists() for pid in processes), "it ended")
