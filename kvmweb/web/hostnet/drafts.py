"""Drafts: a document that somebody proposes is the job of its preview, whose page is the plan."""

import re
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _

from kvmweb.models import Host, HostNetwork, Job, JobState
from kvmweb.models.access import NETWORKS, may
from kvmweb.operations import hostnet
from kvmweb.operations.operation import Refused
from kvmweb.spec.hostnet import HostNetwork as Wanted
from kvmweb.spec.hostnet_edits import Document, digest, rebased
from kvmweb.web.hostnet.kinds import KINDS
from kvmweb.web.hostnet.pages import find_host
from kvmweb.web.operate import WAIT_SECONDS, status_of, submit

# Pydantic puts a link's kind into the place of an error: links.0.bridge.name.
_TAG = re.compile(rf"^(links\.\d+)\.(?:{'|'.join([*KINDS, 'macvtap'])})\b")


@dataclass
class Draft:
    """The document a form starts from. ``before``: what was wanted then; ``job``: an earlier
    draft it goes on from.
    """

    host: Host
    document: Document
    before: Document
    job: Job | None = None
    conflicts: list[str] = field(default_factory=list)

    @property
    def has_moved(self) -> bool:
        """Whether the earlier draft began on another ground."""
        return self.job is not None and digest(whole(before_of(self.job))) != digest(self.before)


def draft_of(request: HttpRequest, host: Host) -> Draft:
    """What is wanted now, or the draft named in the address, brought up to date."""
    row = HostNetwork.of(host)
    now = whole(row.desired)
    key = request.GET.get("draft", "")
    if not key:
        return Draft(host, now, now)
    job = get_object_or_404(previews(request, host), pk=uuid_of(key))
    document, conflicts = rebased(whole(before_of(job)), now, job.arguments["document"])
    return Draft(host, document, now, job, conflicts)


def before_of(job: Job) -> Document:
    before: Document = job.result.get("before", {})
    return before


def whole(document: Document) -> Document:
    """With every field, so that two documents can be compared."""
    return Wanted.model_validate(document).model_dump(mode="json")


def previews(request: HttpRequest, host: Host) -> Any:
    rows = Job.objects.visible_to(request.user)
    return rows.filter(host=host, kind=hostnet.preview.kind)


def uuid_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None


class Wrong(Exception):
    """A sentence for each place of the document that is wrong; "" for the whole."""

    def __init__(self, places: dict[str, str], status: int = 422) -> None:
        super().__init__(places)
        self.places = places
        self.status = status


def planned(request: HttpRequest, host: Host, document: Document) -> Job:
    """The job of the preview, begun and perhaps ended. Raises ``Wrong``."""
    try:
        job = submit(request, hostnet.preview, host, {"document": document})
    except Refused as refused:
        raise Wrong(
            places_of(refused.fields) or {"": refused.sentence}, status_of(refused)
        ) from None
    job.wait(WAIT_SECONDS)
    if job.state == JobState.FAILED:
        raise Wrong(places_of({job.error_field: job.error}))
    return job


def places_of(fields: dict[str, str]) -> dict[str, str]:
    found = {}
    for name, sentence in fields.items():
        place = name.removeprefix("document").removeprefix(".")
        found[_TAG.sub(r"\1", place)] = sentence
    return found


def to_plan(job: Job) -> HttpResponse:
    return redirect("hostnet_plan", job.host_id, job.pk)


def administrators_host(request: HttpRequest, pk: int) -> Host:
    host = find_host(request, pk)
    if not may(request.user, NETWORKS, host):
        raise Http404
    return host


def say_moved(request: HttpRequest, conflicts: list[str]) -> None:
    messages.warning(
        request,
        _("The ground has moved: the host's network was changed meanwhile. This is the new plan."),
    )
    if conflicts:
        text = _("Somebody else changed the same, and yours would take its place: %s")
        messages.warning(request, text % ", ".join(conflicts))
