"""Machines: the mirror of libvirt's domains."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from kvmweb.models.access import VisibleQuerySet
from kvmweb.models.hosts import Host


class State(models.TextChoices):
    """In virsh's words (``virsh domstate``); https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainState."""

    NOSTATE = "no state", _("no state")
    RUNNING = "running", _("running")
    BLOCKED = "idle", _("idle")
    PAUSED = "paused", _("paused")
    SHUTDOWN = "in shutdown", _("shutting down")
    SHUTOFF = "shutoff", _("shut off")
    CRASHED = "crashed", _("crashed")
    PMSUSPENDED = "pmsuspended", _("suspended by guest")


RUNNING, PAUSED, SHUTOFF = State.RUNNING, State.PAUSED, State.SHUTOFF
CRASHED, PMSUSPENDED, BLOCKED = State.CRASHED, State.PMSUSPENDED, State.BLOCKED
ACTIVE = (State.RUNNING, State.BLOCKED, State.PAUSED, State.SHUTDOWN, State.PMSUSPENDED)


class Machine(models.Model):
    """Written by ``mirror`` only. ``xml`` is the current document, ``inactive_xml`` the one the
    next start uses; it is empty where that is the same or there is none (a transient machine).
    """

    host = models.ForeignKey(Host, models.CASCADE, related_name="machines")
    uuid = models.UUIDField(db_index=True)
    name = models.CharField(_("name"), max_length=255)
    state = models.CharField(max_length=20, choices=State.choices)
    title = models.CharField(max_length=500, blank=True)
    description = models.TextField(blank=True)
    vcpus = models.PositiveIntegerField(default=0)
    memory_kib = models.PositiveBigIntegerField(default=0)
    is_persistent = models.BooleanField(default=True)
    is_autostart = models.BooleanField(default=False)
    has_managed_save = models.BooleanField(default=False)
    virtualization = models.CharField(max_length=20, blank=True)  # <domain type=>: kvm, qemu, xen
    graphics = models.CharField(max_length=20, blank=True)  # vnc, spice, "" where there is none
    is_agent_connected = models.BooleanField(default=False)  # the guest's, to its channel
    xml = models.TextField()
    inactive_xml = models.TextField(blank=True)
    changed = models.DateTimeField(auto_now=True)

    objects = VisibleQuerySet["Machine"].as_manager()

    class Meta:
        ordering = ("name", "pk")
        constraints = [models.UniqueConstraint(fields=["host", "uuid"], name="machine_once")]
        indexes = [
            models.Index(fields=["name", "id"], name="machine_by_name"),
            models.Index(fields=["state", "name"], name="machine_by_state"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def topic(self) -> str:
        return f"machine:{self.uuid}"

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE
