"""How a helper is started: here as root or by sudo, on a remote host by ssh.

A remote host needs sshd, python3 (3.10 or newer) and, where the site does not sign in as root,
sudo. The helper itself is sent to it once, and kept there under its checksum.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from kvmweb.net import archive
from kvmweb.net.archive import Archive
from kvmweb.net.errors import NetError

# Runs on the host before anything of ours is there: takes the archive unless the host has it, and
# becomes the helper.
_RECEIVE = """
import hashlib, os, sys
digest, size = sys.argv[1], int(sys.argv[2])
if sys.version_info < (3, 10):
    sys.exit("python3 is older than 3.10: " + sys.version.split()[0])
home = os.path.expanduser("~/.cache")
folder = "/var/lib/kvmweb" if os.geteuid() == 0 else os.path.join(home, "kvmweb")
path = os.path.join(folder, "net-" + digest + ".pyz")
def is_there():
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest() == digest
    except OSError:
        return False
if is_there():
    os.write(1, b"have\\n")
else:
    os.write(1, b"send\\n")
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            sys.exit("the connection ended")
        data += more
    os.makedirs(folder, mode=0o700, exist_ok=True)
    new = path + "." + str(os.getpid())
    with open(new, "wb") as file:
        file.write(data)
    os.replace(new, path)
    if not is_there():
        sys.exit("the helper arrived damaged")
words = [sys.executable, "-I", path, "--ssh-connection", os.environ.get("SSH_CONNECTION", "")]
if os.geteuid():
    words = ["sudo", "-n", *words]
os.execvp(words[0], words)
"""


@dataclass(frozen=True)
class Launch:
    """``words`` start it. ``archive``: what the other end asks for first, if it does not have it.
    ``where``: the host in sentences.
    """

    words: list[str]
    archive: Archive | None = None
    where: str = "this host"


def here(prefix: Sequence[str] = ()) -> Launch:
    """On this host; ``prefix`` goes in front: ``ip netns exec NAME``. The words are always the
    same, so that a rule in sudoers(5) can name them.
    """
    package = str(Path(__file__).resolve().parent)
    words = [*prefix, sys.executable, "-I", package]
    return Launch(words if os.geteuid() == 0 else ["sudo", "-n", *words])


def by_uri(uri: str) -> Launch:
    """On the host of a libvirt URI. Raises ``NetError`` for one that shows no way to it."""
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2]
    if transport in ("ssh", "libssh", "libssh2"):
        return by_ssh(uri)
    if not parts.hostname and transport in ("", "unix") and parts.scheme != "test":
        return here()
    if parts.scheme == "test":
        raise NetError("This host is libvirt's test driver: it has no network.", kind="missing")
    raise NetError(
        f"A host reached by {transport or 'TLS'} shows its virtual networks only. To see and "
        "change its own network, connect to it by ssh: qemu+ssh://user@host/system.",
        kind="missing",
    )


def by_ssh(uri: str) -> Launch:
    """What libvirt's URI says about ssh holds here: https://libvirt.org/uri.html."""
    parts = urlsplit(uri)
    given = dict(parse_qsl(parts.query))
    packed = archive.build()
    receive = ["python3", "-c", _RECEIVE, packed.digest, str(len(packed.data))]
    options = ["-T", "-o", "BatchMode=yes", "-o", "ForwardX11=no", "-o", "ForwardAgent=no"]
    options += ["-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5"]
    options += ["-o", "ServerAliveCountMax=3"]
    if parts.port:
        options += ["-p", str(parts.port)]
    if parts.username:
        options += ["-l", parts.username]
    options += _keys(given)
    # sshd gives one string to the user's shell: each word is quoted for it.
    words = [given.get("command", "ssh"), *options, "--", parts.hostname or "", shlex.join(receive)]
    return Launch(words, packed, parts.hostname or "")


def _keys(given: dict[str, str]) -> list[str]:
    options = ["-i", given["keyfile"]] if "keyfile" in given else []
    known_hosts = given.get("known_hosts") or given.get("knownhosts")
    if known_hosts:
        options += ["-o", f"UserKnownHostsFile={known_hosts}"]
    verify = given.get("known_hosts_verify") or given.get("knownhosts_verify")
    if given.get("no_verify") == "1" or verify == "ignore":
        remembers = [] if known_hosts else ["-o", "UserKnownHostsFile=/dev/null"]
        return [*options, *remembers, "-o", "StrictHostKeyChecking=no"]
    return options + (["-o", "StrictHostKeyChecking=accept-new"] if verify == "auto" else [])


# (pattern in what sudo, ssh, the shell or Python said, sentence); {host} is where.
_REASONS = [
    (
        r"sudo: (a password is required|.*a terminal is required)",
        "sudo on {host} asks for a password. Let the site's user run the helper without one: see "
        "deploy/README.md for the line in sudoers.",
    ),
    (
        r"no new privileges",
        "sudo can't work on {host}: the site's service runs with NoNewPrivileges=yes. See the unit "
        "of the agent in deploy/systemd.",
    ),
    (
        r"(is not in the sudoers file|not allowed to (execute|run))",
        "sudo on {host} does not let the site's user run the helper: see deploy/README.md for the "
        "line in sudoers.",
    ),
    (
        r"(sudo: (command )?not found|'sudo')",
        "{host} has no sudo. Install it, or connect as root.",
    ),
    (
        r"python3: (command )?not found|python3: No such file",
        "{host} has no python3. Install it (3.10 or newer).",
    ),
    (
        r"python3 is older than 3\.10: (?P<version>\S+)",
        "{host} has Python {version}; its network needs 3.10 or newer.",
    ),
    (
        r"Host key verification failed",
        "The ssh key of {host} is not known yet. Sign in there once by ssh as the site's user, "
        "compare the key, and accept it.",
    ),
    (
        r"Permission denied \(",
        "{host} refused the site's ssh key. Add the public key to ~/.ssh/authorized_keys there.",
    ),
    (r"Could not resolve hostname", "The name {host} can't be resolved. Check its spelling."),
    (
        r"Connection refused",
        "Nothing answers ssh at {host}: the connection was refused. Check the port, and sshd.",
    ),
    (
        r"(Connection timed out|Operation timed out|No route to host|Network is unreachable)",
        "There is no network path to {host}. Check the address and the network between.",
    ),
]


def reason(said: str, where: str) -> str:
    """Why no helper came up, from what was said on standard error."""
    for pattern, sentence in _REASONS:
        found = re.search(pattern, said)
        if found:
            return sentence.format(host=where, **found.groupdict())
    last = said.strip().splitlines()[-1:] or ["it ended without a word"]
    return f"The helper on {where} did not start: {last[0]}"
