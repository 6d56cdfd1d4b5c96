"""The state of the creation wizard: all of it is in the form, nothing is kept on the server."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from pydantic import ValidationError

from kvmweb import tiny_guest
from kvmweb.models import Host, Network
from kvmweb.operations.creation.checks import check
from kvmweb.operations.creation.draft import chosen_pool, proposed_name
from kvmweb.operations.creation.wish import Wish
from kvmweb.operations.operation import sentences
from kvmweb.spec.creation import Source

MEMORY_MIB, DISK_GIB = 2048, 20
FIELDS = (
    "source", "host", "iso", "disk_path", "memory_mib", "vcpus", "storage", "disk_gib", "pool",
    "name", "title", "network", "bridge", "start_network", "firmware", "start", "xml",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    name: str
    label: str | Promise
    fields: tuple[str, ...]


SOURCE = Step("source", _("Operating system"), ("host", "source"))
MEDIA = Step("media", _("Media"), ("iso", "disk_path"))
RESOURCES = Step("resources", _("Memory and CPUs"), ("memory_mib", "vcpus"))
STORAGE = Step("storage", _("Storage"), ("storage", "disk_gib", "pool", "disk_path"))
READY = Step(
    "ready",
    _("Ready"),
    ("name", "title", "network", "bridge", "start_network", "firmware", "start"),
)
DOCUMENT = Step("document", _("XML"), ("xml", "start"))
_STEPS = {
    "": (SOURCE, MEDIA, RESOURCES, STORAGE, READY),
    "xml": (SOURCE, DOCUMENT),
    Source.ISO: (SOURCE, MEDIA, RESOURCES, STORAGE, READY),
    Source.IMPORT: (SOURCE, MEDIA, RESOURCES, READY),
    Source.PXE: (SOURCE, RESOURCES, STORAGE, READY),
    Source.BLANK: (SOURCE, RESOURCES, STORAGE, READY),
    Source.TINY: (SOURCE, RESOURCES, STORAGE, READY),
}


@dataclass
class Wizard:
    """``typed`` holds what the person has filled in; what is not there has its default."""

    host: Host
    typed: dict[str, str]
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, host: Host, data: QueryDict) -> "Wizard":
        # An unticked box sends nothing: a hidden 0 goes before it, and the last one counts.
        typed = {name: str(data[name]).strip() for name in FIELDS if name in data}
        field_name = data.get("pick_for", "")
        if "pick" in data and field_name in ("iso", "disk_path"):
            typed[field_name] = str(data["pick"])
            if field_name == "disk_path" and "storage" in typed:
                typed["storage"] = "existing"
        return cls(host, typed)

    def __getitem__(self, name: str) -> str:
        """For templates: ``{{ wizard.name }}``. The host is there by its name."""
        if name not in FIELDS:
            raise KeyError(name)
        return self.typed.get(name, "") or self.defaults.get(name, "")

    @cached_property
    def defaults(self) -> dict[str, str]:
        is_tiny = self.source == Source.TINY
        half_of_host = self.host.memory_kib // 2048 or MEMORY_MIB
        network = self._default_network
        return {
            "host": self.host.name,
            "memory_mib": str(tiny_guest.MEMORY_MIB if is_tiny else min(MEMORY_MIB, half_of_host)),
            "vcpus": "1" if is_tiny or self.host.cpus < 2 else "2",
            "storage": "none" if is_tiny else "new",
            "disk_gib": str(1 if is_tiny else DISK_GIB),
            "pool": self._default_pool,
            "name": proposed_name(self.host, self.source),
            "network": f"network:{network.name}" if network else "none",
            "start_network": "1" if network and not network.is_active else "0",
            "firmware": "bios",
            "start": "0" if self.source == "xml" else "1",
        }

    @property
    def source(self) -> str:
        source = self.typed.get("source", "")
        return source if source in _STEPS else ""

    @property
    def steps(self) -> tuple[Step, ...]:
        return _STEPS[self.source]

    @property
    def is_started(self) -> bool:
        return self["start"] == "1"

    @property
    def starts_network(self) -> bool:
        return self["start_network"] == "1"

    @cached_property
    def networks(self) -> list[Network]:
        return list(Network.objects.filter(host=self.host))

    @property
    def _default_network(self) -> Network | None:
        """The active one called default, else any active one. One that would first have to be
        started only for a real machine: the tiny guest is there to simply run.
        """
        ordered = sorted(self.networks, key=lambda row: (not row.is_active, row.name != "default"))
        usable = [row for row in ordered if row.is_active or self.source != Source.TINY]
        return next(iter(usable), None)

    @property
    def _default_pool(self) -> str:
        pool = chosen_pool(self.host, "")
        return pool.name if pool else ""

    @property
    def has_disk(self) -> bool:
        return self.source not in (Source.IMPORT, "xml")

    def arguments(self) -> dict[str, Any]:
        """What the operation is asked with."""
        start = {"start": self.is_started}
        if self.source == "xml":
            return {"xml": self["xml"], **start}
        # Without a source there is nothing yet to say about the rest.
        shared = ("name", "title", "memory_mib", "vcpus", "firmware", "pool")
        return (
            {"source": self.source or None, "network": self._network}
            | {name: self[name] for name in shared}
            | self._images()
            | {"start_network": self.starts_network}
            | start
        )

    def _images(self) -> dict[str, Any]:
        storage = self["storage"] if self.has_disk else "existing"
        return {
            "iso": self["iso"] if self.source == Source.ISO else "",
            "disk_path": self["disk_path"] if storage == "existing" else "",
            "disk_gib": self["disk_gib"] if storage == "new" else 0,
        }

    @property
    def _network(self) -> str:
        return f"bridge:{self['bridge']}" if self["network"] == "bridge" else self["network"]

    def wish(self) -> Wish | None:
        """What was filled in, if every value is of its kind; else the sentences are in
        ``errors``."""
        try:
            return Wish.model_validate(self.arguments())
        except ValidationError as error:
            self.blame(sentences(error))
            return None

    def examine(self) -> Wish | None:
        """The wish; ``errors`` says what is wrong with it."""
        wish = self.wish()
        if wish and self.source == "xml" and not wish.xml:
            self.blame({"xml": str(_("Paste the document of a machine."))})
        elif wish:
            self.blame(check(self.host, wish))
        if self["storage"] == "existing" and self.has_disk and not self["disk_path"]:
            self.errors.setdefault(
                "disk_path", str(_("Choose a disk image, or enter its path on the host."))
            )
        return wish

    def blame(self, errors: dict[str, str]) -> None:
        """Say what is wrong; a bridge is a network to the operation, and a field here."""
        for name, sentence in errors.items():
            is_bridge = name == "network" and self["network"] == "bridge"
            self.errors["bridge" if is_bridge else name] = sentence

    def step_of(self, name: str) -> Step:
        """Where this field is asked for; the last step for what is in none."""
        found = [step for step in self.steps if name in step.fields]
        return found[0] if found else self.steps[-1]

    def reach(self, wanted: str) -> Step:
        """The step that was asked for, or the first before it where something is wrong."""
        names = [step.name for step in self.steps]
        goal = self.steps[names.index(wanted)] if wanted in names else self.steps[0]
        wrong = {self.step_of(name).name for name in self.errors}
        for step in self.steps[: self.steps.index(goal)]:
            if step.name in wrong:
                return step
        return goal
