"""The console of a machine: its page, and the ticket that opens it."""

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from kvmweb.models import Level, Machine, User
from kvmweb.models.access import SEE, may
from kvmweb.operations.consoles import issue_ticket
from kvmweb.operations.operation import Refused
from kvmweb.web.operate import status_of


@require_safe
def page(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """The console in a window of its own; ``?fragment=machine``, what it says of the machine."""
    machine = _find(request, uuid)
    if request.GET.get("fragment") == "machine":
        return _fragment(request, machine, uuid)
    if machine is None:
        raise Http404
    return render(request, "consoles/page.html", {"machine": machine})


def _fragment(request: HttpRequest, machine: Machine | None, uuid: UUID) -> HttpResponse:
    if machine:
        return render(request, "consoles/_machine.html", {"machine": machine})
    if not may(request.user, SEE):
        raise Http404
    return render(request, "consoles/_removed.html", {"uuid": uuid})


@require_POST
def ticket(request: HttpRequest, uuid: UUID) -> JsonResponse:
    """What one connection needs, or the sentence why there is none."""
    machine = _find(request, uuid)
    if machine is None:
        raise Http404
    level = request.POST.get("level", Level.CONTROL)
    session_key = request.session.session_key or ""
    assert isinstance(request.user, User)
    try:
        issued = issue_ticket(request.user, machine, level, session_key=session_key)
    except Refused as refused:
        return JsonResponse(_refusal(refused, machine), status=status_of(refused))
    return JsonResponse(issued)


def _find(request: HttpRequest, uuid: UUID) -> Machine | None:
    """Of two with one UUID on two hosts the first, as the machine's page does."""
    rows = Machine.objects.visible_to(request.user).filter(uuid=uuid).select_related("host")
    rows = rows.defer("host__capabilities_xml", "host__domain_capabilities")
    return rows.order_by("pk").first()


def _refusal(refused: Refused, machine: Machine) -> dict[str, str | bool]:
    """``is_off``: it opens once the machine starts. ``is_passing``: it may open by itself."""
    return {
        "sentence": refused.sentence,
        "is_off": not machine.is_active,
        "is_passing": not machine.host.is_connected,
    }
