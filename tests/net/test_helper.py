"""The helper process: its lines, its events, its commands, and its end."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmweb.net import commands, launch
from kvmweb.net.client import Client
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError
from tests import dumps
from tests.net.own_host import GATEWAY, OwnHost
from tests.network import document
from tests.waiting import until


def started(host: OwnHost) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        launch.here(host.prefix).words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def answers(host: OwnHost, *lines: bytes) -> list[dict[str, Any]]:
    """Of a helper that hears these lines and no more."""
    process = started(host)
    assert process.stdin
    assert process.stdout
    for line in lines:
        process.stdin.write(line + b"\n")
    process.stdin.flush()
    told = [json.loads(process.stdout.readline()) for _ in lines]
    process.stdin.close()
    assert process.wait(10) == 0
    process.stdout.close()
    return told


def test_it_tells_who_it_is(helper: Client) -> None:
    hello = helper.hello
    assert (hello["version"], hello["uid"]) == (1, 0)
    assert hello["python"] == sys.version.split()[0]
    assert hello["features"]["bridge"]


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'"read"', b'{"do": "read"}', b"\xff\xfe"])
def test_it_survives_what_is_no_call(host: OwnHost, line: bytes) -> None:
    nonsense, pending = answers(host, line, b'{"id": 7, "do": "pending"}')
    assert nonsense["error"]["kind"] == "call"
    assert pending == {"id": 7, "result": []}


def test_it_knows_its_calls_only(helper: Client) -> None:
    with pytest.raises(NetError, match="knows no call “rm”") as refused:
        helper.call("rm", path="/")
    assert refused.value.kind == "call"


def test_who_is_slow_holds_up_nobody(helper: Client) -> None:
    ends: list[str] = []

    def ping() -> None:
        helper.call("run", command=["ping", "-c", "3", "-i", "0.5", "127.0.0.1"])
        ends.append("ping")

    thread = threading.Thread(target=ping)
    thread.start()
    helper.call("read")
    ends.append("read")
    thread.join(10)
    assert ends == ["read", "ping"]


def test_a_change_that_was_begun_comes_to_its_end(host: OwnHost, clean: dumps.Dump) -> None:
    """The site has gone, or the connection to it: nobody hears the answer."""
    wanted = document(links=[{"kind": "bridge", "name": f"br{n}"} for n in range(100)])
    with host.client() as helper:
        digest = helper.call("plan", desired=wanted, owned={})["digest"]
        request = {"desired": wanted, "owned": {}, "digest": digest}
        process = started(host)
        process.communicate(json.dumps({"id": 1, "do": "apply", "args": request}).encode() + b"\n")
        assert process.returncode == 0
        assert helper.call("plan", desired=wanted, owned=wanted)["steps"] == []
        plan = helper.call("plan", desired={}, owned=wanted)
        helper.call("apply", desired={}, owned=wanted, digest=plan["digest"])
    host.assert_as(clean)


class Ears:
    """What a helper tells of, and when."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str]] = []

    def __call__(self, topic: str) -> None:
        self.heard.append((time.monotonic(), topic))

    def topics(self) -> list[str]:
        return [topic for _, topic in self.heard]

    def become_quiet(self) -> int:
        """Nothing for a quarter of a second; how many there were before."""
        until(
            lambda: not self.heard or time.monotonic() - self.heard[-1][0] > 0.25,
            what="events to end",
        )
        count = len(self.heard)
        self.heard.clear()
        return count


@pytest.fixture(scope="module")
def watching(host: OwnHost) -> Iterator[Ears]:
    ears = Ears()
    with host.client(on_event=ears) as client:
        client.call("watch")
        yield ears


@pytest.fixture
def ears(host: OwnHost, watching: Ears) -> Ears:
    # It has begun to listen when it hears.
    host.execute("ip", "link", "set", "lo", "down")
    host.execute("ip", "link", "set", "lo", "up")
    until(lambda: "links" in watching.topics(), what="an event")
    watching.become_quiet()
    return watching


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ("link set eth0 mtu 1400", "link set eth0 mtu 1500"),
        ("address add 10.70.0.1/24 dev lo", "address del 10.70.0.1/24 dev lo"),
        ("route add 10.71.0.0/16 via 192.0.2.9", "route del 10.71.0.0/16"),
        ("route add fd71::/64 via 2001:db8::9", "route del fd71::/64"),
        ("link add br9 type bridge", "link delete br9"),
    ],
)
def test_it_tells_of_changes_on_the_host(host: OwnHost, ears: Ears, change: str, back: str) -> None:
    began = time.monotonic()
    host.execute("ip", *change.split())
    until(lambda: ears.heard, what="an event")
    at, topic = ears.heard[0]
    assert topic == "links"
    assert at - began < 1
    host.execute("ip", *back.split())
    ears.become_quiet()


def test_it_tells_of_rules(host: OwnHost, ears: Ears) -> None:
    host.execute("nft", "add", "table", "inet", "h1")
    until(lambda: "forwards" in ears.topics(), what="an event")
    host.execute("nft", "delete", "table", "inet", "h1")
    ears.become_quiet()


def test_it_tells_of_what_happens_in_namespaces(host: OwnHost, ears: Ears) -> None:
    host.execute("ip", "netns", "add", "red")
    until(lambda: "routers" in ears.topics(), what="a new namespace")
    ears.become_quiet()
    host.execute("ip", "-n", "red", "link", "set", "lo", "up")
    until(lambda: "routers" in ears.topics(), what="a link in it")
    ears.become_quiet()
    host.execute("ip", "netns", "delete", "red")
    until(lambda: "routers" in ears.topics(), what="its end")


def test_it_keeps_no_namespace_alive(host: OwnHost, ears: Ears, helper: Client) -> None:
    host.execute("ip", "netns", "add", "red")
    host.execute("ip", "link", "add", "a0", "type", "veth", "peer", "a1", "netns", "red")
    helper.call("read")
    until(lambda: "routers" in ears.topics(), what="a new namespace")
    host.execute("ip", "netns", "delete", "red")
    until(lambda: "a0" not in host.links(), seconds=5, what="the namespace to end")


def test_a_burst_is_few_events(host: OwnHost, ears: Ears) -> None:
    lines = "".join(
        f"link add br{n} type bridge\nlink set br{n} up\nlink delete br{n}\n" for n in range(100)
    )
    subprocess.run([*host.prefix, "ip", "-b", "-"], input=lines, text=True, check=True)
    until(lambda: ears.heard, what="an event")
    assert 1 <= ears.become_quiet() <= 30


ALLOWED = [
    "ip a", "ip -4 addr", "ip -br link show", "ip address show dev eth0", "ip -6 route",
    "ip route show table all", "ip route get 192.0.2.1", "ip neigh", "ip rule", "bridge link",
    "bridge vlan show", "bridge fdb show br br0", "ping -c 3 192.0.2.1", "ping -6 fe80::1%eth0",
    "ping -M do -s 1400 example.org", "traceroute -n 192.0.2.1", "tracepath 192.0.2.1",
    "ss -tlnp", "nft list ruleset", "nft -a list ruleset", "ethtool eth0", "ethtool -k eth0",
    "tc -s qdisc show dev eth0",
]  # fmt: skip
REFUSED = [
    "", "ip", "ip link set eth0 down", "ip a; reboot", "ip a | sh", "ip a $(reboot)",
    "ip a\nreboot", "ip -b /etc/passwd", "ip -n red a", "ip netns exec red sh",
    "ip address add 10.0.0.1/8 dev lo",
    "ip route get 192.0.2.1 from 10.0.0.1", "ping", "ping -f 192.0.2.1", "ping -c 100 192.0.2.1",
    "ping -I eth0 192.0.2.1", "ping --help", "traceroute -T 192.0.2.1", "ss -K dst 192.0.2.1",
    "nft flush ruleset", "nft -f /etc/shadow", "nft list ruleset; reboot", "cat /etc/shadow",
    "ethtool -K eth0 tx off", "ethtool -p eth0", "tc qdisc add dev eth0 root netem", "sh", "reboot",
    "bridge fdb add 52:54:00:00:00:01 dev eth0", "/bin/ip a", "../ip a",
]  # fmt: skip


@pytest.mark.parametrize("text", ALLOWED)
def test_commands_that_only_look_are_run(text: str) -> None:
    commands.check(text.split(" "))


@pytest.mark.parametrize("text", REFUSED)
def test_no_other_command_is(text: str) -> None:
    with pytest.raises(NetError, match="Only commands that look"):
        commands.check(text.split(" "))


@pytest.mark.parametrize("word", ["a b", "", "$(id)", "`id`", "a;b", "a\0b", "é", "-" * 200])
def test_no_word_is_more_than_a_word(word: str) -> None:
    with pytest.raises(NetError, match="Only commands that look"):
        commands.check(["ping", word])


def test_a_command_in_a_namespace(host: OwnHost, helper: Client) -> None:
    host.execute("ip", "netns", "add", "red")
    try:
        told = helper.call("run", command=["ip", "-br", "link"], namespace="red")
        assert told["output"].split() == ["lo", "DOWN", "00:00:00:00:00:00", "<LOOPBACK>"]
        assert (told["code"], told["is_cut"]) == (0, False)
    finally:
        host.execute("ip", "netns", "delete", "red")
    with pytest.raises(NetError, match="no network namespace “red”") as refused:
        helper.call("run", command=["ip", "a"], namespace="red")
    assert refused.value.field == "namespace"


def test_a_ping_ends_by_itself(helper: Client) -> None:
    told = helper.call("run", command=["ping", "-i", "0.2", GATEWAY])
    assert "4 packets transmitted, 4 received" in told["output"]


def test_a_command_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_SECONDS", 0.3)
    began = time.monotonic()
    told = commands.run(Context(), command=["ping", "-c", "9", "127.0.0.1"])
    assert told["code"] is None
    assert "64 bytes from 127.0.0.1" in told["output"]
    assert time.monotonic() - began < 5


def test_output_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_BYTES", 10)
    told = commands.run(Context(), command=["ip", "address"])
    assert (len(told["output"]), told["is_cut"]) == (10, True)


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NetError, match="The program “ss” is missing"):
        commands.run(Context(), command=["ss", "-t"])
