"""The kernel modules of the guest, in the order in which they must be loaded."""

import gzip
import lzma
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

# What QEMU offers. A kernel that has one built in, or not at all, has no such file: that is fine.
WANTED = [
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_balloon",
    "virtio_console",
    "virtio_rng",
    "evdev",
    "button",
    "virtio_scsi",
    "sd_mod",
    "sr_mod",
    "isofs",
    "ata_piix",
    "ahci",
    "virtio_input",
    "virtio_mem",
    "virtiofs",
    "e1000",
    "e1000e",
    "8139cp",
    "xhci_pci",
    "usbhid",
    "hid_generic",
    "psmouse",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "9p",
    "9pnet_virtio",
]


def in_order(directory: Path, wanted: Iterable[str] = WANTED) -> Iterator[tuple[str, bytes]]:
    """Names and contents, each after those it depends on."""
    files = {_name(path): path for path in directory.rglob("*.ko*")}
    done: set[str] = set()
    for name in wanted:
        yield from _with_needed(name, files, done)


def _with_needed(name: str, files: dict[str, Path], done: set[str]) -> Iterator[tuple[str, bytes]]:
    if name in done or name not in files:
        return
    done.add(name)
    content = _content(files[name])
    for needed in _depends(content):
        yield from _with_needed(needed, files, done)
    yield name, content


def _name(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _depends(content: bytes) -> list[str]:
    # modules.dep would say it too, but depmod writes that only where the package is installed.
    match = re.search(rb"\0depends=([^\0]*)\0", content)
    return match[1].decode().replace("-", "_").split(",") if match else []


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    match path.suffix:
        case ".xz":
            return lzma.decompress(content)
        case ".gz":
            return gzip.decompress(content)
        case ".zst":
            return subprocess.run(
                ["zstd", "-dc"], input=content, capture_output=True, check=True
            ).stdout
    return content
