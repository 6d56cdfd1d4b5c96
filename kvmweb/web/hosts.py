"""Hosts: the list, the page of one, and adding, testing, editing and removing them."""

from typing import Any

from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from kvmweb.models import Host, JobState, NodeDevice
from kvmweb.models.access import HOSTS, may
from kvmweb.models.machines import ACTIVE
from kvmweb.operations import hosts, of_noun
from kvmweb.operations.operation import Refused
from kvmweb.web.operate import WAIT_SECONDS, Asking, arguments_of, status_of, submit

DOCUMENTS = ("capabilities_xml", "domain_capabilities")
# What people type in their first hour, with what each is for.
EXAMPLES = (
    ("qemu:///system", _("this computer, machines of the system")),
    ("qemu+ssh://root@host/system", _("another computer by ssh, with a key")),
    ("qemu+tls://host/system", _("by TLS, with certificates on both sides")),
    ("qemu+tcp://host/system", _("by TCP without encryption; only in a network you trust")),
    ("qemu+unix:///system?socket=/run/libvirt/libvirt-sock", _("a socket of your own")),
    ("qemu:///session", _("this computer, machines of the user the site runs as")),
    ("test:///default", _("libvirt's make-believe host, to try things out")),
)
TABS = (
    ("overview", "host", _("Overview")),
    ("network", "host_network", _("Network")),
    ("devices", "host_devices", _("Devices")),
    ("xml", "host_xml", _("Capabilities")),
)


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    visible = Host.objects.visible_to(request.user).defer(*DOCUMENTS)
    context = {
        "hosts": visible.annotate(machine_count=Count("machines")),
        "add": hosts.add,
        "may_add": may(request.user, HOSTS),
    }
    is_rows = request.GET.get("fragment") == "rows"
    return render(request, "hosts/_rows.html" if is_rows else "hosts/index.html", context)


@require_safe
def page(request: HttpRequest, pk: int, tab: str = "overview") -> HttpResponse:
    fragment = request.GET.get("fragment", "")
    visible: QuerySet[Host] = Host.objects.visible_to(request.user)
    host = get_object_or_404(visible if tab == "xml" else visible.defer(*DOCUMENTS), pk=pk)
    context = frame(host, tab)
    if fragment != "header":
        context |= TAB_CONTEXTS[tab](request, host)
    names = {
        "header": "hosts/_header.html",
        "tab": f"hosts/_{tab}.html",
        "usage": "hosts/_usage.html",
    }
    return render(request, names.get(fragment, "hosts/page.html"), context)


def frame(host: Host, tab: str) -> dict[str, Any]:
    """What every page of a host shows around its tab."""
    return {
        "host": host,
        "tab": tab,
        "tabs": [(name, reverse(url, args=[host.pk]), label) for name, url, label in TABS],
        "operations": [one for one in of_noun("hosts") if one.target is Host],
    }


def _overview(request: HttpRequest, host: Host) -> dict[str, Any]:
    machines = host.machines.visible_to(request.user)
    return {
        "machine_count": machines.count(),
        "active_count": machines.filter(state__in=ACTIVE).count(),
        "network_count": host.networks.visible_to(request.user).count(),
        "pool_count": host.pools.visible_to(request.user).count(),
    }


def _devices(request: HttpRequest, host: Host) -> dict[str, Any]:
    visible = NodeDevice.objects.visible_to(request.user).filter(host=host)
    devices = list(visible.only("name", "parent", "capability"))
    chosen = visible.filter(name=request.GET.get("device", "")).first()
    return {"devices": _tree(devices), "chosen": chosen, "device_count": len(devices)}


def _tree(devices: list[NodeDevice]) -> list[tuple[int, NodeDevice]]:
    """Each device behind its parent, with how deep it lies; what has no parent comes first."""
    children: dict[str, list[NodeDevice]] = {}
    known = {device.name for device in devices}
    for device in devices:
        parent = device.parent if device.parent in known and device.parent != device.name else ""
        children.setdefault(parent, []).append(device)
    found: list[tuple[int, NodeDevice]] = []
    waiting = [(0, device) for device in reversed(children.pop("", []))]
    while waiting:
        depth, device = waiting.pop()
        found.append((depth, device))
        below = children.pop(device.name, [])
        waiting.extend((depth + 1, child) for child in reversed(below))
    return found


def _xml(request: HttpRequest, host: Host) -> dict[str, Any]:
    return {}


TAB_CONTEXTS = {"overview": _overview, "devices": _devices, "xml": _xml}


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    if not may(request.user, HOSTS):
        raise Http404
    asking = Asking(
        request,
        hosts.add,
        None,
        back=reverse("hosts"),
        template="hosts/_form.html",
        extra={"title": _("Add host"), "examples": EXAMPLES, "test_address": reverse("host_add")},
        after=lambda job: reverse("host", args=[job.result["host"]]),
    )
    return _test(asking) if "test" in request.POST else asking.answer()


@require_http_methods(["GET", "HEAD", "POST"])
def operate(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    host = get_object_or_404(Host.objects.visible_to(request.user).defer(*DOCUMENTS), pk=pk)
    operation = next((one for one in of_noun("hosts") if one.name == name), None)
    if operation is None or operation.target is not Host:
        raise Http404
    asking = Asking(request, operation, host, back=reverse("host", args=[pk]))
    if operation is hosts.edit:
        asking = _editing(asking, host)
    elif operation is hosts.remove:
        asking = _removing(asking, host)
    return _test(asking) if "test" in request.POST else asking.answer()


def _editing(asking: Asking, host: Host) -> Asking:
    values = {"name": host.name, "uri": host.uri}
    return Asking(
        asking.request,
        asking.operation,
        host,
        back=asking.back,
        template="hosts/_form.html",
        extra={"title": _("Edit host"), "examples": EXAMPLES, "values": values},
        after=lambda job: asking.back,
    )


def _removing(asking: Asking, host: Host) -> Asking:
    return Asking(
        asking.request,
        asking.operation,
        host,
        back=asking.back,
        template="hosts/_remove.html",
        extra={"machine_count": host.machines.count()},
        after=lambda job: reverse("hosts"),
    )


def _test(asking: Asking) -> HttpResponse:
    """Try the URI that is in the form, and show the form again with what answered."""
    typed = arguments_of(asking.operation, asking.request.POST)
    try:
        job = submit(asking.request, hosts.test, None, {"uri": typed.get("uri", "")})
    except Refused as refused:
        errors = refused.fields or {"": refused.sentence}
        return asking.form(typed, errors, status=status_of(refused))
    job.wait(WAIT_SECONDS)
    if job.state == JobState.FAILED:
        return asking.form(typed, {job.error_field: job.error}, status=422)
    return asking.form(typed, {}, job=job)
