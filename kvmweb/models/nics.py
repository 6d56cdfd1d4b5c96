"""NICs: the mirror of the interfaces of machines. A MAC address is unique over all hosts."""

from django.db import models

from kvmweb.models.access import VisibleQuerySet
from kvmweb.models.hosts import Host
from kvmweb.models.machines import Machine


class Nic(models.Model):
    """``kind`` is libvirt's interface type; ``source`` the network, bridge or device it names.

    ``is_current``: in the document in force; ``is_kept``: in the one of the next start as well. A
    machine that is off has both in one. ``tap`` and ``bridge``, on the host, are there while the
    machine runs. ``addresses``: [{"address", "prefix", "from"}], where from is agent, lease or arp.
    """

    machine = models.ForeignKey(Machine, models.CASCADE, related_name="nics")
    host = models.ForeignKey(Host, models.CASCADE, related_name="nics")
    index = models.PositiveSmallIntegerField()
    mac = models.CharField(max_length=17, blank=True, db_index=True)
    kind = models.CharField(max_length=20)
    source = models.CharField(max_length=255, blank=True)
    model = models.CharField(max_length=40, blank=True)
    tap = models.CharField(max_length=20, blank=True)
    bridge = models.CharField(max_length=64, blank=True)
    filter = models.CharField(max_length=255, blank=True)
    vlans = models.JSONField(default=list)
    is_link_up = models.BooleanField(default=True)
    is_current = models.BooleanField(default=True)
    is_kept = models.BooleanField(default=True)
    addresses = models.JSONField(default=list)

    objects = VisibleQuerySet["Nic"].as_manager()

    class Meta:
        ordering = ("machine", "index")
        constraints = [models.UniqueConstraint(fields=["machine", "index"], name="nic_once")]


class MacClaim(models.Model):
    """A MAC address that a job is about to give to a machine: the mirror sees it a moment after
    that, and two jobs must not both find it free. See ``operations.nics.macs``.
    """

    mac = models.CharField(max_length=17, unique=True)
    machine = models.UUIDField()
    machine_name = models.CharField(max_length=255)
    host = models.ForeignKey(Host, models.CASCADE, related_name="+")
    created = models.DateTimeField(auto_now_add=True)
