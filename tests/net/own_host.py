"""A host of our own for the helper: a network namespace that sees no other one by name.

    with OwnHost() as host, host.client() as helper:
        host.execute("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "far1")
        helper.call("read")

Its only way out is eth0, a veth to ``outside``, a namespace with the gateway 192.0.2.1 and
2001:db8::1. Names of namespaces (/run/netns) and what the helper keeps are its own. Needs root.
"""

import contextlib
import json
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from kvmweb.net import launch
from kvmweb.net.client import Client
from tests import dumps
from tests.waiting import until

# Lives until its standard input ends, and says when the namespaces are there.
_HOLD = """
mkdir -p /run/netns /var/lib/kvmweb
mount -t tmpfs tmpfs /run/netns && mount -t tmpfs tmpfs /var/lib/kvmweb &&
mount -t sysfs sysfs /sys && echo ready && exec cat
"""
ADDRESS, ADDRESS6 = "192.0.2.10", "2001:db8::10"
GATEWAY, GATEWAY6 = "192.0.2.1", "2001:db8::1"


class OwnHost:
    """``prefix``: the words that enter it; ``outside``: those that enter the place behind eth0."""

    def __init__(self, *, doubts: bool = False) -> None:
        """``doubts``: whether IPv6 addresses are probed for duplicates, which takes 2 s."""
        self._doubts = doubts
        self._holders: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self.prefix, self.outside = self._hold(), self._hold()
            self.state = Path(f"/proc/{self._holders[0].pid}/root/var/lib/kvmweb/net")
            self._plug_in()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for holder in self._holders:
            holder.kill()
            holder.wait(10)

    def _hold(self) -> list[str]:
        holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._holders.append(holder)
        assert holder.stdout
        assert holder.stdout.readline() == b"ready\n"
        return ["nsenter", "-t", str(holder.pid), "-m", "-n"]

    def _plug_in(self) -> None:
        far = str(self._holders[1].pid)
        self.execute("ip", "link", "set", "lo", "up")
        if not self._doubts:
            for which in ("all", "default"):
                self.execute("sysctl", "-qw", f"net.ipv6.conf.{which}.accept_dad=0")
        self.execute("ip", "link", "add", "eth0", "type", "veth", "peer", "up0", "netns", far)
        self.execute("ip", "link", "set", "eth0", "up")
        self._outside("ip", "link", "set", "up0", "up")
        self._outside("ip", "address", "add", f"{GATEWAY}/24", "dev", "up0")
        self._outside("ip", "address", "add", f"{GATEWAY6}/64", "dev", "up0", "nodad")
        self.execute("ip", "address", "add", f"{ADDRESS}/24", "brd", "+", "dev", "eth0")
        self.execute("ip", "address", "add", "192.0.2.11/24", "dev", "eth0")
        self.execute("ip", "address", "add", f"{ADDRESS6}/64", "dev", "eth0")
        self.execute("ip", "route", "add", "default", "via", GATEWAY)
        self.execute("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.2", "metric", "50")
        self.execute("ip", "-6", "route", "add", "default", "via", GATEWAY6)
        until(lambda: "tentative" not in self.execute("ip", "address"), what="IPv6 to be usable")

    def execute(self, *command: str) -> str:
        return _run([*self.prefix, *command])

    def _outside(self, *command: str) -> str:
        return _run([*self.outside, *command])

    def is_reachable(self) -> bool:
        """From the only place it can be reached from, by IPv4 and IPv6."""
        return all(
            subprocess.run(
                [*self.outside, "ping", "-n", "-c1", "-W1", address],
                capture_output=True,
                check=False,
            ).returncode
            == 0
            for address in (ADDRESS, ADDRESS6)
        )

    def client(self, on_event: Callable[[str], None] | None = None) -> Client:
        return Client(launch.here(self.prefix), on_event=on_event)

    @contextlib.contextmanager
    def by_ssh(self) -> Iterator[str]:
        """The URI of this host for somebody outside, who signs in as root over eth0."""
        with tempfile.TemporaryDirectory(prefix="kvmweb-ssh-", dir="/var/tmp") as place:
            keys = Path(place)
            for name in ("host", "id"):
                _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)])
            (keys / "sshd_config").write_text(_SSHD.format(keys=keys))
            ssh = keys / "ssh"
            ssh.write_text(f'#!/bin/sh\nexec {shlex.join(self.outside)} ssh "$@"\n')
            ssh.chmod(0o700)
            words = [*self.prefix, "/usr/sbin/sshd", "-D", "-f", str(keys / "sshd_config")]
            with subprocess.Popen(words) as sshd:
                query = urlencode({"keyfile": keys / "id", "no_verify": 1, "command": ssh})
                try:
                    until(lambda: ":22 " in self.execute("ss", "-Hltn"), what="sshd to listen")
                    yield f"qemu+ssh://root@{ADDRESS}/system?{query}"
                finally:
                    sshd.kill()

    def rows(self, *command: str) -> list[dict[str, Any]]:
        """What a command tells as JSON."""
        return list(json.loads(self.execute(*command) or "[]"))

    def links(self) -> dict[str, dict[str, Any]]:
        """As ``ip -d link`` tells them, by name."""
        return {row["ifname"]: row for row in self.rows("ip", "-j", "-d", "link")}

    def count(self) -> int:
        """Of links, at once."""
        return len(Path(f"/proc/{self._holders[0].pid}/net/dev").read_text().splitlines()) - 2

    def addresses(self, name: str) -> list[str]:
        """All but those a link gives itself."""
        rows = self.rows("ip", "-j", "address", "show", "dev", name)[0]["addr_info"]
        return [f"{row['local']}/{row['prefixlen']}" for row in rows if row["scope"] == "global"]

    def dump(self) -> dumps.Dump:
        def run(command: Sequence[str]) -> str:
            return dumps.here([*self.prefix, *command])

        dump = {**dumps.whole(run), "files": self._files()}
        # Of the whole machine: other tests have theirs.
        return {title: text for title, text in dump.items() if title not in _OTHERS}

    def _files(self) -> str:
        files = self.state.iterdir() if self.state.exists() else ()
        return "\n".join(sorted(file.name for file in files))

    def assert_as(self, before: dumps.Dump) -> None:
        """Nothing was left behind, nothing is missing."""
        left: list[str] = []

        def is_equal() -> bool:
            left[:] = [dumps.difference(before, self.dump())]
            return not left[0]

        with contextlib.suppress(AssertionError):
            until(is_equal, seconds=5)
        assert not left[0], f"the host is not as it was:\n{left[0]}"


_SSHD = """
HostKey {keys}/host
AuthorizedKeysFile {keys}/id.pub
StrictModes no
PidFile none
PermitRootLogin prohibit-password
LogLevel ERROR
"""
_OTHERS = ("Open vSwitch", "programs")


def _run(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stdout}{ended.stderr}"
    return ended.stdout
