"""Forms from the documents' classes: a pydantic model as inputs, and what was typed back again.

An input's name is its path in the document: ``mtu``, ``legs.0.addresses``. Lists of plain values
are one input with commas, a class within a class is a group, a list of classes a group with rows.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.functional import Promise
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kvmweb.web.hostnet.shapes import Shape, is_fixed, shape_of
from kvmweb.web.hostnet.words import WORDING, Wording

Text = str | Promise
Choices = list[tuple[str, Text]]


@dataclass(frozen=True)
class Input:
    """``kind``: text, number, checkbox, select or lines."""

    path: str
    label: Text
    hint: Text
    kind: str
    value: Any
    error: str = ""
    choices: Choices = field(default_factory=list)
    minimum: int | None = None
    maximum: int | None = None
    is_required: bool = False
    default: Any = ""

    @property
    def is_wrong(self) -> bool:
        return bool(self.error)

    @property
    def is_filled(self) -> bool:
        """Whether it says something else than its default."""
        return bool(self.value != self.default)

    @property
    def identity(self) -> str:
        """As the page's element is called."""
        return "input-" + self.path.replace(".", "-")


@dataclass(frozen=True)
class Group:
    """``rows``: of each entry; of the only one where it is no list."""

    path: str
    label: Text
    hint: Text
    rows: "list[Row]"
    is_list: bool
    error: str = ""
    kind: str = "group"

    @property
    def is_wrong(self) -> bool:
        return bool(self.error) or any(part.is_wrong for row in self.rows for part in row.parts)

    @property
    def is_filled(self) -> bool:
        """Whether it says more than its defaults."""
        if self.is_list:
            return bool(self.rows)
        return any(part.is_filled for row in self.rows for part in row.parts)


@dataclass(frozen=True)
class Row:
    """``more``: what is seldom asked for."""

    basic: "list[Input | Group]"
    more: "list[Input | Group]"

    @property
    def parts(self) -> "list[Input | Group]":
        return [*self.basic, *self.more]

    @property
    def is_more_open(self) -> bool:
        return any(part.is_wrong or part.is_filled for part in self.more)


Parts = list[Input | Group]


@dataclass(frozen=True)
class Form:
    """A model's inputs. ``options``: what to choose from, by ``Model.field``, where the host knows
    it. ``without``: fields that are not asked for. ``wording``: what they are called.
    """

    model: type[BaseModel]
    values: Mapping[str, Any]
    errors: Mapping[str, str]
    options: Mapping[str, Choices] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    wording: Wording = WORDING

    @property
    def parts(self) -> dict[str, Input | Group]:
        """By the field's name."""
        made = self._parts(self.model, self.values, "")
        return {part.path: part for part in made if part.path not in self.without}

    @property
    def unplaced(self) -> list[str]:
        """The sentences for which there is no input."""
        shown = set(_paths([*self.parts.values()]))
        return [
            sentence
            for path, sentence in self.errors.items()
            if not any(path == one or path.startswith(f"{one}.") for one in shown)
        ]

    def _parts(self, model: type[BaseModel], values: Mapping[str, Any], prefix: str) -> Parts:
        return [
            self._part(model, name, info, values, prefix)
            for name, info in model.model_fields.items()
            if not is_fixed(info)
        ]

    def _part(
        self,
        model: type[BaseModel],
        name: str,
        info: FieldInfo,
        values: Mapping[str, Any],
        prefix: str,
    ) -> Input | Group:
        shape, path = shape_of(info), prefix + name
        value = values.get(name, None if info.is_required() else info.get_default())
        key = f"{model.__name__}.{name}"
        words = self.wording
        label = words.labels.get(key) or words.labels.get(name)
        label = label or name.replace("_", " ").capitalize()
        hint = words.hints.get(key) or words.hints.get(name) or ""
        if shape.model:
            return self._group(shape, path, value, label, hint)
        return Input(
            path=path,
            label=label,
            hint=hint,
            kind=_KINDS.get(shape.kind, shape.kind) if key not in self.options else "select",
            value=_shown(shape, value),
            error=self._error(path),
            choices=self._choices(shape, key, name, value, info),
            minimum=shape.minimum,
            maximum=shape.maximum,
            is_required=info.is_required(),
            default=_shown(shape, None if info.is_required() else info.get_default()),
        )

    def _group(self, shape: Shape, path: str, value: Any, label: Text, hint: Text) -> Group:
        assert shape.model
        is_list = shape.kind == "rows"
        entries = [_plain(one) for one in (value or [])] if is_list else [_plain(value or {})]
        prefixes = [
            f"{path}.{number}." if is_list else f"{path}." for number in range(len(entries))
        ]
        rows = [
            self._row(shape.model, self._parts(shape.model, entry, prefix))
            for entry, prefix in zip(entries, prefixes, strict=True)
        ]
        error = " ".join(
            text
            for place, text in self.errors.items()
            if re.fullmatch(re.escape(path) + r"(\.\d+)?", place)
        )
        return Group(path, label, hint, rows, is_list, error)

    def _choices(self, shape: Shape, key: str, name: str, value: Any, info: FieldInfo) -> Choices:
        if key in self.options:
            found: Choices = [] if info.is_required() else [("", "–")]
            found += self.options[key]
            if value and str(value) not in [one for one, _label in found]:
                found.append((str(value), str(value)))
            return found
        if shape.kind != "select":
            return []
        words = self.wording.choices.get(key) or self.wording.choices.get(name) or {}
        known: Choices = [(one, words.get(one, one or "–")) for one in shape.choices]
        is_optional = info.get_default() is None and not info.is_required()
        return [("", words.get("", "–")), *known] if is_optional else known

    def _row(self, model: type[BaseModel], parts: Parts) -> Row:
        basic = self.wording.basic.get(model.__name__)
        if basic is None:
            return Row(parts, [])
        chosen = [part for part in parts if part.path.rpartition(".")[2] in basic]
        return Row(chosen, [part for part in parts if part not in chosen])

    def _error(self, path: str) -> str:
        return " ".join(
            text
            for place, text in self.errors.items()
            if place == path or place.startswith(f"{path}.")
        )


def _plain(value: Any) -> Mapping[str, Any]:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _shown(shape: Shape, value: Any) -> Any:
    match shape.kind:
        case "checkbox":
            return bool(value)
        case "list" if isinstance(value, list):
            return ", ".join(_ranges(value) if shape.is_number else map(str, value))
        case "pairs" if isinstance(value, dict):
            return "\n".join(f"{name}={_word(one)}" for name, one in value.items())
    return "" if value is None else str(value)


def _word(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else value


def _ranges(numbers: list[Any]) -> Iterator[str]:
    """1, 2, 3, 7 -> 1-3, 7."""
    if not all(isinstance(one, int) for one in numbers):
        yield from map(str, numbers)
        return
    at = 0
    while at < len(numbers):
        end = at
        while end + 1 < len(numbers) and numbers[end + 1] == numbers[end] + 1:
            end += 1
        yield str(numbers[at]) if end == at else f"{numbers[at]}-{numbers[end]}"
        at = end + 1


def _paths(parts: Parts) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Input):
            yield part.path
            continue
        yield part.path
        for row in part.rows:
            yield from _paths(row.parts)


_KINDS = {"list": "text", "pairs": "lines"}
