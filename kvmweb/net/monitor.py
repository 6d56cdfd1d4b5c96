"""Hears of changes to links, addresses, routes and nftables, on the host and in its namespaces.

An open socket keeps a namespace alive, so that its veths would outlive ``ip netns delete``: inotify
tells at once when a name goes, and the sockets are closed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import socket
from collections.abc import Callable

from kvmweb.net import namespaces
from kvmweb.net.calls import watcher
from kvmweb.net.errors import NetError

_SOL_NETLINK, _ADD_MEMBERSHIP, _NO_ENOBUFS = 270, 1, 5
_NETFILTER = 12
# RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE; NFNLGRP_NFTABLES.
_GROUPS = {socket.NETLINK_ROUTE: (1, 5, 7, 9, 11), _NETFILTER: (7,)}
_IN_CREATE, _IN_DELETE, _IN_MOVE = 0x100, 0x200, 0xC0
_libc = ctypes.CDLL(None, use_errno=True)

Changed = Callable[[str], None]


class Monitor:
    def __init__(self, changed: Changed) -> None:
        self._changed = changed
        self._selector = selectors.DefaultSelector()
        self._open: dict[str, list[socket.socket]] = {}
        self._names = _Names()
        self._selector.register(self._names, selectors.EVENT_READ, "")

    def run(self) -> None:
        """For ever."""
        self._listen("")
        self._compare()
        while True:
            # A name is there a moment before its namespace is: look again a little later.
            for key, _ in self._selector.select(timeout=0.5):
                if key.fileobj is self._names:
                    self._names.drain()
                else:
                    self._heard(key.fileobj, key.data)
            self._compare()

    def _heard(self, source: object, topic: str) -> None:
        assert isinstance(source, socket.socket)
        with contextlib.suppress(BlockingIOError, OSError):
            while source.recv(1 << 16):
                pass
        self._changed(topic)

    def _compare(self) -> None:
        """Listen in namespaces that came, close what is open in those that went."""
        now = set(namespaces.names())
        before = self._open.keys() - {""}
        for name in before - now:
            for one in self._open.pop(name):
                self._selector.unregister(one)
                one.close()
        for name in now - before:
            with contextlib.suppress(NetError, OSError):
                self._listen(name)
        if now != before:
            self._changed("routers")

    def _listen(self, namespace: str) -> None:
        sockets = []
        for protocol, groups in _GROUPS.items():
            is_links = protocol == socket.NETLINK_ROUTE and not namespace
            topic = "routers" if namespace else "links" if is_links else "forwards"
            one = _listening(namespace, protocol, groups)
            if one:
                sockets.append(one)
                self._selector.register(one, selectors.EVENT_READ, topic)
        self._open[namespace] = sockets


def _listening(namespace: str, protocol: int, groups: tuple[int, ...]) -> socket.socket | None:
    """None where the kernel has no such thing (nftables)."""
    with namespaces.entered(namespace):
        try:
            one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError:
            return None
    one.bind((0, 0))
    one.setblocking(False)  # noqa: FBT003 - socket's own signature
    one.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)  # what is lost says no more than what is heard
    for group in groups:
        with contextlib.suppress(OSError):
            one.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    return one


class _Names:
    """inotify(7) on the directory of names."""

    def __init__(self) -> None:
        self._file = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            namespaces.DIRECTORY.mkdir(parents=True, exist_ok=True)
        path = os.fsencode(namespaces.DIRECTORY)
        _libc.inotify_add_watch(self._file, path, _IN_CREATE | _IN_DELETE | _IN_MOVE)

    def fileno(self) -> int:
        return int(self._file)

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._file, 1 << 16):
                pass


@watcher
def watch(changed: Changed) -> None:
    Monitor(changed).run()
