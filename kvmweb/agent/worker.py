"""Jobs: claim one, run it, write how it ended."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import libvirt
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from kvmweb.models import Job, JobState
from kvmweb.models.jobs import ONE_BY_ONE, Cancelled
from kvmweb.models.live import announce
from kvmweb.operations import OPERATIONS
from kvmweb.virt.errors import OperationError, explain

logger = logging.getLogger(__name__)

PER_HOST = 4


class Run(threading.Thread):
    """One job being done. ``give_up`` lets go of one stuck in a call that never returns."""

    def __init__(self, job: Job, *, when_done: Callable[[], None]) -> None:
        super().__init__(name=f"job {job.kind}", daemon=True)
        self.job = job
        self._when_done = when_done
        job.heard = time.monotonic()

    def run(self) -> None:
        try:
            end(self.job, **_outcome(self.job))
        finally:
            connection.close()
            self._when_done()

    @property
    def is_overdue(self) -> bool:
        deadline = OPERATIONS[self.job.kind].deadline
        return self.is_alive() and time.monotonic() - self.job.heard > deadline

    def give_up(self) -> None:
        deadline = OPERATIONS[self.job.kind].deadline
        end(
            self.job,
            state=JobState.FAILED,
            error=f"The host did not answer within {deadline:.0f} s. It may still do what was "
            "asked; the page shows what is true.",
        )


def claim(agent: str, host_id: int | None, busy_targets: set[str]) -> Job | None:
    """The oldest waiting job of this queue whose target nobody works on, now ours."""
    with transaction.atomic():
        waiting = (
            Job.objects.select_for_update(skip_locked=True)
            .filter(state=JobState.QUEUED, host=host_id)
            .exclude(Q(target_type__in=ONE_BY_ONE) & Q(target_key__in=busy_targets))
            .order_by("created")
        )
        job = waiting.first()
        if job is None:
            return None
        job.write(state=JobState.RUNNING, agent=agent, started=timezone.now())
        return job


def end(job: Job, *, state: JobState, error: str = "", error_field: str = "") -> None:
    """Write how a job ended, if that was not written before."""
    if error:
        job.say(error)
    written = Job.objects.filter(pk=job.pk, state=JobState.RUNNING, agent=job.agent).update(
        state=state,
        error=error,
        error_field=error_field,
        ended=timezone.now(),
        log=job.log,
        commands=job.commands,
        result=job.result,
        **({"percent": 100} if state == JobState.DONE else {}),
    )
    if written:
        announce(*job.topics)


def mark_lost(jobs: Any) -> None:
    """Say of half-run jobs that nobody knows how they ended, and clean up what they had made."""
    for job in jobs.filter(state=JobState.RUNNING):
        job.say("The agent that ran this ended in the middle.")
        undo = OPERATIONS[job.kind].undo if job.kind in OPERATIONS else None
        error = (
            "The site was stopped in the middle of this. What the host knows now has been read "
            "again; look there before you try once more."
        )
        if undo:
            try:
                undo(job)
                error = "The site was stopped in the middle of this. What was half made is removed."
            except (OperationError, libvirt.libvirtError) as failure:
                error += f" What was half made could not be removed: {failure}"
        job.write(state=JobState.LOST, error=error, ended=timezone.now())


def _outcome(job: Job) -> dict[str, Any]:
    try:
        OPERATIONS[job.kind].run(job)
    except Cancelled:
        return {"state": JobState.CANCELLED}
    except OperationError as error:
        if error.detail:
            job.say(f"libvirt: {error.detail}")
        return _failure(error)
    except libvirt.libvirtError as error:
        job.say(f"libvirt: {error}")
        return _failure(explain(error))
    except Exception:
        # The one place where anything may come up: the job must end, and say so.
        logger.exception("job %s %s failed", job.kind, job.pk)
        return {
            "state": JobState.FAILED,
            "error": "The site itself made a mistake. The details are in its log.",
        }
    return {"state": JobState.DONE}


def _failure(error: OperationError) -> dict[str, Any]:
    return {"state": JobState.FAILED, "error": error.sentence, "error_field": error.field}
