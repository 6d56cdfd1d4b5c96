"""A device of a machine, as the Hardware tab shows it. Every kind is a subclass in a file of its
own; the labels are virt-manager's.
"""

from typing import ClassVar

from kvmweb.spec.xml import Element, Field


class Device(Element):
    """``icon`` is one of Tabler's names. ``noun`` labels it; with a number where one machine may
    well have several and nothing better tells them apart."""

    tag: ClassVar[str]
    icon: ClassVar[str]
    noun: ClassVar[str] = ""
    is_numbered: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """The label without its number; devices of one kind are counted together."""
        return self.noun

    def label(self, number: int) -> str:
        return f"{self.kind} {number}" if self.is_numbered else self.kind


class Unknown(Device):
    """An element this site has no class for. It is shown all the same, and kept."""

    icon = "help-hexagon"
    alias = Field("alias/@name", "Alias")

    @property
    def kind(self) -> str:
        return str(self.tree.tag)

    def facts(self) -> list[tuple[str, str]]:
        return [(str(name), str(value)) for name, value in self.tree.items()] + super().facts()
