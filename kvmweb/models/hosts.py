"""A host: one libvirt connection and what the agent last learned through it."""

from django.db import models
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from kvmweb.models.access import VisibleQuerySet


class HostState(models.TextChoices):
    CONNECTING = "connecting", _("connecting")
    CONNECTED = "connected", _("connected")
    UNREACHABLE = "unreachable", _("unreachable")


class Acceleration(models.TextChoices):
    """Whether KVM serves here; probed by running firmware under it, see agent/acceleration.py."""

    UNKNOWN = "", _("not yet known")
    USABLE = "usable", _("KVM")
    ABSENT = "absent", _("no KVM")
    SLOW = "slow", _("KVM is there but does not work well")


class Agent(models.Model):
    """A running agent. It holds the hosts that carry its name for as long as it is seen."""

    GONE_AFTER_SECONDS = 15

    name = models.CharField(max_length=200, unique=True)
    seen = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class Host(models.Model):
    """``state`` and everything below it belong to the agent; the rest to ``operations.hosts``."""

    name = models.CharField(_("name"), max_length=63, unique=True)
    uri = models.CharField(_("libvirt URI"), max_length=500)

    state = models.CharField(max_length=20, choices=HostState.choices, default=HostState.CONNECTING)
    state_reason = models.TextField(blank=True)
    state_since = models.DateTimeField(default=timezone.now)
    agent = models.CharField(max_length=200, blank=True)
    # Raised by whoever wants the agent to drop the connection and open it anew.
    generation = models.PositiveIntegerField(default=0)
    mirrored = models.DateTimeField(null=True)

    hostname = models.CharField(max_length=255, blank=True)
    driver = models.CharField(max_length=20, blank=True)  # libvirt's name: QEMU, TEST, Xen
    driver_version = models.CharField(max_length=20, blank=True)
    libvirt_version = models.CharField(max_length=20, blank=True)
    architecture = models.CharField(max_length=20, blank=True)
    cpu_model = models.CharField(max_length=200, blank=True)
    cpus = models.PositiveIntegerField(default=0)
    memory_kib = models.PositiveBigIntegerField(default=0)
    acceleration = models.CharField(
        max_length=10, choices=Acceleration.choices, default=Acceleration.UNKNOWN, blank=True
    )
    capabilities_xml = models.TextField(blank=True)
    # virConnectGetDomainCapabilities by virtualization type: {"kvm": "<xml>", "qemu": "<xml>"}
    domain_capabilities = models.JSONField(default=dict)
    # Whether libvirt's driver there has network filters.
    has_filters = models.BooleanField(default=False)
    # What its emulator offers as NICs, by architecture; learnt by agent/emulator.py.
    nic_models = models.JSONField(default=dict)
    # The last sample: {"cpu_percent": 12.5, "memory_used_kib": 812345}
    usage = models.JSONField(default=dict)

    objects = VisibleQuerySet["Host"].as_manager()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def topic(self) -> str:
        return f"host:{self.pk}"

    @property
    def is_connected(self) -> bool:
        return self.state == HostState.CONNECTED

    @property
    def absence(self) -> Promise | None:
        """Why nothing can be done there now, as a sentence; None while it is connected."""
        if self.is_connected:
            return None
        if self.state == HostState.CONNECTING:
            return format_lazy(
                _("The host {host} is being connected. Try again in a moment."), host=self.name
            )
        return format_lazy(
            _("The host {host} can't be reached: {reason}"),
            host=self.name,
            reason=self.state_reason or self.get_state_display(),
        )


class NodeDevice(models.Model):
    """A device of the host as libvirt's node device driver lists it."""

    host = models.ForeignKey(Host, models.CASCADE, related_name="devices")
    name = models.CharField(max_length=255)
    parent = models.CharField(max_length=255, blank=True)
    capability = models.CharField(max_length=40, blank=True)  # pci, usb_device, net, storage, ...
    xml = models.TextField()

    objects = VisibleQuerySet["NodeDevice"].as_manager()

    class Meta:
        ordering = ("name",)
        constraints = [models.UniqueConstraint(fields=["host", "name"], name="device_once")]

    def __str__(self) -> str:
        return self.name
