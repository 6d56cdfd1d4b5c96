"""Network filters, by libvirt's UUID."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from ninja import Router
from ninja.responses import Status
from pydantic import create_model

from kvmweb.api import schemas
from kvmweb.api.authentication import caller
from kvmweb.api.bodies import body
from kvmweb.api.jobs import ask
from kvmweb.api.lists import Cursor, HostName, Limit, OnHost, Text, page
from kvmweb.api.offers import described, host_named, of_target, refusals
from kvmweb.api.problems import Problem, not_found
from kvmweb.api.xml import XML, xml_response
from kvmweb.models import NwFilter
from kvmweb.operations import filters as operations
from kvmweb.operations.operation import Operation
from kvmweb.spec import nwfilter
from kvmweb.spec.nwfilter import Filter, Rule
from kvmweb.spec.xml import parse

router = Router(tags=["filters"])
OPERATIONS = of_target("filters", NwFilter)
Creation = create_model("new_filter", __base__=operations.create.arguments, host=(str, ...))
Definition = create_model("filter_xml", __base__=operations.define.arguments, host=(str, ...))
HEAVY = ("host__capabilities_xml", "host__domain_capabilities")
RULE: dict[str, Any] = {
    "a rule": {
        "action": "drop",
        "direction": "in",
        "protocol": "icmp",
        "conditions": {"srcipaddr": "10.0.0.0", "srcipmask": "8", "type": "8"},
    }
}
EXAMPLES: dict[str, Any] = {
    "add_rule": RULE,
    "edit_rule": {"a rule": {**RULE["a rule"], "place": 0}},
}


def find(request: HttpRequest, uuid: UUID, host: str) -> NwFilter:
    """Libvirt's own filters may have one UUID on many hosts: to change one, say which."""
    rows = NwFilter.objects.visible_to(caller(request)).filter(uuid=uuid).select_related("host")
    found = list((rows.filter(host__name=host) if host else rows).defer(*HEAVY))
    if not found:
        raise not_found()
    if len(found) > 1 and request.method != "GET":
        names = ", ".join(sorted(row.host.name for row in found))
        raise Problem(409, _("Several hosts have this filter: %s. Add ?host=.") % names)
    return found[0]


@router.get("", operation_id="filters_list", summary="List filters", response=schemas.Filters)
def index(
    request: HttpRequest,
    q: Text = "",
    host: HostName = "",
    cursor: Cursor = "",
    limit: Limit = 100,
) -> schemas.Filters:
    """By name."""
    rows = NwFilter.objects.visible_to(caller(request)).select_related("host")
    rows = rows.only(*schemas.columns(schemas.Filter))
    if q:
        rows = rows.filter(name__icontains=q)
    if host:
        rows = rows.filter(host__name=host)
    found, following = page(rows, order=("name", "pk"), cursor=cursor, limit=limit)
    items = [schemas.Filter.model_validate(row) for row in found]
    return schemas.Filters(items=items, next=following)


@router.post("", **described(operations.create, Creation, operation_id="filters_create"))
def create(request: HttpRequest, response: HttpResponse) -> Status[schemas.JobDetails]:
    """An empty one."""
    arguments = body(request)
    host = host_named(request, arguments.pop("host", None), operations.create)
    return ask(request, response, operations.create, host, arguments)


@router.post("/define", **described(operations.define, Definition, operation_id="filters_define"))
def define(request: HttpRequest, response: HttpResponse) -> Status[schemas.JobDetails]:
    arguments = body(request)
    host = host_named(request, arguments.pop("host", None), operations.define)
    return ask(request, response, operations.define, host, arguments)


@router.get(
    "/{uuid:uuid}",
    operation_id="filters_get",
    summary="One filter",
    response=schemas.FilterDetails,
)
def read(request: HttpRequest, uuid: UUID, host: OnHost = "") -> schemas.FilterDetails:
    """With its rules, who uses it, and what may be done to it now."""
    row = find(request, uuid, host)
    documents = dict(NwFilter.objects.filter(host=row.host_id).values_list("name", "xml"))
    shown = schemas.FilterDetails.model_validate(row)
    shown.entries = [_entry(entry) for _place, entry in Filter(parse(row.xml)).entries]
    shown.variables = nwfilter.needed(row.name, documents)
    shown.used_by = [
        schemas.FilterUser(machine=machine, mac=mac) for machine, mac in operations.users(row)
    ] + [schemas.FilterUser(filter=one.name) for one in row.referrers]
    shown.operations = refusals(OPERATIONS, caller(request), row)
    return shown


def _entry(entry: Rule | nwfilter.Reference) -> dict[str, Any]:
    if isinstance(entry, Rule):
        return entry.model_dump()
    return {"filter": entry.filter, "parameters": [list(pair) for pair in entry.parameters]}


@router.get(
    "/{uuid:uuid}/xml", operation_id="filters_xml", summary="The filter's XML", openapi_extra=XML
)
def xml(request: HttpRequest, uuid: UUID, host: OnHost = "") -> HttpResponse:
    row = find(request, uuid, host)
    return xml_response(row, row.xml)


@router.delete("/{uuid:uuid}", **described(operations.delete, operation_id="delete_filter"))
def remove(
    request: HttpRequest, response: HttpResponse, uuid: UUID, host: OnHost = ""
) -> Status[schemas.JobDetails]:
    return ask(request, response, operations.delete, find(request, uuid, host))


@router.put("/{uuid:uuid}", **described(operations.edit, operation_id="put_filter"))
def replace(
    request: HttpRequest, response: HttpResponse, uuid: UUID, host: OnHost = ""
) -> Status[schemas.JobDetails]:
    return ask(request, response, operations.edit, find(request, uuid, host))


def _offer(operation: Operation) -> None:
    details = described(operation, examples=EXAMPLES.get(operation.name))

    @router.post(f"/{{uuid:uuid}}/{operation.name}", **details)
    def view(
        request: HttpRequest, response: HttpResponse, uuid: UUID, host: OnHost = ""
    ) -> Status[schemas.JobDetails]:
        return ask(request, response, operation, find(request, uuid, host))


for _operation in OPERATIONS:
    _offer(_operation)
