"""What of the security groups a host needs: one network filter for each group that its machines
use, with the addresses of other groups' members in it, and one for each NIC with several.
"""

import json
import threading
from collections import defaultdict
from functools import lru_cache
from typing import Any

import libvirt
from django.utils.translation import gettext_lazy as _

from kvmweb.mirror import look_again
from kvmweb.models import Host, Job, Nic, NwFilter, SecurityGroup
from kvmweb.models.filters import members
from kvmweb.operations import filters
from kvmweb.spec import nwfilter, security
from kvmweb.spec.nwfilter import Reference
from kvmweb.spec.security import Rule
from kvmweb.spec.xml import parse
from kvmweb.virt.connections import connection
from kvmweb.virt.errors import OperationError

# Filters of ours are made and removed under it: a NIC may be about to use what another leaves.
guards: dict[int, threading.Lock] = defaultdict(threading.Lock)


def wanted(host: Host) -> dict[str, str]:
    """Name and document of each group's filter that this host's machines use."""
    used = _used(host)
    groups = {group for name in used if (group := security.group_of(name))}
    return {security.filter_name(name): xml for name, xml in compiled(groups).items()}


def leftovers(host: Host, *, keep: str = "") -> list[NwFilter]:
    """Filters of ours on the host that nobody uses any more, those that refer to others first.
    ``keep``: the name of one that somebody uses as we know, whatever the mirror says.
    """
    used = _used(host, keep)
    rows = [row for row in _ours(host) if row.name not in used]
    return sorted(rows, key=lambda row: not row.references)


def is_stale(host: Host) -> bool:
    """Whether the host's filters, as mirrored, say something else than the groups. Cheap where
    there are no groups.
    """
    if not SecurityGroup.objects.exists() and not _ours(host):
        return False
    documents = dict(_rows(host).values_list("name", "xml"))
    return bool(leftovers(host)) or any(
        name not in documents or not nwfilter.is_same(documents[name], xml)
        for name, xml in wanted(host).items()
    )


def prepared(
    job: Job, host_id: int, groups: set[str], *, prevents: bool, addresses: list[str]
) -> Reference | None:
    """What the NIC is to refer to, its filters defined."""
    if not groups and not prevents:
        return None
    for group, xml in sorted(compiled(groups).items()):
        _put(job, host_id, security.filter_name(group), xml)
    name, combined = security.combined(groups, is_spoofing_prevented=prevents)
    if combined:
        _put(job, host_id, name, combined)
    given = [("IP", one) for one in addresses if ":" not in one] if prevents else []
    return Reference(name, tuple(given))


def compiled(groups: set[str]) -> dict[str, str]:
    """The filters of these groups, by the group's name."""
    rows = SecurityGroup.objects.filter(name__in=groups).values_list("name", "rules")
    rules = dict(rows)
    named = {name: {rule["group"] for rule in rules[name] if rule.get("group")} for name in rules}
    addresses = {
        name: _addresses(nics) for name, nics in members(set().union(*named.values())).items()
    }
    return {
        name: _compiled(
            name, json.dumps(rules[name]), json.dumps({one: addresses[one] for one in named[name]})
        )
        for name in rules
    }


@lru_cache(maxsize=1024)
def _compiled(name: str, rules: str, addresses: str) -> str:
    """Remembered: the agent asks every few seconds."""
    allowed = [Rule.model_validate(rule) for rule in json.loads(rules)]
    return security.compiled(name, allowed, json.loads(addresses))


def _addresses(nics: list[Nic]) -> list[str]:
    """Of each NIC those that a DHCP server gave it; without one, those it is seen with. What a
    guest says of itself is worth less.
    """
    found: set[str] = set()
    for nic in nics:
        leased = {one["address"] for one in nic.addresses if one.get("from") == "lease"}
        found |= leased or {one["address"] for one in nic.addresses}
    return sorted(found)


def _rows(host: Host) -> Any:
    return NwFilter.objects.filter(host=host)


def _ours(host: Host) -> list[NwFilter]:
    return [
        row for row in _rows(host).filter(name__startswith="kvmweb-").defer("xml") if row.is_ours
    ]


def _used(host: Host, keep: str = "") -> set[str]:
    """Names of filters of ours that the host's machines refer to, directly or through another."""
    named = Nic.objects.filter(host=host, filter__startswith="kvmweb-")
    used = {*named.values_list("filter", flat=True), *filter(None, [keep])}
    ours = _ours(host)
    # The next start's document may refer to another one, which the NIC's row does not say.
    used |= {row.name for row in ours if row.name not in used and row.machines.exists()}
    for row in ours:
        if row.name in used:
            used |= {name for name in row.references if security.group_of(name)}
    return used


def _put(job: Job, host_id: int, name: str, xml: str) -> None:
    """Define the filter where libvirt has another, or none."""
    try:
        present = connection(host_id).nwfilterLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_NWFILTER:
            raise
    else:
        if present.UUIDString() != security.filter_uuid(name):
            raise OperationError(
                _("There is a filter named %s on the host that this site has not made. Rename it.")
                % name
            )
        if nwfilter.is_same(present.XMLDesc(), xml):
            return
    filters.put(job, host_id, nwfilter.Filter(parse(xml)))


def bring_up_to_date(job: Job, host: Host) -> None:
    """Define what differs, remove what nobody uses."""
    with guards[host.pk]:
        for name, xml in sorted(wanted(host).items()):
            _put(job, host.pk, name, xml)
        tidy(job, host)


def tidy(job: Job, host: Host, *, keep: str = "") -> None:
    """Remove the leftovers; the caller holds the guard."""
    for row in leftovers(host, keep=keep):
        _remove(job, row)


def _remove(job: Job, row: NwFilter) -> None:
    job.ran("virsh", "nwfilter-undefine", row.name)
    try:
        connection(row.host_id).nwfilterLookupByUUID(row.uuid.bytes).undefine()
    except libvirt.libvirtError as error:
        # Somebody uses it whom the mirror has not seen yet: it is tried again by the next apply.
        if error.get_error_code() not in (
            libvirt.VIR_ERR_NO_NWFILTER,
            libvirt.VIR_ERR_OPERATION_INVALID,
        ):
            raise
        return
    look_again(row.host_id, "nwfilter", str(row.uuid))
    filters.wait_for(lambda: not NwFilter.objects.filter(pk=row.pk).exists())
