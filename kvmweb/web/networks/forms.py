"""Creating and editing a network: one form, its parts shown as the mode has use for them."""

import time
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods
from pydantic import ValidationError

from kvmweb.models import Host, Job, JobState, Network
from kvmweb.models.access import NETWORKS, may
from kvmweb.operations import networks
from kvmweb.operations.networks import ground, users
from kvmweb.operations.operation import Forbidden, Refused
from kvmweb.spec import network as spec
from kvmweb.spec.network import NetworkDocument
from kvmweb.spec.network_places import OWN_BRIDGE
from kvmweb.spec.subnets import free_ipv4, free_ipv6, other_half
from kvmweb.spec.xml import XmlError
from kvmweb.web.hostnet.fields import Form, Group, Input
from kvmweb.web.hostnet.typed import changed_rows, typed
from kvmweb.web.networks.pages import address_of, find
from kvmweb.web.networks.words import ALL, EXPLAINED, FITS, MODES, SECTIONS, WORDING
from kvmweb.web.operate import WAIT_SECONDS, is_htmx, status_of, submit, tell

HEAVY = ("capabilities_xml", "domain_capabilities")
# Groups that are left out where nothing in them is filled in.
_OPTIONAL = ("vlan", "inbound", "outbound", "nat_addresses", "nat_ports")


@require_http_methods(["GET", "HEAD", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    if not may(request.user, NETWORKS):
        raise Http404
    data = request.POST if request.method == "POST" else request.GET
    hosts = list(Host.objects.visible_to(request.user).defer(*HEAVY))
    host = _host(hosts, str(data.get("host", "")))
    if host is None:
        return render(request, "networks/create_without_host.html")
    return Creation(request, host, hosts).answer()


def _host(hosts: list[Host], name: str) -> Host | None:
    """The named one; without a name the first that can be reached."""
    found = [host for host in hosts if name in ("", host.name)]
    if name and not found:
        raise Http404
    return next((host for host in found if host.is_connected), None) or next(iter(found), None)


@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, uuid: UUID) -> HttpResponse:
    network = find(request, uuid)
    if network is None or not may(request.user, NETWORKS, network):
        raise Http404
    return Editing(request, network.host, [], network).answer()


@dataclass(frozen=True)
class _Asked:
    """A form as it was sent, or is to be shown."""

    request: HttpRequest
    host: Host
    hosts: list[Host]
    network: Network | None = None

    @property
    def data(self) -> QueryDict:
        return self.request.POST

    @property
    def is_xml(self) -> bool:
        return self.request.GET.get("as") == "xml"

    def answer(self) -> HttpResponse:
        if self.request.method != "POST":
            return self.first()
        if self.is_xml:
            return self.send({"xml": str(self.data.get("xml", "")).strip()})
        values = read(self.data)
        if "add" in self.data or "remove" in self.data:
            changed_rows(values, str(self.data.get("add", "")), str(self.data.get("remove", "")))
            return self.page(self.proposed(values), {})
        if "refresh" in self.data:
            return self.page(self.proposed(values), {})
        return self.send(fitting(self.host, values))

    def first(self) -> HttpResponse:
        return self.page(self.proposed({}), {})

    def proposed(self, values: dict[str, Any]) -> dict[str, Any]:
        """With what is free on the host where nothing was said yet."""
        known = ground.taken_on(self.host, but=self.network)
        rows = values.setdefault("ips", [{}])
        for row in rows:
            if not row.get("address"):
                is_first = row is rows[0]
                row["address"] = free_ipv4(known) if is_first else free_ipv6(known)
                row["ranges"] = _range(row["address"]) if is_first else []
        return values

    def send(self, arguments: dict[str, Any]) -> HttpResponse:
        raise NotImplementedError

    def page(
        self, values: dict[str, Any], errors: dict[str, str], *, status: int = 200
    ) -> HttpResponse:
        raise NotImplementedError

    def shown(self, context: dict[str, Any], status: int) -> HttpResponse:
        """Only the form, where that is what changes in the page."""
        name = "networks/_form.html" if is_htmx(self.request) else "networks/form.html"
        return render(self.request, name, context, status=status)

    def context(self, values: dict[str, Any], errors: dict[str, str]) -> dict[str, Any]:
        form = Form(NetworkDocument, values, errors, wording=WORDING)
        own = ("name", "host", "xml", "start", "autostart", "restart")
        sentences = [text for text in form.unplaced if text not in map(errors.get, own)]
        return {
            "host": self.host,
            "hosts": self.hosts,
            "network": self.network,
            "sections": _sections(form, self.host, self.request.GET.get("open", "")),
            "errors": errors,
            "form_errors": sentences,
            "modes_explained": [(name, MODES[name], EXPLAINED[name]) for name in ALL],
            "form_id": "network-form",
            "address": self.request.get_full_path(),
            "is_xml": self.is_xml,
        }


def read(data: QueryDict) -> dict[str, Any]:
    """What was filled in, as the document's fields."""
    values = typed(NetworkDocument, data, without=frozenset({"dnsmasq_options"}))
    lines = str(data.get("dnsmasq_options", "")).splitlines()
    values["dnsmasq_options"] = [line.strip() for line in lines if line.strip()]
    for part in (values, *values["portgroups"]):
        for name in _OPTIONAL:
            if name in part and not any(part[name].values()):
                part[name] = None
    return _following(values, str(data.get("proposed", "")))


def _following(values: dict[str, Any], proposed: str) -> dict[str, Any]:
    """A range that was proposed for the first address goes with it to another subnet."""
    for ip in values["ips"][:1]:
        address = ip.get("address", "")
        if proposed and address != proposed and ip.get("ranges") == _range(proposed):
            ip["ranges"] = _range(address)
    return values


def _range(address: str) -> list[dict[str, str]]:
    try:
        half = other_half(spec.gateway(address))
    except ValueError:
        return []
    return [{"start": half[0], "end": half[1]}] if half else []


def fitting(host: Host, values: dict[str, Any]) -> dict[str, Any]:
    """Without what the mode has no use for: the form still holds it, so that nothing typed is lost
    when somebody looks at another mode.
    """
    defaults = NetworkDocument().model_dump(mode="json")
    given = defaults | values
    mode = given["mode"]
    found = {
        name: value if mode in FITS.get(name, ALL) else defaults[name]
        for name, value in given.items()
    }
    if mode == "bridge" and not found["virtualport"]:
        kind = ground.bridges(host).get(found["bridge"] or "")
        found["virtualport"] = "openvswitch" if kind == "openvswitch" else ""
    if mode not in (*OWN_BRIDGE, "bridge"):
        found["bridge"] = None
    return found


def _sections(form: Form, host: Host, opened: str) -> list[dict[str, Any]]:
    """``opened``: the name of a section that is to be open in any case."""
    parts = form.parts
    parts["dnsmasq_options"] = _lines(parts["dnsmasq_options"], form.values)
    parts["bridge"] = _with_hint(parts["bridge"], _bridge_hint(host))
    parts["devices"] = _with_hint(parts["devices"], _devices_hint(host))
    return [
        {
            "section": section,
            "parts": [(parts[name], " ".join(FITS.get(name, ALL))) for name in section.fields],
            "modes": " ".join(_modes(section.fields)),
            "is_open": section.is_open
            or section.name == opened
            or any(parts[name].is_filled or parts[name].is_wrong for name in section.fields),
        }
        for section in SECTIONS
    ]


def _modes(fields: tuple[str, ...]) -> list[str]:
    return [mode for mode in ALL if any(mode in FITS.get(name, ALL) for name in fields)]


def _lines(part: Input | Group, values: Any) -> Input:
    assert isinstance(part, Input)
    text = "\n".join(values.get("dnsmasq_options") or [])
    return replace(part, kind="lines", value=text)


def _with_hint(part: Input | Group, hint: str) -> Input:
    assert isinstance(part, Input)
    return replace(part, hint=hint or part.hint)


def _bridge_hint(host: Host) -> str:
    found = [
        f"{name} ({_('Open vSwitch')})" if kind == "openvswitch" else name
        for name, kind in ground.bridges(host).items()
    ]
    own = _("Empty, or the name that its own bridge gets. Mode Bridge: one that is there.")
    return own + (" " + _("Bridges of the host: %s.") % ", ".join(found) if found else "")


def _devices_hint(host: Host) -> str:
    found = ground.devices(host)
    text = _("Separated by commas; with NAT and Routed empty for any.")
    return text + (" " + _("On the host: %s.") % ", ".join(found) if found else "")


class Creation(_Asked):
    def send(self, arguments: dict[str, Any]) -> HttpResponse:
        more = {
            "name": str(self.data.get("name", "")).strip(),
            "start": "start" in self.data,
            "autostart": "autostart" in self.data,
        }
        if self.is_xml:
            more.pop("name")
        values = arguments | more
        try:
            job = submit(self.request, networks.create, self.host, values)
        except Refused as refused:
            errors = refused.fields or {"": refused.sentence}
            return self.page(values, errors, status=status_of(refused))
        job.wait(WAIT_SECONDS)
        if job.state == JobState.FAILED:
            return self.page(values, {job.error_field: job.error}, status=422)
        if job.state == JobState.DONE and _is_mirrored(job):
            tell(self.request, job)
            return redirect("network", job.result["uuid"])
        return redirect("job", job.pk)

    def page(
        self, values: dict[str, Any], errors: dict[str, str], *, status: int = 200
    ) -> HttpResponse:
        is_sent = self.request.method == "POST"
        ips = values.get("ips") or [{}]
        context = self.context(values, errors) | {
            "name": self.data.get("name", "") if is_sent else _free_name(self.host),
            "proposed": ips[0].get("address", ""),
            "xml": values.get("xml", ""),
            "is_started": "start" in self.data if is_sent else True,
            "is_autostarted": "autostart" in self.data if is_sent else True,
            "back": reverse("networks"),
        }
        return self.shown(context, status)


def _free_name(host: Host) -> str:
    """As virt-manager counts them: network, network1, network2."""
    taken = set(Network.objects.filter(host=host).values_list("name", flat=True))
    names = ["network", *(f"network{number}" for number in range(1, len(taken) + 2))]
    return next(name for name in names if name not in taken)


def _is_mirrored(job: Job) -> bool:
    """Libvirt's event is a moment behind the job; the network's page should be there."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if Network.objects.filter(host=job.host_id, uuid=job.result["uuid"]).exists():
            return True
        time.sleep(0.01)
    return False


class Editing(_Asked):
    def first(self) -> HttpResponse:
        assert self.network
        try:
            values = spec.document_of(self.network.definition).model_dump(mode="json")
        except (XmlError, ValidationError):
            if not self.is_xml:
                return redirect(address_of(self.network, "network_edit") + "&as=xml")
            values = {}
        return self.page(values, {})

    def proposed(self, values: dict[str, Any]) -> dict[str, Any]:
        """Rows that were just added get an address; nothing else is added by itself."""
        return super().proposed(values) if values.get("ips") else values

    def send(self, arguments: dict[str, Any]) -> HttpResponse:
        assert self.network
        values = arguments | {
            "version": self.data.get("version", ""),
            "restart": "restart" in self.data,
        }
        try:
            job = submit(self.request, networks.edit, self.network, values)
        except Refused as refused:
            if isinstance(refused, Forbidden):
                raise Http404 from None
            errors = refused.fields or {"": refused.sentence}
            return self.page(values, errors, status=status_of(refused))
        job.wait(WAIT_SECONDS)
        if job.state == JobState.FAILED:
            return self.page(values, {job.error_field: job.error}, status=422)
        tell(self.request, job)
        return redirect(address_of(self.network))

    def page(
        self, values: dict[str, Any], errors: dict[str, str], *, status: int = 200
    ) -> HttpResponse:
        assert self.network
        running = users.running(self.network) if self.network.is_active else None
        context = self.context(values, errors) | {
            "version": values.get("version") or self.network.version,
            "xml": values.get("xml") or self.network.definition,
            "running": users.names(running) if running is not None else "",
            "is_restarted": "restart" in self.data,
            "refusal": networks.edit.refusal(self.request.user, self.network),
            "back": address_of(self.network),
        }
        return self.shown(context, status)
