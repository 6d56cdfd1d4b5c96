"""Cancelling. Not a job of its own: it must not wait behind the one it stops."""

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from kvmweb.models import Job, JobState, Role
from kvmweb.models.access import User, Viewer
from kvmweb.models.live import announce
from kvmweb.operations.operation import Conflict, Forbidden, Refused


def refusal(user: Viewer, job: Job) -> str | None:
    """Why this person can't cancel this job; None where they can."""
    problem = _problem(user, job)
    return problem.sentence if problem else None


def _problem(user: Viewer, job: Job) -> Refused | None:
    if not isinstance(user, User) or not (
        user.pk == job.user_id or user.role == Role.ADMINISTRATOR
    ):
        return Forbidden(_("Only the person who asked for it, or an administrator, can cancel it."))
    if job.is_finished:
        return Conflict(_("The job has ended already."))
    return None


def cancel(user: User, job: Job) -> None:
    """A waiting job ends at once; one that runs stops at its next step. Raises ``Refused``."""
    problem = _problem(user, job)
    if problem:
        raise problem
    with transaction.atomic():
        waiting = Job.objects.filter(pk=job.pk, state=JobState.QUEUED)
        if not waiting.update(state=JobState.CANCELLED, ended=timezone.now()):
            Job.objects.filter(pk=job.pk).update(is_cancel_asked=True)
        announce(*job.topics)
