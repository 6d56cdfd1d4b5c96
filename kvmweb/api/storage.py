"""Pools, by libvirt's UUID, and their volumes, by name."""

from typing import Annotated
from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from ninja import Query, Router

from kvmweb.api import schemas
from kvmweb.api.authentication import caller
from kvmweb.api.lists import Activities, Cursor, HostName, Limit, OnHost, Text, page
from kvmweb.api.problems import not_found
from kvmweb.api.xml import XML, xml_response
from kvmweb.models import Pool, Volume

router = Router(tags=["storage"])
Format = Annotated[str, Query("", description="Only of this format: qcow2, raw, iso, ...")]


def find(request: HttpRequest, uuid: UUID, host: str) -> Pool:
    rows = Pool.objects.visible_to(caller(request)).filter(uuid=uuid).select_related("host")
    rows = rows.filter(host__name=host) if host else rows
    pool = rows.order_by("-is_active", "host__name").first()
    if pool is None:
        raise not_found()
    return pool


@router.get("", operation_id="pools_list", summary="List pools", response=schemas.Pools)
def index(
    request: HttpRequest,
    q: Text = "",
    host: HostName = "",
    state: Activities = [],  # noqa: B006 - ninja's way to say that it may be left out
    cursor: Cursor = "",
    limit: Limit = 100,
) -> schemas.Pools:
    """By name. `q` looks at name and path."""
    rows = Pool.objects.visible_to(caller(request)).select_related("host")
    rows = rows.only(*schemas.columns(schemas.Pool))
    if q:
        rows = rows.filter(Q(name__icontains=q) | Q(target_path__icontains=q))
    if host:
        rows = rows.filter(host__name=host)
    if state:
        rows = rows.filter(is_active__in=[name == "active" for name in state])
    found, following = page(rows, order=("name", "pk"), cursor=cursor, limit=limit)
    items = [schemas.Pool.model_validate(pool) for pool in found]
    return schemas.Pools(items=items, next=following)


@router.get("/{uuid:uuid}", operation_id="pools_get", summary="One pool", response=schemas.Pool)
def read(request: HttpRequest, uuid: UUID, host: OnHost = "") -> schemas.Pool:
    return schemas.Pool.model_validate(find(request, uuid, host))


@router.get(
    "/{uuid:uuid}/xml", operation_id="pools_xml", summary="The pool's XML", openapi_extra=XML
)
def xml(request: HttpRequest, uuid: UUID, host: OnHost = "") -> HttpResponse:
    pool = find(request, uuid, host)
    return xml_response(pool, pool.xml)


@router.get(
    "/{uuid:uuid}/volumes",
    operation_id="pools_volumes",
    summary="A pool's volumes",
    response=schemas.Volumes,
)
def volumes(
    request: HttpRequest,
    uuid: UUID,
    host: OnHost = "",
    q: Text = "",
    format: Format = "",  # noqa: A002 - the parameter's name
    cursor: Cursor = "",
    limit: Limit = 100,
) -> schemas.Volumes:
    """By name."""
    pool = find(request, uuid, host)
    rows = Volume.objects.visible_to(caller(request)).filter(pool=pool)
    rows = rows.only(*schemas.columns(schemas.Volume))
    if q:
        rows = rows.filter(Q(name__icontains=q) | Q(path__icontains=q))
    if format:
        rows = rows.filter(format=format)
    found, following = page(rows, order=("name", "pk"), cursor=cursor, limit=limit)
    items = [schemas.Volume.model_validate(volume) for volume in found]
    return schemas.Volumes(items=items, next=following)


@router.get(
    "/{uuid:uuid}/volumes/{path:name}/xml",
    operation_id="pools_volume_xml",
    summary="A volume's XML",
    openapi_extra=XML,
)
def volume_xml(request: HttpRequest, uuid: UUID, name: str, host: OnHost = "") -> HttpResponse:
    rows = Volume.objects.visible_to(caller(request))
    volume = rows.filter(pool=find(request, uuid, host), name=name).first()
    if volume is None:
        raise not_found()
    return xml_response(volume, volume.xml)
