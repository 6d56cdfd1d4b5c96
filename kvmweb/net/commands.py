"""Commands that only look, for a person to run on the host or in a namespace of it.

Only what fits one of ``_ALLOWED`` is run, as a list of words, never by a shell.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import Any

from kvmweb.net import namespaces
from kvmweb.net.calls import call
from kvmweb.net.context import Context
from kvmweb.net.errors import NetError

_BYTES = 64 * 1024
_SECONDS = 20.0
# Neither begins with a dash, so that none is taken for an option.
_WORD = re.compile(r"[A-Za-z0-9_.:/%@+-]{1,100}")
_NAME = r"[A-Za-z0-9_.:@+][A-Za-z0-9_.:@+-]{0,14}"
_ADDRESS = r"[A-Za-z0-9:][A-Za-z0-9.:%_-]*"
_ALLOWED = [
    re.compile(pattern.replace("NAME", _NAME).replace("ADDRESS", _ADDRESS))
    for pattern in (
        r"ip( -[46dsoj]| -br)* (a|addr|address|l|link|n|neigh)( show| list)?( dev NAME)?",
        r"ip( -[46dsoj])* (r|route)( show| list)?( dev NAME)?( table (all|main|local|\d+))?",
        r"ip( -[46])? (r|route) get ADDRESS",
        r"ip( -[46])? (ru|rule)( show| list)?",
        r"bridge( -[dsj])* (link|vlan|fdb|mdb)( show)?( (dev|br) NAME)?",
        r"ping( -[46n])*( -c ([1-9]|10))?( -i (0\.[2-9]|1))?( -W [1-5])?( -M do)?( -s \d{1,5})?"
        r" ADDRESS",
        r"traceroute( -[46nI])*( -[mq] ([1-9]|[1-3]\d))*( -w [1-3])? ADDRESS",
        r"tracepath( -[46n])*( -m ([1-9]|[1-3]\d))? ADDRESS",
        r"ss( -[tulnpa46H]{1,8})*",
        r"nft( -[ans]{1,3})? list (ruleset|tables|chains)",
        r"ethtool( -[kiS])? NAME",
        r"tc( -[sd])* (qdisc|class|filter) show( dev NAME)?",
    )
]


def check(words: list[str]) -> None:
    """``NetError`` for what is not on the list."""
    if not all(_WORD.fullmatch(word) for word in words) or not any(
        pattern.fullmatch(" ".join(words)) for pattern in _ALLOWED
    ):
        raise NetError(
            "Only commands that look can be run here: ip address, route, neigh and link, bridge, "
            "ping, traceroute, ss, nft list, ethtool and tc show, with their usual options.",
            field="command",
        )


@call("run", seconds=_SECONDS + 5)
def run(context: Context, *, command: list[str], namespace: str = "") -> dict[str, Any]:
    """``code`` None: it was ended at its deadline. ``is_cut``: there was more ``output``."""
    check(command)
    if namespace and namespace not in namespaces.names():
        raise NetError(
            f"There is no network namespace “{namespace}” on this host.", field="namespace"
        )
    enter = ["ip", "netns", "exec", namespace] if namespace else []
    return _ended([*enter, *_bounded(command)])


def _bounded(command: list[str]) -> list[str]:
    """ping ends by itself."""
    is_endless = command[0] == "ping" and "-c" not in command
    return [command[0], "-c", "4", *command[1:]] if is_endless else command


def _ended(words: list[str]) -> dict[str, Any]:
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise NetError(f"The program “{words[0]}” is missing on this host.") from None
    try:
        output, _ = process.communicate(timeout=_SECONDS)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        code = None
    text = output[:_BYTES].decode(errors="replace")
    return {"output": text, "code": code, "is_cut": len(output) > _BYTES}
