"""The site's side: helpers started in every way, and what is said when they can't be."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kvmweb.net import archive, launch
from kvmweb.net.client import Client
from kvmweb.net.errors import NetError
from kvmweb.net.launch import Launch
from tests.net.own_host import OwnHost
from tests.waiting import until

MISSING = """
import sys
sys.stderr.write(sys.argv[1])
sys.exit(1)
"""


def saying(text: str, where: str = "far") -> Launch:
    """Something in place of a helper that says this on standard error, and ends."""
    return Launch([sys.executable, "-c", MISSING, text], where=where)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("sudo: a password is required\n", "sudo on far asks for a password"),
        ("sudo: a terminal is required to read the password\n", "sudo on far asks for a password"),
        ('sudo: The "no new privileges" flag is set, which\n', "runs with NoNewPrivileges=yes"),
        ("bob is not in the sudoers file.\n", "sudo on far does not let the site's user"),
        ("sudo: command not found\n", "far has no sudo"),
        ("bash: line 1: python3: command not found\n", "far has no python3"),
        ("sh: 1: python3: not found\n", "far has no python3"),
        ("python3 is older than 3.10: 3.9.2\n", "far has Python 3.9.2"),
        ("Host key verification failed.\r\n", "The ssh key of far is not known yet"),
        ("root@far: Permission denied (publickey).\r\n", "far refused the site's ssh key"),
        ("ssh: Could not resolve hostname far: Name or service", "The name far can't be resolved"),
        ("ssh: connect to host far port 22: Connection refused\r\n", "Nothing answers ssh at far"),
        (
            "ssh: connect to host far port 22: No route to host\r\n",
            "There is no network path to far",
        ),
        ("Segmentation fault\n", "The helper on far did not start: Segmentation fault"),
        ("", "The helper on far did not start: it ended without a word"),
    ],
)
def test_why_no_helper_comes_up(said: str, sentence: str) -> None:
    with pytest.raises(NetError) as failed:
        Client(saying(said))
    assert failed.value.kind == "start"
    assert sentence in failed.value.sentence


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(NetError, match="nosuch-program"):
        Client(["nosuch-program"])


def test_who_says_nothing_is_given_up() -> None:
    with pytest.raises(NetError, match="did not answer within") as failed:
        Client(["sleep", "60"], start_seconds=0.2)
    assert failed.value.kind == "deadline"


def test_what_a_login_script_prints_does_no_harm(host: OwnHost) -> None:
    words = launch.here(host.prefix).words
    with Client(["sh", "-c", 'echo "Welcome to {host}!"; exec "$@"', "sh", *words]) as helper:
        assert helper.call("pending") == []


def test_ways_by_uri() -> None:
    assert launch.by_uri("qemu:///system").words[-1].endswith("kvmweb/net")
    assert launch.by_uri("qemu+unix:///system?socket=/run/x").where == "this host"
    ssh = launch.by_uri(
        "qemu+ssh://bob@far:2222/system?keyfile=/k/id&no_verify=1&known_hosts=/k/known"
    )
    assert ssh.where == "far"
    for words in (["-p", "2222"], ["-l", "bob"], ["-i", "/k/id"], ["--", "far"]):
        at = ssh.words.index(words[0])
        assert ssh.words[at : at + 2] == words
    assert "UserKnownHostsFile=/k/known" in ssh.words
    assert "StrictHostKeyChecking=no" in ssh.words


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("test:///default", "libvirt's test driver"),
        ("qemu+tls://far/system", "reached by tls shows its virtual networks only"),
        ("qemu+tcp://far/system", "reached by tcp shows its virtual networks only"),
        ("qemu://far/system", "reached by TLS shows its virtual networks only"),
    ],
)
def test_hosts_without_a_way(uri: str, sentence: str) -> None:
    with pytest.raises(NetError, match=sentence):
        launch.by_uri(uri)


@pytest.mark.parametrize("name", ["-oProxyCommand=reboot", "far;reboot", "$(reboot)"])
def test_a_host_name_is_no_option_and_no_command(name: str) -> None:
    words = launch.by_ssh(f"qemu+ssh://{name}/system").words
    assert words[words.index("--") + 1] == name.lower()


def test_calls_from_many_threads(helper: Client) -> None:
    wrong: list[str] = []

    def ask(word: str) -> None:
        for _ in range(10):
            output = helper.call("run", command=["ip", "-br", "link", "show", "dev", word])[
                "output"
            ]
            if not output.startswith(word):
                wrong.append(output)

    threads = [threading.Thread(target=ask, args=[word]) for word in ("lo", "eth0") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_a_call_has_a_deadline(helper: Client) -> None:
    with pytest.raises(NetError, match=r"within 0\.2 s") as late:
        helper.call("run", within=0.2, command=["ping", "-c", "2", "127.0.0.1"])
    assert late.value.kind == "deadline"
    assert helper.call("pending") == []


def test_when_a_helper_dies_all_who_wait_are_told(host: OwnHost) -> None:
    ended = threading.Event()
    helper = Client(launch.here(host.prefix), on_end=ended.set)
    kinds: list[str] = []

    def ask() -> None:
        try:
            helper.call("run", command=["ping", "-c", "9", "127.0.0.1"])
        except NetError as error:
            kinds.append(error.kind)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: "ping" in host.execute("ps", "-e", "-o", "args="), what="the calls to run")
    os.kill(helper.process_id, signal.SIGKILL)
    for thread in threads:
        thread.join(10)
    assert kinds == ["lost"] * 3
    assert ended.wait(5)
    assert not helper.is_alive
    with pytest.raises(NetError, match="was lost"):
        helper.call("pending")
    helper.close()


def test_it_ends_its_helper(host: OwnHost) -> None:
    helper = host.client()
    process = helper.process_id
    helper.close()
    until(lambda: not Path(f"/proc/{process}/cmdline").exists(), what="the helper to end")


def test_an_event_may_call(host: OwnHost) -> None:
    states: list[int] = []

    def heard(_topic: str) -> None:
        states.append(len(helper.call("read", parts=["links"])["links"]))

    with host.client(on_event=heard) as helper:
        helper.call("watch")

        def touch() -> bool:
            host.execute("ip", "link", "set", "eth0", "txqueuelen", "900")
            host.execute("ip", "link", "set", "eth0", "txqueuelen", "1000")
            return bool(states)

        until(touch, what="an event that called")


def test_the_archive_is_the_same_each_time() -> None:
    one = archive.build()
    archive.build.cache_clear()
    assert archive.build() == one
    assert len(one.data) < 500_000


def test_the_archive_needs_nothing_but_python(tmp_path: Path) -> None:
    """/usr/bin/python3 is the distribution's, without any package of ours."""
    file = tmp_path / "net.pyz"
    file.write_bytes(archive.build().data)
    ended = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", str(file)],
        input=b'{"id": 1, "do": "read", "args": {"parts": ["links"]}}\n',
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert b"Traceback" not in ended.stderr


def test_a_host_by_ssh(host: OwnHost) -> None:
    """Sent once, and kept there under its checksum; a damaged one is sent again."""
    with host.by_ssh() as uri:
        with Client(launch.by_uri(uri)) as helper:
            names = {row["name"] for row in helper.call("read", parts=["links"])["links"]}
            assert names == set(host.links())
        kept = f"/var/lib/kvmweb/net-{archive.build().digest}.pyz"
        first = host.execute("stat", "-c", "%i %a", kept)
        with Client(launch.by_uri(uri)) as helper:
            assert helper.hello["uid"] == 0
        assert host.execute("stat", "-c", "%i %a", kept) == first
        host.execute("truncate", "-s", "100", kept)
        with Client(launch.by_uri(uri)) as helper:
            assert helper.call("pending") == []
        assert host.execute("stat", "-c", "%i %a", kept) != first


def test_a_host_that_refuses_the_key(host: OwnHost) -> None:
    with host.by_ssh() as uri, pytest.raises(NetError, match="refused the site's ssh key"):
        Client(launch.by_uri(uri.replace("root@", "daemon@")))
