"""Jobs: what was asked for and how it went; and the answer to everything that asks."""

from typing import Annotated
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from ninja import Query, Router
from ninja.responses import Status

from kvmweb import models
from kvmweb.api import schemas
from kvmweb.api.authentication import address, caller, token
from kvmweb.api.bodies import body
from kvmweb.api.lists import Cursor, HostName, Limit, Text, page
from kvmweb.api.problems import not_found
from kvmweb.models import JobState
from kvmweb.operations import jobs
from kvmweb.operations.operation import Operation

router = Router(tags=["jobs"])
PATIENCE = 2.0  # seconds

States = Annotated[list[JobState], Query([], description="Only in this state; may be repeated.")]
OfMachine = Annotated[UUID | None, Query(None, description="Only about this machine.")]
_TARGET = ("target_type", "target_key", "target_name")


def ask(
    request: HttpRequest,
    response: HttpResponse,
    operation: Operation,
    target: Model | None = None,
    arguments: dict[str, object] | None = None,
) -> Status[schemas.JobDetails]:
    """Submit, and answer with the job: 200 when it ended within 2 s, well or not; else 202.

    ``Prefer: respond-async`` (RFC 7240) does not wait at all.
    """
    job = operation.submit(
        caller(request),
        target,
        body(request) if arguments is None else arguments,
        token=token(request),
        address=address(request),
    )
    is_finished = job.wait(0 if _is_async(request) else PATIENCE)
    if not is_finished:
        response["Location"] = reverse("api:job", args=[job.pk])
    return Status(200 if is_finished else 202, whole(job))


def _is_async(request: HttpRequest) -> bool:
    return "respond-async" in request.headers.get("Prefer", "").lower()


def whole(job: models.Job) -> schemas.JobDetails:
    shown = schemas.JobDetails.model_validate(job)
    shown.target = _target(job)
    return shown


def _row(job: models.Job) -> schemas.Job:
    shown = schemas.Job.model_validate(job)
    shown.target = _target(job)
    return shown


def _target(job: models.Job) -> schemas.Target | None:
    if not job.target_type:
        return None
    return schemas.Target(type=job.target_type, id=job.target_key, name=job.target_name)


@router.get("", operation_id="jobs_list", summary="List jobs", response=schemas.Jobs)
def index(
    request: HttpRequest,
    q: Text = "",
    host: HostName = "",
    state: States = [],  # noqa: B006 - ninja's way to say that it may be left out
    machine: OfMachine = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> schemas.Jobs:
    """The newest first. `q` looks at the target's name and the operation."""
    rows = models.Job.objects.visible_to(caller(request)).select_related("host")
    rows = rows.only(*schemas.columns(schemas.Job), *_TARGET)
    if q:
        rows = rows.filter(Q(target_name__icontains=q) | Q(kind__icontains=q))
    if host:
        rows = rows.filter(Q(host__name=host) | Q(target_type="host", target_name=host))
    if state:
        rows = rows.filter(state__in=state)
    if machine:
        rows = rows.filter(target_type="machine", target_key=str(machine))
    found, following = page(rows, order=("-created", "-id"), cursor=cursor, limit=limit)
    return schemas.Jobs(items=[_row(job) for job in found], next=following)


def _visible(request: HttpRequest) -> QuerySet[models.Job]:
    return models.Job.objects.visible_to(caller(request)).select_related("host")


def _find(request: HttpRequest, key: UUID) -> models.Job:
    job = _visible(request).filter(pk=key).first()
    if job is None:
        raise not_found()
    return job


@router.get(
    "/{uuid:key}",
    operation_id="jobs_get",
    summary="One job",
    response=schemas.JobDetails,
    url_name="job",
)
def read(request: HttpRequest, key: UUID) -> schemas.JobDetails:
    """With its log."""
    return whole(_find(request, key))


@router.post(
    "/{uuid:key}/cancel",
    operation_id="jobs_cancel",
    summary="Cancel",
    response=schemas.JobDetails,
)
def cancel(request: HttpRequest, key: UUID) -> schemas.JobDetails:
    """A queued job is cancelled at once; a running one is asked to stop and undo what it did."""
    job = _find(request, key)
    jobs.cancel(caller(request), job)
    job.refresh_from_db()
    return whole(job)
