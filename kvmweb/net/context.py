"""What actions and readers work with: sockets to the kernel by namespace, and to OVSDB.

For whoever writes a part (ovs, routers, forwards):

- ``context.rtnetlink("red")`` is a netlink socket in the namespace ``red`` of ``ip netns``; ``""``
  is the host's own, the one the helper runs in. changes.py and addresses.py have steps ready made.
- ``context.run(["nft", "-f", "-"], namespace="red", stdin=rules)`` runs a program there, with a
  deadline, and returns what it printed; a failure is a ``StepError`` with the program's own words.
- ``context.ovs`` is for ovs to fill at first use; if it has ``close()`` that is called at the end.
- ``context.queues`` and ``context.number`` are for batches (step.py).

A context belongs to one thread, and lasts for one call. An open socket keeps a namespace alive, so
``context.forget("red")`` before it is removed.
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from types import TracebackType
from typing import Any

from kvmweb.net.errors import StepError
from kvmweb.net.rtnetlink import Rtnetlink


class Context:
    """``number``: of the step being carried out, in its plan. ``helper``: whose call this is."""

    def __init__(self) -> None:
        self.helper: Any = None
        self.ovs: Any = None
        self.queues: defaultdict[str, list[Any]] = defaultdict(list)
        self.number = 0
        self._rtnetlink: dict[str, Rtnetlink] = {}

    def rtnetlink(self, namespace: str = "") -> Rtnetlink:
        if namespace not in self._rtnetlink:
            self._rtnetlink[namespace] = Rtnetlink(namespace)
        return self._rtnetlink[namespace]

    def forget(self, namespace: str) -> None:
        """Close what is open in a namespace: it is removed, or was."""
        if namespace in self._rtnetlink:
            self._rtnetlink.pop(namespace).close()

    def run(
        self, command: list[str], *, namespace: str = "", stdin: str = "", seconds: float = 10
    ) -> str:
        """What the program printed. ``command`` is what a person would type in that namespace."""
        words = ["ip", "netns", "exec", namespace, *command] if namespace else command
        try:
            ended = subprocess.run(
                words, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
            )
        except FileNotFoundError:
            raise StepError(f"The program “{words[0]}” is missing on this host.") from None
        except subprocess.TimeoutExpired:
            raise StepError(f"“{' '.join(command)}” did not end within {seconds:g} s.") from None
        if ended.returncode:
            why = ended.stderr.strip() or ended.stdout.strip() or f"exit code {ended.returncode}"
            raise StepError(f"“{' '.join(command)}” failed: {why}")
        return ended.stdout

    def close(self) -> None:
        for name in list(self._rtnetlink):
            self.forget(name)
        close = getattr(self.ovs, "close", None)
        if close:
            close()
        self.ovs = None

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()
