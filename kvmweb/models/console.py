"""Tickets that open a console, and the record of consoles that were open."""

import uuid

from django.db import models

from kvmweb.models.access import ApiToken, User
from kvmweb.models.hosts import Host


class Level(models.TextChoices):
    VIEW = "view"
    CONTROL = "control"


class ConsoleTicket(models.Model):
    """Opens one console once. Bound to a browser session or, asked for by a program, its token.

    The machine is kept by host and libvirt UUID, so that a mirror row made anew does not matter.
    """

    digest = models.CharField(max_length=64, unique=True)
    user = models.ForeignKey(User, models.CASCADE)
    session_key = models.CharField(max_length=40, blank=True)
    token = models.ForeignKey(ApiToken, models.CASCADE, null=True)
    host = models.ForeignKey(Host, models.CASCADE)
    machine_uuid = models.UUIDField()
    level = models.CharField(max_length=10, choices=Level.choices)
    expires = models.DateTimeField(db_index=True)
    used = models.DateTimeField(null=True)


class ConsoleSession(models.Model):
    """One console, open or closed: the audit row. ``closed`` is empty while bytes may flow."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    user = models.ForeignKey(User, models.SET_NULL, null=True)
    username = models.CharField(max_length=150)
    session_key = models.CharField(max_length=40, blank=True)
    token = models.ForeignKey(ApiToken, models.SET_NULL, null=True)
    host = models.ForeignKey(Host, models.SET_NULL, null=True)
    machine_uuid = models.UUIDField(db_index=True)
    machine_name = models.CharField(max_length=255)
    level = models.CharField(max_length=10, choices=Level.choices)
    address = models.GenericIPAddressField(null=True)
    opened = models.DateTimeField(auto_now_add=True)
    closed = models.DateTimeField(null=True, db_index=True)
    close_reason = models.CharField(max_length=200, blank=True)
    bytes_to_browser = models.PositiveBigIntegerField(default=0)
    bytes_to_machine = models.PositiveBigIntegerField(default=0)
