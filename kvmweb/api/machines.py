"""Machines, by libvirt's UUID."""

from typing import Annotated
from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router
from ninja.responses import Status
from pydantic import ValidationError, create_model

from kvmweb.api import schemas
from kvmweb.api.authentication import caller, token
from kvmweb.api.bodies import body
from kvmweb.api.jobs import ask
from kvmweb.api.lists import Cursor, HostName, Limit, OnHost, Text, page
from kvmweb.api.offers import described, host_named, of_target, refusals, request_body
from kvmweb.api.problems import Problem, bad_input, not_found
from kvmweb.api.xml import XML, xml_response
from kvmweb.models import Machine, State
from kvmweb.operations import consoles, creation
from kvmweb.operations import machines as operations
from kvmweb.operations.operation import Operation, sentences
from kvmweb.spec.hardware import Part, hardware

router = Router(tags=["machines"])
OPERATIONS = of_target("machines", Machine)
States = Annotated[list[State], Query([], description="Only in this state; may be repeated.")]
Inactive = Annotated[
    bool, Query(default=False, description="The one that the next start will use.")
]
Creation = create_model("creation", __base__=creation.create.arguments, host=(str, ...))

CREATION_EXAMPLES = {
    "the wizard's fields": {
        "host": "local",
        "name": "web1",
        "source": "blank",
        "memory_mib": 2048,
        "vcpus": 2,
        "disk_gib": 20,
        "pool": "default",
    },
    "libvirt's XML": {
        "host": "local",
        "xml": "<domain type='kvm'><name>web2</name><memory unit='MiB'>512</memory>"
        "<os><type>hvm</type></os></domain>",
    },
}
CONSOLE_EXAMPLES = {"to look only": {"level": "view"}, "to use it": {"level": "control"}}


def find(request: HttpRequest, uuid: UUID, host: str) -> Machine:
    """The one the person means. A UUID is on two hosts while a machine moves or after a copy:
    then the active one, and to change anything there must be just one of these."""
    rows = Machine.objects.visible_to(caller(request)).filter(uuid=uuid).select_related("host")
    rows = rows.defer("xml", "inactive_xml", "host__capabilities_xml", "host__domain_capabilities")
    found = list(rows.filter(host__name=host) if host else rows)
    active = [machine for machine in found if machine.is_active]
    if not found:
        raise not_found()
    if len(found) > 1 and len(active) != 1 and request.method != "GET":
        names = ", ".join(sorted(machine.host.name for machine in found))
        raise Problem(409, _("Several hosts have this machine: %s. Add ?host=.") % names)
    return (active or found)[0]


@router.get("", operation_id="machines_list", summary="List machines", response=schemas.Machines)
def index(
    request: HttpRequest,
    q: Text = "",
    host: HostName = "",
    state: States = [],  # noqa: B006 - ninja's way to say that it may be left out
    cursor: Cursor = "",
    limit: Limit = 100,
) -> schemas.Machines:
    """By name. `q` looks at name, title and UUID."""
    rows = Machine.objects.visible_to(caller(request)).select_related("host")
    rows = rows.only(*schemas.columns(schemas.Machine))
    if q:
        rows = rows.filter(Q(name__icontains=q) | Q(title__icontains=q) | _uuid(q))
    if host:
        rows = rows.filter(host__name=host)
    if state:
        rows = rows.filter(state__in=state)
    found, following = page(rows, order=("name", "pk"), cursor=cursor, limit=limit)
    items = [schemas.Machine.model_validate(machine) for machine in found]
    return schemas.Machines(items=items, next=following)


def _uuid(text: str) -> Q:
    try:
        return Q(uuid=UUID(text))
    except ValueError:
        return Q()


@router.post("", **described(creation.create, Creation, examples=CREATION_EXAMPLES))
def create(request: HttpRequest, response: HttpResponse) -> Status[schemas.JobDetails]:
    arguments = body(request)
    host = host_named(request, arguments.pop("host", None), creation.create)
    return ask(request, response, creation.create, host, arguments)


@router.get(
    "/{uuid:uuid}",
    operation_id="machines_get",
    summary="One machine",
    response=schemas.MachineDetails,
)
def read(request: HttpRequest, uuid: UUID, host: OnHost = "") -> schemas.MachineDetails:
    """With what may be done to it now."""
    machine = find(request, uuid, host)
    shown = schemas.MachineDetails.model_validate(machine)
    shown.operations = refusals(OPERATIONS, caller(request), machine)
    return shown


@router.get(
    "/{uuid:uuid}/xml",
    operation_id="machines_xml",
    summary="The domain's XML",
    openapi_extra=XML,
)
def xml(
    request: HttpRequest, uuid: UUID, host: OnHost = "", *, inactive: Inactive = False
) -> HttpResponse:
    """As libvirt has it, without its secrets."""
    machine = find(request, uuid, host)
    return xml_response(machine, _xml(machine, is_inactive=inactive))


def _xml(machine: Machine, *, is_inactive: bool) -> str:
    if is_inactive and not machine.is_persistent:
        raise Problem(404, _("This machine is transient: it has no definition for a next start."))
    return (machine.inactive_xml if is_inactive else "") or machine.xml


@router.get(
    "/{uuid:uuid}/hardware",
    operation_id="machines_hardware",
    summary="A machine's parts",
    response=schemas.Hardware,
)
def parts(
    request: HttpRequest, uuid: UUID, host: OnHost = "", *, inactive: Inactive = False
) -> schemas.Hardware:
    """Overview, processors, memory, boot and every device, in virt-manager's words and order."""
    return schemas.Hardware(
        items=[
            schemas.Part(label=part.label, facts=_facts(part), xml=part.xml)
            for part in hardware(_xml(find(request, uuid, host), is_inactive=inactive))
        ]
    )


def _facts(part: Part) -> list[schemas.Fact]:
    return [schemas.Fact(label=label, value=value) for label, value in part.facts]


@router.delete("/{uuid:uuid}", **described(operations.delete, operation_id="delete_machine"))
def remove(
    request: HttpRequest, response: HttpResponse, uuid: UUID, host: OnHost = ""
) -> Status[schemas.JobDetails]:
    return ask(request, response, operations.delete, find(request, uuid, host))


@router.post(
    "/{uuid:uuid}/console",
    operation_id="machines_console",
    summary="A ticket for the console",
    response=schemas.ConsoleTicket,
    openapi_extra={"requestBody": request_body(schemas.ConsoleRequest, CONSOLE_EXAMPLES)},
)
def console(request: HttpRequest, uuid: UUID, host: OnHost = "") -> consoles.Ticket:
    """Bound to the API token, or to the session, that asks; it opens one console once.

    The client connects to `path` and sends `protocols` as the websocket's subprotocols.
    """
    machine = find(request, uuid, host)
    return consoles.issue_ticket(
        caller(request),
        machine,
        _level(body(request)),
        session_key="" if token(request) else request.session.session_key or "",
        token=token(request),
    )


def _level(arguments: dict[str, object]) -> str:
    try:
        return schemas.ConsoleRequest.model_validate(arguments).level
    except ValidationError as error:
        raise bad_input(sentences(error)) from None


def _offer(operation: Operation) -> None:
    @router.post(f"/{{uuid:uuid}}/{operation.name}", **described(operation))
    def view(
        request: HttpRequest, response: HttpResponse, uuid: UUID, host: OnHost = ""
    ) -> Status[schemas.JobDetails]:
        return ask(request, response, operation, find(request, uuid, host))


for _operation in OPERATIONS:
    _offer(_operation)
