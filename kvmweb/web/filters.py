"""Network filters: the list, the page of one with its rules, and the forms."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
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
from kvmweb.spec.nwfilter import Filter, Rule
from kvmweb.spec.nwprotocols import ETHERNET, PROTOCOLS, flaws, inputs, joined, seconds, split
from kvmweb.spec.xml import parse
from kvmweb.web.operate import Asking
from kvmweb.web.paging import page_of

TABS = (
    ("rules", "filter", _("Rules")),
    ("users", "filter_users", _("Used by")),
    ("xml", "filter_xml", _("XML")),
)
WORDS = {
    "accept": _("accept"),
    "drop": _("drop"),
    "reject": _("reject"),
    "continue": _("continue"),
    "return": _("return"),
    "in": _("incoming"),
    "out": _("outgoing"),
    "inout": _("both ways"),
}
DOCUMENTS = ("capabilities_xml", "domain_capabilities")
HEAVY = ("host__capabilities_xml", "host__domain_capabilities")
MEANINGS = {
    "continue": _("continue with the next rule"),
    "return": _("return to the calling chain"),
    "reject": _("reject with an ICMP message"),
}
# What is asked about a rule beside its conditions; they come as c-NAME.
_PREFIX = "c-"


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
    names = set(NwFilter.objects.filter(host=row.host_id).values_list("name", flat=True))
    documents = _documents(row.host_id)
    wanted = [name for name in nwfilter.needed(row.name, documents) if name != "MAC"]
    used = {rule.protocol for rule in found.rules}
    return {
        "entries": [_entry(place, entry, names) for place, entry in found.entries],
        "last": len(found.entries) - 1,
        "variables": wanted,
        "has_own_addresses": "IP" in wanted,
        "needs_bridging": bool(used - ETHERNET - {""}),
    }


def _documents(host_id: int) -> dict[str, str]:
    return dict(NwFilter.objects.filter(host=host_id).values_list("name", "xml"))


def _entry(place: int, entry: Rule | nwfilter.Reference, names: set[str]) -> dict[str, Any]:
    if isinstance(entry, nwfilter.Reference):
        return {
            "place": place,
            "reference": entry,
            "is_missing": entry.filter not in names,
        }
    return {
        "place": place,
        "rule": entry,
        "action": WORDS.get(entry.action, entry.action),
        "direction": WORDS.get(entry.direction, entry.direction),
    }


def _users(row: NwFilter) -> dict[str, Any]:
    documents = _documents(row.host_id)
    through = [
        name
        for name in documents
        if name != row.name and row.name in nwfilter.tree_of(name, documents)
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
            request, operation, row, back=back, template="filters/_rule.html", read=_read_rule
        )
    if operation is filters.add_reference:
        return ReferenceAsking(
            request,
            operation,
            row,
            back=back,
            template="filters/_reference.html",
            read=_read_reference,
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
                      extra={"entry": _entry_at(row, request)})  # fmt: skip
    if operation is filters.move:
        return Asking(request, operation, row, back=back, template="filters/_move.html")
    after = {
        "clone": lambda job: _address(job.result["uuid"], row.host),
        "delete": lambda job: reverse("filters"),
    }
    return Asking(
        request, operation, row, back=back, after=after.get(operation.name, lambda job: None)
    )


def _entry_at(row: NwFilter, request: HttpRequest) -> dict[str, Any]:
    data = request.POST if request.method == "POST" else request.GET
    entries = Filter(parse(row.xml)).entries
    text = data.get("place", "")
    place = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= place < len(entries):
        raise Http404
    return _entry(place, entries[place][1], set()) | {"version": data.get("version") or row.version}


@dataclass(frozen=True)
class Condition:
    """One input of a rule's form; ``is_rare``: shown when somebody asks for more."""

    name: str
    label: str
    value: str
    error: str
    is_rare: bool


def _is_rare(protocol: str, name: str) -> bool:
    common = {"srcipaddr", "dstipaddr", "srcportstart", "dstportstart", "type", "code", "protocol"}
    common |= {"protocolid", "vlanid", "opcode", "arpsrcipaddr", "arpdstipaddr", "arpsrcmacaddr"}
    if protocol in ("mac", "vlan", "stp", "arp", "rarp"):
        common |= {"srcmacaddr", "dstmacaddr"}
    return name not in common


@dataclass(frozen=True)
class RuleAsking(Asking):
    """A rule's form: which conditions it asks for depends on the protocol that is chosen in it."""

    def form(
        self, arguments: dict[str, Any], errors: dict[str, str], *, status: int = 200, **more: Any
    ) -> HttpResponse:
        assert isinstance(self.target, NwFilter)
        values = arguments or self._begun(self.target)
        protocol = values.get("protocol", "")
        conditions = values.get("conditions", {})
        wrong = flaws(protocol, conditions) if "conditions" in errors else {}
        typed = joined(protocol, conditions) if protocol in PROTOCOLS else {}
        firsts = _firsts(protocol, wrong)
        asked = [
            Condition(
                name, label, typed.get(name, ""), firsts.get(name, ""), _is_rare(protocol, name)
            )
            for name, label in (inputs(protocol) if protocol in PROTOCOLS else [])
        ]
        more |= {
            "values": values,
            "protocols": PROTOCOLS,
            "ethernet": sorted(ETHERNET),
            "actions": [(name, MEANINGS.get(name, WORDS[name])) for name in nwfilter.ACTIONS],
            "directions": [(name, WORDS[name]) for name in nwfilter.DIRECTIONS],
            "conditions": [one for one in asked if not one.is_rare],
            "rare": [one for one in asked if one.is_rare],
            "is_rare_open": any(one.is_rare and (one.value or one.error) for one in asked),
            "is_reloaded": "action" in self.request.GET,
        }
        return super().form(values, errors, status=status, **more)

    def _begun(self, row: NwFilter) -> dict[str, Any]:
        """What the form shows first: what it was sent to be shown again, the rule, or a new one."""
        data = self.request.GET
        if "action" in data:
            return _read_rule(self.operation, data)
        version = data.get("version") or row.version
        if self.operation is filters.add_rule:
            return {**Rule(protocol="tcp").model_dump(), "version": version}
        entry = _entry_at(row, self.request)
        if "rule" not in entry:
            raise Http404
        return {**entry["rule"].model_dump(), "place": entry["place"], "version": version}


def _firsts(protocol: str, wrong: dict[str, str]) -> dict[str, str]:
    """The sentences at the inputs: a pair has but one."""
    pairs = seconds(protocol) if protocol in PROTOCOLS else {}
    first = {second: name for name, (second, _separator) in pairs.items()}
    found: dict[str, str] = {}
    for name, sentence in wrong.items():
        found.setdefault(first.get(name, name), sentence)
    return found


def _read_rule(operation: Operation, data: QueryDict) -> dict[str, Any]:
    protocol = data.get("protocol", "")
    typed = {
        name.removeprefix(_PREFIX): text
        for name, text in data.items()
        if isinstance(text, str) and name.startswith(_PREFIX)
    }
    known = PROTOCOLS.get(protocol, ())
    conditions = (
        split(protocol, {name: typed[name] for name in typed if name in known}) if known else {}
    )
    arguments: dict[str, Any] = {
        name: data[name]
        for name in ("action", "direction", "priority", "comment", "version", "place")
        if name in data
    }
    return {
        **arguments,
        "protocol": protocol,
        "conditions": conditions,
        "is_stateful": "is_stateful" in data,
        "is_negated": "is_negated" in data,
    }


@dataclass(frozen=True)
class ReferenceAsking(Asking):
    def form(
        self, arguments: dict[str, Any], errors: dict[str, str], *, status: int = 200, **more: Any
    ) -> HttpResponse:
        assert isinstance(self.target, NwFilter)
        documents = _documents(self.target.host_id)
        data = self.request.POST if self.request.method == "POST" else self.request.GET
        chosen = data.get("filter", "")
        given = arguments.get("parameters", {})
        more |= {
            "choices": [
                name for name in documents
                if self.target.name not in nwfilter.tree_of(name, documents)
            ],
            "chosen": chosen,
            "variables": [
                (name, given.get(name, ""))
                for name in nwfilter.needed(chosen, documents)
                if name not in nwfilter.AUTOMATIC
            ],
            "version": data.get("version") or self.target.version,
        }  # fmt: skip
        return super().form(arguments, errors, status=status, **more)


def _read_reference(operation: Operation, data: QueryDict) -> dict[str, Any]:
    parameters = {
        name.removeprefix(_PREFIX): text.strip()
        for name, text in data.items()
        if isinstance(text, str) and name.startswith(_PREFIX) and text.strip()
    }
    return {
        "filter": data.get("filter", ""),
        "parameters": parameters,
        "version": data.get("version", ""),
    }
