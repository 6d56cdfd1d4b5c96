"""Pools and volumes: the mirror of libvirt's storage."""

from django.db import models

from kvmweb.models.access import VisibleQuerySet
from kvmweb.models.hosts import Host


class Pool(models.Model):
    host = models.ForeignKey(Host, models.CASCADE, related_name="pools")
    uuid = models.UUIDField(db_index=True)
    name = models.CharField(max_length=255)
    type = models.CharField(max_length=20, blank=True)
    is_active = models.BooleanField()
    is_persistent = models.BooleanField(default=True)
    is_autostart = models.BooleanField(default=False)
    target_path = models.CharField(max_length=1024, blank=True)
    capacity_bytes = models.PositiveBigIntegerField(default=0)
    allocation_bytes = models.PositiveBigIntegerField(default=0)
    available_bytes = models.PositiveBigIntegerField(default=0)
    xml = models.TextField()

    objects = VisibleQuerySet["Pool"].as_manager()

    class Meta:
        ordering = ("name", "pk")
        constraints = [models.UniqueConstraint(fields=["host", "uuid"], name="pool_once")]

    def __str__(self) -> str:
        return self.name

    @property
    def topic(self) -> str:
        return f"pool:{self.uuid}"


class Volume(models.Model):
    pool = models.ForeignKey(Pool, models.CASCADE, related_name="volumes")
    name = models.CharField(max_length=255)
    path = models.CharField(max_length=1024, blank=True, db_index=True)
    format = models.CharField(max_length=20, blank=True)  # raw, qcow2, iso, ...
    capacity_bytes = models.PositiveBigIntegerField(default=0)
    allocation_bytes = models.PositiveBigIntegerField(default=0)
    xml = models.TextField()

    objects = VisibleQuerySet["Volume"].as_manager()

    class Meta:
        ordering = ("name", "pk")
        constraints = [models.UniqueConstraint(fields=["pool", "name"], name="volume_once")]

    def __str__(self) -> str:
        return self.name
