"""What actions and readers work with: sockets to the kernel by namespace, and to OVSDB.

For whoever writes a part (ovs, routers, forwards):

- ``context.netns_of("red")`` is pyroute2's IPRoute in the namespace ``red`` of ``ip netns``; ``""``
  is the host's own (the one the helper runs in). Opened at first use, closed with the context.
  Importing pyroute2 takes 0.2 s (7 s in a TCG guest): it happens at the first call, not before.
- ``context.run(["nft", "-f", "-"], namespace="red", stdin=rules)`` runs a program there, with a
  deadline, and returns what it printed; a failure is a ``StepError`` with the program's own words.
- ``context.ovs`` is ovs.py's to fill at first use; if it has ``close()`` that is called at the end.
- ``context.queues`` and ``context.number`` are for batches (step.py).

A context belongs to one thread, and lasts for one call: an open socket keeps a namespace alive, so
``context.forget("red")`` before it is removed. ``links.read`` and the actions of links.py do not use
pyroute2 but ``context.rtnetlink(namespace)`` (rtnetlink.py): decoding 600 links took pyroute2 0.3 s,
and a request 0.5 ms, where batches of plain messages take 0.02 s and 0.05 ms.
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
        self._pyroute2: dict[str, Any] = {}
        self._rtnetlink: dict[str, Rtnetlink] = {}

    def netns_of(self, name: str = "") -> Any:
        """pyroute2's IPRoute in the namespace ``name``."""
        if name not in self._pyroute2:
            from pyroute2 import IPRoute, NetNS

            self._pyroute2[name] = NetNS(name, flags=0) if name else IPRoute()
        return self._pyroute2[name]

    def rtnetlink(self, namespace: str = "") -> Rtnetlink:
        if namespace not in self._rtnetlink:
            self._rtnetlink[namespace] = Rtnetlink(namespace)
        return self._rtnetlink[namespace]

    def forget(self, namespace: str) -> None:
        """Close what is open in a namespace: it is removed, or was."""
        for opened in (self._pyroute2.pop(namespace, None), self._rtnetlink.pop(namespace, None)):
            if opened is not None:
                opened.close()

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
        for name in {*self._pyroute2, *self._rtnetlink}:
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
