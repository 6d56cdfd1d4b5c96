"""Bring rows in line with what libvirt says, touching only those that differ."""

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

import libvirt
from django.db import transaction
from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)
Fields = Mapping[str, Any]
logger = logging.getLogger(__name__)


def described(
    things: Iterable[Any], key: Callable[[Any], Any], fields: Callable[[Any], Fields]
) -> dict[Any, Fields]:
    """The fields of each thing by its key. What vanished while we looked, or what libvirt itself
    can't describe, is left out; it must not cost us the rest of the host.
    """
    found = {}
    for thing in things:
        try:
            found[key(thing)] = fields(thing)
        except libvirt.libvirtError as error:
            if not thing.connect().isAlive():
                raise
            logger.warning("left out %s: %s", thing.name(), error)
    return found


def reconcile(
    rows: QuerySet[M],
    key: str,
    fresh: Mapping[Any, Fields],
    derive: Callable[[str], Fields],
    then: Callable[[list[M]], None] | None = None,
    **belongs_to: Any,
) -> tuple[set[Hashable], set[Hashable]]:
    """Make ``rows`` equal ``fresh`` (``key`` field's value -> other fields, ``xml`` among them).

    ``derive`` gives the fields that follow from the document; it is asked only where that is new.
    ``then`` saves, in the same transaction, what belongs to the rows that were made or changed.
    ``belongs_to`` are the fields that new rows share. Returns the keys of rows that were changed
    or made, and of those made or removed.
    """
    known = {getattr(row, key): row for row in rows}
    gone = known.keys() - fresh.keys()
    new, changed = [], []
    for value, fields in fresh.items():
        row = known.get(value)
        if row is None:
            new.append(rows.model(**{key: value}, **fields, **derive(fields["xml"]), **belongs_to))
            continue
        is_same = fields["xml"] == row.xml  # type: ignore[attr-defined]
        derived = {} if is_same else derive(fields["xml"])
        if _update(row, {**fields, **derived}):
            changed.append(row)
    if gone or new or changed:
        with transaction.atomic():
            manager = rows.model._default_manager
            manager.filter(pk__in=[known[value].pk for value in gone]).delete()
            manager.bulk_create(new, batch_size=200)
            _save(changed, [key, *belongs_to])
            if then and (new or changed):
                then([*new, *changed])
    made = {getattr(row, key) for row in new}
    return made | {getattr(row, key) for row in changed}, made | gone


def _save(changed: list[M], unique: list[str]) -> None:
    """Many rows are saved as an insert that finds them there: ``bulk_update`` takes four times as
    long, for its CASE of every row and column.
    """
    if len(changed) < 10:
        for row in changed:
            row.save()
        return
    fields = [f.name for f in type(changed[0])._meta.concrete_fields if not f.primary_key]
    type(changed[0])._default_manager.bulk_create(
        changed,
        batch_size=200,
        update_conflicts=True,
        unique_fields=unique,
        update_fields=[name for name in fields if name not in unique],
    )


def _update(row: Model, fields: Fields) -> bool:
    """Whether the row differed; it is brought in line, not saved."""
    differs = False
    for name, value in fields.items():
        if getattr(row, name) != value:
            setattr(row, name, value)
            differs = True
    return differs
