"""Virtual networks, as libvirt has them."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from kvmweb.models import Host, Network


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    rows = Network.objects.visible_to(request.user).select_related("host")
    context = {
        "networks": rows.defer("xml", "host__capabilities_xml", "host__domain_capabilities"),
        "has_many_hosts": Host.objects.visible_to(request.user).count() > 1,
    }
    is_rows = request.GET.get("fragment") == "rows"
    return render(request, "networks/_rows.html" if is_rows else "networks/index.html", context)
