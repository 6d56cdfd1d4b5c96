"""The NICs of a machine, by their MAC addresses."""

from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from ninja.responses import Status
from pydantic import create_model

from kvmweb.api import machines, schemas
from kvmweb.api.bodies import body
from kvmweb.api.jobs import ask
from kvmweb.api.lists import OnHost
from kvmweb.api.offers import described
from kvmweb.api.problems import not_found
from kvmweb.models import Machine, Nic
from kvmweb.operations import nics as operations
from kvmweb.operations.nics import checks
from kvmweb.operations.nics.settings import Edit, settings_of

router = Router(tags=["NICs"])
Link = create_model("nic_link", up=(bool, ...))
AtNextStart = Annotated[
    bool, Query(default=False, description="The running machine keeps it until then.")
]
NEW_EXAMPLES: dict[str, Any] = {
    "on the default network": {},
    "an access port of Open vSwitch": {"source": "ovs:br-int", "vlan": 10},
    "a trunk": {"source": "ovs:br-int", "vlan": 1, "trunks": [10, 20], "native_mode": "untagged"},
    "user mode with a forwarded port": {"source": "passt", "port_forwards": ["tcp 8022 -> 22"]},
}
EDIT_EXAMPLES: dict[str, Any] = {
    "move it": {"source": "network:dmz"},
    "limit it": {"in_average": 12500, "out_average": 12500},
    "no limit": {"in_average": None, "out_average": None},
    "another model, now": {"model": "e1000e", "apply": "replug"},
}


def find(request: HttpRequest, uuid: UUID, mac: str, host: str) -> Machine:
    """The machine, if it has this NIC now or at its next start."""
    machine = machines.find(request, uuid, host)
    if checks.find(machine, mac) is None:
        raise not_found()
    return machine


@router.get(
    "/{uuid:uuid}/nics", operation_id="nics_list", summary="List NICs", response=schemas.Nics
)
def index(request: HttpRequest, uuid: UUID, host: OnHost = "") -> schemas.Nics:
    """In the machine's order; those that are plugged in at its next start come last."""
    rows = Nic.objects.filter(machine=machines.find(request, uuid, host)).order_by("index")
    return schemas.Nics(items=[schemas.Nic.model_validate(row) for row in rows])


@router.get(
    "/{uuid:uuid}/nics/{mac}",
    operation_id="nics_get",
    summary="One NIC",
    response=schemas.NicDetails,
)
def read(request: HttpRequest, uuid: UUID, mac: str, host: OnHost = "") -> schemas.NicDetails:
    """With all that can be set of it, and what waits for the next start."""
    machine = machines.find(request, uuid, host)
    row = Nic.objects.filter(machine=machine, mac=mac.lower()).first()
    interface = checks.find(machine, mac)
    if row is None or interface is None:
        raise not_found()
    shown = schemas.NicDetails.model_validate(row)
    shown.settings = settings_of(interface)
    shown.waiting = [
        schemas.Waiting(setting=name, now=before, next=after)
        for name, before, after in checks.differences(machine, mac)
    ]
    return shown


@router.post("/{uuid:uuid}/nics", **described(operations.add, examples=NEW_EXAMPLES))
def add(
    request: HttpRequest, response: HttpResponse, uuid: UUID, host: OnHost = ""
) -> Status[schemas.JobDetails]:
    return ask(request, response, operations.add, machines.find(request, uuid, host))


@router.patch("/{uuid:uuid}/nics/{mac}", **described(operations.edit, Edit, examples=EDIT_EXAMPLES))
def edit(
    request: HttpRequest, response: HttpResponse, uuid: UUID, mac: str, host: OnHost = ""
) -> Status[schemas.JobDetails]:
    machine = find(request, uuid, mac, host)
    return ask(request, response, operations.edit, machine, {**body(request), "nic": mac})


@router.delete("/{uuid:uuid}/nics/{mac}", **described(operations.remove, create_model("nothing")))
def remove(
    request: HttpRequest,
    response: HttpResponse,
    uuid: UUID,
    mac: str,
    host: OnHost = "",
    *,
    at_next_start: AtNextStart = False,
) -> Status[schemas.JobDetails]:
    machine = find(request, uuid, mac, host)
    arguments = {"nic": mac, "at_next_start": at_next_start}
    return ask(request, response, operations.remove, machine, arguments)


@router.post("/{uuid:uuid}/nics/{mac}/link", **described(operations.set_link, Link))
def link(
    request: HttpRequest, response: HttpResponse, uuid: UUID, mac: str, host: OnHost = ""
) -> Status[schemas.JobDetails]:
    machine = find(request, uuid, mac, host)
    return ask(request, response, operations.set_link, machine, {**body(request), "nic": mac})
