"""A host's network that a test wants: planned, applied, confirmed by a helper, removed at the end.

with Applied(client) as network:
    network.apply(links=[{"kind": "bridge", "name": "br0"}])
"""

from types import TracebackType
from typing import Any, Self

from kvmweb.net.client import Client
from kvmweb.spec.hostnet import HostNetwork

Document = dict[str, Any]


def document(**parts: Any) -> Document:
    """As the site gives it to a helper (spec/hostnet.py), with all its defaults."""
    return HostNetwork.model_validate(parts).model_dump(mode="json")


class Applied:
    """``document`` is what is there now."""

    def __init__(self, helper: Client) -> None:
        self.helper = helper
        self.document = document()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.apply()

    def apply(self, **parts: Any) -> list[list[str]]:
        """What did it, as commands. Applied a second time, the same has nothing to do."""
        desired = document(**parts)
        commands = self._apply(desired)
        assert self._plan(desired)["steps"] == []
        return commands

    def _apply(self, desired: Document) -> list[list[str]]:
        digest = self._plan(desired)["digest"]
        ended = self.helper.call("apply", desired=desired, owned=self.document, digest=digest)
        if ended["state"] == "unconfirmed":
            self.helper.call("confirm", token=ended["token"])
        self.document = desired
        return list(ended["commands"])

    def _plan(self, desired: Document) -> Document:
        answer: Document = self.helper.call("plan", desired=desired, owned=self.document)
        return answer
