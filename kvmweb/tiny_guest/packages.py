"""Where the guest's programs come from: the system, else a package that is unpacked, not installed.

Installing would put a second kernel into somebody's boot menu, and busybox-static would drive out
the busybox that Ubuntu's own initramfs uses.
"""

import re
import shutil
import subprocess
from pathlib import Path

# The package that depends on the newest small kernel, by the system's name in /etc/os-release.
KERNEL_PACKAGES = {"debian": "linux-image-cloud-amd64", "ubuntu": "linux-image-virtual"}


class BuildError(RuntimeError):
    """The tiny guest can't be built; the text says what is missing."""


def system() -> str:
    """``debian``, ``ubuntu``, ... the system's own word for itself."""
    lines = Path("/etc/os-release").read_text().splitlines()
    return next((line[3:].strip('"') for line in lines if line.startswith("ID=")), "")


def unpacked(package: str, cache: Path) -> Path:
    """The directory with the package's files, downloaded by apt at the first call."""
    directory = cache / package
    if directory.is_dir():
        return directory
    if not shutil.which("apt-get"):
        raise BuildError(
            f"{package} is missing, and only apt can fetch it: build the tiny guest on Debian or"
            " Ubuntu and copy its directory."
        )
    cache.mkdir(parents=True, exist_ok=True)
    work = cache / f"{package}.part"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    _run(["apt-get", "-qq", "download", package], package, directory=work)
    archive = next(work.glob("*.deb"))
    _run(["dpkg-deb", "-x", archive.name, "files"], package, directory=work)
    (work / "files").rename(directory)
    shutil.rmtree(work)
    return directory


def _run(command: list[str], package: str, *, directory: Path) -> None:
    result = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=600
    )
    if result.returncode:
        raise BuildError(
            f"The package {package} could not be fetched. Try `apt-get update`, or install it."
            f" apt says: {result.stderr.strip()}"
        )


def busybox(cache: Path) -> Path:
    """One that needs no libraries."""
    installed = Path("/bin/busybox")
    if installed.exists() and _is_static(installed):
        return installed
    files = unpacked("busybox-static", cache)
    return next(path for path in files.rglob("busybox") if path.is_file() and _is_static(path))


def _is_static(program: Path) -> bool:
    beginning = program.read_bytes()[:4096]
    # A dynamic one names its loader near the beginning.
    return beginning.startswith(b"\x7fELF") and b"/ld-linux" not in beginning


def agent(cache: Path) -> list[Path]:
    """The QEMU guest agent and the libraries it needs, loader included; empty where one lacks."""
    installed = Path("/usr/sbin/qemu-ga")
    try:
        files = None if installed.exists() else unpacked("qemu-guest-agent", cache)
    except BuildError:
        return []
    program = next(files.rglob("qemu-ga")) if files else installed
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    if "not found" in listing:
        return []
    return [program, *(Path(path) for path in sorted(set(re.findall(r"/\S+", listing))))]


def kernel(cache: Path) -> tuple[Path, Path]:
    """The kernel image and the directory of its modules, preferably of one made for machines."""
    installed = _installed_kernels()
    small = [pair for pair in installed if re.search("cloud|kvm|virtual", pair[0].name)]
    if small:
        return small[-1]
    try:
        return _downloaded_kernel(cache)
    except BuildError:
        if installed:
            return installed[-1]
        raise


def _installed_kernels() -> list[tuple[Path, Path]]:
    return [
        (image, modules)
        for modules in sorted(Path("/lib/modules").glob("*/kernel"), key=_version)
        for image in (Path("/boot", f"vmlinuz-{modules.parent.name}"), modules.parent / "vmlinuz")
        if image.exists() and _is_readable(image)
    ]


def _is_readable(path: Path) -> bool:
    # Ubuntu keeps its kernels for root.
    try:
        path.open("rb").close()
    except PermissionError:
        return False
    return True


def _version(modules: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", modules.parent.name)]


def _downloaded_kernel(cache: Path) -> tuple[Path, Path]:
    kept = sorted(cache.glob("linux-image-*/boot/vmlinuz-*"))
    if not kept:
        package = _kernel_package()
        kept = sorted(unpacked(package, cache).glob("boot/vmlinuz-*"))
    image = kept[-1]
    release = image.name.removeprefix("vmlinuz-")
    places = [image.parents[1], cache / f"linux-modules-{release}"]
    if not (places[0] / "lib/modules").is_dir():  # Ubuntu has them in a package of their own
        unpacked(f"linux-modules-{release}", cache)
    modules = next(path for place in places for path in place.rglob("modules/*/kernel"))
    return image, modules


def _kernel_package() -> str:
    try:
        newest = KERNEL_PACKAGES[system()]
    except KeyError:
        raise BuildError(
            "The tiny guest needs a kernel: install one in /boot, with its modules."
        ) from None
    answer = subprocess.run(
        ["apt-cache", "depends", newest], capture_output=True, text=True, check=False
    ).stdout
    match = re.search(r"Depends: (linux-image-\d\S+)", answer)
    if not match:
        raise BuildError(f"apt does not know {newest}. Try `apt-get update`.")
    return match[1]
