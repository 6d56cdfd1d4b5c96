"""A guest with the distribution's whole kernel, in which our helper runs, for what the kernel of a
test machine may lack: 802.1Q links, VLAN-aware bridges, bonds, netem, Open vSwitch's own datapath.

    with FullKernel() as guest:
        client = Client(guest.helper)
        guest.execute("bridge", "vlan")

Python, the packages of ``.venv`` and Open vSwitch are this machine's own. Kernel and programs are
built once into ``var/tests/full_kernel`` (20 s), our code is added at every start. It is ready in
about 6 s without KVM, and ends with whoever started it.
"""

import contextlib
import hashlib
import importlib.util
import json
import marshal
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from kvmweb.tiny_guest import locked, modules, packages, replace
from kvmweb.tiny_guest.archive import Archive
from tests.site import free_port
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "var" / "tests"
MEMORY_MIB = 700
COMMAND_LINE = "console=ttyS0 quiet tsc=unstable"
WANTED = [
    # The second is found by its algorithm's name, for which there is no modprobe.
    *("crc32c_generic", "virtio_pci", "virtio_net", "8021q", "bridge", "br_netfilter", "dummy"),
    *("veth", "tun", "ifb", "macvlan", "macvtap", "vxlan", "ip_gre", "geneve", "vrf", "wireguard"),
    *(
        "sch_htb",
        "sch_hfsc",
        "sch_sfq",
        "sch_fq_codel",
        "sch_netem",
        "sch_ingress",
        "sch_tbf",
        "sch_prio",
    ),
    *("cls_u32", "cls_basic", "cls_matchall", "cls_flower", "act_police", "act_mirred"),
    *("openvswitch", "vport_gre", "vport_vxlan", "vport_geneve", "nf_tables", "nft_masq"),
    *("nft_chain_nat", "nft_ct", "nft_reject_inet", "nf_conntrack", "bonding"),
]
PROGRAMS = [
    *("ip", "bridge", "tc", "nft", "ethtool", "ping", "cat", "cmp", "find", "ps", "socat"),
    *(
        "dnsmasq",
        "ovs-vsctl",
        "ovs-appctl",
        "ovs-ofctl",
        "ovs-dpctl",
        "ovs-vswitchd",
        "ovsdb-server",
        "ovsdb-tool",
    ),
    "ovsdb-client",
]
# Of Python's own library, what no helper needs.
LEFT_OUT = {
    *("test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "turtledemo", "pydoc_data"),
    *("site-packages", "dist-packages", "__pycache__"),
}
HELPER_PORT, WITNESS_PORT = 7000, 7001
INIT = f"""\
#!/bin/busybox sh
export PATH=/usr/bin:/bin LD_LIBRARY_PATH=/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu
export PYTHONDONTWRITEBYTECODE=1 HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
hostname full
mkdir -p /run/netns /run/openvswitch
for name in $(cat /lib/mod/order); do
  case $name in
    bonding) set -- max_bonds=0 ;;
    dummy) set -- numdummies=0 ;;
    ifb) set -- numifbs=0 ;;
    *) set -- ;;
  esac
  insmod /lib/mod/$name.ko $@ 2>/dev/null
done
/usr/bin/ip link set lo up
/usr/bin/ip address add 10.0.2.15/24 dev eth0
/usr/bin/ip link set eth0 up
/usr/bin/ip route add default via 10.0.2.2
DB=/etc/openvswitch/conf.db
ovsdb-tool create $DB /usr/share/openvswitch/vswitch.ovsschema
ovsdb-server $DB --remote=punix:/run/openvswitch/db.sock --pidfile --detach --log-file -vconsole:off
ovs-vsctl --no-wait init
ovs-vswitchd unix:/run/openvswitch/db.sock --pidfile --detach --log-file -vconsole:off
socat TCP-LISTEN:{WITNESS_PORT},fork,reuseaddr EXEC:/bin/witness,nofork &
socat TCP-LISTEN:{HELPER_PORT},fork,reuseaddr EXEC:/bin/helper,nofork 2>>/run/helper.log &
echo "FULL-KERNEL-READY $(uname -r) up=$(cut -d' ' -f1 /proc/uptime)"
while :; do sleep 1000; done
"""
# busybox's shell prefers its own programs, so these are called by their path.
WITNESS = """\
#!/bin/busybox sh
command=$(cat)
eval "/usr/bin/$command" 2>&1 </dev/null
printf '\\0%s' $?
"""
HELPER = """\
#!/bin/busybox sh
exec /usr/bin/python3 -I /ours/kvmweb/net
"""


class FullKernel:
    """``helper``: the words that speak to a new helper in the guest, on standard input and output.
    ``kernel`` is its release, ``boot_seconds`` what it says itself.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kvmweb-full-", dir="/var/tmp"))
        self._ports = {port: free_port() for port in (HELPER_PORT, WITNESS_PORT)}
        self._qemu: subprocess.Popen[bytes] | None = None
        self.kernel, self.boot_seconds = "", 0.0
        self.helper = ["socat", "-", f"TCP:127.0.0.1:{self._ports[HELPER_PORT]}"]

    def __enter__(self) -> Self:
        try:
            kernel, initrd = build(CACHE / "full_kernel")
            ours = self.directory / "initrd"
            ours.write_bytes(initrd.read_bytes() + _ours().packed())
            self._start(kernel, ours)
            until(self._is_ready, seconds=90, what="the guest with the full kernel to be up")
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
        if self._qemu:
            self._qemu.kill()
            self._qemu.wait(10)
        shutil.rmtree(self.directory)

    @property
    def log(self) -> str:
        """What came out of its serial port."""
        return (self.directory / "serial").read_text(errors="replace")

    def execute(self, *command: str) -> str:
        """What it printed. Raises ``AssertionError`` with that when it fails."""
        text, code = self._run(command)
        assert code == 0, f"{' '.join(command)}: {text}"
        return text

    def said(self, command: Sequence[str]) -> str:
        """What it printed, however it ended: for ``tests.dumps``."""
        text, code = self._run(command)
        return text if code == 0 else ""

    @contextlib.contextmanager
    def running(self, *command: str) -> Iterator[None]:
        """Meanwhile; it has to end by itself."""
        with ThreadPoolExecutor() as pool:
            ended = pool.submit(self.execute, *command)
            yield
            ended.result()

    def _run(self, command: Sequence[str]) -> tuple[str, int]:
        with socket.create_connection(("127.0.0.1", self._ports[WITNESS_PORT]), 30) as wire:
            wire.sendall(shlex.join(command).encode())
            wire.shutdown(socket.SHUT_WR)
            text, _, code = b"".join(iter(lambda: wire.recv(65536), b"")).rpartition(b"\0")
        return text.decode(), int(code)

    def _start(self, kernel: Path, initrd: Path) -> None:
        doors = ",".join(
            f"hostfwd=tcp:127.0.0.1:{outer}-:{inner}" for inner, outer in self._ports.items()
        )
        command = [
            *("qemu-system-x86_64", "-accel", "tcg", "-m", str(MEMORY_MIB), "-nodefaults"),
            *("-kernel", str(kernel), "-initrd", str(initrd), "-append", COMMAND_LINE),
            *("-display", "none", "-no-reboot", "-serial", f"file:{self.directory / 'serial'}"),
            *("-netdev", f"user,id=net,{doors}", "-device", "virtio-net-pci,netdev=net"),
        ]
        # Should we be killed, it is too.
        words = ["setpriv", "--pdeathsig", "KILL", *command]
        (self.directory / "serial").touch()
        with (self.directory / "qemu.log").open("wb") as log:
            self._qemu = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _is_ready(self) -> bool:
        assert self._qemu
        if self._qemu.poll() is not None:
            raise RuntimeError((self.directory / "qemu.log").read_text() + self.log)
        told = re.search(r"FULL-KERNEL-READY (\S+) up=([\d.]+)", self.log)
        if not told:
            return False
        self.kernel, self.boot_seconds = told[1], float(told[2])
        try:
            self.execute("cat", "/dev/null")
        except OSError:  # socat is not so far yet
            return False
        return True


def build(directory: Path) -> tuple[Path, Path]:
    """Kernel and initramfs, made when they are missing or from something else than now."""
    directory.mkdir(parents=True, exist_ok=True)
    kernel, initrd, recipe = (directory / name for name in ("vmlinuz", "initrd", "recipe"))
    with locked(directory):
        wanted = _recipe()
        if not (recipe.exists() and recipe.read_text() == wanted):
            image, module_files = _full_kernel(directory / "packages")
            archive = _system(module_files)
            replace(kernel, image.read_bytes())
            # Unpacking it would take the guest longer than reading it.
            replace(initrd, archive.packed())
            replace(recipe, wanted.encode())
    return kernel, initrd


def _recipe() -> str:
    """Changes when this file does, or Python, or Open vSwitch."""
    switch = Path(_path("ovs-vswitchd")).stat()
    made_of = (sys.version, switch.st_mtime_ns, Path(__file__).read_text())
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _full_kernel(cache: Path) -> tuple[Path, Path]:
    """The kernel's image and a directory with its modules, from packages that are not installed."""
    newest = {"debian": "linux-image-amd64", "ubuntu": "linux-image-generic"}[packages.system()]
    needed = subprocess.run(
        ["apt-cache", "depends", newest], capture_output=True, text=True, check=True
    ).stdout
    names = re.findall(r"Depends: (linux-(?:image|modules)-\S*\d\S+)", needed)
    for name in names:
        packages.unpacked(name, cache)
    if packages.system() == "ubuntu":
        release = names[0].removeprefix("linux-image-")
        packages.unpacked(f"linux-modules-{release}", cache)
    image = next(cache.glob("linux-image-*/boot/vmlinuz-*"))
    return image, cache


def _system(module_files: Path) -> Archive:
    archive = Archive()
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "var/lib", "etc/openvswitch"):
        archive.directory(name)
    archive.directory("var/log/openvswitch")
    archive.link("var/run", "../run")
    # Without it the kernel starts init with no standard output.
    archive.character_device("dev/console", major=5, minor=1)
    archive.add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    archive.add("etc/group", b"root:x:0:\n")
    for path, text in {"init": INIT, "bin/witness": WITNESS, "bin/helper": HELPER}.items():
        archive.add(path, text.encode(), mode=0o755)
    schema = Path("/usr/share/openvswitch/vswitch.ovsschema")
    archive.add(str(schema).lstrip("/"), schema.read_bytes())
    drivers = dict(modules.in_order(module_files, WANTED))
    for name, content in drivers.items():
        archive.add(f"lib/mod/{name}.ko", content)
    archive.add("lib/mod/order", "\n".join(drivers).encode())
    _add_busybox(archive)
    _add_programs(archive)
    return archive


def _add_busybox(archive: Archive) -> None:
    program = packages.busybox(CACHE / "tiny_guest" / "packages")
    archive.add("bin/busybox", program.read_bytes(), mode=0o755)
    listing = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    for applet in listing.stdout.split():
        archive.link(f"bin/{applet}", "busybox")


def _add_programs(archive: Archive) -> None:
    programs = {name: Path(_path(name)).resolve() for name in PROGRAMS}
    programs["python3"] = Path(sys.executable).resolve()
    for name, path in programs.items():
        archive.add(f"usr/bin/{name}", path.read_bytes(), mode=0o755)
    library = Path(sysconfig.get_path("stdlib"))
    place = f"usr/lib/{library.name}"
    _add_python(archive, library, place)
    extensions = list((library / "lib-dynload").glob("*.so"))
    for path in extensions:
        archive.add(f"{place}/lib-dynload/{path.name}", path.read_bytes(), mode=0o755)
    for path in _libraries([*programs.values(), *extensions]):
        archive.add(str(path).lstrip("/"), path.read_bytes(), mode=0o755)


def _ours() -> Archive:
    """What the helper is of kvmweb."""
    archive = Archive()
    archive.add("ours/kvmweb/__init__.py", (ROOT / "kvmweb/__init__.py").read_bytes())
    _add_python(archive, ROOT / "kvmweb/net", "ours/kvmweb/net")
    return archive


def _add_python(archive: Archive, source: Path, place: str) -> None:
    for folder, names, files in os.walk(source):
        names[:] = sorted(set(names) - LEFT_OUT)
        inner = Path(place, Path(folder).relative_to(source))
        for path in (Path(folder, name) for name in sorted(files) if name.endswith(".py")):
            archive.add(str(inner / path.name), path.read_bytes())
            compiled = Path(importlib.util.cache_from_source(str(path)))
            archive.add(str(inner / "__pycache__" / compiled.name), _compiled(path, compiled))


def _compiled(source: Path, compiled: Path) -> bytes:
    """Bytecode that is taken without looking at its source's date: here all files lose theirs.

    Flags 1: named by a hash, which is not to be checked (PEP 552).
    """
    content = compiled.read_bytes() if compiled.exists() else b""
    if int.from_bytes(content[8:12], "little") == int(source.stat().st_mtime):
        code = content[16:]
    else:
        code = marshal.dumps(compile(source.read_bytes(), source.name, "exec", dont_inherit=True))
    return importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + bytes(8) + code


def _libraries(programs: Iterable[Path]) -> Iterator[Path]:
    listing = subprocess.run(
        ["ldd", *map(str, programs)], capture_output=True, text=True, check=False
    ).stdout
    # Two columns, of which the loader has only one: name => path (address).
    yield from map(Path, sorted(set(re.findall(r"^\s+(?:\S+ => )?(/\S+) \(", listing, re.M))))


def _path(program: str) -> str:
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"{program} is missing"
    return found
