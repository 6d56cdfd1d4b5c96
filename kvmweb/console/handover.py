"""A display's socket, from the agent that dialled it to the process that serves the console.

The agent listens on a unix socket in ``STATE_DIR``, open to its own user only. One request per
connection: a line of JSON, answered by a line of JSON, with the file descriptor beside it.
"""

import hashlib
import json
import logging
import os
import socket
import struct
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from django.conf import settings

from kvmweb.console.sockets import short_name
from kvmweb.console.ways import DEADLINE, Dialled, dial_here, within
from kvmweb.virt.errors import OperationError

logger = logging.getLogger(__name__)

AT_ONCE = 64
LONGEST_REQUEST = 4096


@dataclass(frozen=True)
class Wanted:
    """A display to dial, as the other process named it."""

    host_id: int
    agent: str
    uri: str
    machine_uuid: UUID


class Handover:
    """The agent's side; ``close`` ends it."""

    def __init__(self, agent: str) -> None:
        self._path = _path(agent)
        self._path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        with short_name(self._path) as name:
            self._listening.bind(name)
        self._path.chmod(0o600)
        self._listening.listen(AT_ONCE)
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._thread = threading.Thread(target=self._accept, name="handover", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            self._places.acquire()
            try:
                asking, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[asking], daemon=True).start()

    def _serve(self, asking: socket.socket) -> None:
        try:
            with asking:
                asking.settimeout(DEADLINE)
                _answer(asking)
        except OSError as error:
            logger.warning("a console's process went away while its display was dialled: %s", error)
        finally:
            self._places.release()


def serve_handover(agent: str = "") -> Handover:
    """To be called once by a process with an agent; ``agent`` is its name, if not the setting's."""
    return Handover(agent or settings.AGENT_NAME)


def ask(wanted: Dialled) -> socket.socket:
    """From the agent that holds the host. Raises ``OperationError``."""
    try:
        return _ask(wanted)
    except (OSError, ValueError) as error:
        logger.warning("no display from the agent %s: %s", wanted.agent, error)
        raise OperationError(
            "The agent of this host can't be reached. Start it, then try again."
        ) from None


def _ask(wanted: Dialled) -> socket.socket:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(DEADLINE + 2)
        with short_name(_path(wanted.agent)) as name:
            asking.connect(name)
        asking.sendall(_request(wanted))
        text, descriptors, _, _ = socket.recv_fds(asking, LONGEST_REQUEST, 1)
    answer = json.loads(text)
    if not descriptors:
        raise OperationError(str(answer["error"]))
    return socket.socket(fileno=descriptors[0])


def _request(wanted: Dialled) -> bytes:
    named = Wanted(wanted.host_id, wanted.agent, wanted.uri, wanted.machine_uuid)
    return json.dumps(asdict(named), default=str).encode() + b"\n"


def _answer(asking: socket.socket) -> None:
    if _user_of(asking) not in (0, os.getuid()):
        return
    with asking.makefile("rb") as stream:
        asked = json.loads(stream.readline(LONGEST_REQUEST))
    wanted = Wanted(**{**asked, "machine_uuid": UUID(asked["machine_uuid"])})
    try:
        found = within(DEADLINE, lambda: dial_here(wanted), undo=socket.socket.close)
    except OperationError as error:
        asking.sendall(json.dumps({"error": error.sentence}).encode() + b"\n")
        return
    with found:
        socket.send_fds(asking, [b"{}\n"], [found.fileno()])


def _user_of(asking: socket.socket) -> int:
    credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _path(agent: str) -> Path:
    name = hashlib.sha256(agent.encode()).hexdigest()[:16]
    directory: Path = settings.STATE_DIR
    return directory / f"agent-{name}.sock"
