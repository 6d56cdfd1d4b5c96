"""Jobs: what was asked for, how far it is and how it ended."""

from datetime import timedelta

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from kvmweb.models import Job, JobState, User
from kvmweb.models.jobs import UNFINISHED
from kvmweb.operations import creation, jobs
from kvmweb.operations.operation import Refused
from kvmweb.web.operate import is_htmx, status_of
from kvmweb.web.paging import page_of

PANEL_MINUTES, PANEL_COUNT = 60, 20
HEAVY = ("log", "commands", "arguments", "result")


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    state = request.GET.get("state", "")
    rows = Job.objects.visible_to(request.user).defer(*HEAVY)
    if state in JobState.values:
        rows = rows.filter(state=state)
    query = request.GET.copy()
    for name in ("cursor", "fragment"):
        query.pop(name, None)
    page = page_of(rows, request.GET.get("cursor", ""), order="created", is_descending=True)
    context = {
        "jobs": page.items,
        "page": page,
        "states": JobState.choices,
        "chosen": state,
        "query_without_cursor": query.urlencode(),
        "address": request.get_full_path(),
    }
    is_rows = request.GET.get("fragment") == "rows"
    return render(request, "jobs/_rows.html" if is_rows else "jobs/index.html", context)


@require_safe
def panel(request: HttpRequest) -> HttpResponse:
    """What is under way, and what ended in the last hour."""
    visible = Job.objects.visible_to(request.user).defer(*HEAVY)
    if request.GET.get("fragment") == "button":
        count = visible.filter(state__in=UNFINISHED).count()
        return render(request, "jobs/_button.html", {"count": count})
    since = timezone.now() - timedelta(minutes=PANEL_MINUTES)
    context = {
        "under_way": visible.filter(state__in=UNFINISHED),
        "ended": visible.exclude(state__in=UNFINISHED).filter(created__gt=since)[:PANEL_COUNT],
    }
    return render(request, "jobs/_panel.html", context)


@require_safe
def page(request: HttpRequest, pk: str) -> HttpResponse:
    job = get_object_or_404(Job.objects.visible_to(request.user).select_related("host"), pk=pk)
    templates = {name: f"jobs/_{name}.html" for name in ("toast", "job", "test")}
    context = {
        "job": job,
        "cancel_refusal": jobs.refusal(request.user, job),
        "seconds": (job.ended - job.started).total_seconds() if job.ended and job.started else None,
        "is_waited_for": request.GET.get("then") == "machine",
        "goto": _made(job) if request.GET.get("then") == "machine" else "",
    }
    name = templates.get(request.GET.get("fragment", ""), "jobs/page.html")
    return render(request, name, context)


def _made(job: Job) -> str:
    """Where to go when the machine that was waited for is there."""
    if job.kind != creation.create.kind or job.state != JobState.DONE:
        return ""
    return reverse("machine_console", args=[job.result["uuid"]])


@require_POST
def cancel(request: HttpRequest, pk: str) -> HttpResponse:
    job = get_object_or_404(Job.objects.visible_to(request.user), pk=pk)
    assert isinstance(request.user, User)
    try:
        jobs.cancel(request.user, job)
    except Refused as refused:
        context = {"text": refused.sentence, "kind": "error"}
        return render(request, "operations/_refused.html", context, status=status_of(refused))
    return HttpResponse(status=204) if is_htmx(request) else redirect("job", pk)
