"""Documents as pydantic models whose fields know where they are in the XML.

class Range(Mapped):
    start: Annotated[Address, At("@start")]
    lease: Annotated[int | None, At("lease/@expiry")] = None

class Dhcp(Mapped):
    ranges: Annotated[list[Range], Each("range")] = []

found = read(Dhcp, tree)        # a model; raises pydantic's ValidationError
write(found, tree)              # touches only what differs; what no field names survives
"""

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from lxml import etree
from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from kvmweb.spec.xml import Element, Field, Tree, make, prune


class Mapped(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    def known_by(self) -> tuple[Any, ...]:
        """What an element in a list is known by when the rest of it changes; (): by nothing."""
        return ()


M = TypeVar("M", bound=Mapped)


class Place(Protocol):
    """Where a field's value is kept. ``get`` answers None where there is nothing."""

    def get(self, tree: Tree) -> Any: ...

    def put(self, tree: Tree, value: Any) -> None: ...


class At:
    """A text, number or truth at a path as ``xml.Field`` has it; a truth in the words given.

    ``is_whole``: the element is nothing without it, so it goes too.
    """

    def __init__(
        self, path: str, *, yes: str = "yes", no: str = "no", is_whole: bool = False
    ) -> None:
        self._field = Field(path)
        self.path = self._field.path
        self._words = {True: yes, False: no}
        self._is_whole = is_whole

    def get(self, tree: Tree) -> str | None:
        text = self._field.__get__(Element(tree), Element)
        # Pydantic reads yes, no, on and off itself.
        return text or None

    def put(self, tree: Tree, value: Any) -> None:
        found = tree.find(self._field.path) if self._is_whole else None
        if found is not None and value in (None, ""):
            remove(found, tree)
            return
        self._field.__set__(Element(tree), self._words[value] if isinstance(value, bool) else value)


class One:
    """A model for the one element at this path, None where that is not there."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get(self, tree: Tree) -> Tree | None:
        return tree.find(self.path)

    def put(self, tree: Tree, value: Mapped | None) -> None:
        found = tree.find(self.path)
        if value is None:
            if found is not None:
                remove(found, tree)
            return
        write(value, make(tree, self.path) if found is None else found)
        made = tree.find(self.path)
        if made is not None:
            prune(made, tree)


class Each:
    """A list of models, or of texts at ``text``, for all elements at this path."""

    def __init__(self, path: str, text: str | None = None) -> None:
        self.parent, _, self.tag = path.rpartition("/")
        self.path = path
        self._text = None if text is None else At(text)

    def get(self, tree: Tree) -> list[Any]:
        found = tree.findall(self.path)
        return [self._text.get(one) or "" for one in found] if self._text else found

    def put(self, tree: Tree, value: list[Any]) -> None:
        old = tree.findall(self.path)
        kept = self._kept(old, value)
        for one in old:
            if not any(one is other for other in kept):
                remove(one, tree)
        parent = make(tree, self.parent) if value else None
        for wanted, element in zip(value, kept, strict=True):
            assert parent is not None
            if element is None:
                element = etree.SubElement(parent, self.tag)  # noqa: PLW2901
            else:
                parent.append(element)  # in the order wanted
            if self._text:
                self._text.put(element, wanted)
            else:
                write(wanted, element)

    def _kept(self, old: list[Tree], wanted: list[Any]) -> list[Tree | None]:
        """For each wanted one the element that is it already: the same, or of the same key."""
        free = list(old)
        kept: list[Tree | None] = [None] * len(wanted)
        for is_same in (self._equals, self._is_known):
            for place, value in enumerate(wanted):
                if kept[place] is None:
                    kept[place] = next((one for one in free if is_same(one, value)), None)
                    free = [one for one in free if one is not kept[place]]
        return kept

    def _equals(self, element: Tree, value: Any) -> bool:
        known: Any = self._text.get(element) if self._text else read(type(value), element)
        return bool(known == value)

    def _is_known(self, element: Tree, value: Any) -> bool:
        if not isinstance(value, Mapped) or not value.known_by():
            return False
        return read(type(value), element).known_by() == value.known_by()


def places(model: type[Mapped]) -> Iterator[tuple[str, FieldInfo, Place]]:
    """The fields that are in the document, each with where."""
    for name, field in model.model_fields.items():
        for note in field.metadata:
            if hasattr(note, "get") and hasattr(note, "put"):
                yield name, field, note


def raw(model: type[Mapped], tree: Tree) -> dict[str, Any]:
    """What the element says, as plain data that is not checked."""
    found = {}
    for name, field, place in places(model):
        value = place.get(tree)
        inner = _model_in(field.annotation)
        if inner and isinstance(value, list):
            value = [raw(inner, one) for one in value]
        elif inner and value is not None:
            value = raw(inner, value)
        if value is not None:
            found[name] = value
    return found


def read(model: type[M], tree: Tree) -> M:
    """The element as a model. Raises pydantic's ``ValidationError``."""
    return model.model_validate(raw(model, tree))


def write(model: Mapped, tree: Tree) -> None:
    """Bring the element in line with the model, touching only the fields that differ."""
    before = read(type(model), tree) if _says_something(tree) else None
    for name, field, place in places(type(model)):
        value = getattr(model, name)
        default = field.get_default(call_default_factory=True)
        if value != (getattr(before, name) if before else default):
            place.put(tree, value)


def element_at(model: type[Mapped], tree: Tree, place: str) -> Tree:
    """Where a finding of pydantic's, like ``ips.0.ranges.1.end``, stands; what is around it where
    there is no such element.
    """
    name, _, rest = place.partition(".")
    field = model.model_fields.get(name)
    where = next((one for found, _info, one in places(model) if found == name), None)
    inner = _model_in(field.annotation) if field else None
    if not isinstance(where, (At, One, Each)):
        return tree
    number, _, behind = rest.partition(".") if isinstance(where, Each) else ("0", "", rest)
    elements = tree.findall(where.path) if where.path else [tree]
    if not number.isdecimal() or int(number) >= len(elements):
        return tree
    element = elements[int(number)]
    return element_at(inner, element, behind) if inner else element


def _says_something(tree: Tree) -> bool:
    return bool(len(tree) or tree.attrib or (tree.text or "").strip())


def _model_in(annotation: Any) -> type[Mapped] | None:
    """The model in ``Model``, ``Model | None`` or ``list[Model]``."""
    if isinstance(annotation, type) and issubclass(annotation, Mapped):
        return annotation
    inner = (_model_in(one) for one in getattr(annotation, "__args__", ()))
    return next((one for one in inner if one), None)


def remove(element: Tree, root: Tree) -> None:
    """The element, and those around it below ``root`` that are empty then."""
    parent = element.getparent()
    assert parent is not None
    parent.remove(element)
    prune(parent, root)
