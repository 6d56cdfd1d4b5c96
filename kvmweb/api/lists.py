"""Lists: filters, and pages by keyset, so that page 100 costs what page 1 does.

A cursor is the signed key of the last row shown. A filter value of a closed set (states) that is
not in the set is a problem; a host or text that fits nothing gives an empty list.
"""

from typing import Annotated, Any, TypeVar

from django.core import signing
from django.db.models import Field, Model, Q, QuerySet
from django.utils.translation import gettext as _
from ninja import Query

from kvmweb.api.problems import bad_input
from kvmweb.api.schemas import Activity

M = TypeVar("M", bound=Model)

Text = Annotated[str, Query("", max_length=200, description="Only rows with this text.")]
HostName = Annotated[str, Query("", description="Only rows of the host with this name.")]
Cursor = Annotated[str, Query("", description="`next` of the page before.")]
Limit = Annotated[int, Query(100, ge=1, le=1000, description="How many at most.")]


OnHost = Annotated[
    str, Query("", description="Which one is meant, where two hosts have one with this UUID.")
]
Activities = Annotated[
    list[Activity], Query([], description="Only in this state; may be repeated.")
]


def page(
    rows: QuerySet[M], *, order: tuple[str, str], cursor: str, limit: int
) -> tuple[list[M], str | None]:
    """One page and the cursor of the next. ``order``: a field, and a unique one to break ties;
    a leading minus turns both around."""
    salt = f"kvmweb.api.{rows.model._meta.model_name}"
    if cursor:
        rows = rows.filter(_after(rows.model, order, _opened(cursor, salt)))
    found = list(rows.order_by(*order)[: limit + 1])
    if len(found) <= limit:
        return found, None
    last = found[limit - 1]
    key = [_plain(getattr(last, field.lstrip("-"))) for field in order]
    return found[:limit], signing.dumps(key, salt=salt)


def _after(model: type[Model], order: tuple[str, str], key: list[str]) -> Q:
    first, unique = (field.lstrip("-") for field in order)
    value = _field(model, first).to_python(key[0])
    tie = _field(model, unique).to_python(key[1])
    than = "lt" if order[0].startswith("-") else "gt"
    # The outer half alone would do; it is there so that the index is used.
    return Q(**{f"{first}__{than}e": value}) & (
        Q(**{f"{first}__{than}": value}) | Q(**{f"{unique}__{than}": tie})
    )


def _field(model: type[Model], name: str) -> "Field[Any, Any]":
    found = model._meta.pk if name == "pk" else model._meta.get_field(name)
    assert isinstance(found, Field)
    return found


def _opened(cursor: str, salt: str) -> list[str]:
    try:
        key: list[str] = signing.loads(cursor, salt=salt)
    except signing.BadSignature:
        raise bad_input({"cursor": _("This is not a cursor of this list.")}) from None
    return key


def _plain(value: Any) -> str:
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)
