"""An Open vSwitch of our own, to kill and freeze without touching the machine's.

    with PrivateOvs() as switch:
        switch.vsctl("add-br", "br0")

ovsdb-server and ovs-vswitchd (userspace datapath) run in network, mount and PID namespaces of their
own. The network namespace has a name, for ``ip netns exec`` and pyroute2; the directory is seen
under its own path from here too, so ``switch.socket`` works on both sides. Commands inside, and a
helper that shall find it all where a host has it: ``[*switch.enter, "ip", "link"]``. Namespaces
that are given names inside are seen inside only. Needs root.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.waiting import until

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
# What the namespace sees of the directory instead of the machine's own.
MOUNTS = {"run": "/run/openvswitch", "etc": "/etc/openvswitch", "log": "/var/log/openvswitch"}
OVSDB, VSWITCHD = "ovsdb-server", "ovs-vswitchd"
# Of a row, what ovs-vswitchd writes there, besides what the schema calls ephemeral.
TOLD = {
    "_uuid", "_version", "cur_cfg", "next_cfg", "bond_active_slave", "datapath_version", "ofport",
    "cfm_flap_count",
}  # fmt: skip


class PrivateOvs:
    """``name`` is the network namespace's, ``directory`` is made and removed by us."""

    def __init__(self) -> None:
        self.name = f"kvmweb-ovs-{uuid.uuid4().hex[:6]}"
        self.directory = Path(tempfile.mkdtemp(prefix="kvmweb-ovs-", dir="/var/tmp"))
        self.run = self.directory / "run"
        self.socket = self.run / "db.sock"
        self._shell: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Self:
        try:
            for name in MOUNTS:
                (self.directory / name).mkdir()
            # The kernel may be busy taking other namespaces apart, one after the other.
            subprocess.run(["ip", "netns", "add", self.name], check=True, timeout=60)
            self._open_namespace()
            self._inside("ip", "link", "set", "lo", "up")
            self._inside("ovsdb-tool", "create", "/etc/openvswitch/conf.db", SCHEMA)
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.remove()

    @property
    def enter(self) -> list[str]:
        """The words in front of a command that is to run inside."""
        return ["nsenter", "-t", str(self._init), "--mount", "--pid", "--net", "--"]

    def start(self) -> None:
        """Start what does not run of the two; returns when both answer."""
        self.start_ovsdb()
        self.start_vswitchd()

    def start_ovsdb(self) -> None:
        if not self.pid(OVSDB):
            self._daemon(
                OVSDB, "/etc/openvswitch/conf.db", "--remote=punix:/run/openvswitch/db.sock"
            )
            self.vsctl("--no-wait", "init")

    def start_vswitchd(self) -> None:
        if not self.pid(VSWITCHD):
            self._daemon(VSWITCHD, "unix:/run/openvswitch/db.sock")
            self.vsctl("set", "Open_vSwitch", ".", "external_ids:private=1")

    def kill(self, program: str) -> None:
        pid = self.pid(program)
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.pid(program) != pid, what=f"{program} to end")

    @contextlib.contextmanager
    def frozen(self, program: str) -> Iterator[None]:
        """Its sockets stay open, nothing answers."""
        pid = self.pid(program)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def pid(self, program: str) -> int:
        """As seen from here; 0 when it does not run."""
        return next((pid for pid, name in self.processes().items() if name == program), 0)

    def processes(self) -> dict[int, str]:
        """Everything that runs in the PID namespace, with its command's name."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if self._init and (entry / "ns/pid").readlink() == self._namespace:
                    # The kernel keeps 15 bytes of a name; a zombie has none of the links.
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
            except OSError:
                continue  # it ended while we looked
        return found

    def execute(self, *command: str, seconds: float = 60) -> str:
        """What the command printed inside, which has to succeed."""
        ended = subprocess.run(
            [*self.enter, *command],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
        )
        assert ended.returncode == 0, f"{' '.join(command)}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def vsctl(self, *words: str) -> str:
        return self.execute("ovs-vsctl", "--timeout=15", *words).strip()

    def dump(self) -> dict[str, list[str]]:
        """The whole database modulo UUIDs and counters: a reference is the name of what it names,
        or the row itself. Two dumps are equal when nothing was left behind.
        """
        schema = json.loads(Path(SCHEMA).read_text())["tables"]
        tables = self._rows(schema)
        named = {
            row["_uuid"][1]: str(row.get("name", table))
            for table, rows in tables.items()
            for row in rows
        }
        return {
            table: sorted(_text(row, schema[table]["columns"], named) for row in rows)
            for table, rows in tables.items()
            if table != "Datapath"
        }

    def _rows(self, tables: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """Of all tables at one moment."""
        names = list(tables)
        selects = [{"op": "select", "table": name, "where": []} for name in names]
        query = json.dumps(["Open_vSwitch", *selects])
        words = ("ovsdb-client", "transact", "unix:/run/openvswitch/db.sock", query)
        results = json.loads(self.execute(*words))
        return {name: result["rows"] for name, result in zip(names, results, strict=True)}

    def links(self) -> list[str]:
        return [line.split()[0] for line in self.execute("ip", "-br", "link").splitlines()]

    def _daemon(self, program: str, *words: str) -> None:
        log = f"--log-file=/var/log/openvswitch/{program}.log"
        self._inside(program, *words, "--pidfile", "--detach", "--no-chdir", "-vconsole:emer", log)

    def _inside(self, *command: str) -> None:
        subprocess.run([*self.enter, *command], check=True, stdin=subprocess.DEVNULL, timeout=30)

    def _open_namespace(self) -> None:
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with (self.directory / "init.log").open("wb") as log:
            self._shell = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *unshare, sys.executable, "-m", "tests.ovs",
                 str(self.directory), self.name],
                # When we end, however we end, it reads that, and ends the namespace.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parent.parent,
                start_new_session=True,
            )  # fmt: skip
        ready = self.directory / "ready"
        until(lambda: ready.exists() or self._failed_to_open(), what="the namespace to be there")
        self._init = next(_children(self._shell.pid))
        self._namespace = Path(f"/proc/{self._init}/ns/pid").readlink()

    def _failed_to_open(self) -> bool:
        assert self._shell
        if self._shell.poll() is not None:
            raise RuntimeError((self.directory / "init.log").read_text())
        return False

    def remove(self) -> None:
        """End everything in the namespaces, remove them, and look that nothing is left."""
        processes = self.processes()
        if self._shell:
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self._shell.communicate(timeout=30)
        self._init = 0
        until(lambda: not any(map(_exists, processes)), what=f"{processes} to end")
        if Path("/run/netns", self.name).exists():
            subprocess.run(["ip", "netns", "delete", self.name], check=True, timeout=60)
        shutil.rmtree(self.directory, ignore_errors=True)
        assert not self.directory.exists()


def _text(row: dict[str, Any], columns: dict[str, Any], named: dict[str, str]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, list) and value[:1] == ["uuid"]:
            return named.get(value[1], "?")
        if isinstance(value, list):
            return sorted((plain(part) for part in value), key=json.dumps)
        return value

    told = TOLD | {name for name, one in columns.items() if one.get("ephemeral")}
    kept = {name: plain(value) for name, value in row.items() if name not in told}
    return json.dumps(kept, sort_keys=True)


def _children(pid: int) -> Iterator[int]:
    yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _be_init(directory: Path, name: str) -> None:
    """Process 1 of the namespace: mount, then reap until nobody holds our standard input."""
    for part, target in MOUNTS.items():
        Path(target).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", str(directory / part), target], check=True)
    # It sees no other namespace by name, and those made inside end with it.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
    (directory / "ready").touch()
    # Ignoring it, the kernel reaps our adopted children itself.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdin.read()
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    subprocess.run(["umount", "--lazy", "/run/netns"], check=False)
    subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _be_init(Path(sys.argv[1]), sys.argv[2])
