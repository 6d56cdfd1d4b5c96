"""What was typed into a form, back in the shape of its document; and rows added and taken away."""

import re
from typing import Any

from django.http import QueryDict
from pydantic import BaseModel

from kvmweb.web.hostnet.shapes import Shape, is_fixed, shape_of

_RANGE = re.compile(r"(\d{1,4})-(\d{1,4})")
# So many rows of a list, and no more: else a mistake.
MAX_ROWS = 200


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
