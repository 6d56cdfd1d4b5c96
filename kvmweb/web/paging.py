"""Pages of long lists by keyset: page 200 costs as much as page 1, and nothing is shown twice when
rows come and go in between.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)
SIZE = 50


@dataclass(frozen=True)
class Page(Generic[M]):
    """``next`` and ``previous`` are cursors, empty where there is nothing further."""

    items: list[M]
    next: str
    previous: str


def page_of(
    rows: QuerySet[M], cursor: str, *, order: str = "name", is_descending: bool = False
) -> Page[M]:
    """The rows behind (or, going back, before) the one the cursor names; without one, the first.

    ``order`` is the field they are sorted by; equal ones by primary key.
    """
    is_backward, key = _read(cursor)
    is_falling = is_descending != is_backward
    if key is not None:
        rows = _beyond(rows, order, key, is_falling=is_falling)
    sign = "-" if is_falling else ""
    found = list(rows.order_by(f"{sign}{order}", f"{sign}pk")[: SIZE + 1])
    has_more = len(found) > SIZE
    items = found[:SIZE][::-1] if is_backward else found[:SIZE]
    if not items:
        return Page([], "", "")
    return Page(
        items,
        next=_write(items[-1], order) if has_more or is_backward else "",
        previous=_write(items[0], order, is_backward=True)
        if (has_more if is_backward else key is not None)
        else "",
    )


def _beyond(rows: QuerySet[M], order: str, key: list[Any], *, is_falling: bool) -> QuerySet[M]:
    # A range the index serves, less those of the same value that were shown already.
    than = "lte" if is_falling else "gte"
    shown = {order: key[0], f"pk__{'gte' if is_falling else 'lte'}": key[1]}
    return rows.filter(**{f"{order}__{than}": key[0]}).exclude(**shown)


def _write(row: Model, order: str, *, is_backward: bool = False) -> str:
    value = getattr(row, order)
    plain = value.isoformat() if isinstance(value, datetime) else value
    text = json.dumps([is_backward, plain, str(row.pk)], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read(cursor: str) -> tuple[bool, list[Any] | None]:
    """A cursor that makes no sense (an old bookmark) is the first page."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        is_backward, value, key = json.loads(text)
    except (ValueError, TypeError, binascii.Error):
        return False, None
    if not isinstance(value, str) or not isinstance(key, str):
        return False, None
    return bool(is_backward), [value, key]
