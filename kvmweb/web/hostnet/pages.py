"""The tab “Network” of a host: what is there, section by section, and questions to the host."""

import json
import shlex
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.http import content_disposition_header
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe

from kvmweb.models import ChangeState, Host, HostNetwork, Job, NetworkChange
from kvmweb.models.access import NETWORKS, may
from kvmweb.operations import hostnet, of_noun
from kvmweb.operations.operation import Operation, Refused
from kvmweb.spec.hostnet import HostNetwork as Document
from kvmweb.spec.hostnet_edits import to_yaml
from kvmweb.web.hostnet.diffs import unified
from kvmweb.web.hostnet.kinds import KINDS, TO_ADD, key_of
from kvmweb.web.hostnet.shown import COUNTERS, Shown, facts, port_facts, summary
from kvmweb.web.hosts import DOCUMENTS, frame
from kvmweb.web.operate import WAIT_SECONDS, Asking, is_htmx, status_of, submit


class Section(NamedTuple):
    name: str
    label: str | Promise
    icon: str


SECTIONS = (
    Section("links", _("Interfaces"), icon="network"),
    Section("bridges", _("Linux bridges"), icon="topology-star-3"),
    Section("switches", _("Open vSwitch"), icon="topology-star-ring-3"),
    Section("routers", _("Routers"), icon="router"),
    Section("routes", _("Routes"), icon="arrow-ramp-right"),
    Section("document", _("What is wanted"), icon="file-text"),
    Section("changes", _("Changes"), icon="history"),
)
# Those most people look for; the others are there as well.
TOLD_OFFLOADS = (
    "tx-checksumming", "rx-checksumming", "generic-segmentation-offload",
    "tcp-segmentation-offload", "generic-receive-offload", "large-receive-offload",
)  # fmt: skip
CHANGES_SHOWN = 100
# Tables of Open vSwitch's database, https://www.openvswitch.org/support/dist-docs/ovs-vswitchd.conf.db.5.html
OVS_TABLES = (
    "Open_vSwitch", "Bridge", "Port", "Interface", "Mirror", "QoS", "Queue", "Controller",
    "Manager", "Flow_Table", "NetFlow", "sFlow", "IPFIX", "Flow_Sample_Collector_Set", "SSL",
    "AutoAttach", "Datapath", "CT_Zone", "CT_Timeout_Policy",
)  # fmt: skip


def find_host(request: HttpRequest, pk: int) -> Host:
    return get_object_or_404(Host.objects.visible_to(request.user).defer(*DOCUMENTS), pk=pk)


@require_safe
def section(request: HttpRequest, pk: int, section: str = "links") -> HttpResponse:
    host = find_host(request, pk)
    if section not in _CONTEXTS:
        raise Http404
    row = HostNetwork.of(host)
    shown = Shown(host, row, request.user)
    context = {
        **frame(host, "network"),
        "section": section,
        "sections": [
            (name, reverse("host_network_section", args=[pk, name]), label, icon)
            for name, label, icon in SECTIONS
        ],
        "template": f"hostnet/_{section}.html",
        "network": row,
        "shown": shown,
        "address": request.get_full_path(),
        "may_change": may(request.user, NETWORKS),
        "to_add": TO_ADD,
        "drift_operations": [hostnet.put_back, hostnet.take_over],
        **_CONTEXTS[section](request, shown),
    }
    is_part = request.GET.get("fragment") == "section"
    return render(request, "hostnet/_section.html" if is_part else "hostnet/page.html", context)


def _links(request: HttpRequest, shown: Shown) -> dict[str, Any]:
    name = request.GET.get("name", "")
    if name:
        return _link(shown, name)
    others = [(one, shown.links(one)) for one in shown.namespaces()]
    return {"links": shown.links(), "others": others, "features": shown.features()}


def _link(shown: Shown, name: str) -> dict[str, Any]:
    link = shown.link(name)
    if link is None:
        return {"template": "hostnet/_link_gone.html", "name": name}
    on = link.found.get("offloads", {})
    fixed = set(link.found.get("fixed_offloads", []))
    names = [one for one in TOLD_OFFLOADS if one in on]
    return {
        "template": "hostnet/_link.html",
        "link": link,
        "facts": list(facts(link.found)),
        "port_facts": list(port_facts(link.found.get("port") or {})),
        "on_it": shown.on_it(link),
        "offloads": [(one, on[one], one in fixed) for one in names],
        "more_offloads": [(one, on[one]) for one in sorted(on) if one not in names],
        "counters": [
            (label, link.usage.get(f"rx_{one}"), link.usage.get(f"tx_{one}"))
            for one, label in COUNTERS
        ],
        "routes": [one for one in shown.routes() if one.get("dev") == name],
        "kinds": [KINDS["vlan"], KINDS["macvlan"]],
    }


def _bridges(request: HttpRequest, shown: Shown) -> dict[str, Any]:
    return {"bridges": shown.bridges()}


def _switches(request: HttpRequest, shown: Shown) -> dict[str, Any]:
    return {"switches": shown.switches(), "ovs": shown.ovs, "tables": OVS_TABLES}


def _routers(request: HttpRequest, shown: Shown) -> dict[str, Any]:
    return {"routers": shown.routers()}


def _routes(request: HttpRequest, shown: Shown) -> dict[str, Any]:
    found = [(route, shown.wanted_route(route)) for route in shown.routes()]
    return {"routes": [(one, wanted and key_of(wanted)) for one, wanted in found]}


def _document(request: HttpRequest, shown: Shown) -> dict[str, Any]:
    return {"yaml": written(shown.row.desired)}


def _changes(request: HttpRequest, shown: Shown) -> dict[str, Any]:
    rows = NetworkChange.objects.visible_to(request.user).filter(host=shown.host)
    changes = list(rows.select_related("user", "job")[:CHANGES_SHOWN])
    return {
        "changes": [(one, summary(one.before, one.after)) for one in changes],
        "undo": hostnet.undo,
    }


_CONTEXTS: dict[str, Callable[[HttpRequest, Shown], dict[str, Any]]] = {
    "links": _links,
    "bridges": _bridges,
    "switches": _switches,
    "routers": _routers,
    "routes": _routes,
    "document": _document,
    "changes": _changes,
}


def written(document: dict[str, Any]) -> str:
    """The document as YAML, without what is as it is by default."""
    return to_yaml(Document.model_validate(document).without_defaults())


@require_safe
def export(request: HttpRequest, pk: int) -> HttpResponse:
    """What is wanted of the host's network, as YAML that can be applied again."""
    host = find_host(request, pk)
    disposition = content_disposition_header(as_attachment=True, filename=f"{host.name}.yaml")
    return HttpResponse(
        written(HostNetwork.of(host).desired),
        content_type="application/yaml; charset=utf-8",
        headers={"Content-Disposition": disposition or "attachment"},
    )


@require_safe
def change(request: HttpRequest, pk: int, key: UUID) -> HttpResponse:
    host = find_host(request, pk)
    rows = NetworkChange.objects.visible_to(request.user).filter(host=host)
    found = get_object_or_404(rows.select_related("user", "job"), pk=key)
    context = {
        **frame(host, "network"),
        "change": found,
        "summary": summary(found.before, found.after),
        "diff": unified(written(found.before), written(found.after)),
        "undo": hostnet.undo,
        "is_last": found == hostnet.last_applied(host.pk),
        "States": ChangeState,
    }
    is_part = request.GET.get("fragment") == "change"
    return render(request, "hostnet/_change.html" if is_part else "hostnet/change.html", context)


@require_safe
def banner(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "hostnet/_banner.html", {"host": find_host(request, pk)})


def operate(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    host = find_host(request, pk)
    operation = _operation(name, (hostnet.preview, hostnet.apply, *ASKED))
    back = reverse("host_network_section", args=[pk, "changes"])
    extra: dict[str, Any] = {}
    if operation in (hostnet.put_back, hostnet.take_over):
        row = HostNetwork.of(host)
        extra = {"drift": row.drift}
    template = "hostnet/_drift_form.html" if extra else "operations/_form.html"
    return Asking(request, operation, host, back=back, template=template, extra=extra).answer()


ASKED: tuple[Operation, ...] = (hostnet.run_command, hostnet.look)


def _operation(name: str, but: tuple[Operation, ...] = ()) -> Operation:
    found = next((one for one in of_noun("hostnet") if one.name == name and one not in but), None)
    if found is None:
        raise Http404
    return found


@require_POST
def ask(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """A question to the host, whose answer comes into the page."""
    host = find_host(request, pk)
    operation = next((one for one in ASKED if one.name == name), None)
    if operation is None:
        raise Http404
    try:
        job = submit(request, operation, host, _arguments(operation, request))
    except (Refused, ValueError) as refused:
        status = status_of(refused) if isinstance(refused, Refused) else 422
        fields = refused.fields.values() if isinstance(refused, Refused) else ()
        context = {"sentence": " ".join(fields) or str(refused)}
        return render(request, "hostnet/_answer.html", context, status=status)
    job.wait(WAIT_SECONDS)
    if not is_htmx(request):
        return redirect("job", job.pk)
    return render(request, "hostnet/_answer.html", _answered(host, job))


def _arguments(operation: Operation, request: HttpRequest) -> dict[str, Any]:
    """A command is typed as into a shell; its words are told apart here, and no shell runs."""
    given = {
        name: request.POST[name]
        for name in operation.arguments.model_fields
        if name in request.POST
    }
    if operation is hostnet.run_command:
        return {**given, "command": shlex.split(str(given.get("command", "")))}
    return given


@require_safe
def answer(request: HttpRequest, pk: int, job: UUID) -> HttpResponse:
    host = find_host(request, pk)
    kinds = [operation.kind for operation in ASKED]
    rows = Job.objects.visible_to(request.user).filter(host=host, kind__in=kinds)
    return render(request, "hostnet/_answer.html", _answered(host, get_object_or_404(rows, pk=job)))


def _answered(host: Host, job: Job) -> dict[str, Any]:
    found = job.result
    names = {key: one["name"] for key, one in found.get("names", {}).items()}
    rows = found.get("rows") or []
    columns = sorted(dict.fromkeys(name for row in rows for name in row), key=_place)
    return {
        "host": host,
        "job": job,
        "output": found.get("output", found.get("text")),
        "columns": columns,
        "rows": [
            [_cell(row.get(name), names if name != "uuid" else {}) for name in columns]
            for row in rows
        ],
        "left_out": max(0, found.get("total", 0) - len(rows)),
    }


def _place(column: str) -> int:
    """What a row is called comes first, its number last; the rest stays as it was told."""
    return {"name": 0, "uuid": 2}.get(column, 1)


def _cell(value: Any, names: dict[str, str]) -> str:
    """A row of another table by its name."""
    match value:
        case None | [] | {}:
            return ""
        case str():
            return names.get(value, value)
        case list():
            return ", ".join(_cell(one, names) for one in value)
        case dict():
            return ", ".join(f"{key}={_cell(one, names)}" for key, one in value.items())
    return json.dumps(value)
