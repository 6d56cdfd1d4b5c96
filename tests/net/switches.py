"""A private Open vSwitch with a helper inside, for tests that change it by plans.

with Switches() as host:
    with host.having(switches=[{"name": "br0"}]):
        host.vsctl("list-br")
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kvmweb.net import launch
from kvmweb.net.client import Client
from kvmweb.spec.hostnet import HostNetwork
from tests.ovs import PrivateOvs

Document = dict[str, Any]
# What is there without any bridge; the datapath's own link stays with ovs-vswitchd.
_OTHERS = ("lo", "ovs-netdev")


def document(**parts: Any) -> Document:
    """With all its defaults, as the site sends it."""
    return HostNetwork.model_validate(parts).model_dump(mode="json")


class Switches(PrivateOvs):
    """``helper`` runs where ovs-vswitchd does; ``guests`` are namespaces on veths ``v-NAME``."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.state = Path(tempfile.mkdtemp(prefix="kvmweb-net-", dir="/var/tmp"))
        environment = {**os.environ, "KVMWEB_NET_STATE": str(self.state)}
        self.heard: list[str] = []
        self.helper = Client(
            launch.here(self.enter), on_event=self.heard.append, environment=environment
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.helper.close()
        shutil.rmtree(self.state)
        super().__exit__(kind, error, at)

    def read(self) -> Document:
        state: Document = self.helper.call("read")
        return state

    def switch(self, name: str) -> Document:
        """A bridge as the helper reads it."""
        return next(one for one in self.read()["switches"] if one["name"] == name)

    def port(self, name: str) -> Document:
        ports = [port for one in self.read()["switches"] for port in one["ports"]]
        return next(one for one in ports if one["name"] == name)

    def plan(self, desired: Document, owned: Document) -> Document:
        plan: Document = self.helper.call("plan", desired=desired, owned=owned)
        return plan

    def apply(self, desired: Document, owned: Document) -> list[list[str]]:
        """Returns the commands. The same once more is nothing."""
        digest = self.plan(desired, owned)["digest"]
        done = self.helper.call("apply", desired=desired, owned=owned, digest=digest)
        if done["state"] == "unconfirmed":
            self.helper.call("confirm", token=done["token"])
        again = self.plan(desired, desired)
        assert not again["steps"], again["steps"]
        commands: list[list[str]] = done["commands"]
        return commands

    @contextlib.contextmanager
    def having(self, **parts: Any) -> Iterator[list[list[str]]]:
        """Applied, and removed in the end: then all is as before."""
        before, desired = self.everything(), document(**parts)
        try:
            yield self.apply(desired, {})
        finally:
            self.apply({}, desired)
        assert self.everything() == before

    @contextlib.contextmanager
    def changed(self, **parts: dict[str, Any]) -> Iterator[list[list[str]]]:
        """First ``before``, then ``after``, then nothing, which is as it was at first."""
        there = self.everything()
        before, after = document(**parts["before"]), document(**parts["after"])
        self.apply(before, {})
        middle = self.everything()
        try:
            yield self.apply(after, before)
            self.apply(before, after)
            assert self.everything() == middle
        finally:
            self.apply({}, before)
        assert self.everything() == there

    def everything(self) -> Document:
        """The database, links with their addresses, and nftables."""
        lines = [line.split() for line in self.execute("ip", "-br", "address").splitlines()]
        # A link's own addresses come from its MAC, which is another one each time.
        links = [
            [word for word in words if not word.startswith("fe80::")]
            for words in lines
            if words[0] not in _OTHERS
        ]
        return {
            "ovs": self.dump(),
            "links": sorted(links),
            "nft": self.execute("nft", "list", "ruleset"),
        }

    @contextlib.contextmanager
    def guest(self, name: str, *addresses: str) -> Iterator[str]:
        """A namespace with eth0, whose other end ``v-NAME`` is on the host; yields that."""
        end = f"v-{name}"
        self.execute("ip", "netns", "add", name)
        peer = ("type", "veth", "peer", "name", "eth0", "netns", name)
        self.execute("ip", "link", "add", end, "up", *peer)
        for words in (("link", "set", "lo", "up"), ("link", "set", "eth0", "up")):
            self.execute("ip", "-n", name, *words)
        for address in addresses:
            self.execute("ip", "-n", name, "address", "add", address, "dev", "eth0")
        try:
            yield end
        finally:
            # Connections that were cut keep a namespace alive for a while, and its links with it.
            self.execute("ip", "link", "delete", end)
            self.execute("ip", "netns", "delete", name)

    def of(self, guest: str) -> list[str]:
        """The words that enter a guest; "" is the host itself. Whoever kills what he began with
        them kills the program and not only what waits for it, as with ``enter``.
        """
        words = [word for word in self.enter if word != "--pid"]
        return [*words, *(["ip", "netns", "exec", guest] if guest else [])]
