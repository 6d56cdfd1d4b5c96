"""The guest as things to boot from: an ISO image for a CD drive, and a disk image."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from kvmweb import tiny_guest
from kvmweb.tiny_guest.packages import BuildError, unpacked

BOOT_MENU = """\
SERIAL 0 115200
DEFAULT tiny
LABEL tiny
  KERNEL /vmlinuz
  INITRD /initrd.gz
  APPEND {command_line}
"""


def iso(directory: Path) -> Path:
    """``tiny.iso`` in ``directory``; boots by BIOS from a CD, and from a disk it is copied to."""
    guest = tiny_guest.build(directory)
    with tiny_guest.locked(directory):
        return _made(directory / "tiny.iso", guest.initrd, lambda part: _make_iso(part, guest))


def disk(directory: Path) -> Path:
    """``tiny.qcow2`` in ``directory``; boots by BIOS."""
    image = iso(directory)
    with tiny_guest.locked(directory):
        return _made(directory / "tiny.qcow2", image, lambda part: _make_disk(part, image))


def _made(path: Path, source: Path, make: Callable[[Path], None]) -> Path:
    """``path``, made anew when ``source`` is younger."""
    if not path.exists() or path.stat().st_mtime < source.stat().st_mtime:
        part = path.with_name(f"{path.name}.part")
        make(part)
        part.chmod(0o644)
        part.rename(path)
    return path


def _make_iso(path: Path, guest: tiny_guest.TinyGuest) -> None:
    cache = path.parent / "packages"
    loader = unpacked("isolinux", cache) / "usr/lib/ISOLINUX"
    library = unpacked("syslinux-common", cache) / "usr/lib/syslinux/modules/bios/ldlinux.c32"
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        root = Path(name)
        for source in (loader / "isolinux.bin", library, guest.kernel, guest.initrd):
            shutil.copy(source, root)
        (root / "isolinux.cfg").write_text(BOOT_MENU.format(command_line=guest.command_line))
        _run(
            *("xorriso", "-as", "mkisofs", "-quiet", "-V", "TINY", "-o", str(path)),
            *("-b", "isolinux.bin", "-c", "boot.cat"),
            *("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"),
            *("-isohybrid-mbr", str(loader / "isohdpfx.bin"), str(root)),
        )


def _make_disk(path: Path, image: Path) -> None:
    # The ISO carries a boot record for disks too, so a disk is the same bytes in another format.
    _run("qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", str(image), str(path))
    _run("qemu-img", "resize", "-q", "-f", "qcow2", str(path), "64M")


def _run(*command: str) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BuildError(f"{command[0]} is missing: install xorriso and qemu-utils.") from None
    if result.returncode:
        raise BuildError(f"{command[0]} failed: {result.stderr.strip()}")
