"""Filters: the mirror of libvirt's nwfilters, and security groups, which are compiled into them."""

import uuid
from collections.abc import Iterable
from hashlib import sha256

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from kvmweb.models.access import VisibleQuerySet
from kvmweb.models.hosts import Host
from kvmweb.models.machines import Machine
from kvmweb.models.nics import Nic
from kvmweb.spec import security


class NwFilter(models.Model):
    host = models.ForeignKey(Host, models.CASCADE, related_name="nwfilters")
    uuid = models.UUIDField(db_index=True)
    name = models.CharField(max_length=255)
    chain = models.CharField(max_length=40, blank=True)
    references = models.JSONField(default=list)  # names of the filters whose rules are its own too
    xml = models.TextField()

    objects = VisibleQuerySet["NwFilter"].as_manager()

    class Meta:
        ordering = ("name", "pk")
        constraints = [models.UniqueConstraint(fields=["host", "uuid"], name="nwfilter_once")]

    def __str__(self) -> str:
        return self.name

    @property
    def topic(self) -> str:
        return f"nwfilter:{self.uuid}"

    @property
    def version(self) -> str:
        """Of the document, so that nobody overwrites what they have not seen."""
        return version_of(self.xml)

    @property
    def group(self) -> str:
        """The security group it is made from; "" where it is none's."""
        return security.group_of(self.name) if self.is_ours else ""

    @property
    def is_ours(self) -> bool:
        """Whether we made it for security groups."""
        return security.is_ours(self.name, str(self.uuid))

    @property
    def machines(self) -> models.QuerySet[Machine]:
        """Those that refer to it, now or after their next start."""
        # As libvirt prints it; a filter's name has nothing in it to be quoted.
        mark = f"<filterref filter='{self.name}'"
        rows = Machine.objects.filter(host=self.host_id)
        return rows.filter(Q(xml__contains=mark) | Q(inactive_xml__contains=mark))

    @property
    def referrers(self) -> list["NwFilter"]:
        """Other filters that refer to it."""
        rows = NwFilter.objects.filter(host=self.host_id).defer("xml")
        return [row for row in rows if self.name in row.references]


def version_of(xml: str) -> str:
    return sha256(xml.encode()).hexdigest()[:16]


class SecurityGroup(models.Model):
    """Readable rules (spec/security.py), one nwfilter of its name on each host that uses it.

    ``version`` goes up with every change, so that nobody overwrites what they have not seen.
    """

    host: Host | None = None  # it belongs to none

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=63, unique=True)
    description = models.TextField(_("description"), blank=True)
    rules = models.JSONField(default=list)
    version = models.PositiveIntegerField(default=1)

    objects = VisibleQuerySet["SecurityGroup"].as_manager()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def topic(self) -> str:
        return f"security-group:{self.uuid}"


def memberships(nics: Iterable[Nic]) -> dict[int, tuple[list[str], bool]]:
    """The names of each NIC's security groups by its key, and whether spoofing is prevented."""
    rows = NwFilter.objects.filter(name__startswith=security.COMBINED)
    references = {(row.host_id, row.name): row.references for row in rows.defer("xml")}
    return {
        nic.pk: security.membership(nic.filter, references.get((nic.host_id, nic.filter), []))
        for nic in nics
    }


def members(groups: Iterable[str]) -> dict[str, list[Nic]]:
    """The NICs in each of these groups, on every host."""
    found: dict[str, list[Nic]] = {name: [] for name in groups}
    marks = Q(filter__startswith=security.PREFIX) | Q(filter__startswith=security.COMBINED)
    nics = list(Nic.objects.filter(marks).select_related("machine", "host").defer(*_DOCUMENTS))
    for nic, (names, _prevented) in zip(nics, memberships(nics).values(), strict=True):
        for name in names:
            if name in found:
                found[name].append(nic)
    return found


_DOCUMENTS = (
    "machine__xml", "machine__inactive_xml", "host__capabilities_xml", "host__domain_capabilities",
)  # fmt: skip
