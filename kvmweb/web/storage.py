"""Storage pools and their volumes, as libvirt has them."""

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from kvmweb.models import Host, Pool
from kvmweb.web.paging import page_of

HEAVY = ("xml", "host__capabilities_xml", "host__domain_capabilities")


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    rows = Pool.objects.visible_to(request.user).select_related("host").defer(*HEAVY)
    context = {
        "pools": rows,
        "has_many_hosts": Host.objects.visible_to(request.user).count() > 1,
    }
    is_rows = request.GET.get("fragment") == "rows"
    return render(request, "storage/_rows.html" if is_rows else "storage/index.html", context)


@require_safe
def page(request: HttpRequest, uuid: UUID) -> HttpResponse:
    rows = Pool.objects.visible_to(request.user).select_related("host").defer(*HEAVY)
    if host := request.GET.get("host"):
        rows = rows.filter(host__name=host)
    pool = rows.filter(uuid=uuid).order_by("pk").first()
    if pool is None:
        raise Http404
    volumes = pool.volumes.defer("xml")
    query = request.GET.copy()
    for name in ("cursor", "fragment"):
        query.pop(name, None)
    cursor = request.GET.get("cursor", "")
    context = {
        "pool": pool,
        "page": page_of(volumes, cursor),
        "total": volumes.count(),
        "cursor": cursor,
        "query_without_cursor": query.urlencode(),
    }
    is_part = request.GET.get("fragment") == "pool"
    return render(request, "storage/_pool.html" if is_part else "storage/page.html", context)
