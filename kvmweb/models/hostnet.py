"""A host's own network: what we want of it, what is there, and the changes in between."""

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

from kvmweb.models.access import User, VisibleQuerySet
from kvmweb.models.hosts import Host
from kvmweb.models.jobs import Job


class HostNetwork(models.Model):
    """``desired`` is the document (spec/hostnet.py) that was last applied and confirmed; ``actual``
    the mirror of what the helper read; ``drift`` what of ours differs from it. ``problem``: why the
    host's network can't be read, as a sentence. ``identity`` tells whether the host's network is
    still the one that was last read, or began anew: it was rebooted. ``usage``: counters and rates.
    """

    host = models.OneToOneField(Host, models.CASCADE, related_name="host_network")
    desired = models.JSONField(default=dict)
    actual = models.JSONField(default=dict)
    drift = models.JSONField(default=list)
    problem = models.TextField(blank=True)
    identity = models.CharField(max_length=100, blank=True)
    usage = models.JSONField(default=dict)
    read = models.DateTimeField(null=True)

    objects = VisibleQuerySet["HostNetwork"].as_manager()

    def __str__(self) -> str:
        return f"network of {self.host}"

    @classmethod
    def of(cls, host: Host) -> "HostNetwork":
        """The host's; an empty one, not saved, where nothing is known yet."""
        return cls.objects.filter(host_id=host.pk).first() or cls(host_id=host.pk)

    @property
    def topic(self) -> str:
        return f"hostnet:{self.host_id}"


class ChangeState(models.TextChoices):
    UNCONFIRMED = "unconfirmed", _("waiting for confirmation")
    APPLIED = "applied", _("applied")
    REVERTED = "reverted", _("reverted")
    UNDONE = "undone", _("undone")


class NetworkChange(models.Model):
    """An applied plan, so that it can be confirmed and undone.

    ``token``: what the host calls it. ``deadline``: when the host reverts it by itself. ``undoes``:
    the change that this one takes back. ``note``: why it came to its state.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    host = models.ForeignKey(Host, models.CASCADE, related_name="network_changes")
    user = models.ForeignKey(User, models.SET_NULL, null=True)
    job = models.ForeignKey(Job, models.SET_NULL, null=True)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    steps = models.JSONField(default=list)
    state = models.CharField(max_length=12, choices=ChangeState.choices)
    token = models.CharField(max_length=40, blank=True)
    undoes = models.ForeignKey("self", models.SET_NULL, null=True, related_name="+")
    deadline = models.DateTimeField(null=True)
    note = models.TextField(blank=True)
    created = models.DateTimeField(auto_now_add=True)

    objects = VisibleQuerySet["NetworkChange"].as_manager()

    class Meta:
        ordering = ("-created",)

    @property
    def is_unconfirmed(self) -> bool:
        return self.state == ChangeState.UNCONFIRMED
