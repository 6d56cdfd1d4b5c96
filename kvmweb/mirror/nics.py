"""The interfaces of machines -> NICs, and the addresses they are seen with."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from django.db import transaction

from kvmweb.models import Host, Machine, Nic
from kvmweb.spec.nics import NicFacts, nics
from kvmweb.spec.xml import parse

# More machines than that, and their NICs are looked up by the host instead of one by one.
FEW = 50
Known = Mapping[str, Sequence[NicFacts]]
_COLUMNS = tuple(field.name for field in fields(NicFacts))


def save(host: Host, machines: Sequence[Machine], parsed: Known) -> None:
    """Bring the NICs of these machines, just saved, in line with their documents. ``parsed``: the
    NICs of those documents that have been read already.
    """
    rows = Nic.objects.filter(host=host)
    if len(machines) < FEW:
        rows = rows.filter(machine__in=machines)
    old: dict[int, list[Nic]] = defaultdict(list)
    for row in rows.order_by("index"):
        old[row.machine_id].append(row)
    new, changed, gone = [], [], []
    for machine in machines:
        before = old[machine.pk]
        wanted = _wanted(machine, before, parsed)
        new += [Nic(machine=machine, host=host, **fields) for fields in wanted[len(before) :]]
        gone += [row.pk for row in before[len(wanted) :]]
        changed += [
            row for row, fields in zip(before, wanted, strict=False) if _update(row, fields)
        ]
    Nic.objects.filter(pk__in=gone).delete()
    for row in changed:
        row.save()
    Nic.objects.bulk_create(new, batch_size=200)


def complete(host: Host) -> None:
    """NICs of machines that were mirrored before there were any NICs in the mirror."""
    missing = Machine.objects.filter(host=host, nics=None, xml__contains="<interface ")
    machines = list(missing)
    if machines:
        with transaction.atomic():
            save(host, machines, {})


def _wanted(machine: Machine, before: Iterable[Nic], parsed: Known) -> list[dict[str, Any]]:
    """The fields of each NIC: those in force first, then those that the next start adds."""
    current = _facts(machine.xml, parsed)
    kept = list(_facts(machine.inactive_xml, parsed) if machine.inactive_xml else current)
    seen = {row.mac: row.addresses for row in before} if machine.is_active else {}
    found = []
    for facts in current:
        twin = next((one for one in kept if one.mac == facts.mac), None)
        if twin:
            kept.remove(twin)
        is_kept = machine.is_persistent and twin is not None
        found.append(_fields(facts, seen, is_current=True, is_kept=is_kept))
    found += [_fields(facts, {}, is_current=False, is_kept=True) for facts in kept]
    return [{"index": place, **fields} for place, fields in enumerate(found)]


def _facts(xml: str, parsed: Known) -> Sequence[NicFacts]:
    found = parsed.get(xml)
    return nics(parse(xml)) if found is None else found


def _fields(facts: NicFacts, seen: Mapping[str, Any], **flags: bool) -> dict[str, Any]:
    columns = {name: getattr(facts, name) for name in _COLUMNS}
    return {**columns, "addresses": seen.get(facts.mac, []), **flags}


def _update(row: Nic, fields: Mapping[str, Any]) -> bool:
    """Whether the row differed; it is brought in line, not saved."""
    differing = {name: value for name, value in fields.items() if getattr(row, name) != value}
    for name, value in differing.items():
        setattr(row, name, value)
    return bool(differing)
