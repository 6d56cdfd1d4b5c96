"""MAC addresses, one for each NIC of all hosts.

The mirror knows those that are in use, a moment late. So whoever is about to give one to a machine
claims it first: the claim's unique row keeps two jobs, on whatever agents, from taking the same.
"""

import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from kvmweb.models import Host, MacClaim, Nic
from kvmweb.virt.errors import OperationError

# What QEMU and Xen have their cards begin with: qemu's docs/, xen's xl-network-configuration(5).
QEMU, XEN = "52:54:00", "00:16:3e"
# Seconds. A claim older than that belongs to a job that is long over; and how long the mirror may
# take to see what was made.
FORGOTTEN_AFTER, MIRRORED_WITHIN = 300, 15


@dataclass(frozen=True)
class Owner:
    """Whose NIC it is to be; a machine that is not there yet has its UUID already."""

    host: Host
    uuid: UUID
    name: str


def prefix(host: Host) -> str:
    return XEN if host.driver == "Xen" else QEMU


def taken(mac: str, owner: Owner | None = None) -> str:
    """The sentence that names who has this address, as far as the mirror knows; "" where it is
    free. The owner's own NICs do not count.
    """
    rows = Nic.objects.filter(mac=mac.lower()).select_related("machine", "host")
    if owner:
        rows = rows.exclude(host=owner.host, machine__uuid=owner.uuid)
    other = rows.only("machine__name", "host__name").first()
    return _is_taken(mac, other.machine.name, other.host.name) if other else ""


def _is_taken(mac: str, machine: str, host: str) -> str:
    return _(
        "The machine “%(machine)s” on %(host)s has the MAC address %(mac)s already. Enter another, "
        "or none: then a free one is chosen."
    ) % {"machine": machine, "host": host, "mac": mac}


@contextmanager
def claimed(owner: Owner, wanted: Iterable[str], *, field: str) -> Iterator[list[str]]:
    """The addresses, "" replaced by random ones, held while the machine gets them. Raises
    ``OperationError`` for one that somebody else has, or that comes twice.
    """
    held: list[str] = []
    is_let_go = True
    try:
        for mac in wanted:
            if mac and mac.lower() in held:
                raise OperationError(_("Two NICs have the MAC address %s.") % mac, field=field)
            held.append(_claim(owner, mac.lower(), field) if mac else _chosen(owner))
        yield held
        # It is let go when the mirror shows what it stood for; else when it is forgotten.
        is_let_go = _is_mirrored(owner, held)
    finally:
        if is_let_go:
            MacClaim.objects.filter(mac__in=held, **_of(owner)).delete()


def _chosen(owner: Owner) -> str:
    while True:
        tail = ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
        mac = f"{prefix(owner.host)}:{tail}"
        if _holder(owner, mac) is None:
            if not Nic.objects.filter(mac=mac).exists():
                return mac
            MacClaim.objects.filter(mac=mac, **_of(owner)).delete()


def _claim(owner: Owner, mac: str, field: str) -> str:
    # The claim comes first: whoever had one before has been mirrored when that is gone.
    holder = _holder(owner, mac)
    if holder:
        # Its holder may be about to learn that another has the address: who has it is named.
        sentence = taken(mac, owner) or _is_taken(mac, holder.machine_name, holder.host.name)
        raise OperationError(sentence, field=field)
    if sentence := taken(mac, owner):
        MacClaim.objects.filter(mac=mac, **_of(owner)).delete()
        raise OperationError(sentence, field=field)
    return mac


def _holder(owner: Owner, mac: str) -> MacClaim | None:
    """Whose claim stands; None where it is ours now."""
    since = timezone.now() - timedelta(seconds=FORGOTTEN_AFTER)
    MacClaim.objects.filter(mac=mac, created__lt=since).delete()
    while True:
        try:
            with transaction.atomic():
                MacClaim.objects.create(mac=mac, machine_name=owner.name, **_of(owner))
        except IntegrityError:
            if holder := MacClaim.objects.select_related("host").filter(mac=mac).first():
                return holder
        else:
            return None


def _of(owner: Owner) -> dict[str, Any]:
    return {"host": owner.host, "machine": owner.uuid}


def _is_mirrored(owner: Owner, macs: list[str]) -> bool:
    end = time.monotonic() + MIRRORED_WITHIN
    rows = Nic.objects.filter(host=owner.host, machine__uuid=owner.uuid, mac__in=macs)
    while rows.values("mac").distinct().count() < len(macs):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
