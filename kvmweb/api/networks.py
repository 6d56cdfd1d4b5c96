"""Networks, by libvirt's UUID."""

from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from ninja import Router
from ninja.responses import Status
from pydantic import ValidationError, create_model

from kvmweb.api import schemas
from kvmweb.api.authentication import caller
from kvmweb.api.bodies import body
from kvmweb.api.jobs import ask
from kvmweb.api.lists import Activities, Cursor, HostName, Limit, OnHost, Text, page
from kvmweb.api.machines import Inactive
from kvmweb.api.offers import described, host_named, of_target, refusals
from kvmweb.api.problems import Problem, not_found
from kvmweb.api.xml import XML, xml_response
from kvmweb.models import Network
from kvmweb.operations import networks as operations
from kvmweb.operations.networks import users
from kvmweb.operations.networks.forwards import forwards_of
from kvmweb.operations.operation import Operation
from kvmweb.spec import network as spec
from kvmweb.spec.network import NetworkDocument
from kvmweb.spec.xml import XmlError

router = Router(tags=["networks"])
OPERATIONS = of_target("networks", Network)
Creation = create_model("new_network", __base__=operations.create.arguments, host=(str, ...))
HEAVY = ("host__capabilities_xml", "host__domain_capabilities")

CREATION_EXAMPLES: dict[str, Any] = {
    "NAT with DHCP": {
        "host": "local",
        "name": "lab",
        "ips": [
            {
                "address": "192.168.100.1/24",
                "ranges": [{"start": "192.168.100.128", "end": "192.168.100.254"}],
            }
        ],
    },
    "an Open vSwitch bridge": {
        "host": "local",
        "name": "trunks",
        "mode": "bridge",
        "bridge": "br-int",
        "virtualport": "openvswitch",
        "portgroups": [{"name": "v10", "vlan": {"tags": [10]}}],
    },
    "libvirt's XML": {
        "host": "local",
        "xml": "<network><name>alone</name><ip address='10.9.0.1' prefix='24'/></network>",
    },
}
CHANGE_EXAMPLES: dict[str, Any] = {
    "names in its DNS": {"dns_hosts": [{"address": "192.168.100.2", "names": ["gate"]}]},
    "what needs a restart": {"mtu": 1400, "restart": True},
}
FORWARD_EXAMPLES: dict[str, Any] = {
    "a web server": {"port": 8080, "to": "192.168.100.10", "to_port": 80}
}
EXAMPLES = {"edit": CHANGE_EXAMPLES, "add_forward": FORWARD_EXAMPLES}


def find(request: HttpRequest, uuid: UUID, host: str) -> Network:
    """The one the person means. Copies on several hosts may have one UUID: to change one, say
    which.
    """
    rows = Network.objects.visible_to(caller(request)).filter(uuid=uuid).select_related("host")
    found = list((rows.filter(host__name=host) if host else rows).defer(*HEAVY))
    if not found:
        raise not_found()
    if len(found) > 1 and request.method != "GET":
        names = ", ".join(sorted(row.host.name for row in found))
        raise Problem(409, _("Several hosts have this network: %s. Add ?host=.") % names)
    return min(found, key=lambda row: (not row.is_active, row.host.name))


@router.get("", operation_id="networks_list", summary="List networks", response=schemas.Networks)
def index(
    request: HttpRequest,
    q: Text = "",
    host: HostName = "",
    state: Activities = [],  # noqa: B006 - ninja's way to say that it may be left out
    cursor: Cursor = "",
    limit: Limit = 100,
) -> schemas.Networks:
    """By name. `q` looks at name and bridge."""
    rows = Network.objects.visible_to(caller(request)).select_related("host")
    rows = rows.only(*schemas.columns(schemas.Network))
    if q:
        rows = rows.filter(Q(name__icontains=q) | Q(bridge__icontains=q))
    if host:
        rows = rows.filter(host__name=host)
    if state:
        rows = rows.filter(is_active__in=[name == "active" for name in state])
    found, following = page(rows, order=("name", "pk"), cursor=cursor, limit=limit)
    items = [schemas.Network.model_validate(network) for network in found]
    return schemas.Networks(items=items, next=following)


@router.post("", **described(operations.create, Creation, examples=CREATION_EXAMPLES))
def create(request: HttpRequest, response: HttpResponse) -> Status[schemas.JobDetails]:
    arguments = body(request)
    host = host_named(request, arguments.pop("host", None), operations.create)
    return ask(request, response, operations.create, host, arguments)


@router.get(
    "/{uuid:uuid}",
    operation_id="networks_get",
    summary="One network",
    response=schemas.NetworkDetails,
)
def read(request: HttpRequest, uuid: UUID, host: OnHost = "") -> schemas.NetworkDetails:
    """With its fields, who is on it, and what may be done to it now."""
    network = find(request, uuid, host)
    shown = schemas.NetworkDetails.model_validate(network)
    shown.document = _document(network.definition)
    shown.machines = list(users.machines(network).values_list("name", flat=True))
    shown.operations = refusals(OPERATIONS, caller(request), network)
    return shown


def _document(xml: str) -> NetworkDocument | None:
    try:
        return spec.document_of(xml)
    except (XmlError, ValidationError):
        return None


@router.patch("/{uuid:uuid}", **described(operations.edit, operation_id="patch_network"))
def patch(
    request: HttpRequest, response: HttpResponse, uuid: UUID, host: OnHost = ""
) -> Status[schemas.JobDetails]:
    return ask(request, response, operations.edit, find(request, uuid, host))


@router.delete("/{uuid:uuid}", **described(operations.delete, operation_id="delete_network"))
def remove(
    request: HttpRequest, response: HttpResponse, uuid: UUID, host: OnHost = ""
) -> Status[schemas.JobDetails]:
    return ask(request, response, operations.delete, find(request, uuid, host))


@router.get(
    "/{uuid:uuid}/xml",
    operation_id="networks_xml",
    summary="The network's XML",
    openapi_extra=XML,
)
def xml(
    request: HttpRequest, uuid: UUID, host: OnHost = "", *, inactive: Inactive = False
) -> HttpResponse:
    network = find(request, uuid, host)
    return xml_response(network, network.definition if inactive else network.xml)


@router.get(
    "/{uuid:uuid}/leases",
    operation_id="networks_leases",
    summary="Leases of a network's DHCP server",
    response=schemas.Leases,
)
def leases(request: HttpRequest, uuid: UUID, host: OnHost = "") -> schemas.Leases:
    """By address, as of some seconds ago."""
    network = find(request, uuid, host)
    owners = dict(users.nics(network).values_list("mac", "machine__name"))
    return schemas.Leases(
        items=[schemas.Lease(**lease, machine=owners.get(lease["mac"])) for lease in network.leases]
    )


@router.get(
    "/{uuid:uuid}/forwards",
    operation_id="networks_forwards",
    summary="Ports of the host that lead into a network",
    response=schemas.Forwards,
)
def forwards(request: HttpRequest, uuid: UUID, host: OnHost = "") -> schemas.Forwards:
    """As they are wanted; `networks_add_forward` and `networks_remove_forward` change them."""
    found = forwards_of(find(request, uuid, host))
    return schemas.Forwards(items=[schemas.PortForward(**one.model_dump()) for one in found])


def _offer(operation: Operation) -> None:
    @router.post(
        f"/{{uuid:uuid}}/{operation.name}",
        **described(operation, examples=EXAMPLES.get(operation.name)),
    )
    def view(
        request: HttpRequest, response: HttpResponse, uuid: UUID, host: OnHost = ""
    ) -> Status[schemas.JobDetails]:
        return ask(request, response, operation, find(request, uuid, host))


for _operation in OPERATIONS:
    _offer(_operation)
