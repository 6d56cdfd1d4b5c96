"""Namespaces that play hosts, guests and an internet, and what is served and asked there.

    with Places("kr-net", "kr-pc") as places:
        places.join("kr-net", "eth0", "kr-pc", "eth0")
        places.run("kr-pc", "ip", "address", "add", "192.0.2.9/24", "dev", "eth0")

Everything ends with it. Needs root.
"""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from kvmweb.net import namespaces
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
# Answers each datagram with its sender's address.
_UDP = """
import socket, sys
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind((sys.argv[2], int(sys.argv[1])))
while True:
    _, sender = server.recvfrom(2048)
    server.sendto(sender[0].removeprefix("::ffff:").encode(), sender)
"""
# Tells whoever connects his address.
_TCP = """
import socket, sys
address, is_any = (sys.argv[2], int(sys.argv[1])), sys.argv[2] == "::"
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
server = socket.create_server(address, family=family, dualstack_ipv6=is_any)
while True:
    caller, sender = server.accept()
    with caller:
        caller.sendall(sender[0].removeprefix("::ffff:").encode())
"""


class Places:
    """``names`` are the namespaces'."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ends:
            for name in self.names:
                _run("ip", "netns", "add", name)
                ends.callback(_run, "ip", "netns", "delete", name)
                self.run(name, "ip", "link", "set", "lo", "up")
                # A new namespace copies it from the machine's, where libvirt may have set it.
                self.run(name, "sysctl", "-qw", "net.ipv4.ip_forward=0")
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ends.close()

    def run(self, name: str, *command: str) -> str:
        return _run("ip", "netns", "exec", name, *command)

    def join(self, one: str, link: str, other: str, link2: str) -> None:
        """A cable with both ends up."""
        peer = ("peer", "name", link2, "netns", other)
        _run("ip", "-n", one, "link", "add", link, "up", "type", "veth", *peer)
        _run("ip", "-n", other, "link", "set", link2, "up")

    @contextlib.contextmanager
    def serving(
        self, name: str, port: int, *, protocol: str = "tcp", address: str = "::"
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Somebody there tells whoever calls by which address he did."""
        program = _UDP if protocol == "udp" else _TCP
        command = ["ip", "netns", "exec", name, sys.executable, "-c", program, str(port), address]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as server:
            option = "-Hlun" if protocol == "udp" else "-Hltn"
            try:
                listens = f":{port} "
                until(lambda: listens in self.run(name, "ss", option), what=f"a server at {port}")
                yield server
            finally:
                server.kill()


def ask(name: str, address: str, port: int, *, protocol: str = "tcp", seconds: float = 3) -> str:
    """What ``serve`` there answers, asked from the namespace; raises ``OSError``."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with namespaces.entered(name):
        caller = socket.socket(family, kind)
    with caller:
        caller.settimeout(seconds)
        caller.connect((address, port))
        if protocol == "udp":
            caller.send(b"who am I?")
        return caller.recv(100).decode()


def pings(name: str, address: str) -> bool:
    command = ["ip", "netns", "exec", name, "ping", "-n", "-c1", "-W2", address]
    return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0


def _run(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert not ended.returncode, f"{' '.join(command)}: {ended.stderr or ended.stdout}"
    return ended.stdout
