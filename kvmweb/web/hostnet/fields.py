"""Forms from the documents' classes: a pydantic model as inputs, and what was typed back again.

An input's name is its path in the document: ``mtu``, ``legs.0.addresses``. Lists of plain values
are one input with commas, a class within a class is a group, a list of classes a group with rows.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from django.http import QueryDict
from django.utils.functional import Promise
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kvmweb.web.hostnet.words import WORDING, Wording

Text = str | Promise
Choices = list[tuple[str, Text]]
_RANGE = re.compile(r"(\d{1,4})-(\d{1,4})")
# So many rows of a list, and so many numbers of a range, and no more: else a mistake.
MAX_ROWS = 200


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
class Shape:
    """What an annotation says: ``list[Vlan]`` is kind "list" of int between 1 and 4094."""

    kind: str  # text, number, checkbox, select, list, pairs, group, rows
    model: type[BaseModel] | None = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    is_number: bool = False
    is_optional: bool = False


def shape_of(info: FieldInfo) -> Shape:
    return _shape(info.annotation, [*info.metadata])


def _shape(annotation: Any, metadata: list[Any]) -> Shape:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _shape(arguments[0], [*metadata, *arguments[1:]])
    if origin in (Union, UnionType):
        inner = _shape(next(one for one in arguments if one is not NoneType), metadata)
        return replace(inner, is_optional=NoneType in arguments)
    if origin is Literal:
        return Shape("select", choices=tuple(map(str, arguments)))
    if origin is list:
        inner = _shape(arguments[0], [])
        kind = "rows" if inner.model else "list"
        return Shape(kind, model=inner.model, is_number=inner.kind == "number")
    if origin is dict:
        return Shape("pairs")
    if annotation is bool:
        return Shape("checkbox")
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Shape("group", model=annotation)
    limits = _limits(metadata)
    if annotation is int:
        return Shape("number", minimum=limits.get("ge"), maximum=limits.get("le"), is_number=True)
    return Shape("text")


def _limits(metadata: list[Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in metadata:
        if isinstance(one, FieldInfo):
            found |= _limits(one.metadata)
        for name in ("ge", "le"):
            if hasattr(one, name):
                found[name] = getattr(one, name)
    return found


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


def typed(
    model: type[BaseModel],
    data: QueryDict,
    *,
    prefix: str = "",
    without: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """What was filled in, for the model to check. What was left empty is left out."""
    found: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if is_fixed(info) or prefix + name in without:
            continue
        value = _typed(shape_of(info), data, prefix + name)
        if value is not None:
            found[name] = value
    return found


def _typed(shape: Shape, data: QueryDict, path: str) -> Any:
    text = str(data.get(path, "")).strip()
    match shape.kind:
        case "checkbox":
            return bool(text)
        case "list":
            return _items(text, is_number=shape.is_number)
        case "pairs":
            lines = (line.partition("=") for line in text.splitlines() if line.strip())
            return {name.strip(): value.strip() for name, _equals, value in lines}
        case "group":
            assert shape.model
            found = typed(shape.model, data, prefix=f"{path}.")
            return None if shape.is_optional and _is_blank(shape.model, found) else found
        case "rows":
            assert shape.model
            return [
                typed(shape.model, data, prefix=f"{path}.{number}.")
                for number in _numbers(data, path)
            ]
    return text or None


def _is_blank(model: type[BaseModel], values: dict[str, Any]) -> bool:
    """Whether nothing was filled in: what may be left out is left out then."""
    return not any(
        value and value != model.model_fields[name].get_default() for name, value in values.items()
    )


def _items(text: str, *, is_number: bool) -> list[Any]:
    items: list[Any] = []
    for item in re.split(r"[,;\s]+", text):
        found = _RANGE.fullmatch(item) if is_number else None
        if found and 0 <= int(found[2]) - int(found[1]) < 4096:
            items += range(int(found[1]), int(found[2]) + 1)
        elif item:
            items.append(item)
    return items


def _numbers(data: QueryDict, path: str) -> list[int]:
    """The rows of a list that are in the form, in their order."""
    pattern = re.compile(re.escape(path) + r"\.(\d{1,4})\.")
    found = {int(match[1]) for name in data if (match := pattern.match(name))}
    return sorted(found)[:MAX_ROWS]


def changed_rows(values: dict[str, Any], add: str, remove: str) -> None:
    """Another row at the path ``add``, or the one at ``remove`` taken away."""
    if add and (rows := _rows_at(values, add)) is not None and len(rows) < MAX_ROWS:
        rows.append({})
    path, _dot, number = remove.rpartition(".")
    rows = _rows_at(values, path) if path else None
    if rows is not None and number.isdecimal() and int(number) < len(rows):
        del rows[int(number)]


def _rows_at(values: Any, path: str) -> list[Any] | None:
    at = values
    for name in path.split("."):
        if isinstance(at, list) and name.isdecimal() and int(name) < len(at):
            at = at[int(name)]
        elif isinstance(at, dict):
            at = at.setdefault(name, [])
        else:
            return None
    return at if isinstance(at, list) else None


def is_fixed(info: FieldInfo) -> bool:
    """A field that can only have one value, such as a link's kind."""
    return get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1


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
