"""Network filters: the list, the page of one with its rules, and the forms."""

from collections import Counter
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from kvmweb.models import Host, Nic, NwFilter, SecurityGroup
from kvmweb.models.access import NETWORKS, SEE, may
from kvmweb.operations import filters, of_noun
from kvmweb.operations.operation import Operation
from kvmweb.spec import nwfilter
from kvmweb.spec.nwfilter import Filter
from kvmweb.spec.nwprotocols import ETHERNET
from kvmweb.spec.xml import parse
from kvmweb.web.filter_rules import (
    ReferenceAsking,
    RuleAsking,
    documents,
    entry_at,
    entry_of,
    read_reference,
    read_rule,
)
from kvmweb.web.operate import Asking
from kvmweb.web.paging import page_of

TABS = (
    ("rules", "filter", _("Rules")),
    ("users", "filter_users", _("Used by")),
    ("xml", "filter_xml", _("XML")),
)
DOCUMENTS = ("capabilities_xml", "domain_capabilities")
HEAVY = ("host__capabilities_xml", "host__domain_capabilities")


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    asked = {name: request.GET.get(name, "").strip() for name in ("q", "host")}
    hosts = list(
        Host.objects.visible_to(request.user).only("name", "state", "driver", "has_filters")
    )
    rows = NwFilter.objects.visible_to(request.user).select_related("host").defer("xml", *HEAVY)
    if asked["q"]:
        rows = rows.filter(name__icontains=asked["q"])
    if asked["host"]:
        rows = rows.filter(host__name=asked["host"])
    cursor = request.GET.get("cursor", "")
    page = page_of(rows, cursor)
    context = {
        "rows": _counted(page.items),
        "page": page,
        "cursor": cursor,
        "total": rows.count(),
        "asked": asked,
        "is_filtered": any(asked.values()),
        "hosts": hosts,
        "has_many_hosts": len(hosts) > 1,
        **notices(hosts),
        "may_add": may(request.user, NETWORKS) and any(host.has_filters for host in hosts),
        "query_without_cursor": _query(request, without=("cursor", "fragment")).urlencode(),
        "query": _query(request, without=("fragment",)).urlencode(),
        "area": "filters",
    }
    is_rows = request.GET.get("fragment") == "rows"
    return render(request, "filters/_rows.html" if is_rows else "filters/index.html", context)


def _query(request: HttpRequest, *, without: tuple[str, ...]) -> QueryDict:
    query = request.GET.copy()
    for name in list(query):
        if name in without or not query[name]:
            del query[name]
    return query


def _counted(rows: list[NwFilter]) -> list[tuple[NwFilter, int, int]]:
    """Each with how many NICs and how many other filters refer to it."""
    hosts = {row.host_id for row in rows}
    nics = Nic.objects.filter(host__in=hosts).exclude(filter="").values_list("host", "filter")
    by_nics = {(host, name): count for host, name, count in nics.annotate(Count("pk"))}
    others = NwFilter.objects.filter(host__in=hosts).values_list("host", "references")
    by_filters = Counter((host, name) for host, names in others for name in set(names))
    keys = [(row.host_id, row.name) for row in rows]
    return [
        (row, by_nics.get(key, 0), by_filters.get(key, 0))
        for row, key in zip(rows, keys, strict=True)
    ]


@require_safe
def page(request: HttpRequest, uuid: UUID, tab: str = "rules") -> HttpResponse:
    row = _find(request, uuid)
    fragment = request.GET.get("fragment", "")
    if row is None:
        if fragment and may(request.user, SEE):
            return render(request, "filters/_removed.html", {"uuid": uuid})
        raise Http404
    context = {
        "filter": row,
        "tab": tab,
        "tabs": [
            (name, _with_host(request, reverse(url, args=[uuid])), label)
            for name, url, label in TABS
        ],
        "operations": {one.name: one for one in of_noun("filters")},
        "group": SecurityGroup.objects.filter(name=row.group).first() if row.group else None,
        "may_change": filters.edit.refusal(request.user, row) is None,
        "area": "filters",
        **TAB_CONTEXTS[tab](row),
    }
    return render(request, "filters/_page.html" if fragment else "filters/page.html", context)


def _with_host(request: HttpRequest, address: str) -> str:
    host = request.GET.get("host", "")
    return f"{address}?{QueryDict.fromkeys(['host'], host).urlencode()}" if host else address


def _find(request: HttpRequest, uuid: UUID) -> NwFilter | None:
    """Libvirt's own filters have the same UUID on many hosts; ``?host=`` chooses."""
    rows = NwFilter.objects.visible_to(request.user).filter(uuid=uuid).select_related("host")
    if host := request.GET.get("host"):
        rows = rows.filter(host__name=host)
    return rows.defer(*HEAVY).order_by("pk").first()


def _rules(row: NwFilter) -> dict[str, Any]:
    found = Filter(parse(row.xml))
    known = documents(row.host_id)
    wanted = [name for name in nwfilter.needed(row.name, known) if name != "MAC"]
    used = {rule.protocol for rule in found.rules}
    return {
        "entries": [entry_of(place, entry, set(known)) for place, entry in found.entries],
        "variables": wanted,
        "has_own_addresses": "IP" in wanted,
        **notices([row.host] if used - ETHERNET - {""} else []),
    }


def _users(row: NwFilter) -> dict[str, Any]:
    known = documents(row.host_id)
    through = [
        name for name in known if name != row.name and row.name in nwfilter.tree_of(name, known)
    ]
    nics = Nic.objects.filter(host=row.host_id, filter__in=[row.name, *through])
    listed = nics.select_related("machine").defer("machine__xml", "machine__inactive_xml")
    return {
        "nics": listed.order_by("machine__name", "index"),
        "referrers": row.referrers,
        "later": [
            pair for pair in filters.users(row) if pair[1] not in {one.mac for one in listed}
        ],
    }


def _xml(row: NwFilter) -> dict[str, Any]:
    return {}


TAB_CONTEXTS = {"rules": _rules, "users": _users, "xml": _xml}


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """A new filter, empty or as XML, on the host that is chosen in the form."""
    if not may(request.user, NETWORKS):
        raise Http404
    data = request.POST if request.method == "POST" else request.GET
    hosts = list(Host.objects.visible_to(request.user).defer(*DOCUMENTS))
    usable = [host for host in hosts if host.has_filters and host.is_connected]
    chosen = next((host for host in usable if host.name == data.get("host")), None)
    chosen = chosen or next(iter(usable), None)
    is_document = data.get("from") == "xml"
    asking = Asking(
        request,
        filters.define if is_document else filters.create,
        chosen,
        back=reverse("filters"),
        template="filters/_add.html",
        extra={
            "hosts": usable,
            "is_document": is_document,
            "title": _("New filter"),
            "unsupported": [one for host in hosts if (one := filters.unsupported(host))],
        },
        after=lambda job: _address(job.result["uuid"], chosen),
    )
    if chosen is None:
        return asking.form({}, {}, is_impossible=True)
    return asking.answer()


def _address(uuid: str, host: Host | None) -> str:
    query = QueryDict.fromkeys(["host"], host.name).urlencode() if host else ""
    return f"{reverse('filter', args=[uuid])}?{query}"


@require_http_methods(["GET", "HEAD", "POST"])
def operate_host(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    host = get_object_or_404(Host.objects.visible_to(request.user).defer(*DOCUMENTS), pk=pk)
    if name != filters.show_bridged.name:
        raise Http404
    return Asking(request, filters.show_bridged, host, back=reverse("filters")).answer()


def notices(hosts: Collection[Host]) -> dict[str, Any]:
    """What a page says of hosts on which filters can't be, or have no effect."""
    return {
        "unsupported": [sentence for host in hosts if (sentence := filters.unsupported(host))],
        "blind": filters.blind(hosts),
        "show_bridged": filters.show_bridged,
    }


@require_http_methods(["GET", "HEAD", "POST"])
def operate(request: HttpRequest, uuid: UUID, name: str) -> HttpResponse:
    row = _find(request, uuid)
    operation = next((one for one in of_noun("filters") if one.name == name), None)
    if row is None or operation is None or operation.target is not NwFilter:
        raise Http404
    return _asking(request, operation, row).answer()


def _asking(request: HttpRequest, operation: Operation, row: NwFilter) -> Asking:
    back = _with_host(request, reverse("filter", args=[row.uuid]))
    if operation in (filters.add_rule, filters.edit_rule):
        return RuleAsking(
            request, operation, row, back=back, template="filters/_rule.html", read=read_rule
        )
    if operation is filters.add_reference:
        return ReferenceAsking(
            request,
            operation,
            row,
            back=back,
            template="filters/_reference.html",
            read=read_reference,
        )
    if operation is filters.edit:
        back = _with_host(request, reverse("filter_xml", args=[row.uuid]))
        values = {"xml": row.xml, "version": row.version}
        return Asking(
            request, operation, row, back=back, template="filters/_edit.html",
            extra={"values": values}, after=lambda job: back,
        )  # fmt: skip
    if operation is filters.remove:
        return Asking(request, operation, row, back=back, template="filters/_remove.html",
                      extra={"entry": entry_at(row, request)})  # fmt: skip
    if operation is filters.move:
        return Asking(request, operation, row, back=back, template="filters/_move.html")
    after = {
        "clone": lambda job: _address(job.result["uuid"], row.host),
        "delete": lambda job: reverse("filters"),
    }
    return Asking(
        request, operation, row, back=back, after=after.get(operation.name, lambda job: None)
    )
