"""Two hosts on one machine, with a network between them and an internet behind it.

    with Lab() as lab:
        lab.a.execute("ip", "link")
        libvirt.open(lab.a.uri)
        httpx.get(...)  # a site whose host is ``lab.a.ssh_uri``

Each host has its own network, mount, UTS, IPC, PID and cgroup namespaces, libvirtd, virtlogd, Open
vSwitch (userspace datapath) and sshd; /etc, /var and /root are its own to change.

    eth0  management  10.77.0.11 and .12, the controller .1; sshd, also at 127.0.0.1:ssh_port here
    eth1  data        10.78.0.11 and .12; for tunnels
    eth2  external    203.0.113.11 and .12, default route to .1, the internet, which is also
                      198.51.100.1; at port 80 of each address it tells the caller's address

The NICs are veths that finish checksums, as a cable between two machines would see them. Nothing of
it can be seen in the machine's own namespace but loopback's two ports. Needs root. Everything ends
with whoever started it: process 1 of the lab reads from a pipe until that closes, and ends; with a
PID namespace the kernel ends all that is in it.
"""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from tests.nodes_inside import CONTROLLER, INTERNET, NUMBERS, SUDOER, SWITCH, init_command
from tests.waiting import until

__all__ = ["SUDOER", "Lab", "Node", "Place"]

ROOT = Path(__file__).resolve().parent.parent


class Place:
    """Somewhere to run commands: ``enter`` are the words in front of one."""

    def __init__(self, enter: Sequence[str]) -> None:
        self.enter = list(enter)

    def execute(self, *command: str, seconds: float = 30, stdin: str = "") -> str:
        """What it printed. Raises ``AssertionError`` with what it said when it fails."""
        ended = self._run(command, seconds, stdin)
        assert ended.returncode == 0, f"{' '.join(command)}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def succeeds(self, *command: str, seconds: float = 30) -> bool:
        return self._run(command, seconds, "").returncode == 0

    def said(self, command: Sequence[str]) -> str:
        """What it printed, however it ended: for ``tests.dumps``."""
        return self._run(command, 30, "").stdout

    def _run(
        self, command: Sequence[str], seconds: float, stdin: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.enter, *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


class Node(Place):
    """A host. ``pid`` is its process 1, as seen from here; ``directory`` has its files."""

    def __init__(self, lab: "Lab", name: str) -> None:
        self.lab, self.name = lab, name
        self.number = NUMBERS[name]
        self.directory = lab.directory / name
        self.pid = lab.process(name)
        super().__init__(_enter(self.pid, "mount", "uts", "ipc", "net", "pid", "cgroup"))
        self.socket = self.directory / "run/libvirt/libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={self.socket}"

    @property
    def ssh_port(self) -> int:
        """On 127.0.0.1 here; what comes in goes over the management network to its port 22."""
        return self.lab.ports[self.name]

    @property
    def ssh_uri(self) -> str:
        """As root."""
        return self.uri_of("root")

    def uri_of(self, user: str) -> str:
        """By ssh. ``SUDOER`` is somebody else, who may use sudo and libvirt."""
        how = {
            "keyfile": self.lab.keys / "id",
            "known_hosts": self.lab.keys / "known_hosts",
            # libvirt's own ssh has no parameter for that file.
            "command": self.lab.keys / "ssh",
        }
        return f"qemu+ssh://{user}@127.0.0.1:{self.ssh_port}/system?{urlencode(how, safe='/')}"


class Lab:
    """``directory`` is the lab's own; ``images`` in it may be read by QEMU, on both hosts."""

    a: Node
    b: Node

    def __init__(self) -> None:
        # Sockets live below it, and a socket's path has 107 characters: short, and not pytest's.
        self.directory = Path(tempfile.mkdtemp(prefix="kvmweb-lab-", dir="/var/tmp"))
        self.images = self.directory / "images"
        self.keys = self.directory / "keys"
        self.ports: dict[str, int] = {}
        self._shell: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._lay_out()
            self._open()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.remove()

    def process(self, name: str) -> int:
        """Process 1 of a host, or of the lab (""): what runs this file with these arguments."""
        wanted = init_command(self.directory, name)
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_text().split("\0")[:-1]
                if words == wanted and _is_first(entry):
                    return int(entry.name)
        raise ProcessLookupError(f"{' '.join(wanted)} does not run")

    def processes(self) -> list[int]:
        """Everything that runs in the lab."""
        try:
            roots = [self.process("")]
        except ProcessLookupError:
            return []
        parents = dict(_parents())
        for pid in roots:
            roots += [child for child, parent in parents.items() if parent == pid]
        return roots

    def _lay_out(self) -> None:
        for path in (self.directory, self.images, self.keys):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        for name in ("id", "host"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.keys / name)]
            subprocess.run(words, check=True, timeout=30)

    def _open(self) -> None:
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with self._log.open("wb") as log:
            self._shell = subprocess.Popen(
                [*unshare, *init_command(self.directory, "")],
                # When we end, however we end, it reads that, and ends the lab.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                # A Ctrl+C meant for the tests would otherwise end the lab before its machines.
                start_new_session=True,
            )
        until(self._is_open, seconds=60, what="the lab to be up")
        self.ports = {name: int((self.directory / name / "port").read_text()) for name in NUMBERS}
        self._write_known_hosts()
        self.a, self.b = Node(self, "a"), Node(self, "b")
        enter = _enter(self.process(""), "mount", "pid")
        self.internet = Place([*enter, "ip", "netns", "exec", INTERNET])
        self.controller = Place([*enter, "ip", "netns", "exec", CONTROLLER])
        self.switch = Place([*enter, "ip", "netns", "exec", SWITCH])

    def _write_known_hosts(self) -> None:
        key = " ".join((self.keys / "host.pub").read_text().split()[:2])
        lines = [f"[127.0.0.1]:{port} {key}\n" for port in self.ports.values()]
        known_hosts, command = self.keys / "known_hosts", self.keys / "ssh"
        known_hosts.write_text("".join(lines))
        command.write_text(f'#!/bin/sh\nexec ssh -o UserKnownHostsFile={known_hosts} "$@"\n')
        command.chmod(0o755)

    @property
    def _log(self) -> Path:
        return self.directory / "init.log"

    def _is_open(self) -> bool:
        assert self._shell
        if self._shell.poll() is not None:
            raise RuntimeError(self._log.read_text())
        return (self.directory / "ready").exists()

    def remove(self) -> None:
        """End everything in it, remove the files, look that nothing is left."""
        processes = self.processes()
        if self._shell:
            self._shell.communicate(timeout=30)
        until(lambda: not any(map(_is_alive, processes)), what="the lab's processes to end")
        shutil.rmtree(self.directory, ignore_errors=True)
        assert not self.directory.exists()


def _enter(pid: int, *namespaces: str) -> list[str]:
    return ["nsenter", "-t", str(pid), *(f"--{name}" for name in namespaces), "--"]


def _is_first(entry: Path) -> bool:
    """Whether it is process 1 of its PID namespace."""
    status = (entry / "status").read_text()
    return next(line for line in status.splitlines() if line.startswith("NSpid")).endswith("\t1")


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # Fields after the name, which may hold spaces: state, parent, ...
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            yield int(entry.name), int(fields[1])


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
