"""The kernel's initramfs format, "newc" cpio (kernel: driver-api/early-userspace/buffer-format)."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Archive:
    """Owner root, no dates: the same content gives the same bytes."""

    entries: dict[str, tuple[int, bytes, tuple[int, int]]] = field(default_factory=dict)

    def add(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        self._put(path, stat.S_IFREG | mode, content)

    def link(self, path: str, target: str) -> None:
        """A symbolic link; one that is there already stays."""
        if path not in self.entries:
            self._put(path, stat.S_IFLNK | 0o777, target.encode())

    def directory(self, path: str) -> None:
        self._put(path, stat.S_IFDIR | 0o755, b"")

    def character_device(self, path: str, *, major: int, minor: int) -> None:
        self._put(path, stat.S_IFCHR | 0o600, b"", device=(major, minor))

    def packed(self) -> bytes:
        return b"".join(self._records())

    def _put(
        self, path: str, mode: int, content: bytes, *, device: tuple[int, int] = (0, 0)
    ) -> None:
        parent = path.rpartition("/")[0]
        if parent and parent not in self.entries:
            self.directory(parent)
        self.entries[path] = (mode, content, device)

    def _records(self) -> Iterator[bytes]:
        for number, (path, (mode, content, device)) in enumerate(self.entries.items(), start=1):
            yield _record(number, path, mode=mode, content=content, device=device)
        yield _record(0, "TRAILER!!!", mode=0, content=b"", device=(0, 0))


def _record(number: int, path: str, *, mode: int, content: bytes, device: tuple[int, int]) -> bytes:
    name = path.encode() + b"\0"
    owner_user, owner_group, links, date = 0, 0, 1, 0
    fields = (number, mode, owner_user, owner_group, links, date, len(content), 0, 0)
    header = b"070701" + b"".join(b"%08x" % value for value in (*fields, *device, len(name), 0))
    return _padded(header + name) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
