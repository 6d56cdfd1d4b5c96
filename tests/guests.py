"""Cheap guests: network namespaces of a host, plugged into a bridge, with busybox in them.

with plugged_in(host, "virbr1") as guest:
    guest.lease()
    guest.execute("ping", "-c1", "10.0.0.1")
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvmweb.tiny_guest import packages
from tests.full_kernel import CACHE
from tests.nodes import Node, Place

_numbers = itertools.count(1)
# What udhcpc calls with what it was offered; https://udhcp.busybox.net/README.udhcpc.
SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip -4 address flush dev "$interface"
ip address add "$ip/$mask" dev "$interface"
[ -z "$router" ] || ip route add default via "$router"
echo "ip=$ip router=$router dns=$dns domain=$domain hostname=$hostname boot_file=$boot_file \
siaddr=$siaddr lease=$lease ntpsrv=$ntpsrv"
"""
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=4).read().decode())"


class Guest(Place):
    """Its card is ``eth0`` in its own namespace; ``tap`` is the other end, on the host."""

    def __init__(self, host: Node, *, mac: str = "") -> None:
        number = next(_numbers)
        self.host, self.name, self.tap = host, f"guest{number}", f"tap{number}"
        self.mac = mac or f"52:54:00:aa:00:{number:02x}"
        super().__init__([*host.enter, "ip", "netns", "exec", self.name])

    def plug(self, bridge: str) -> None:
        ip = self.host.execute
        ip("ip", "netns", "add", self.name)
        # It asks for a router until one answers, for the first question comes before the bridge
        # itself has its address; by itself it asks three times, every four seconds.
        every = "net.ipv6.conf.default.router_solicitation_interval=1"
        self.execute("sysctl", "-qw", every, "net.ipv6.conf.default.router_solicitations=30")
        ip(*f"ip link add {self.tap} type veth peer name eth0 netns {self.name}".split())
        ip(*f"ip -n {self.name} link set eth0 address {self.mac} up".split())
        ip(*f"ip -n {self.name} link set lo up".split())
        ip(*f"ip link set {self.tap} master {bridge} up".split())

    def unplug(self) -> None:
        for pid in self.host.execute("ip", "netns", "pids", self.name).split():
            self.host.succeeds("kill", "-9", pid)
        self.host.execute("ip", "netns", "delete", self.name)

    def serve(self) -> None:
        """Its name, as a web page at port 80."""
        pages = self.host.directory / self.name
        pages.mkdir()
        (pages / "index.html").write_text(self.name)
        self.busybox("httpd", "-p", "80", "-h", str(pages))

    def lease(self, *options: str) -> dict[str, str]:
        """What the DHCP server said. Raises ``AssertionError`` where nothing answers."""
        script = self.host.directory / "udhcpc.script"
        if not script.exists():
            script.write_text(SCRIPT)
            script.chmod(0o755)
        words = ["udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "8", "-T", "1", "-s", str(script)]
        said = self.busybox(*words, *options)
        line = next(line for line in said.splitlines() if line.startswith("ip="))
        return dict(word.split("=", 1) for word in line.split())

    def busybox(self, *words: str) -> str:
        return self.execute(str(busybox()), *words, seconds=40)

    def fetch(self, address: str) -> str:
        """A web page by TCP; raises ``AssertionError`` within seconds where it can't be reached."""
        # Not by wget: in Debian's static busybox it dies of its own resolver.
        return self.execute("python3", "-c", FETCH, f"http://{address}/").strip()

    def pings(self, address: str, *options: str) -> bool:
        return self.succeeds("ping", "-c", "2", "-i", "0.2", "-W", "3", *options, address)

    def addresses(self) -> list[str]:
        rows = json.loads(self.execute("ip", "-j", "address", "show", "eth0"))
        return [one["local"] for one in rows[0]["addr_info"] if one["scope"] == "global"]


@contextmanager
def plugged_in(host: Node, bridge: str, *, mac: str = "") -> Iterator[Guest]:
    guest = Guest(host, mac=mac)
    guest.plug(bridge)
    try:
        yield guest
    finally:
        guest.unplug()


def busybox() -> Path:
    return packages.busybox(CACHE / "tiny_guest" / "packages")
