"""Displays of hosts that are reached by ssh: one master connection per host, and through it one
forwarded socket per console. What libvirt's URI says about ssh holds here too
(https://libvirt.org/uri.html#transport-configuration).
"""

import hashlib
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from pathlib import Path

from django.conf import settings

from kvmweb.console.sockets import short_name
from kvmweb.virt.displays import Listening, Route
from kvmweb.virt.errors import OperationError

# So long a master stays when its last console has gone.
MASTER_SECONDS = 60
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_starting = threading.Lock()


def dial(route: Route, listening: Listening, deadline: float) -> socket.socket:
    """A socket to the display of a machine on that host. Raises ``OperationError``."""
    if listening.path:
        target = listening.path
    elif listening.port:
        address = f"[{listening.address}]" if ":" in listening.address else listening.address
        target = f"{address}:{listening.port}"
    else:
        raise OperationError(
            "The display listens nowhere, so ssh can't reach it. Give it an address or a socket."
        )
    ends = time.monotonic() + deadline
    _open_master(route, ends)
    return _through(route, target, ends)


def _through(route: Route, target: str, ends: float) -> socket.socket:
    """By a socket in our directory that lives for this one connection."""
    name = f"./{uuid.uuid4().hex[:16]}"
    forward = ["-L", f"{name}:{target}"]
    _control(route, "forward", forward, ends)
    path = _directory() / name
    try:
        return _connect(path, ends)
    finally:
        # The connection made stays; nobody else comes in.
        path.unlink(missing_ok=True)
        _control(route, "cancel", forward, time.monotonic() + 5)


def _connect(path: Path, ends: float) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(max(ends - time.monotonic(), 0.1))
        with short_name(path) as short:
            made.connect(short)
        # A VNC server speaks first. Before it does, nobody knows whether ssh got through to it.
        if made.recv(1, socket.MSG_PEEK):
            return made
    except OSError as error:
        made.close()
        raise OperationError(f"ssh could not reach the display: {error}.") from error
    made.close()
    raise OperationError("ssh could not reach the display: nothing listens there.")


def _open_master(route: Route, ends: float) -> None:
    with _starting:
        lock = _locks[_name(route)]
    with lock:
        if _is_open(route, ends):
            return
        left = max(int(ends - time.monotonic()), 1)
        options = ["-M", "-N", "-f", "-o", f"ControlPersist={MASTER_SECONDS}"]
        options += ["-o", f"ConnectTimeout={left}", "-o", "ExitOnForwardFailure=yes"]
        options += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
        _run(route, options, ends)


def _is_open(route: Route, ends: float) -> bool:
    try:
        _control(route, "check", [], ends)
    except OperationError:
        return False
    return True


def _control(route: Route, command: str, options: list[str], ends: float) -> None:
    _run(route, ["-O", command, *options], ends)


def _run(route: Route, options: list[str], ends: float) -> None:
    """Run ssh in our directory, where every path is short. Raises ``OperationError``."""
    program = route.parameters.get("command", "ssh")
    command = [program, "-S", f"./{_name(route)}", *_options(route), *options, "--", route.host]
    # A file: the master keeps what it was given as stderr, and a pipe would never end.
    with tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(
                command,
                cwd=_directory(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                timeout=max(ends - time.monotonic(), 0.5),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise OperationError("ssh got no answer from the host.") from None
        except OSError as error:
            raise OperationError(f"{program} can't be run: {error}.") from None
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
    if done.returncode:
        raise OperationError(f"ssh says: {said[-1] if said else 'nothing'}")


def _options(route: Route) -> list[str]:
    options = ["-o", "BatchMode=yes", "-o", "ForwardX11=no", "-o", "ForwardAgent=no"]
    if route.port:
        options += ["-p", str(route.port)]
    if route.user:
        options += ["-l", route.user]
    given = route.parameters
    if "keyfile" in given:
        options += ["-i", given["keyfile"]]
    known_hosts = given.get("known_hosts") or given.get("knownhosts")
    if known_hosts:
        options += ["-o", f"UserKnownHostsFile={known_hosts}"]
    return options + _checking(given)


def _checking(given: dict[str, str]) -> list[str]:
    verify = given.get("known_hosts_verify") or given.get("knownhosts_verify") or "normal"
    if verify == "ignore" or given.get("no_verify", "0") not in ("", "0"):
        return ["-o", "StrictHostKeyChecking=no"]
    return ["-o", "StrictHostKeyChecking=accept-new"] if verify == "auto" else []


def _name(route: Route) -> str:
    """The master's control socket: one per host and way to sign in there."""
    told = repr((route.host, route.port, route.user, sorted(route.parameters.items())))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _directory() -> Path:
    directory: Path = settings.STATE_DIR / "ssh"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory
