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
    rows: QuerySet[M], key: str, fresh: Mapping[Any, Fields], **belongs_to: Any
) -> tuple[set[Hashable], set[Hashable]]:
    """Make ``rows`` equal ``fresh`` (``key`` field's value -> the other fields).

    ``belongs_to`` are the fields that new rows share. Returns the keys of rows that were changed
    or made, and of those made or removed.
    """
    model = rows.model
    known = {getattr(row, key): row for row in rows}
    gone = known.keys() - fresh.keys()
    new = [
        model(**{key: value}, **fields, **belongs_to)
        for value, fields in fresh.items()
        if value not in known
    ]
    changed = [
        value for value, fields in fresh.items() if value in known and _update(known[value], fields)
    ]
    made = {getattr(row, key) for row in new}
    if gone or new or changed:
        with transaction.atomic():
            _write(rows, new, [known[value] for value in changed], [known[v].pk for v in gone])
    return made | set(changed), made | gone


def _write(rows: QuerySet[M], new: list[M], changed: list[M], gone: list[Any]) -> None:
    manager = rows.model._default_manager
    if gone:
        manager.filter(pk__in=gone).delete()
    manager.bulk_create(new, batch_size=200)
    if len(changed) <= 5:
        for row in changed:
            row.save()
    else:
        fields = [f.name for f in rows.model._meta.concrete_fields if not f.primary_key]
        manager.bulk_update(changed, fields, batch_size=50)


def _update(row: Model, fields: Fields) -> bool:
    """Whether the row differed; it is brought in line, not saved."""
    differs = False
    for name, value in fields.items():
        if getattr(row, name) != value:
            setattr(row, name, value)
            differs = True
    return differs
