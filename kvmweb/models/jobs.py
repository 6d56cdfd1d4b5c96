"""Jobs: every change asked for. The row is the task, its progress, its error and the audit."""

import time
import uuid
from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from kvmweb.models.access import SEE, ApiToken, User, Viewer, may
from kvmweb.models.hosts import Host
from kvmweb.models.live import announce


class JobState(models.TextChoices):
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    DONE = "done", _("done")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")
    LOST = "lost", _("lost")


UNFINISHED = (JobState.QUEUED, JobState.RUNNING)
# Types of targets whose jobs are done one after the other, never side by side.
ONE_BY_ONE = ("machine", "network")


class Cancelled(Exception):
    """Raised inside an operation when its job was asked to stop."""


class JobQuerySet(models.QuerySet["Job"]):
    def visible_to(self, user: Viewer) -> "JobQuerySet":
        """All jobs for those who may see the site's machines; one's own in any case."""
        if may(user, SEE):
            return self
        return self.filter(user=user) if isinstance(user, User) else self.none()


class Job(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    kind = models.CharField(max_length=80)  # "machines.force_off"
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="jobs")
    username = models.CharField(max_length=150)
    token = models.ForeignKey(ApiToken, models.SET_NULL, null=True)
    address = models.GenericIPAddressField(null=True)

    # Whose queue it waits in; without a host, the site's own.
    host = models.ForeignKey(Host, models.SET_NULL, null=True, related_name="jobs")
    target_type = models.CharField(max_length=20, blank=True)  # "machine", "host", ...
    target_key = models.CharField(max_length=100, blank=True)  # libvirt UUID, or our own key
    target_name = models.CharField(max_length=255, blank=True)
    arguments = models.JSONField(default=dict)

    state = models.CharField(max_length=10, choices=JobState.choices, default=JobState.QUEUED)
    percent = models.PositiveSmallIntegerField(null=True)
    message = models.TextField(blank=True)
    log = models.TextField(blank=True)
    commands = models.JSONField(default=list)
    error = models.TextField(blank=True)
    error_field = models.CharField(max_length=100, blank=True)
    result = models.JSONField(default=dict)
    is_cancel_asked = models.BooleanField(default=False)
    agent = models.CharField(max_length=100, blank=True)
    created = models.DateTimeField(auto_now_add=True, db_index=True)
    started = models.DateTimeField(null=True)
    ended = models.DateTimeField(null=True)

    objects = JobQuerySet.as_manager()
    heard = 0.0  # time.monotonic() of the last sign of life, in the agent that runs it

    class Meta:
        ordering = ("-created", "-id")
        indexes = [
            models.Index(fields=["state", "host", "created"], name="job_queue"),
            models.Index(fields=["target_key", "-created"], name="job_by_target"),
        ]
        constraints = [
            # Two browsers, one button: the second press is refused by the database itself.
            models.UniqueConstraint(
                fields=["kind", "host", "target_key"],
                condition=models.Q(state__in=("queued", "running"), target_type="machine"),
                name="job_one_at_a_time",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.target_name}"

    @property
    def topic(self) -> str:
        return f"job:{self.pk}"

    @property
    def topics(self) -> list[str]:
        """Every name to announce when this row changes."""
        return [self.topic, "jobs"]

    @property
    def is_finished(self) -> bool:
        return self.state not in UNFINISHED

    def write(self, **fields: Any) -> None:
        """Save these fields, and tell who looks at the job."""
        for name, value in fields.items():
            setattr(self, name, value)
        self.heard = time.monotonic()
        self.save(update_fields={*fields, "log"})
        announce(*self.topics)

    def progress(self, percent: int | None, message: str | Promise) -> None:
        """Show how far the work is (0 to 100, None where it can't be known) and in which step."""
        self.check_cancelled()
        self.say(str(message))
        self.write(percent=percent, message=str(message))

    def say(self, line: str) -> None:
        """Append a line to the log; saved with the next ``write``."""
        self.log += f"{timezone.now():%H:%M:%S} {line}\n"

    def ran(self, *command: str) -> None:
        """Note the command line that does the same as what is done now."""
        self.commands.append(list(command))
        self.save(update_fields=["commands"])

    def check_cancelled(self) -> None:
        """Raise ``Cancelled`` if somebody pressed Cancel."""
        if Job.objects.filter(pk=self.pk, is_cancel_asked=True).exists():
            raise Cancelled

    def wait(self, seconds: float) -> bool:
        """Whether the job is finished, looking until it is or ``seconds`` have passed."""
        deadline, pause = time.monotonic() + seconds, 0.004
        while time.monotonic() < deadline:
            state = Job.objects.filter(pk=self.pk).values_list("state", flat=True).get()
            if state not in UNFINISHED:
                break
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        self.refresh_from_db()
        return self.is_finished
