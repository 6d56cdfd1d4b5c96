"""The list of virtual networks, the page of one with its tabs, and what may be done with it."""

import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe
from pydantic import ValidationError

from kvmweb.models import Host, HostNetwork, Job, Machine, Network, Nic
from kvmweb.models.access import NETWORKS, SEE, Viewer, may
from kvmweb.models.jobs import UNFINISHED
from kvmweb.operations import networks, of_noun
from kvmweb.operations.networks import ground, users
from kvmweb.operations.networks.forwards import forwards_of
from kvmweb.operations.operation import Operation
from kvmweb.spec import network as spec
from kvmweb.spec.network import NetworkDocument
from kvmweb.spec.xml import XmlError
from kvmweb.web.networks.words import EXPLAINED, MODES
from kvmweb.web.operate import Asking, arguments_of

HEAVY = ("host__capabilities_xml", "host__domain_capabilities")
TABS = (
    ("overview", "network", _("Overview")),
    ("leases", "network_leases", _("Leases")),
    ("forwards", "network_forwards", _("Port forwards")),
    ("dns", "network_dns", _("DNS")),
    ("portgroups", "network_portgroups", _("Port groups")),
    ("xml", "network_xml", _("XML")),
    ("jobs", "network_jobs", _("Jobs")),
)
JOBS_SHOWN, ADDRESSES_SHOWN = 50, 6


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    filters = {name: request.GET.get(name, "").strip() for name in ("q", "host")}
    rows = Network.objects.visible_to(request.user).select_related("host")
    if filters["q"]:
        rows = rows.filter(Q(name__icontains=filters["q"]) | Q(bridge__icontains=filters["q"]))
    if filters["host"]:
        rows = rows.filter(host__name=filters["host"])
    hosts = list(Host.objects.visible_to(request.user).only("name"))
    context = {
        "rows": _rows(rows.defer("inactive_xml", "leases", *HEAVY)),
        "hosts": hosts,
        "has_many_hosts": len(hosts) > 1,
        "filters": filters,
        "is_filtered": any(filters.values()),
        "query": request.GET.urlencode(),
        "may_create": may(request.user, NETWORKS),
    }
    is_rows = request.GET.get("fragment") == "rows"
    return render(request, "networks/_rows.html" if is_rows else "networks/index.html", context)


def _rows(found: Sequence[Network] | Any) -> list[dict[str, Any]]:
    used = {
        (host, source): count
        for host, source, count in Nic.objects.filter(kind="network")
        .values_list("host", "source")
        .annotate(count=Count("machine", distinct=True))
    }
    return [
        {"network": row, "machine_count": used.get((row.host_id, row.name), 0), **_summary(row.xml)}
        for row in found
    ]


def _summary(xml: str) -> dict[str, Any]:
    """Mode in words, and subnets. The mirror keeps whatever libvirt gave."""
    try:
        mode, addresses = spec.summary(xml)
    except XmlError:
        return {"mode": "", "subnets": []}
    return {"mode": MODES.get(mode, mode), "subnets": [_subnet(one) for one in addresses]}


def _subnet(address: str) -> str:
    try:
        return str(ipaddress.ip_interface(address).network)
    except ValueError:
        return address


@require_safe
def page(request: HttpRequest, uuid: UUID, tab: str = "overview") -> HttpResponse:
    fragment = request.GET.get("fragment", "")
    network = find(request, uuid)
    if network is None:
        if fragment in ("header", "tab") and may(request.user, SEE):
            return render(request, f"networks/_removed_{fragment}.html", {"uuid": uuid})
        raise Http404
    context = {
        "network": network,
        "document": document_of(network),
        "tab": tab,
        "tabs": [(name, reverse(url, args=[uuid]), label) for name, url, label in TABS],
        "address": request.get_full_path().partition("?")[0],
        "operations": {one.name: one for one in of_noun("networks")},
        "may_change": may(request.user, NETWORKS, network),
    }
    if fragment != "tab":
        context |= _header(network)
    if fragment != "header":
        context |= TAB_CONTEXTS[tab](request, network)
    names = {"header": "networks/_header.html", "tab": f"networks/_{tab}.html"}
    return render(request, names.get(fragment, "networks/page.html"), context)


def find(request: HttpRequest, uuid: UUID) -> Network | None:
    """Two hosts may have a network of the same UUID, as copies do; then ``?host=`` chooses."""
    rows = Network.objects.visible_to(request.user).filter(uuid=uuid).select_related("host")
    if host := request.GET.get("host"):
        rows = rows.filter(host__name=host)
    return rows.defer(*HEAVY).order_by("pk").first()


def address_of(network: Network, page: str = "network") -> str:
    return f"{reverse(page, args=[network.uuid])}?{urlencode({'host': network.host.name})}"


def document_of(network: Network) -> NetworkDocument | None:
    """As it is now; None where the fields can't say it."""
    try:
        return spec.document_of(network.xml)
    except (XmlError, ValidationError):
        return None


def _header(network: Network) -> dict[str, Any]:
    running = users.running(network)
    return {
        "running_names": users.names(running) if network.inactive_xml else "",
        "running_jobs": Job.objects.filter(
            host=network.host, target_key=str(network.uuid), state__in=UNFINISHED
        ),
    }


def _overview(request: HttpRequest, network: Network) -> dict[str, Any]:
    summary = _summary(network.xml)
    mode = spec.summary(network.xml)[0] if summary["mode"] else ""
    return summary | {
        "explained": EXPLAINED.get(mode, ""),
        "plugged": _plugged(request.user, network),
        "autostart_refusal": networks.set_autostart.refusal(request.user, network),
    }


def _plugged(user: Viewer, network: Network) -> list[dict[str, Any]]:
    """A row for every NIC on the network, with the addresses that were lent to it."""
    lent: dict[str, list[str]] = {}
    for lease in network.leases:
        lent.setdefault(lease["mac"], []).append(lease["address"])
    visible = Machine.objects.visible_to(user).values("pk")
    rows = users.nics(network).filter(machine__in=visible).select_related("machine")
    rows = rows.defer("machine__xml", "machine__inactive_xml").order_by("machine__name", "index")
    return [
        {
            "nic": nic,
            "machine": nic.machine,
            "addresses": lent.get(nic.mac, [])
            or [one["address"] for one in nic.addresses if isinstance(one, dict)],
        }
        for nic in rows
    ]


def _leases(request: HttpRequest, network: Network) -> dict[str, Any]:
    owners = dict(users.nics(network).values_list("mac", "machine__name"))
    keys = dict(users.nics(network).values_list("mac", "machine__uuid"))
    reserved = {one["address"]: one for one in _reservations(network)}
    leases = [
        lease
        | {
            "machine": owners.get(lease["mac"], ""),
            "uuid": keys.get(lease["mac"]),
            "until": _moment(lease["expires"]),
            "is_reserved": lease["address"] in reserved,
            "is_ipv4": ":" not in lease["address"],
        }
        for lease in network.leases
    ]
    return {
        "leases": leases,
        "reservations": [
            one | {"machine": owners.get(one["mac"] or "", ""), "uuid": keys.get(one["mac"] or "")}
            for one in reserved.values()
        ],
    }


def _moment(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _reservations(network: Network) -> list[dict[str, Any]]:
    try:
        document = spec.document_of(network.definition)
    except (XmlError, ValidationError):
        return []
    return [one.model_dump(mode="json") for ip in document.ips for one in ip.reservations]


def _forwards(request: HttpRequest, network: Network) -> dict[str, Any]:
    row = HostNetwork.of(network.host)
    there = {
        (one["protocol"], one["port"], one["address"], one["to"]): one
        for one in row.actual.get("forwards", [])
    }
    names = dict(_guests(network))
    return {
        "forwards": [
            {
                "forward": one,
                "guest": names.get(one.to, ""),
                "seen": there.get((one.protocol, one.port, one.address, one.to)),
            }
            for one in forwards_of(network)
        ],
        "problem": row.problem,
        "is_read": bool(row.actual),
        "outside": [
            one["address"].partition("/")[0]
            for one in ground.addresses(network.host)
            if one["scope"] == "global" and one["dev"] != network.bridge
        ][:ADDRESSES_SHOWN],
        "forward_refusal": networks.add_forward.refusal(request.user, network),
    }


def _plain(request: HttpRequest, network: Network) -> dict[str, Any]:
    return {}


def _xml(request: HttpRequest, network: Network) -> dict[str, Any]:
    is_inactive = request.GET.get("version") == "inactive" and bool(network.inactive_xml)
    return {
        "text": network.inactive_xml if is_inactive else network.xml,
        "is_inactive": is_inactive,
    }


def _jobs(request: HttpRequest, network: Network) -> dict[str, Any]:
    jobs = Job.objects.visible_to(request.user).filter(target_key=str(network.uuid))
    return {"jobs": jobs.defer("log", "commands", "arguments", "result")[:JOBS_SHOWN]}


TAB_CONTEXTS = {
    "overview": _overview,
    "leases": _leases,
    "forwards": _forwards,
    "dns": _plain,
    "portgroups": _plain,
    "xml": _xml,
    "jobs": _jobs,
}


@require_http_methods(["GET", "HEAD", "POST"])
def operate(request: HttpRequest, uuid: UUID, name: str) -> HttpResponse:
    network = find(request, uuid)
    operation = next((one for one in of_noun("networks") if one.name == name), None)
    if network is None or operation is None or operation.target is not Network:
        raise Http404
    back = address_of(network)
    if operation in (networks.stop, networks.restart, networks.delete):
        return _cutting(request, operation, network, back).answer()
    template, extra = "operations/_form.html", {}
    if operation in (networks.add_forward, networks.add_reservation):
        template, extra = "networks/_add.html", {"guests": _guests(network)}
    asking = Asking(request, operation, network, back=back, template=template, extra=extra)
    return replace(asking, read=_filled).answer()


def _filled(operation: Operation, data: QueryDict) -> dict[str, Any]:
    """What was left empty was not said."""
    found = arguments_of(operation, data)
    return {name: value for name, value in found.items() if value != ""}


def _guests(network: Network) -> list[tuple[str, str]]:
    """Addresses of guests that are known, each with whose it is."""
    owners = dict(users.nics(network).values_list("mac", "machine__name"))
    found = {one["address"]: one["name"] or owners.get(one["mac"]) for one in network.leases}
    for one in _reservations(network):
        found.setdefault(one["address"], one["name"] or owners.get(one["mac"]))
    return [(address, name or "") for address, name in found.items()]


def _cutting(request: HttpRequest, operation: Operation, network: Network, back: str) -> Asking:
    """A dialog that names the machines that lose their connection."""
    running = users.running(network)
    off = users.machines(network).exclude(pk__in=running.values("pk"))
    is_deleting = operation is networks.delete
    return Asking(
        request,
        operation,
        network,
        back=back,
        template="networks/_cut.html",
        extra={
            "running": users.names(running),
            "off": users.names(off) if is_deleting else "",
            "is_deleting": is_deleting,
            "is_gone": is_deleting or not network.is_persistent,
        },
        after=lambda job: reverse("networks") if is_deleting and _is_there(request, back) else None,
    )


def _is_there(request: HttpRequest, back: str) -> bool:
    """Whether the browser shows the network's own page, which is about to be about nothing."""
    return back.partition("?")[0] in request.headers.get("HX-Current-URL", back)
