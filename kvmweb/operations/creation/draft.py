"""From a wish to every detail of the machine, as far as the mirror knows the host."""

import hashlib
from functools import lru_cache
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings

from kvmweb import tiny_guest
from kvmweb.models import Acceleration, Host, Machine, Network, Pool
from kvmweb.operations.creation.wish import Wish
from kvmweb.spec import capabilities
from kvmweb.spec.creation import Choices, DiskChoice, Source, volume_name

# Pools whose volumes are files, and those whose volumes are block devices: formatstorage.html.
FILE_POOLS = ("dir", "fs", "netfs", "vstorage")
BLOCK_POOLS = ("logical", "disk", "iscsi", "scsi", "mpath", "zfs")
DEFAULT_POOL = "default"
DEFAULT_NETWORK = "default"


def draft(host: Host, wish: Wish, *, uuid: str = "") -> Choices:
    """What ``wish`` makes on this host. Names of volumes are those that are free in the mirror."""
    assert wish.source
    pool = chosen_pool(host, wish.pool)
    kernel, initrd = tiny_paths(host, pool) if wish.source == Source.TINY else ("", "")
    return Choices(
        name=wish.name,
        title=wish.title,
        uuid=uuid,
        source=Source(wish.source),
        capabilities=capabilities_of(host),
        uri=host.uri,
        memory_mib=wish.memory_mib,
        vcpus=wish.vcpus,
        iso=wish.iso if wish.source == Source.ISO else "",
        disk=_disk(host, wish, pool),
        kernel=kernel,
        initrd=initrd,
        kernel_line=tiny_guest.COMMAND_LINE if wish.source == Source.TINY else "",
        network=chosen_network(host, wish.network),
        mac=wish.mac,
        firmware=wish.firmware,
        vnc_listens_on=vnc_listens_on(host),
        start=wish.start,
    )


def capabilities_of(host: Host) -> capabilities.DomainCapabilities:
    """What a new machine on this host may have: with KVM where that serves, else emulated."""
    return capabilities.best(
        host.domain_capabilities,
        driver=host.driver,
        architecture=host.architecture,
        is_kvm_usable=host.acceleration == Acceleration.USABLE,
    )


def vnc_listens_on(host: Host) -> str:
    """A socket where it can be opened: by libvirt itself on this host (virDomainOpenGraphicsFD).

    On another host the way there is an ssh forward, as a user who may not enter QEMU's directory.
    """
    return "127.0.0.1" if urlsplit(host.uri).hostname else "socket"


def chosen_pool(host: Host, name: str) -> Pool | None:
    """The pool of this name; without one ``default``, or the first that holds files, or None."""
    pools = Pool.objects.filter(host=host)
    if name:
        return pools.filter(name=name).first()
    usable = list(pools.filter(type__in=FILE_POOLS).order_by("-is_active", "name"))
    named = [pool for pool in usable if pool.name == DEFAULT_POOL]
    return next(iter(named + usable), None)


def default_pool_path(host: Host) -> str:
    """Where a host without any pool gets its first one, as virt-manager does it."""
    if urlsplit(host.uri).path == "/session":
        return str(Path("~/.local/share/libvirt/images").expanduser())
    return "/var/lib/libvirt/images"


def chosen_network(host: Host, network: str) -> str:
    if network:
        return network
    active = Network.objects.filter(host=host, is_active=True, name=DEFAULT_NETWORK)
    return f"network:{DEFAULT_NETWORK}" if active.exists() else "none"


def proposed_name(host: Host, source: str) -> str:
    """A free one, as virt-manager numbers them."""
    stem = "tiny" if source == Source.TINY else "machine"
    taken = set(Machine.objects.filter(host=host).values_list("name", flat=True))
    return next(name for number in count(1) if (name := f"{stem}{number}") not in taken)


def _disk(host: Host, wish: Wish, pool: Pool | None) -> DiskChoice | None:
    if wish.disk_path:
        return DiskChoice(path=wish.disk_path, is_block=wish.disk_path.startswith("/dev/"))
    if not wish.disk_gib:
        return None
    is_block = pool is not None and pool.type in BLOCK_POOLS
    taken = set(pool.volumes.values_list("name", flat=True)) if pool else set()
    name = volume_name(wish.name, taken=taken, suffix="" if is_block else "qcow2")
    return DiskChoice(
        path=f"{_pool_path(host, pool)}/{name}",
        format="raw" if is_block else "qcow2",
        create_gib=wish.disk_gib,
        is_block=is_block,
    )


def _pool_path(host: Host, pool: Pool | None) -> str:
    return (pool.target_path if pool else default_pool_path(host)).rstrip("/")


def tiny_directory() -> Path:
    """Where this site builds its tiny guest; ``manage.py tiny_guest`` does so too."""
    return Path(settings.STATE_DIR) / "tiny_guest"


def tiny_paths(host: Host, pool: Pool | None) -> tuple[str, str]:
    """Where the tiny guest's kernel and initrd will be on the host."""
    directory, path = tiny_directory(), _pool_path(host, pool)
    return (
        f"{path}/{tiny_volume_name(directory / 'vmlinuz')}",
        f"{path}/{tiny_volume_name(directory / 'initrd.gz')}",
    )


def tiny_volume_name(file: Path) -> str:
    """Named by content: all tiny machines of a pool share it, and a newer build is another."""
    try:
        return f"kvmweb-tiny-{_digest(file, file.stat().st_mtime_ns)[:12]}-{file.name}"
    except FileNotFoundError:
        return f"kvmweb-tiny-not-yet-built-{file.name}"


@lru_cache(maxsize=8)
def _digest(file: Path, changed_ns: int) -> str:
    """``changed_ns`` is only part of what is remembered: a file built anew is read anew."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
