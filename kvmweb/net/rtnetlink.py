"""rtnetlink(7) in batches: many changes in one message to the kernel, one dump per kind."""

from __future__ import annotations


class Rtnetlink:
    def __init__(self, namespace: str = "") -> None:
        self.namespace = namespace

    def close(self) -> None:
        pass
