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
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = {"a": 11, "b": 12}
# Its namespaces in the lab; the hosts' have the hosts' names.
SWITCH, CONTROLLER, INTERNET = "switch", "controller", "internet"
SEGMENTS = ("mgmt", "data", "ext")
SUDOER = "sudoer"
OVSDB, SCHEMA = "/run/openvswitch/db.sock", "/usr/share/openvswitch/vswitch.ovsschema"
UNSHARE = [
    *("unshare", "--mount", "--uts", "--ipc", "--pid", "--cgroup"),
    *("--fork", "--kill-child", "--mount-proc"),
]
# Directories a host has from its packages.
MADE = [
    *(
        "/run/netns",
        "/run/lock",
        "/run/libvirt",
        "/run/openvswitch",
        "/run/sshd",
        "/var/log/libvirt/qemu",
    ),
    *("/var/log/openvswitch", "/etc/openvswitch", "/etc/libvirt/qemu/networks", "/etc/sudoers.d"),
    *(f"/var/lib/libvirt/{name}" for name in ("images", "qemu", "dnsmasq", "boot", "network")),
]
QEMU_CONF = """
security_driver = "none"
cgroup_controllers = []
vnc_listen = "127.0.0.1"
"""
LIBVIRTD_CONF = """
host_uuid = "{host_uuid}"
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""
SSHD_CONF = """
ListenAddress {address}:22
HostKey {keys}/host
AuthorizedKeysFile {keys}/id.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
PidFile /run/sshd.pid
MaxStartups 100
"""


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
        wanted = _init_command(self.directory, name)
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
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.keys / name))

    def _open(self) -> None:
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with self._log.open("wb") as log:
            self._shell = subprocess.Popen(
                [*unshare, *_init_command(self.directory, "")],
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


def _init_command(directory: Path, name: str) -> list[str]:
    return [sys.executable, "-m", "tests.nodes", str(directory), name]


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


def _run(*command: str) -> None:
    subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60
    )


def _ip(*words: str) -> None:
    _run("ip", *words)


# What follows runs inside: as process 1 of the lab (no name) or of one of its hosts.


def _be_lab(directory: Path) -> None:
    Path("/run/netns").mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
    _wire()
    _start([*_in(INTERNET), sys.executable, "-m", "tests.nodes", "web"])
    for name in NUMBERS:
        (directory / name).mkdir()
        _open_door(directory, name)
    hosts = [_start([*_in(name), *UNSHARE, *_init_command(directory, name)]) for name in NUMBERS]
    while not all((directory / name / "ready").exists() for name in NUMBERS):
        if any(host.poll() is not None for host in hosts):
            sys.exit(1)  # It said why.
        time.sleep(0.02)
    (directory / "ready").touch()
    _end_with_input()


def _wire() -> None:
    for name in (SWITCH, CONTROLLER, INTERNET, *NUMBERS):
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
    for segment in SEGMENTS:
        _ip("-n", SWITCH, "link", "add", segment, "up", "type", "bridge")
    for number, segment in enumerate(SEGMENTS):
        for name in NUMBERS:
            _plug(name, f"eth{number}", segment)
    _plug(CONTROLLER, "eth0", "mgmt", "10.77.0.1/24")
    _plug(INTERNET, "eth0", "ext", "203.0.113.1/24")
    _ip("-n", INTERNET, "address", "add", "198.51.100.1/32", "dev", "lo")


def _plug(namespace: str, link: str, segment: str, *addresses: str) -> None:
    end = f"{namespace[:8]}-{link}"
    peer = ("peer", "name", link, "netns", namespace)
    _ip("-n", SWITCH, "link", "add", end, "master", segment, "up", "type", "veth", *peer)
    _ip("-n", namespace, "link", "set", link, "up")
    for place, name in ((SWITCH, end), (namespace, link)):
        _run(*_in(place), "ethtool", "-K", name, "tx", "off")
    for address in addresses:
        _ip("-n", namespace, "address", "add", address, "dev", link)


def _in(namespace: str) -> list[str]:
    # Not `ip netns exec`: that mounts another /sys over the one each host is to mount itself.
    return ["nsenter", f"--net=/run/netns/{namespace}", "--"]


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def _open_door(directory: Path, name: str) -> None:
    """From a port here to a host's sshd, by way of the controller's namespace."""
    door = socket.create_server(("127.0.0.1", 0))
    (directory / name / "port").write_text(str(door.getsockname()[1]))
    command = [*_in(CONTROLLER), "socat", "-", f"TCP:10.77.0.{NUMBERS[name]}:22"]

    def serve() -> None:
        while True:
            with door.accept()[0] as caller:
                subprocess.Popen(command, stdin=caller, stdout=caller)

    threading.Thread(target=serve, daemon=True).start()


def _end_with_input() -> None:
    # Ignoring it, the kernel reaps our adopted children itself.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdin.read()
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    shutil.rmtree(sys.argv[1], ignore_errors=True)


def _be_node(directory: Path, name: str) -> None:
    _run("hostname", name)
    _mount(directory / name)
    _configure(directory, name)
    _address(name)
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(start) for start in (_start_open_vswitch, _start_libvirt)]:
            done.result()
    _run("/usr/sbin/sshd", "-f", "/etc/sshd_lab")
    (directory / name / "ready").touch()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        signal.pause()


def _mount(directory: Path) -> None:
    _run("mount", "-t", "sysfs", "sysfs", "/sys")
    _run("mount", "-t", "tmpfs", "tmpfs", "/mnt")
    for path in ("/etc", "/root", "/home", "/var/lib", "/var/cache"):
        _cover(path)
    for name, path in (("run", "/run"), ("log", "/var/log"), ("libvirt", "/var/lib/libvirt")):
        (directory / name).mkdir()
        _run("mount", "--bind", str(directory / name), path)
    for path in MADE:
        Path(path).mkdir(parents=True, exist_ok=True)
    Path("/var/lib/libvirt").chmod(0o755)
    # QEMU's user as the package made it.
    shutil.chown("/var/lib/libvirt/qemu", "libvirt-qemu")


def _cover(path: str) -> None:
    """What is written there from now on is this host's own, and in memory."""
    upper, work = (Path(f"/mnt{path}/{name}") for name in ("upper", "work"))
    for directory in (upper, work):
        directory.mkdir(parents=True)
    upper.chmod(Path(path).stat().st_mode & 0o7777)
    options = f"lowerdir={path},upperdir={upper},workdir={work}"
    _run("mount", "-t", "overlay", "-o", options, "overlay", path)


def _configure(directory: Path, name: str) -> None:
    identity = uuid.uuid4()
    shutil.rmtree("/etc/libvirt/qemu", ignore_errors=True)
    files = {
        "hostname": f"{name}\n",
        "hosts": "127.0.0.1 localhost\n10.77.0.11 a\n10.77.0.12 b\n",
        "machine-id": f"{identity.hex}\n",
        "libvirt/libvirtd.conf": LIBVIRTD_CONF.format(host_uuid=identity),
        "libvirt/qemu.conf": QEMU_CONF,
        "sshd_lab": SSHD_CONF.format(address=f"10.77.0.{NUMBERS[name]}", keys=directory / "keys"),
        f"sudoers.d/{SUDOER}": f"{SUDOER} ALL=(ALL) NOPASSWD: ALL\n",
    }
    for path, text in files.items():
        Path("/etc", path).write_text(text)
    # A password of “*” fits none; without one sshd takes the account for locked.
    _run("useradd", "--create-home", "--password=*", "--groups=libvirt", "--shell=/bin/sh", SUDOER)


def _address(name: str) -> None:
    number = NUMBERS[name]
    for link, network in (("eth0", "10.77.0"), ("eth1", "10.78.0"), ("eth2", "203.0.113")):
        _ip("address", "add", f"{network}.{number}/24", "dev", link)
    _ip("route", "add", "default", "via", "203.0.113.1")
    # A new namespace copies it from the machine's, where a libvirtd may have switched it on.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")


def _start_open_vswitch() -> None:
    Path("/etc/openvswitch/conf.db").unlink(missing_ok=True)
    _run("ovsdb-tool", "create", "/etc/openvswitch/conf.db", SCHEMA)
    daemon = ("--pidfile", "--detach", "--no-chdir", "--log-file", "-vconsole:emer", "-vsyslog:off")
    _run("ovsdb-server", "/etc/openvswitch/conf.db", f"--remote=punix:{OVSDB}", *daemon)
    _run("ovs-vsctl", "--no-wait", "init")
    _run("ovs-vswitchd", f"unix:{OVSDB}", *daemon)


def _start_libvirt() -> None:
    _run("virtlogd", "-d", "-p", "/run/virtlogd.pid")
    _run("libvirtd", "-d", "-p", "/run/libvirtd.pid")
    uri = "qemu+unix:///system?socket=/run/libvirt/libvirt-sock"
    ends = time.monotonic() + 30
    while subprocess.run(["virsh", "-q", "-c", uri, "uri"], capture_output=True).returncode:
        assert time.monotonic() < ends, "libvirtd does not answer"
        time.sleep(0.05)


class Teller(BaseHTTPRequestHandler):
    """Tells who asks, in one line."""

    def do_GET(self) -> None:
        body = f"{self.client_address[0].removeprefix('::ffff:')}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Quietly."""


def _be_web() -> None:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6

    Server(("::", 80), Teller).serve_forever()


def main(*words: str) -> None:
    match words:
        case ("web",):
            _be_web()
        case (directory, ""):
            _be_lab(Path(directory))
        case (directory, name):
            _be_node(Path(directory), name)


if __name__ == "__main__":
    main(*sys.argv[1:])
