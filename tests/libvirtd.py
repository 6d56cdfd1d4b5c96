"""A libvirtd of our own, to kill, freeze and fill without touching the machine's.

    with PrivateLibvirtd() as daemon:
        libvirt.open(daemon.uri)

It runs with its virtlogd in its own mount and PID namespaces over a directory that both sides see
under the same path, so disk images in ``daemon.images`` and sockets work from here. The network
namespace is the machine's, or the one that is named. Needs root. Ending process 1 of the namespace
ends all in it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import libvirt

# What the namespace sees of the directory instead of the machine's own.
MOUNTS = {
    "etc": "/etc/libvirt",
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
# Without cgroups: two libvirtd would share one tree, and the names in it would meet.
QEMU_CONF = """
security_driver = "none"
cgroup_controllers = []
vnc_listen = "127.0.0.1"
"""
LIBVIRTD_CONF = """
host_uuid = "{host_uuid}"
unix_sock_group = "root"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""


class PrivateLibvirtd:
    """``directory`` is made and removed by us; ``images`` in it may be read by QEMU.

    ``network``: a network namespace (``ip netns add``) whose links and firewall are to be all that
    it sees and changes.
    """

    def __init__(self, *, network: str = "") -> None:
        self.network = network
        # Sockets live below it, and a socket's path has 107 characters: short, and not pytest's.
        self.directory = Path(tempfile.mkdtemp(prefix="kvmweb-", dir="/var/tmp"))
        self.images = self.directory / "images"
        self.socket = self.directory / "run" / "libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={self.socket}"
        self._shell: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Self:
        try:
            self._lay_out()
            self._open_namespace()
            self.start()
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
        try:
            self._empty()
        finally:
            self.remove()

    def start(self) -> None:
        """Start what does not run of virtlogd and libvirtd; returns when libvirtd answers."""
        for program in ("virtlogd", "libvirtd"):
            if not self._pid(program):
                self._inside(program, "-d", "-p", f"/run/libvirt/{program}.pid")
        wait_until(self._answers, f"libvirtd answers on {self.socket}")

    def stop(self) -> None:
        """End libvirtd as a service manager would; machines go on running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """``kill -9`` for libvirtd; machines go on running."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Connections stay open and nothing answers any more, until ``thaw``."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        """The libvirtd's process, 0 when there is none."""
        return self._pid("libvirtd")

    def processes(self) -> dict[int, str]:
        """Everything that runs in the namespace, with its command's name."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if self._init and (entry / "ns/pid").readlink() == self._namespace:
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
            except OSError:
                continue  # it ended while we looked
        return found

    def _lay_out(self) -> None:
        for name in (*MOUNTS, "images", "lib/images", "lib/qemu", "log/qemu", "etc/qemu"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        # QEMU runs as another user and must come through.
        for path in (self.directory, self.directory / "lib", self.images):
            path.chmod(0o755)
        # What QEMU can do was asked by the machine's libvirtd already; asking takes a second.
        for source, name in (
            ("/var/cache/libvirt", "cache"),
            ("/etc/libvirt/nwfilter", "etc/nwfilter"),
        ):
            if Path(source).is_dir():
                shutil.copytree(source, self.directory / name, dirs_exist_ok=True)
        conf = LIBVIRTD_CONF.format(host_uuid=uuid.uuid4())
        (self.directory / "etc/libvirtd.conf").write_text(conf)
        (self.directory / "etc/qemu.conf").write_text(QEMU_CONF)

    def _open_namespace(self) -> None:
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        if self.network:
            command = ["ip", "netns", "exec", self.network, *command]
        with (self.directory / "init.log").open("wb") as log:
            self._shell = subprocess.Popen(
                [*command, sys.executable, __file__, str(self.directory)],
                # When we end, however we end, it reads that, and ends the namespace.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # A Ctrl+C meant for the tests would otherwise end the namespace before its domains.
                start_new_session=True,
            )
        ready = self.directory / "ready"
        wait_until(
            lambda: ready.exists() or self._failed_to_open(),
            f"{' '.join(command)} made a namespace",
        )
        self._init = next(_children(self._shell.pid))
        self._namespace = Path(f"/proc/{self._init}/ns/pid").readlink()

    def _failed_to_open(self) -> bool:
        assert self._shell
        if self._shell.poll() is not None:
            raise RuntimeError((self.directory / "init.log").read_text())
        return False

    def _inside(self, *command: str) -> None:
        enter = ["nsenter", "-t", str(self._init), "--mount", "--pid", "--net", "--root", "--"]
        subprocess.run(
            [*enter, *command],
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=30,
        )

    def _pid(self, program: str) -> int:
        alive = self.processes()
        return next(
            (pid for pid, name in alive.items() if name == program and not _is_dead(pid)), 0
        )

    def _end(self, signal_number: int) -> None:
        pid = self.pid
        if pid:
            os.kill(pid, signal_number)
            wait_until(lambda: self.pid != pid, "libvirtd ended")

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            libvirt.open(self.uri).close()
        except libvirt.libvirtError:
            return False
        return True

    def _empty(self) -> None:
        """What reaches into the machine's network namespace, libvirt itself has to take away."""
        if self.pid:
            self.thaw()
        self.start()
        connection = libvirt.open(self.uri)
        try:
            wait_until(lambda: _destroy_domains(connection), "every domain is destroyed")
            bridges = _destroy_networks(connection)
        finally:
            connection.close()
        left = [name for name in bridges if Path("/sys/class/net", name).exists()]
        assert not left, f"bridges of a private libvirtd are left over: {left}"

    def remove(self) -> None:
        """End the namespace and everything in it, remove the files, look that nothing is left."""
        processes = self.processes()
        if self._shell:
            self._shell.communicate(timeout=30)
        self._init = 0
        wait_until(lambda: not any(map(_exists, processes)), f"processes ended: {processes}")
        shutil.rmtree(self.directory, ignore_errors=True)
        assert not self.directory.exists()


def _destroy_domains(connection: libvirt.virConnect) -> bool:
    """Whether none is left. One that ends by itself meanwhile makes ``destroy`` fail."""
    domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    for domain in domains:
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()
    return not domains


def _destroy_networks(connection: libvirt.virConnect) -> list[str]:
    """Returns the bridges that libvirt made for them."""
    bridges = []
    for network in connection.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE):
        if "<forward mode='bridge'" not in network.XMLDesc():
            bridges.append(network.bridgeName())
        network.destroy()
    return bridges


def _children(pid: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # Fields after the name, which may hold spaces: state, parent, ...
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            yield int(entry.name)


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and not _is_dead(pid)


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 30) -> None:
    """Return as soon as ``condition`` holds; raise ``TimeoutError`` naming ``what`` otherwise."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


def _be_init(directory: Path) -> None:
    """Process 1 of the namespace: mount, then reap until nobody holds our standard input."""
    targets = {"images": "/var/lib/libvirt/images", **MOUNTS}
    for name, target in reversed(targets.items()):
        Path(target).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", str(directory / name), target], check=True)
    _hide_unusable_kvm(directory)
    # QEMU's user as the package made it; elsewhere libvirtd would do it, but only for its own tree.
    shutil.chown(directory / "lib/qemu", "libvirt-qemu")
    (directory / "ready").touch()
    # Ignoring it, the kernel reaps our adopted children itself.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdin.read()
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    for target in targets.values():
        subprocess.run(["umount", "--lazy", target], check=False)
    shutil.rmtree(directory, ignore_errors=True)


def _hide_unusable_kvm(directory: Path) -> None:
    """Where /dev/kvm is root's alone, libvirt asks QEMU about it with CAP_DAC_OVERRIDE (yes), then
    whether QEMU's user may open it (no), believes neither, and asks anew at every step of every
    start: 10 s in place of 0.3 (virQEMUCapsIsValid in libvirt 9.0). A file there says no to both.
    """
    device = Path("/dev/kvm")
    if device.exists() and not device.stat().st_mode & 0o066:
        nothing = directory / "no-kvm"
        nothing.touch(mode=0o600)
        subprocess.run(["mount", "--bind", str(nothing), str(device)], check=True)
        # It would try to move that mount into a /dev of each machine's own, and fail.
        with (directory / "etc/qemu.conf").open("a") as conf:
            conf.write("namespaces = []\n")


if __name__ == "__main__":
    _be_init(Path(sys.argv[1]))
