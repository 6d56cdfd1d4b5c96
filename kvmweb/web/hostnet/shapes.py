"""What the annotations of the documents' fields say, as far as a form needs to know."""

from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


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


def is_fixed(info: FieldInfo) -> bool:
    """A field that can only have one value, such as a link's kind."""
    return get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1
