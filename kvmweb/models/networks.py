"""Networks: the mirror of libvirt's virtual networks."""

from hashlib import sha256

from django.db import models

from kvmweb.models.access import VisibleQuerySet
from kvmweb.models.hosts import Host


class Network(models.Model):
    host = models.ForeignKey(Host, models.CASCADE, related_name="networks")
    uuid = models.UUIDField(db_index=True)
    name = models.CharField(max_length=255)
    is_active = models.BooleanField()
    is_persistent = models.BooleanField(default=True)
    is_autostart = models.BooleanField(default=False)
    forward_mode = models.CharField(max_length=20, blank=True)  # nat, route, ...; "": isolated
    bridge = models.CharField(max_length=64, blank=True)
    xml = models.TextField()
    # The one the next start uses; empty where that is the same.
    inactive_xml = models.TextField(blank=True)
    # What virNetworkGetDHCPLeases told: mac, address, prefix, name, expires, iaid, client of each.
    leases = models.JSONField(default=list)

    objects = VisibleQuerySet["Network"].as_manager()

    class Meta:
        ordering = ("name", "pk")
        constraints = [models.UniqueConstraint(fields=["host", "uuid"], name="network_once")]

    def __str__(self) -> str:
        return self.name

    @property
    def definition(self) -> str:
        """The document that is edited: the one of the next start."""
        return self.inactive_xml or self.xml

    @property
    def version(self) -> str:
        """Of the definition, so that nobody overwrites what they have not seen."""
        return sha256(self.definition.encode()).hexdigest()[:16]

    @property
    def topic(self) -> str:
        return f"network:{self.uuid}"
