"""The tiny guest as something that boots from a network: PXELINUX and its files, for TFTP."""

import shutil
from pathlib import Path

from kvmweb.tiny_guest import TinyGuest, packages
from kvmweb.tiny_guest.media import BOOT_MENU

# The one that fetches the rest by TFTP.
BOOT_FILE = "lpxelinux.0"


def tftp_root(directory: Path, guest: TinyGuest, *, cache: Path) -> Path:
    """``directory`` with all that a machine without a disk asks for, by BIOS."""
    library = packages.unpacked("syslinux-common", cache) / "usr/lib/syslinux/modules/bios"
    loader = packages.unpacked("pxelinux", cache) / "usr/lib/PXELINUX" / BOOT_FILE
    (directory / "pxelinux.cfg").mkdir(parents=True)
    for source in (loader, library / "ldlinux.c32", guest.kernel, guest.initrd):
        shutil.copy(source, directory)
    menu = BOOT_MENU.format(command_line=guest.command_line)
    (directory / "pxelinux.cfg" / "default").write_text(menu)
    for path in (directory, directory / "pxelinux.cfg"):
        path.chmod(0o755)
    return directory
