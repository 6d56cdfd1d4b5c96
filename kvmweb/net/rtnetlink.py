"""rtnetlink(7) in batches: many changes in one message to the kernel, one dump per kind of thing.

Why not pyroute2: docs/decisions/0007-rtnetlink.md. Numbers are of the kernel's
include/uapi/linux/{netlink,rtnetlink,if_link}.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from kvmweb.net import namespaces
from kvmweb.net.errors import StepError

NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
GETNEIGH = 30
NEWQDISC = 36
GETNSID = 90

_REQUEST, _MULTI, _ACK, _INTERRUPTED = 0x1, 0x2, 0x4, 0x10
_DUMP = 0x300
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
_ERROR, _DONE = 2, 3
_NESTED = 0x8000
_ACK_TLVS = 0x200
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_GROUP = 27  # IFLA_GROUP
_SIOCGIFINDEX = 0x8933
# Acks of one message must fit into the receive buffer; 64 of them are 80 KiB at most.
_AT_ONCE = 64
_HEADER = struct.Struct("=IHHII")
_attribute_head = struct.Struct("=HH").unpack_from
_MISSING = {errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENXIO}


def attribute(number: int, value: bytes) -> bytes:
    length = len(value) + 4
    return struct.pack("=HH", length, number) + value + b"\0" * (-length % 4)


def nested(number: int, *parts: bytes) -> bytes:
    return attribute(number | _NESTED, b"".join(parts))


def text(number: int, value: str) -> bytes:
    return attribute(number, value.encode() + b"\0")


def u32(number: int, value: int) -> bytes:
    return attribute(number, struct.pack("=I", value))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    found, end = {}, len(data)
    while offset + 4 <= end:
        length, number = _attribute_head(data, offset)
        if length < 4:
            break
        found[number & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def each_attribute(data: bytes, offset: int = 0) -> list[tuple[int, bytes]]:
    """Where one number comes several times (lists)."""
    found, end = [], len(data)
    while offset + 4 <= end:
        length, number = _attribute_head(data, offset)
        if length < 4:
            break
        found.append((number & 0x3FFF, data[offset + 4 : offset + length]))
        offset += (length + 3) & ~3
    return found


def link_header(*, family: int = 0, index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """struct ifinfomsg"""
    return struct.pack("=BxHiII", family, 0, index, flags, change)


@dataclass(frozen=True)
class Message:
    """A change: ``number`` is its step's. ``may_miss``: it is no failure that what it is about, or
    would remove, is not there; ``may_exist``: nor that what it adds is there already. ``follows``:
    not to be sent if another message of its step failed. ``removes``: the link's number.
    """

    kind: int
    flags: int
    body: bytes
    number: int = 0
    may_miss: bool = False
    may_exist: bool = False
    follows: bool = False
    removes: int = 0

    def forgives(self, code: int) -> bool:
        return (self.may_miss and code in _MISSING) or (self.may_exist and code == errno.EEXIST)


@dataclass(frozen=True)
class Failure:
    message: Message
    code: int  # errno
    words: str  # the kernel's, where it has any

    @property
    def sentence(self) -> str:
        return self.words or os.strerror(self.code)


class Rtnetlink:
    """A socket in a namespace. For one thread at a time."""

    def __init__(self, namespace: str = "") -> None:
        with namespaces.entered(namespace):
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
            # For ioctl(2), which asks a socket's own namespace.
            self.plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((0, 0))
        self._socket.settimeout(10)
        self._sequence = 0
        # Names of links that queued messages make or remove (changes.py).
        self.pending: set[str] = set()

    def close(self) -> None:
        self._socket.close()
        self.plain.close()

    def index(self, name: str) -> int:
        """The interface's number, 0 if there is none of this name."""
        request = struct.pack("16si20x", name.encode(), 0)
        try:
            reply = fcntl.ioctl(self.plain, _SIOCGIFINDEX, request)
        except OSError:
            return 0
        number: int = struct.unpack_from("16si", reply)[1]
        return number

    def change(self, messages: Iterable[Message]) -> list[Failure]:
        """Do all of them in this order; those the kernel refused."""
        failures: list[Failure] = []
        for is_removal, several in groupby(messages, key=lambda one: bool(one.removes)):
            some = list(several)
            if is_removal and len(some) > 1 and self._remove(some):
                continue
            failures += self._change_all(some)
        return failures

    def _remove(self, messages: list[Message]) -> bool:
        """All at once, as ``ip link delete group`` does: the kernel takes 0.02 s for each alone,
        and no longer for many. False if it could not.
        """
        group = u32(_GROUP, random.getrandbits(31) | 1)
        self._change_all(
            [
                Message(NEWLINK, 0, link_header(index=one.removes) + group, may_miss=True)
                for one in messages
            ]
        )
        return not self._change([Message(DELLINK, 0, link_header() + group, may_miss=True)])

    def _change_all(self, waiting: list[Message]) -> list[Failure]:
        failures: list[Failure] = []
        while waiting:
            now, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
            failures += self._change([one for one in now if not one.follows])
            failed = {failure.message.number for failure in failures}
            failures += self._change(
                [one for one in now if one.follows and one.number not in failed]
            )
        return failures

    def _change(self, messages: list[Message]) -> list[Failure]:
        if not messages:
            return []
        first = self._sequence + 1
        self._sequence += len(messages)
        self._socket.send(
            b"".join(
                _frame(one.kind, one.flags | _REQUEST | _ACK, sequence, one.body)
                for sequence, one in enumerate(messages, first)
            )
        )
        failures, open_ = [], len(messages)
        while open_:
            for kind, flags, sequence, payload in self._receive():
                if kind == _ERROR and sequence >= first:
                    open_ -= 1
                    code, words = _error(flags, payload)
                    if code and not messages[sequence - first].forgives(code):
                        failures.append(Failure(messages[sequence - first], code, words))
        return failures

    def ask(self, kind: int, body: bytes) -> bytes | None:
        """One thing's payload, None if there is none."""
        self._sequence += 1
        self._socket.send(_frame(kind, _REQUEST, self._sequence, body))
        while True:
            for got, _, sequence, payload in self._receive():
                if sequence == self._sequence:
                    return None if got == _ERROR else payload

    def dump(self, kind: int, body: bytes) -> list[tuple[int, bytes]]:
        """Everything of a kind: (message type, payload). Empty where the kernel has no such thing.

        It is read again while others change things in the middle of it, five times at most.
        """
        for _ in range(5):
            found, is_whole = self._dump(kind, body)
            if is_whole:
                break
        return found

    def _dump(self, kind: int, body: bytes) -> tuple[list[tuple[int, bytes]], bool]:
        self._sequence += 1
        self._socket.send(_frame(kind, _REQUEST | _DUMP, self._sequence, body))
        found: list[tuple[int, bytes]] = []
        is_whole = True
        while True:
            for got, flags, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue  # of a dump that was given up
                is_whole = is_whole and not flags & _INTERRUPTED
                if got in (_ERROR, _DONE):
                    return found, is_whole
                found.append((got, payload))

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        try:
            data = self._socket.recv(1 << 18)
        except TimeoutError:
            raise StepError("The kernel did not answer within 10 s.") from None
        found, offset = [], 0
        while offset + 16 <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            found.append((kind, flags, sequence, data[offset + 16 : offset + length]))
            offset += (length + 3) & ~3
        return found


def _frame(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body + b"\0" * (-len(body) % 4)


def _error(flags: int, payload: bytes) -> tuple[int, str]:
    """errno and the kernel's own words (extended acknowledgement, NLMSGERR_ATTR_MSG)."""
    code: int = -struct.unpack_from("=i", payload)[0]
    if not flags & _ACK_TLVS or not code:
        return code, ""
    words = attributes(payload, 20).get(1, b"")
    return code, words.rstrip(b"\0").decode(errors="replace")
