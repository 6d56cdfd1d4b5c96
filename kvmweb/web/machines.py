"""Machines: the list, the page of one with its tabs, and what may be done with it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID
from xml.sax.saxutils import escape

from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from kvmweb.models import Host, Job, Machine, State, Volume
from kvmweb.models.access import CONSOLE_VIEW, CREATE, HOSTS, OPERATE, SEE, Viewer, may
from kvmweb.models.jobs import UNFINISHED
from kvmweb.operations import machines, of_noun
from kvmweb.operations.operation import Operation
from kvmweb.spec.devices.disk import Disk, disks
from kvmweb.spec.hardware import Part, hardware
from kvmweb.spec.xml import readable
from kvmweb.web import nics
from kvmweb.web.operate import Asking
from kvmweb.web.paging import page_of

ROW_FIELDS = (
    "uuid", "name", "title", "state", "vcpus", "memory_kib", "graphics",
    "host__name", "host__state", "host__state_reason",
)  # fmt: skip
DOCUMENTS = ("xml", "inactive_xml", "host__capabilities_xml", "host__domain_capabilities")
# The one that suits the state best has its button in the row; all others are in the menu.
QUICK: dict[str, Operation] = {
    State.SHUTOFF: machines.start,
    State.CRASHED: machines.start,
    State.RUNNING: machines.shut_down,
    State.PAUSED: machines.resume,
    State.PMSUSPENDED: machines.resume,
}
TABS = (
    ("overview", "machine", _("Overview")),
    ("console", "machine_console", _("Console")),
    ("hardware", "machine_hardware", _("Hardware")),
    ("xml", "machine_xml", _("XML")),
    ("jobs", "machine_jobs", _("Jobs")),
)
JOBS_SHOWN, NAMES_SHOWN, OTHERS_LOOKED_AT = 50, 3, 20


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    filters = {name: request.GET.get(name, "").strip() for name in ("q", "host", "state")}
    hosts = list(Host.objects.visible_to(request.user).only("name", "state"))
    found = _filtered(Machine.objects.visible_to(request.user), filters)
    rows = found.select_related("host").only(*ROW_FIELDS)
    page = page_of(rows, request.GET.get("cursor", ""))
    query = _query(request)
    context = {
        "rows": _rows(request, page.items),
        "total": found.count(),
        "page": page,
        "filters": filters,
        "is_filtered": any(filters.values()),
        "hosts": hosts,
        "has_many_hosts": len(hosts) > 1,
        "states": State.choices,
        "may_create": may(request.user, CREATE),
        "may_add_hosts": may(request.user, HOSTS),
        "query": query.urlencode(),
        "query_without_cursor": _without(query, "cursor").urlencode(),
    }
    if request.GET.get("fragment") != "rows":
        return render(request, "machines/index.html", context)
    response = render(request, "machines/_rows.html", context)
    if "X-Live" not in request.headers:
        address = reverse("machines")
        response["HX-Push-Url"] = f"{address}?{query.urlencode()}" if query else address
    return response


def _query(request: HttpRequest) -> QueryDict:
    """What the address of this view of the list needs to say."""
    query = QueryDict(mutable=True)
    for name in ("q", "host", "state", "cursor"):
        if value := request.GET.get(name, "").strip():
            query[name] = value
    return query


def _without(query: QueryDict, name: str) -> QueryDict:
    rest = query.copy()
    rest.pop(name, None)
    return rest


def _filtered(rows: QuerySet[Machine], filters: dict[str, str]) -> QuerySet[Machine]:
    if text := filters["q"]:
        found = Q(name__icontains=text) | Q(title__icontains=text) | Q(description__icontains=text)
        if _is_part_of_uuid(text):
            found |= Q(uuid__icontains=text)
        rows = rows.filter(found)
    if host := filters["host"]:
        rows = rows.filter(host__name=host)
    if state := filters["state"]:
        rows = rows.filter(state=state)
    return rows


def _is_part_of_uuid(text: str) -> bool:
    """Less than eight digits are in too many: “db” is in every second UUID."""
    digits = text.replace("-", "").lower()
    return len(digits) >= 8 and set(digits) <= set("0123456789abcdef")


def _rows(request: HttpRequest, found: Sequence[Machine]) -> list[dict[str, Any]]:
    may_view = may(request.user, CONSOLE_VIEW)
    quick = QUICK if may(request.user, OPERATE) else {}
    return [_row(request.user, machine, quick=quick, may_view=may_view) for machine in found]


def _row(
    user: Viewer, machine: Machine, *, quick: dict[str, Operation], may_view: bool
) -> dict[str, Any]:
    """Plain texts, for ``templatetags.rows``."""
    row = {
        "uuid": str(machine.uuid),
        "name": machine.name,
        "title": machine.title,
        "state": State(machine.state).label,
        "state_class": machine.state.replace(" ", "-"),
        "host": machine.host.name,
        "vcpus": machine.vcpus,
        "memory": readable(machine.memory_kib * 1024),
        "has_console": may_view and machine.graphics == "vnc" and machine.is_active,
    }
    operation = quick.get(machine.state)
    if operation is None:
        return row | {"quick": ""}
    return row | {
        "quick": operation.name,
        "label": str(operation.label),
        "icon": operation.icon,
        "why_not": operation.refusal(user, machine),
    }


@require_safe
def page(request: HttpRequest, uuid: UUID, tab: str = "overview") -> HttpResponse:
    fragment = request.GET.get("fragment")
    machine = _find(request, uuid)
    if machine is None:
        if fragment in ("header", "tab") and may(request.user, SEE):
            return render(request, f"machines/_removed_{fragment}.html", {"uuid": uuid})
        raise Http404
    context = {
        "machine": machine,
        "tab": tab,
        "tabs": [(name, reverse(url, args=[uuid]), label) for name, url, label in TABS],
        "address": request.get_full_path().partition("?")[0],
    }
    if fragment == "menu":
        return render(request, "machines/_menu.html", context | {"operations": _menu(machine)})
    if fragment != "tab":
        context |= _header(machine)
    if fragment != "header":
        context |= TAB_CONTEXTS[tab](request, machine)
    names = {"header": "machines/_header.html", "tab": f"machines/_{tab}.html"}
    return render(request, names.get(fragment or "", "machines/page.html"), context)


def _find(request: HttpRequest, uuid: UUID) -> Machine | None:
    """Two hosts may have a machine of the same UUID, as in a move; then ``?host=`` chooses."""
    rows = Machine.objects.visible_to(request.user).filter(uuid=uuid).select_related("host")
    if host := request.GET.get("host"):
        rows = rows.filter(host__name=host)
    return rows.defer("host__capabilities_xml", "host__domain_capabilities").order_by("pk").first()


def _menu(machine: Machine) -> Sequence[Operation]:
    return [one for one in of_noun("machines") if one.target is Machine and one.name not in HIDDEN]


# It is a switch on the Overview, not a button.
HIDDEN = {"set_autostart"}


def _header(machine: Machine) -> dict[str, Any]:
    is_paused = machine.state in (State.PAUSED, State.PMSUSPENDED)
    return {
        "first": machines.resume if is_paused else machines.start,
        "operations": {one.name: one for one in of_noun("machines")},
        "running_jobs": Job.objects.filter(
            host=machine.host, target_key=str(machine.uuid), state__in=UNFINISHED
        ),
    }


def _overview(request: HttpRequest, machine: Machine) -> dict[str, Any]:
    parts = hardware(machine.xml)
    return {
        "parts": [part for part in parts if part.icon in ("database", "disc", "network")],
        "autostart_refusal": machines.set_autostart.refusal(request.user, machine),
        "is_emulated": machine.virtualization == "qemu",
    }


def _console(request: HttpRequest, machine: Machine) -> dict[str, Any]:
    return {"may_see_console": may(request.user, CONSOLE_VIEW, machine)}


def _hardware(request: HttpRequest, machine: Machine) -> dict[str, Any]:
    document, is_inactive = _document(request, machine)
    parts = hardware(document)
    chosen = _number(request.GET.get("part", ""), len(parts))
    part: Part = parts[chosen]
    return {
        "parts": parts,
        "chosen": chosen,
        "part": part,
        "is_inactive": is_inactive,
        **nics.tab(request, machine, parts, chosen),
    }


def _xml(request: HttpRequest, machine: Machine) -> dict[str, Any]:
    document, is_inactive = _document(request, machine)
    return {"document": document, "is_inactive": is_inactive}


def _document(request: HttpRequest, machine: Machine) -> tuple[str, bool]:
    """The document that is asked for: the one in force, or the one of the next start."""
    is_inactive = request.GET.get("version") == "inactive" and bool(machine.inactive_xml)
    return (machine.inactive_xml if is_inactive else machine.xml), is_inactive


def _number(text: str, count: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and int(text) < count else 0


def _jobs(request: HttpRequest, machine: Machine) -> dict[str, Any]:
    jobs = Job.objects.visible_to(request.user).filter(target_key=str(machine.uuid))
    return {"jobs": jobs.defer("log", "commands", "arguments", "result")[:JOBS_SHOWN]}


TAB_CONTEXTS = {
    "overview": _overview,
    "console": _console,
    "hardware": _hardware,
    "xml": _xml,
    "jobs": _jobs,
}


@require_http_methods(["GET", "HEAD", "POST"])
def operate(request: HttpRequest, uuid: UUID, name: str) -> HttpResponse:
    machine = _find(request, uuid)
    operation = next((one for one in of_noun("machines") if one.name == name), None)
    if machine is None or operation is None or operation.target is not Machine:
        raise Http404
    asking = Asking(request, operation, machine, back=reverse("machine", args=[uuid]))
    if operation is machines.delete:
        asking = _deleting(asking, machine)
    return asking.answer()


def _deleting(asking: Asking, machine: Machine) -> Asking:
    return Asking(
        asking.request,
        asking.operation,
        machine,
        back=asking.back,
        template="machines/_delete.html",
        extra={"disks": deletable(machine)},
        after=lambda job: reverse("machines") if _is_on_its_page(asking) else None,
    )


def _is_on_its_page(asking: Asking) -> bool:
    """Whether the browser shows the machine's own page, which is about to be about nothing."""
    address = asking.request.headers.get("HX-Current-URL", asking.back)
    return asking.back in address


def deletable(machine: Machine) -> list[dict[str, Any]]:
    """The machine's disks as boxes: which to tick beforehand, which not to offer, and why."""
    rows = {}
    for disk in disks(machine.xml) + disks(machine.inactive_xml or machine.xml):
        volume = _volume(machine, disk)
        path = volume.path if volume else disk.source
        if path and path not in rows:
            rows[path] = _box(machine, disk, path, volume)
    return list(rows.values())


def _box(machine: Machine, disk: Disk, path: str, volume: Volume | None) -> dict[str, Any]:
    others = _others_with(machine, path)
    reasons = [
        (volume is None, _("It is in no storage pool.")),
        (bool(others), _("Used by %(names)s too.") % {"names": _names(others)}),
    ]
    doubts = [
        (disk.device in ("cdrom", "floppy"), _("Removable media.")),
        (disk.is_read_only, _("Read-only.")),
        (disk.is_shareable, _("Shared.")),
    ]
    why_not = [str(text) for is_so, text in reasons if is_so]
    why_kept = [str(text) for is_so, text in doubts if is_so]
    return {
        "path": path,
        "label": disk.target or disk.device,
        "size_bytes": volume.capacity_bytes if volume else 0,
        "is_offered": not why_not,
        "is_ticked": not why_not and not why_kept,
        "note": " ".join(why_not + why_kept),
    }


def _names(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    text = ", ".join(names[:NAMES_SHOWN])
    return (
        str(_("%(names)s and %(more)d more") % {"names": text, "more": more}) if more > 0 else text
    )


def _volume(machine: Machine, disk: Disk) -> Volume | None:
    volumes = Volume.objects.filter(pool__host=machine.host)
    if disk.pool:
        return volumes.filter(pool__name=disk.pool, name=disk.source).first()
    return volumes.filter(path=disk.source).first() if disk.source else None


def _others_with(machine: Machine, path: str) -> list[str]:
    """Names of the other machines whose documents mention the path; libvirt checks it again."""
    rows = Machine.objects.filter(host=machine.host).exclude(pk=machine.pk)
    written = escape(path, {"'": "&apos;"})
    mention = rows.filter(Q(xml__contains=written) | Q(inactive_xml__contains=written))
    mention = mention.only("name", "xml", "inactive_xml")[:OTHERS_LOOKED_AT]
    return [
        other.name
        for other in mention
        if any(disk.source == path for disk in disks(other.xml) + _inactive_disks(other))
    ]


def _inactive_disks(machine: Machine) -> list[Disk]:
    return disks(machine.inactive_xml) if machine.inactive_xml else []
