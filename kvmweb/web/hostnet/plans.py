"""The page of a plan: looked at, applied, made again where the ground has moved."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from kvmweb.models import Host, HostNetwork, Job, JobState
from kvmweb.models.access import NETWORKS, may
from kvmweb.operations import hostnet
from kvmweb.operations.operation import Refused
from kvmweb.spec.hostnet_edits import digest, rebased
from kvmweb.web.hostnet.diffs import unified
from kvmweb.web.hostnet.drafts import (
    Wrong,
    administrators_host,
    before_of,
    planned,
    previews,
    say_moved,
    to_plan,
    uuid_of,
    whole,
)
from kvmweb.web.hostnet.kinds import TO_ADD
from kvmweb.web.hostnet.pages import find_host, written
from kvmweb.web.hosts import frame
from kvmweb.web.operate import WAIT_SECONDS, submit


@require_safe
def plan(request: HttpRequest, pk: int, job: UUID) -> HttpResponse:
    host = find_host(request, pk)
    found = get_object_or_404(previews(request, host), pk=job)
    is_part = request.GET.get("fragment") == "plan"
    name = "hostnet/_plan.html" if is_part else "hostnet/plan.html"
    return render(request, name, _plan_context(request, host, found))


def _plan_context(request: HttpRequest, host: Host, found: Job) -> dict[str, Any]:
    before, after = before_of(found), found.arguments["document"]
    applying = _applying(request, host)
    return {
        **frame(host, "network"),
        "job": found,
        "plan": found.result,
        "diff": unified(written(before), written(after)),
        "has_moved": digest(whole(before)) != digest(whole(HostNetwork.of(host).desired)),
        "applying": applying,
        "goto": _change_address(applying) if applying else "",
        "to_add": TO_ADD,
        "may_change": may(request.user, NETWORKS, host),
        "address": request.get_full_path(),
        "refusal": hostnet.apply.refusal(request.user, host),
    }


def _applying(request: HttpRequest, host: Host) -> Job | None:
    key = request.GET.get("applying", "")
    if not key:
        return None
    rows = Job.objects.visible_to(request.user).filter(host=host, kind=hostnet.apply.kind)
    return rows.filter(pk=uuid_of(key)).first()


def _change_address(job: Job) -> str:
    if job.state != JobState.DONE:
        return ""
    return reverse("hostnet_change", args=[job.host_id, job.result["change"]])


@require_POST
def apply(request: HttpRequest, pk: int, job: UUID) -> HttpResponse:
    """Ask for what the plan shows. Where the ground has moved, there is a new plan to look at."""
    host = administrators_host(request, pk)
    found = get_object_or_404(previews(request, host), pk=job)
    arguments = {"document": found.arguments["document"], "digest": found.result.get("digest", "")}
    try:
        asked = submit(request, hostnet.apply, host, arguments)
    except Refused as refused:
        messages.error(request, " ".join(refused.fields.values()) or refused.sentence)
        return redirect("hostnet_plan", pk, found.pk)
    asked.wait(WAIT_SECONDS)
    if asked.state == JobState.DONE:
        return HttpResponseRedirect(_change_address(asked))
    if asked.state == JobState.FAILED and asked.error_field == "digest":
        return _plan_anew(request, host, found)
    query = urlencode({"applying": str(asked.pk)})
    return HttpResponseRedirect(f"{reverse('hostnet_plan', args=[pk, found.pk])}?{query}")


@require_POST
def replan(request: HttpRequest, pk: int, job: UUID) -> HttpResponse:
    """The same wish, on the ground as it is now."""
    host = administrators_host(request, pk)
    return _plan_anew(request, host, get_object_or_404(previews(request, host), pk=job))


def _plan_anew(request: HttpRequest, host: Host, old: Job) -> HttpResponse:
    now = whole(HostNetwork.of(host).desired)
    document, conflicts = rebased(whole(before_of(old)), now, old.arguments["document"])
    try:
        job = planned(request, host, document)
    except Wrong as wrong:
        for place, sentence in wrong.places.items():
            messages.error(request, f"{place}: {sentence}" if place else sentence)
        return redirect("hostnet_plan", host.pk, old.pk)
    say_moved(request, conflicts)
    return to_plan(job)
