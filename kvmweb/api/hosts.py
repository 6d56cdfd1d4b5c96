"""Hosts, by name."""

from typing import Annotated

from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from ninja import Query, Router
from ninja.responses import Status

from kvmweb.api import schemas
from kvmweb.api.authentication import caller
from kvmweb.api.bodies import body
from kvmweb.api.jobs import ask
from kvmweb.api.lists import Cursor, Limit, Text, page
from kvmweb.api.offers import described, of_target, refusals
from kvmweb.api.problems import not_found
from kvmweb.api.xml import XML, xml_response
from kvmweb.models import Host, HostState, NodeDevice
from kvmweb.operations import hosts as operations
from kvmweb.operations.operation import Operation

router = Router(tags=["hosts"])
OPERATIONS = of_target("hosts", Host)
States = Annotated[list[HostState], Query([], description="Only in this state; may be repeated.")]
Capability = Annotated[str, Query("", description="Only of this kind: pci, net, ...")]

EXAMPLE = {"name": "rack1", "uri": "qemu+ssh://root@rack1.example.org/system"}


def find(request: HttpRequest, name: str) -> Host:
    rows = Host.objects.visible_to(caller(request)).filter(name=name)
    host = rows.defer("capabilities_xml", "domain_capabilities").first()
    if host is None:
        raise not_found()
    return host


@router.get("", operation_id="hosts_list", summary="List hosts", response=schemas.Hosts)
def index(
    request: HttpRequest,
    q: Text = "",
    state: States = [],  # noqa: B006 - ninja's way to say that it may be left out
    cursor: Cursor = "",
    limit: Limit = 100,
) -> schemas.Hosts:
    """By name. `q` looks at name, host name and URI."""
    rows = Host.objects.visible_to(caller(request)).only(*schemas.columns(schemas.Host))
    if q:
        rows = rows.filter(Q(name__icontains=q) | Q(hostname__icontains=q) | Q(uri__icontains=q))
    if state:
        rows = rows.filter(state__in=state)
    found, following = page(rows, order=("name", "pk"), cursor=cursor, limit=limit)
    items = [schemas.Host.model_validate(host) for host in found]
    return schemas.Hosts(items=items, next=following)


@router.post("", **described(operations.add, examples={"over ssh": EXAMPLE}))
def add(request: HttpRequest, response: HttpResponse) -> Status[schemas.JobDetails]:
    return ask(request, response, operations.add)


@router.get("/{name}", operation_id="hosts_get", summary="One host", response=schemas.HostDetails)
def read(request: HttpRequest, name: str) -> schemas.HostDetails:
    """With what may be done to it now."""
    host = find(request, name)
    shown = schemas.HostDetails.model_validate(host)
    shown.operations = refusals(OPERATIONS, caller(request), host)
    return shown


@router.patch("/{name}", **described(operations.edit, operation_id="patch_host"))
def edit(request: HttpRequest, response: HttpResponse, name: str) -> Status[schemas.JobDetails]:
    host = find(request, name)
    arguments = {"name": host.name, "uri": host.uri, **body(request)}
    return ask(request, response, operations.edit, host, arguments)


@router.delete("/{name}", **described(operations.remove, operation_id="delete_host"))
def remove(request: HttpRequest, response: HttpResponse, name: str) -> Status[schemas.JobDetails]:
    return ask(request, response, operations.remove, find(request, name))


@router.get(
    "/{name}/devices",
    operation_id="hosts_devices",
    summary="A host's devices",
    response=schemas.Devices,
)
def devices(
    request: HttpRequest,
    name: str,
    q: Text = "",
    capability: Capability = "",
    cursor: Cursor = "",
    limit: Limit = 100,
) -> schemas.Devices:
    """As libvirt's node device driver lists them, by name."""
    rows = NodeDevice.objects.visible_to(caller(request)).filter(host=find(request, name))
    rows = rows.only(*schemas.columns(schemas.Device))
    if q:
        rows = rows.filter(name__icontains=q)
    if capability:
        rows = rows.filter(capability=capability)
    found, following = page(rows, order=("name", "pk"), cursor=cursor, limit=limit)
    items = [schemas.Device.model_validate(device) for device in found]
    return schemas.Devices(items=items, next=following)


@router.get(
    "/{name}/devices/{device}/xml",
    operation_id="hosts_device_xml",
    summary="A device's XML",
    openapi_extra=XML,
)
def device_xml(request: HttpRequest, name: str, device: str) -> HttpResponse:
    rows = NodeDevice.objects.visible_to(caller(request))
    found = rows.filter(host=find(request, name), name=device).first()
    if found is None:
        raise not_found()
    return xml_response(found, found.xml)


@router.get(
    "/{name}/xml",
    operation_id="hosts_xml",
    summary="The host's capabilities",
    openapi_extra=XML,
)
def xml(request: HttpRequest, name: str) -> HttpResponse:
    host = find(request, name)
    return xml_response(host, host.capabilities_xml)


def _offer(operation: Operation) -> None:
    @router.post(f"/{{name}}/{operation.name}", **described(operation))
    def view(request: HttpRequest, response: HttpResponse, name: str) -> Status[schemas.JobDetails]:
        return ask(request, response, operation, find(request, name))


for _operation in OPERATIONS:
    _offer(_operation)


@router.post("/test", **described(operations.test))
def test(request: HttpRequest, response: HttpResponse) -> Status[schemas.JobDetails]:
    return ask(request, response, operations.test)


# Django finds /{name} before /test, so that a host may have that name as well.
@router.post("/{name}", **described(operations.test), include_in_schema=False)
def test_only(
    request: HttpRequest, response: HttpResponse, name: str
) -> Status[schemas.JobDetails] | HttpResponse:
    if name != "test":
        return HttpResponseNotAllowed(["GET", "PATCH", "DELETE"])
    return test(request, response)
