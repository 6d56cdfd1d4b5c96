"""Networks, by libvirt's UUID."""

from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from ninja import Router

from kvmweb.api import schemas
from kvmweb.api.authentication import caller
from kvmweb.api.lists import Activities, Cursor, HostName, Limit, OnHost, Text, page
from kvmweb.api.problems import not_found
from kvmweb.api.xml import XML, xml_response
from kvmweb.models import Network

router = Router(tags=["networks"])


def find(request: HttpRequest, uuid: UUID, host: str) -> Network:
    rows = Network.objects.visible_to(caller(request)).filter(uuid=uuid).select_related("host")
    rows = rows.filter(host__name=host) if host else rows
    network = rows.order_by("-is_active", "host__name").first()
    if network is None:
        raise not_found()
    return network


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


@router.get(
    "/{uuid:uuid}",
    operation_id="networks_get",
    summary="One network",
    response=schemas.Network,
)
def read(request: HttpRequest, uuid: UUID, host: OnHost = "") -> schemas.Network:
    return schemas.Network.model_validate(find(request, uuid, host))


@router.get(
    "/{uuid:uuid}/xml",
    operation_id="networks_xml",
    summary="The network's XML",
    openapi_extra=XML,
)
def xml(request: HttpRequest, uuid: UUID, host: OnHost = "") -> HttpResponse:
    network = find(request, uuid, host)
    return xml_response(network, network.xml)
