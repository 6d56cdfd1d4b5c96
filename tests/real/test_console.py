"""The console of a real machine, whichever way its display listens and its host is reached."""

import contextlib
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from django.conf import settings
from lxml import etree
from lxml.builder import E
from websockets.sync.client import ClientConnection, connect

from kvmweb import tiny_guest
from kvmweb.console import handover
from kvmweb.console.dial import dial
from kvmweb.console.handover import Wanted, serve_handover
from kvmweb.models import ApiToken, ConsoleSession, Host, Level, Machine, User
from kvmweb.operations.consoles import issue_ticket
from kvmweb.virt.errors import OperationError
from tests.conftest import Stage
from tests.console.site import ConsoleSite, ending, shake_hands
from tests.guest import Serial, domain_xml
from tests.libvirtd import PrivateLibvirtd
from tests.site import free_port
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]

ADDRESS = "<graphics type='vnc' autoport='yes' listen='127.0.0.1'/>"
LISTENING = {
    "address": ADDRESS,
    "every address": "<graphics type='vnc' autoport='yes' listen='0.0.0.0'/>",
    "socket": "<graphics type='vnc'><listen type='socket'/></graphics>",
    "none": "<graphics type='vnc'><listen type='none'/></graphics>",
    "password": "<graphics type='vnc' autoport='yes' listen='127.0.0.1' passwd='secret'/>",
}
SHIFT, ENTER = 0xFFE1, 0xFF0D


class Screens:
    """A host with machines, the agent that holds it, and the site's consoles."""

    def __init__(self, stage: Stage, host: Host, site: ConsoleSite, local_uri: str) -> None:
        self.stage, self.host, self.site = stage, host, site
        self.libvirt = libvirt.open(local_uri)
        self.domains: list[libvirt.virDomain] = []

    def machine(self, name: str, graphics: str = ADDRESS, *, guest: object = None) -> Machine:
        """Started, and in the mirror."""
        tree = etree.fromstring(domain_xml(name, guest=guest))  # type: ignore[arg-type]
        devices = tree.xpath("devices")[0]
        devices.replace(devices.xpath("graphics")[0], etree.fromstring(graphics))
        self.domain = self.libvirt.createXML(etree.tostring(tree, encoding="unicode"))
        self.domains.append(self.domain)
        rows = Machine.objects.filter(name=name, graphics="vnc", state="running")
        until(rows.exists, what=f"{name} in the mirror")
        return rows.get()

    def close(self) -> None:
        for domain in self.domains:
            with contextlib.suppress(libvirt.libvirtError):  # the test ended it
                domain.destroy()
        self.libvirt.close()


@pytest.fixture
def screens(agent: Stage, private_libvirtd: PrivateLibvirtd) -> Iterator[Screens]:
    with _screens(agent, private_libvirtd, private_libvirtd.uri) as made:
        yield made


@contextlib.contextmanager
def _screens(agent: Stage, daemon: PrivateLibvirtd, uri: str) -> Iterator[Screens]:
    host = agent.connect("real", uri)
    assert host.is_connected, host.state_reason
    site = ConsoleSite(dial)
    made = Screens(agent, host, site, daemon.uri)
    try:
        yield made
    finally:
        site.close()
        made.close()


def banner(browser: ClientConnection) -> bytes:
    first = browser.recv(10)
    assert isinstance(first, bytes)
    return first


def read_on(browser: ClientConnection) -> None:
    """Whatever comes is taken, so that the display does not wait for us."""
    with contextlib.suppress(TimeoutError):
        while True:
            browser.recv(0.05)


def keys(text: str) -> bytes:
    """As a person at a US keyboard types it."""
    messages = b""
    for letter in text:
        code = ENTER if letter == "\n" else ord(letter)
        steps = [(1, code), (0, code)]
        if letter in ">_":
            steps = [(1, SHIFT), *steps, (0, SHIFT)]
        for is_down, key in steps:
            messages += bytes([4, is_down, 0, 0]) + key.to_bytes(4, "big")
    return messages


@pytest.mark.parametrize("listen", LISTENING)
def test_the_display_speaks_whichever_way_it_listens(
    listen: str, screens: Screens, bob: User
) -> None:
    machine = screens.machine("listens", LISTENING[listen])
    with screens.site.browser(bob, machine) as browser:
        # No password is asked for: who was let in by the site needs none.
        shake_hands(browser)


def test_keys_reach_the_guest_under_control_and_not_under_view(
    screens: Screens, private_libvirtd: PrivateLibvirtd, bob: User, victor: User
) -> None:
    guest = tiny_guest.build(private_libvirtd.images / "tiny_guest")
    machine = screens.machine("typed", guest=guest)
    with (
        Serial(screens.domain) as serial,
        screens.site.browser(victor, machine, Level.VIEW) as looking,
        screens.site.browser(bob, machine) as using,
    ):
        serial.expect("LAB-GUEST-READY")
        shake_hands(looking)
        shake_hands(using)
        looking.send(keys("echo by-the-viewer > /dev/ttyS0\n"))
        read_on(looking)
        using.send(keys("echo by-the-user > /dev/ttyS0\n"))
        serial.expect("by-the-user")
        assert "by-the-viewer" not in serial.text
        # The viewer's first line would stand before the user's on the guest's screen.
        using.send(keys("cat /dev/vcs1 > /dev/ttyS0\necho the-end > /dev/ttyS0\n"))
        match = serial.expect(r"(?s)(.*)the-end")
        assert "by-the-user" in match[1]
        assert "by-the-viewer" not in match[1]


def test_a_permission_withdrawn_closes_within_two_seconds(screens: Screens, bob: User) -> None:
    machine = screens.machine("withdrawn")
    with screens.site.browser(bob, machine) as browser:
        shake_hands(browser)
        User.objects.filter(pk=bob.pk).update(role="")
        assert ending(browser) == (4001, "Your permission was withdrawn.")


def test_a_machine_destroyed_closes(screens: Screens, bob: User) -> None:
    machine = screens.machine("destroyed")
    with screens.site.browser(bob, machine) as browser:
        shake_hands(browser)
        screens.domain.destroy()  # transient: it is undefined with that
        assert ending(browser)[0] == 4004
    until(
        lambda: ConsoleSession.objects.filter(closed__isnull=False).exists(), what="the row's end"
    )


def test_a_frozen_libvirt_holds_up_its_own_consoles_only(
    screens: Screens, private_libvirtd: PrivateLibvirtd, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmweb.console.dial.DEADLINE", 1.0)
    machine = screens.machine("frozen")
    with screens.site.browser(bob, machine) as before:
        shake_hands(before)
        private_libvirtd.freeze()
        try:
            with screens.site.browser(bob, machine) as during:
                assert ending(during, within=5) == (
                    4005,
                    "The host does not answer. Try again when it does.",
                )
            before.send(bytes([3, 0, 0, 0, 0, 0, 0, 16, 0, 16]))
            assert before.recv(5)  # QEMU itself is not frozen
        finally:
            private_libvirtd.thaw()


def test_the_agent_hands_displays_to_other_processes(
    screens: Screens, state_directory: Path, bob: User
) -> None:
    machine = screens.machine("handed")
    serving = serve_handover(screens.stage.agent.name)
    try:
        path = next(state_directory.glob("agent-*.sock"))
        assert path.stat().st_mode & 0o777 == 0o600
        host = Host.objects.get(pk=screens.host.pk)
        with handover.ask(Wanted(host.pk, host.agent, host.uri, machine.uuid)) as found:
            found.settimeout(5)
            assert found.recv(12) == b"RFB 003.008\n"
        screens.domain.destroy()
        with pytest.raises(OperationError, match="not there any more"):
            handover.ask(Wanted(host.pk, host.agent, host.uri, machine.uuid))
    finally:
        serving.close()
    assert not path.exists()
    with pytest.raises(OperationError, match="agent"):
        handover.ask(Wanted(host.pk, host.agent, host.uri, machine.uuid))


def test_websockify_s_own_server_carries_consoles_too(
    screens: Screens, state_directory: Path, bob: User
) -> None:
    machine = screens.machine("forked")
    serving = serve_handover(screens.stage.agent.name)
    port = free_port()
    environment = {
        **os.environ,
        "KVMWEB_STATE_DIR": str(state_directory),
        "DATABASE_URL": f"sqlite:///{settings.DATABASES['default']['NAME']}",
    }
    command = [sys.executable, "manage.py", "console", "--bind", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, env=environment) as process:
        try:
            until(lambda: _listens(port), what="the console's server")
            token, _ = ApiToken.issue(bob, "script")
            for level in Level.values:
                ticket = issue_ticket(bob, machine, level, token=token)
                with connect(
                    f"ws://127.0.0.1:{port}/websockify",
                    subprotocols=ticket["protocols"],  # type: ignore[arg-type]
                    compression=None,
                    max_size=None,
                ) as browser:
                    assert browser.subprotocol == "binary"
                    shake_hands(browser)
                    if level == Level.CONTROL:
                        User.objects.filter(pk=bob.pk).update(role="viewer")
                        assert ending(browser)[0] == 4001
                        User.objects.filter(pk=bob.pk).update(role="operator")
            until(lambda: not ConsoleSession.objects.filter(closed=None), what="the rows' ends")
        finally:
            process.terminate()
            process.wait(10)
            serving.close()
    assert ConsoleSession.objects.count() == 2


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def shared_socket(daemon: PrivateLibvirtd) -> str:
    """A display at a socket that is there under the same path in the daemon's namespace and ours;
    libvirt's own choice of a path is not.
    """
    directory = daemon.directory / "displays"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o1777)
    path = directory / uuid.uuid4().hex[:8]
    return etree.tostring(E.graphics(type="vnc", socket=str(path)), encoding="unicode")


class Sshd:
    """An ssh server of our own: root, by one key."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.key = directory / "id"
        for path in (self.key, directory / "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        self.log = directory / "log"
        # Libvirt's own helper there takes no other daemon's socket, and nc may be absent.
        self.netcat = directory / "netcat"
        self.netcat.write_text("#!/bin/sh\nexec socat - UNIX-CONNECT:$2\n")
        self.netcat.chmod(0o755)
        options = [
            f"HostKey={directory}/host",
            f"AuthorizedKeysFile={directory}/id.pub",
            f"PidFile={directory}/pid",
            "StrictModes=no",
            "UsePAM=no",
            "PermitRootLogin=yes",
        ]
        Path("/run/sshd").mkdir(exist_ok=True)
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", str(self.port)]
        command += ["-o", "ListenAddress=127.0.0.1"]
        for option in options:
            command += ["-o", option]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stderr=log)
        until(lambda: _listens(self.port), what=f"sshd; {self.log.read_text()}")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        # no_verify is "take any key", and ssh notes the one it took.
        known = f"[127.0.0.1]:{self.port}"
        subprocess.run(["ssh-keygen", "-q", "-R", known], stdout=-3, stderr=-3, check=False)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    directory = tmp_path / "sshd"
    directory.mkdir()
    made = Sshd(directory)
    yield made
    made.close()


def test_over_ssh_all_consoles_share_one_connection(
    agent: Stage, private_libvirtd: PrivateLibvirtd, sshd: Sshd, bob: User, state_directory: Path
) -> None:
    uri = (
        f"qemu+ssh://root@127.0.0.1:{sshd.port}/system?keyfile={sshd.key}&no_verify=1"
        f"&socket={private_libvirtd.socket}&proxy=netcat&netcat={sshd.netcat}"
    )
    with _screens(agent, private_libvirtd, uri) as screens:
        machines = [
            screens.machine("by-address"),
            screens.machine("by-socket", shared_socket(private_libvirtd)),
            screens.machine("protected", LISTENING["password"]),
        ]
        with (
            screens.site.browser(bob, machines[0]) as first,
            screens.site.browser(bob, machines[1]) as second,
            screens.site.browser(bob, machines[0]) as third,
            screens.site.browser(bob, machines[2]) as protected,
        ):
            for browser in (first, second, third):
                shake_hands(browser)
            # Here the display itself asks, and noVNC asks the person.
            assert banner(protected) == b"RFB 003.008\n"
            protected.send(b"RFB 003.008\n")
            assert protected.recv(5) == bytes([1, 2])
            assert len(_masters(state_directory / "ssh")) == 1
        # Nothing but the master's own socket is left.
        assert len(list((state_directory / "ssh").iterdir())) == 1

        nowhere = screens.machine("nowhere", LISTENING["none"])
        with screens.site.browser(bob, nowhere) as browser:
            code, reason = ending(browser, within=10)
            assert code == 4005
            assert "listens nowhere" in reason
    _end_masters(state_directory / "ssh")


def _masters(directory: Path) -> list[str]:
    """The ssh processes that work in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if (process / "cwd").readlink() == directory:
                found.append((process / "cmdline").read_text())
    return found


def _end_masters(directory: Path) -> None:
    for path in directory.iterdir():
        subprocess.run(
            ["ssh", "-S", path.name, "-O", "exit", "any"], cwd=directory, check=True, stderr=-3
        )
    until(lambda: not list(directory.iterdir()), what="the master to end")


def test_libvirt_by_tcp_is_taken_on_this_computer_only(
    agent: Stage, private_libvirtd: PrivateLibvirtd, bob: User
) -> None:
    port = free_port()
    relay = [
        "socat",
        f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr",
        f"UNIX-CONNECT:{private_libvirtd.socket}",
    ]
    with subprocess.Popen(relay) as process:
        try:
            until(lambda: _listens(port), what="socat")
            uri = f"qemu+tcp://127.0.0.1:{port}/system"
            with _screens(agent, private_libvirtd, uri) as screens:
                for name, graphics in (
                    ("tcp-address", ADDRESS),
                    ("tcp-socket", shared_socket(private_libvirtd)),
                ):
                    machine = screens.machine(name, graphics)
                    with screens.site.browser(bob, machine) as browser:
                        shake_hands(browser)
        finally:
            process.terminate()
            process.wait(10)
