"""Filters: the mirror of libvirt's nwfilters, and security groups, which are compiled into them."""

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

from kvmweb.models.access import VisibleQuerySet
from kvmweb.models.hosts import Host


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
