"""Reverts a risky change that nobody confirms: a process of its own on the host, for the helper,
its ssh connection and the site may be what the change cut off.

It looks at the journal only, so it may be killed and started again at any time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from kvmweb.net import apply, journal
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError

# A helper that hangs in the middle of a plan is ended after so many seconds more.
_PATIENCE = 60.0


def main() -> None:
    token = sys.argv[2]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _leave_control_group()
    with Context() as context:
        while not _is_over(context, token):
            time.sleep(0.1)


def _leave_control_group() -> None:
    """systemd ends a unit with all in its control group: the site's, or the ssh session's."""
    for root in ("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/systemd/cgroup.procs"):
        with contextlib.suppress(OSError):
            Path(root).write_text(str(os.getpid()))


def _is_over(context: Context, token: str) -> bool:
    try:
        written = journal.read(token)
    except NetError:
        return True
    if not written.is_open:
        return True
    if written.state == journal.UNCONFIRMED and written.deadline > time.monotonic():
        return False
    if time.monotonic() > written.head["clock"] + written.head["seconds"] + _PATIENCE:
        _end(written.head["pid"])
    with contextlib.suppress(NetError), journal.alone(seconds=0):
        apply.recover(context)  # nobody is at it, so whoever was has ended
    return False


def _end(pid: int) -> None:
    """A helper; not whoever has its number now."""
    with contextlib.suppress(OSError):
        if b"kvmweb" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
