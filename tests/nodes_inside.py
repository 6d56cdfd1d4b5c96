"""What runs inside ``tests.nodes.Lab``: process 1 of the lab, and process 1 of each of its hosts.

The lab's has the machine's own network namespace and makes those of the hosts, of the switch
between them, of a controller and of the internet; they have names that only the lab sees.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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
    *("/run/netns", "/run/lock", "/run/libvirt", "/run/openvswitch", "/run/sshd"),
    *("/var/log/libvirt/qemu", "/var/log/openvswitch"),
    *("/etc/openvswitch", "/etc/libvirt/qemu/networks", "/etc/sudoers.d"),
    *(f"/var/lib/libvirt/{name}" for name in ("images", "qemu", "dnsmasq", "boot", "network")),
]
QEMU_CONF = """
security_driver = "none"
cgroup_controllers = []
vnc_listen = "127.0.0.1"
namespaces = []
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


def init_command(directory: Path, name: str) -> list[str]:
    return [sys.executable, "-m", "tests.nodes_inside", str(directory), name]


def _be_lab(directory: Path) -> None:
    Path("/run/netns").mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
    _wire()
    _start([*_in(INTERNET), sys.executable, "-m", "tests.nodes_inside", "web"])
    for name in NUMBERS:
        (directory / name).mkdir()
        _open_door(directory, name)
    hosts = [_start([*_in(name), *UNSHARE, *init_command(directory, name)]) for name in NUMBERS]
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
    # Else its IPv6 address would be tentative for a second or two.
    _run(*_in(namespace), "sysctl", "-qw", f"net.ipv6.conf.{link}.accept_dad=0")
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
                subprocess.Popen(command, stdin=caller.fileno(), stdout=caller.fileno())

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
    _hide_kvm()
    for path in MADE:
        Path(path).mkdir(parents=True, exist_ok=True)
    Path("/var/lib/libvirt").chmod(0o755)
    # QEMU's user as the package made it.
    shutil.chown("/var/lib/libvirt/qemu", "libvirt-qemu")


def _hide_kvm() -> None:
    """Tests are to run alike with and without, and a /dev/kvm that is root's alone costs 10 s at
    every start (tests/libvirtd.py says why).
    """
    if Path("/dev/kvm").exists():
        nothing = Path("/mnt/no-kvm")
        nothing.touch(mode=0o600)
        _run("mount", "--bind", str(nothing), "/dev/kvm")


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


def _run(*command: str) -> None:
    subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60
    )


def _ip(*words: str) -> None:
    _run("ip", *words)


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
