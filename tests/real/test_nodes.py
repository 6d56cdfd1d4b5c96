"""The two hosts on which all tests of networks stand."""

import subprocess
import sys
from pathlib import Path

import libvirt
import pytest

from tests import dumps
from tests.libvirtd import wait_until
from tests.nodes import SUDOER, Lab


def test_two_hosts_see_each_other_and_the_internet_and_not_each_others_things(lab: Lab) -> None:
    lab.a.execute("ip", "link", "add", "mine", "type", "bridge")
    lab.a.execute(
        "ovs-vsctl", "add-br", "ours", "--", "set", "bridge", "ours", "datapath_type=netdev"
    )
    assert not lab.b.succeeds("ip", "link", "show", "mine")
    assert not lab.b.execute("ovs-vsctl", "list-br")
    for address in ("10.77.0.12", "10.78.0.12", "203.0.113.12", "198.51.100.1"):
        lab.a.execute("ping", "-c1", "-W5", address)
    lab.a.execute("ip", "link", "delete", "mine")
    lab.a.execute("ovs-vsctl", "del-br", "ours")


def test_each_has_a_libvirt_here_and_by_ssh(lab: Lab) -> None:
    identities = set()
    for node in (lab.a, lab.b):
        for uri in (node.uri, node.ssh_uri, node.uri_of(SUDOER)):
            connection = libvirt.open(uri)
            assert connection.getHostname() == node.name
            assert not connection.listAllDomains()
            identities.add(connection.getCapabilities().split("<uuid>")[1][:36])
            connection.close()
    assert len(identities) == 2


@pytest.mark.usefixtures("nothing_left")
def test_nothing_is_left_of_it() -> None:
    with Lab() as lab:
        before = dumps.whole(lab.a.said)
        lab.a.execute("ip", "netns", "add", "left")
        left = dumps.difference(before, dumps.whole(lab.a.said))
        processes = lab.processes()
    assert "+left" in left.splitlines()
    assert len(processes) > 12, "the lab, its web server, two hosts with five programs each"
    assert not any(Path("/proc", str(pid)).exists() for pid in processes)
    assert not lab.directory.exists()


@pytest.mark.usefixtures("nothing_left")
def test_nothing_outlives_a_test_run_that_is_killed() -> None:
    program = (
        "import os; from tests.nodes import Lab; lab = Lab(); lab.__enter__();"
        "print(lab.directory, *lab.processes(), flush=True); os.kill(os.getpid(), 9)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    directory, *processes = result.stdout.split()
    wait_until(lambda: not any(Path("/proc", pid).exists() for pid in processes), "it ended")
    wait_until(lambda: not Path(directory).exists(), "its files are removed")
