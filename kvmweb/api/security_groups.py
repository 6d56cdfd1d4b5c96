"""Security groups, by name, and which of them a machine's NIC is in."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Router
from ninja.responses import Status
from pydantic import create_model

from kvmweb.api import machines, schemas
from kvmweb.api.authentication import caller
from kvmweb.api.bodies import body
from kvmweb.api.jobs import ask
from kvmweb.api.lists import Cursor, Limit, OnHost, Text, page
from kvmweb.api.offers import described, of_target, refusals
from kvmweb.api.problems import bad_input, not_found
from kvmweb.api.xml import XML, xml_response
from kvmweb.models import Machine, NwFilter, SecurityGroup
from kvmweb.models.filters import members
from kvmweb.operations import enforcement
from kvmweb.operations import security_groups as operations
from kvmweb.operations.operation import Operation
from kvmweb.spec import security

router = Router(tags=["security groups"])
of_machines = Router(tags=["security groups"])
OPERATIONS = of_target("security_groups", SecurityGroup)
Assignment = create_model(
    "nic_security_groups",
    groups=(list[str], []),
    prevents_spoofing=(bool, False),
    addresses=(list[str], []),
)
Member = create_model("group_member", machine=(UUID, ...), mac=(str, ...))
WEB = {
    "name": "web",
    "description": "The shop's front",
    "rules": [
        {"direction": "in", "protocol": "tcp", "ports": "80, 443"},
        {"direction": "in", "protocol": "tcp", "ports": "22", "subnet": "10.0.0.0/8"},
        {"direction": "out", "protocol": "any"},
    ],
}


def find(request: HttpRequest, name: str) -> SecurityGroup:
    group = SecurityGroup.objects.visible_to(caller(request)).filter(name=name).first()
    if group is None:
        raise not_found()
    return group


@router.get(
    "",
    operation_id="security_groups_list",
    summary="List security groups",
    response=schemas.SecurityGroups,
)
def index(
    request: HttpRequest, q: Text = "", cursor: Cursor = "", limit: Limit = 100
) -> schemas.SecurityGroups:
    """By name. `q` looks at name and description."""
    rows = SecurityGroup.objects.visible_to(caller(request))
    if q:
        rows = rows.filter(name__icontains=q) | rows.filter(description__icontains=q)
    found, following = page(rows, order=("name", "pk"), cursor=cursor, limit=limit)
    items = [schemas.SecurityGroup.model_validate(group) for group in found]
    return schemas.SecurityGroups(items=items, next=following)


@router.post("", **described(operations.create, examples={"a web server": WEB}))
def create(request: HttpRequest, response: HttpResponse) -> Status[schemas.JobDetails]:
    return ask(request, response, operations.create)


@router.get(
    "/{name}",
    operation_id="security_groups_get",
    summary="One security group",
    response=schemas.SecurityGroupDetails,
)
def read(request: HttpRequest, name: str) -> schemas.SecurityGroupDetails:
    """With the NICs in it, and what may be done to it now."""
    group = find(request, name)
    shown = schemas.SecurityGroupDetails.model_validate(group)
    shown.nics = [
        schemas.GroupNic(
            machine=nic.machine.uuid,
            machine_name=nic.machine.name,
            host=nic.host.name,
            mac=nic.mac,
            addresses=[one["address"] for one in nic.addresses],
        )
        for nic in members([name])[name]
    ]
    shown.operations = refusals(OPERATIONS, caller(request), group)
    return shown


@router.get(
    "/{name}/xml",
    operation_id="security_groups_xml",
    summary="The network filter it is compiled into",
    openapi_extra=XML,
)
def xml(request: HttpRequest, name: str) -> HttpResponse:
    group = find(request, name)
    document = enforcement.compiled({group.name})[group.name]
    return xml_response(NwFilter(name=security.filter_name(group.name)), document)


@router.patch("/{name}", **described(operations.edit, operation_id="patch_security_group"))
def edit(request: HttpRequest, response: HttpResponse, name: str) -> Status[schemas.JobDetails]:
    """What is not sent stays as it is."""
    group = find(request, name)
    arguments = {"description": group.description, "rules": group.rules, **body(request)}
    return ask(request, response, operations.edit, group, arguments)


@router.delete("/{name}", **described(operations.delete, operation_id="delete_security_group"))
def remove(request: HttpRequest, response: HttpResponse, name: str) -> Status[schemas.JobDetails]:
    return ask(request, response, operations.delete, find(request, name))


def _offer(operation: Operation) -> None:
    @router.post(f"/{{name}}/{operation.name}", **described(operation))
    def view(request: HttpRequest, response: HttpResponse, name: str) -> Status[schemas.JobDetails]:
        return ask(request, response, operation, find(request, name))


for _operation in OPERATIONS:
    _offer(_operation)


def _offer_member(operation: Operation) -> None:
    @router.post(f"/{{name}}/{operation.name}", **described(operation, Member))
    def view(
        request: HttpRequest, response: HttpResponse, name: str, host: OnHost = ""
    ) -> Status[schemas.JobDetails]:
        group = find(request, name)
        arguments = body(request)
        machine = _machine(request, arguments.pop("machine", ""), host)
        return ask(request, response, operation, machine, {**arguments, "group": group.name})


for _operation in (operations.attach, operations.detach):
    _offer_member(_operation)


def _machine(request: HttpRequest, text: object, host: str) -> Machine:
    try:
        return machines.find(request, UUID(str(text)), host)
    except ValueError:
        raise bad_input({"machine": "This is not the UUID of a machine."}) from None


@of_machines.post(
    "/{uuid:uuid}/nics/{mac}/security_groups",
    **described(operations.assign, Assignment, operation_id="nic_security_groups"),
)
def assign(
    request: HttpRequest, response: HttpResponse, uuid: UUID, mac: str, host: OnHost = ""
) -> Status[schemas.JobDetails]:
    machine = machines.find(request, uuid, host)
    arguments: dict[str, Any] = {**body(request), "mac": mac}
    return ask(request, response, operations.assign, machine, arguments)
