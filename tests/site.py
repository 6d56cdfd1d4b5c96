"""The real site: ``manage.py serve`` in a process and a state directory of its own.

with Site(uri="test:///default") as site:
    httpx.get(site.url + "/healthz")
"""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "correct horse battery staple"


class Site:
    """``url`` is where it serves; the administrator is ``admin`` with ``PASSWORD``."""

    def __init__(self, *, uri: str, environment: Mapping[str, str] | None = None) -> None:
        self.uri = uri
        self.state = Path(tempfile.mkdtemp(prefix="kvmweb-site-", dir="/var/tmp"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **os.environ,
            "KVMWEB_STATE_DIR": str(self.state),
            "KVMWEB_BIND": f"127.0.0.1:{self.port}",
            "KVMWEB_ADMIN_PASSWORD": PASSWORD,
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.manage("prepare", "--uri", self.uri)
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self.state)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.state / "output").read_text()

    def manage(self, *arguments: str) -> str:
        """What ``manage.py`` printed."""
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def start(self) -> None:
        """Start it and wait until site and agent are up."""
        with (self.state / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), "serve"],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        until(self._is_up, seconds=30, what="the site to be up")
        until(self._has_met_its_hosts, seconds=60, what="the agent to know how its hosts are")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.wait(20)

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the site ended:\n{self.log}")
        try:
            return httpx.get(self.url + "/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def _has_met_its_hosts(self) -> bool:
        with closing(sqlite3.connect(self.state / "kvmweb.sqlite3")) as database:
            states = database.execute("SELECT state FROM kvmweb_host").fetchall()
        return ("connecting",) not in states

    def token(self, user: str = "admin") -> str:
        """A new API token of this user."""
        return self.manage("token", user).strip()

    def api(self, user: str = "admin") -> httpx.Client:
        """A client of /api/v1 that holds a token of this user."""
        headers = {"Authorization": f"Bearer {self.token(user)}"}
        return httpx.Client(base_url=self.url + "/api/v1", headers=headers, timeout=30)

    @contextmanager
    def browser_session(
        self, user: str = "admin", password: str = PASSWORD
    ) -> Iterator[httpx.Client]:
        """A client that is signed in through the sign-in page, as a browser would be."""
        with httpx.Client(base_url=self.url, timeout=30) as client:
            client.get("/accounts/login/").raise_for_status()
            form = {"login": user, "password": password}
            answer = client.post(
                "/accounts/login/",
                data={**form, "csrfmiddlewaretoken": client.cookies["csrftoken"]},
                headers={"Referer": self.url},
            )
            assert answer.status_code == 302, answer.text
            yield client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
