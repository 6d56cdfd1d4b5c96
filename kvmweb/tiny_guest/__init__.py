"""A machine of 20 MB that boots in seconds, even without KVM: to try the site and to test it.

Kernel and programs are the system's own packages, what makes them a guest is in ``root/``. It has a
shell on the screen and on the first serial port, takes addresses by DHCP, answers the power button
and the guest agent, and writes ``LAB-GUEST-READY name=... up=SECONDS`` to the serial port.
"""

import fcntl
import gzip
import hashlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvmweb.tiny_guest import modules, packages
from kvmweb.tiny_guest.archive import Archive
from kvmweb.tiny_guest.packages import BuildError

__all__ = ["COMMAND_LINE", "MEMORY_MIB", "BuildError", "TinyGuest", "build"]

HERE = Path(__file__).parent
MEMORY_MIB = 128
# The last console= is where init's own output goes. QEMU's emulated clock makes the kernel measure
# and then distrust the TSC, which costs a second.
COMMAND_LINE = "console=tty0 console=ttyS0,115200 quiet tsc=unstable"


@dataclass(frozen=True)
class TinyGuest:
    """For direct kernel boot: ``<kernel>``, ``<initrd>``, ``<cmdline>``."""

    kernel: Path
    initrd: Path
    command_line: str = COMMAND_LINE


def build(directory: Path, *, say: Callable[[str], object] = str) -> TinyGuest:
    """The guest's files in ``directory``, made when they are missing or from an older recipe.

    Takes some seconds the first time, more when packages must be fetched; two callers at once are
    fine. ``say`` is told what happens. Raises ``BuildError`` with a sentence.
    """
    directory.mkdir(parents=True, exist_ok=True)
    guest = TinyGuest(directory / "vmlinuz", directory / "initrd.gz")
    with locked(directory):
        recipe = directory / "recipe"
        if not (recipe.exists() and recipe.read_text() == _recipe()):
            image, module_files = packages.kernel(directory / "packages")
            say(f"Building the tiny guest with {image.name}")
            initrd = _initrd(directory / "packages", module_files).packed()
            replace(guest.kernel, image.read_bytes())
            replace(guest.initrd, gzip.compress(initrd, mtime=0))
            replace(recipe, _recipe().encode())
    return guest


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One builder at a time; the lock ends with the process that holds it."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def replace(path: Path, content: bytes) -> None:
    """Write it whole or not at all, readable for QEMU's user."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.chmod(0o644)
    part.rename(path)


def _recipe() -> str:
    """Changes whenever anything in this package does."""
    digest = hashlib.sha256()
    for path in sorted(HERE.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(HERE)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _initrd(cache: Path, module_files: Path) -> Archive:
    archive = Archive()
    for name in ("proc", "sys", "dev", "run", "tmp", "mnt", "root", "var/run"):
        archive.directory(name)
    # Without it the kernel starts init with no standard output, and its errors are lost.
    archive.character_device("dev/console", major=5, minor=1)
    for path in sorted(HERE.joinpath("root").rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            mode = 0o755 if content.startswith(b"#!") else 0o644
            archive.add(str(path.relative_to(HERE / "root")), content, mode=mode)
    _add_busybox(archive, packages.busybox(cache))
    _add_agent(archive, packages.agent(cache))
    drivers = dict(modules.in_order(module_files))
    for name, content in drivers.items():
        archive.add(f"lib/mod/{name}.ko", content)
    archive.add("lib/mod/order", "\n".join(drivers).encode())
    return archive


def _add_busybox(archive: Archive, program: Path) -> None:
    archive.add("bin/busybox", program.read_bytes(), mode=0o755)
    listing = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    for applet in listing.stdout.split():
        if f"sbin/{applet}" not in archive.entries:
            archive.link(f"bin/{applet}", "busybox")
    archive.link("sbin/init", "../bin/busybox")


def _add_agent(archive: Archive, files: list[Path]) -> None:
    # Not in /lib: a static busybox that finds another build's libc.so.6 there loads it for name
    # lookups and crashes. sbin/agent starts it with its own loader.
    for path in files:
        archive.add(f"agent/{path.name}", path.read_bytes(), mode=0o755)
