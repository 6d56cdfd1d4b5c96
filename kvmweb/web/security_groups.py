"""Security groups: the list, the page of one with its rules and NICs, and the forms."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from kvmweb.models import Host, Machine, Nic, SecurityGroup
from kvmweb.models.access import NETWORKS, SEE, may
from kvmweb.models.filters import members, memberships
from kvmweb.operations import enforcement, of_noun, security_groups
from kvmweb.operations.operation import Operation
from kvmweb.spec import security
from kvmweb.spec.nics import interfaces
from kvmweb.spec.nwfilter import reference_of
from kvmweb.spec.security import Rule
from kvmweb.spec.xml import parse
from kvmweb.web.filters import notices
from kvmweb.web.operate import Asking, arguments_of

TABS = (
    ("rules", "security_group", _("Rules")),
    ("nics", "security_group_nics", _("NICs")),
    ("filter", "security_group_filter", _("Network filter")),
)
DIRECTIONS = (("in", _("Incoming")), ("out", _("Outgoing")))
PROTOCOLS = (("tcp", "TCP"), ("udp", "UDP"), ("icmp", "ICMP"), ("any", _("Any protocol")))
# Of what people open most: https://www.iana.org/assignments/service-names-port-numbers.
SERVICES = (
    ("22", "SSH"), ("80", "HTTP"), ("443", "HTTPS"), ("80, 443", "HTTP, HTTPS"), ("53", "DNS"),
    ("25", "SMTP"), ("3306", "MySQL"), ("5432", "PostgreSQL"), ("3389", "RDP"),
)  # fmt: skip
NICS_OFFERED = 500


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    groups = list(SecurityGroup.objects.visible_to(request.user))
    nics = members(group.name for group in groups)
    hosts = list(
        Host.objects.visible_to(request.user).defer("capabilities_xml", "domain_capabilities")
    )
    context = {
        "groups": [(group, len(group.rules), len(nics[group.name])) for group in groups],
        "may_add": may(request.user, NETWORKS),
        **notices(hosts),
        "area": "security_groups",
    }
    is_rows = request.GET.get("fragment") == "rows"
    template = "security_groups/_rows.html" if is_rows else "security_groups/index.html"
    return render(request, template, context)


@require_safe
def page(request: HttpRequest, uuid: UUID, tab: str = "rules") -> HttpResponse:
    fragment = request.GET.get("fragment", "")
    group = SecurityGroup.objects.visible_to(request.user).filter(uuid=uuid).first()
    if group is None:
        if fragment and may(request.user, SEE):
            return render(request, "security_groups/_removed.html", {"uuid": uuid})
        raise Http404
    context = {
        "group": group,
        "tab": tab,
        "tabs": [(name, reverse(url, args=[uuid]), label) for name, url, label in TABS],
        "operations": {one.name: one for one in of_noun("security_groups")},
        "may_change": may(request.user, NETWORKS),
        "area": "security_groups",
        **TAB_CONTEXTS[tab](group),
    }
    template = "security_groups/_page.html" if fragment else "security_groups/page.html"
    return render(request, template, context)


def _rules(group: SecurityGroup) -> dict[str, Any]:
    directions, protocols = dict(DIRECTIONS), dict(PROTOCOLS)
    rows = [
        {
            "place": place,
            "rule": rule,
            "direction": directions[rule.direction],
            "protocol": protocols[rule.protocol],
            "group": SecurityGroup.objects.filter(name=rule.group).first() if rule.group else None,
        }
        for place, rule in enumerate(map(Rule.model_validate, group.rules))
    ]
    return {"rules": sorted(rows, key=lambda row: row["rule"].direction)}


def _nics(group: SecurityGroup) -> dict[str, Any]:
    nics = members([group.name])[group.name]
    groups = memberships(nics)
    hosts = {nic.host for nic in nics}
    told = notices(hosts)
    blind = {host.pk for host, _sentence in told["blind"]}
    states = {host.pk: "blind" if host.pk in blind else _state(host) for host in hosts}
    return told | {
        "nics": [
            {
                "nic": nic,
                "others": [name for name in groups[nic.pk][0] if name != group.name],
                "is_spoofing_prevented": groups[nic.pk][1],
                "state": states[nic.host_id],
            }
            for nic in nics
        ]
    }


def _state(host: Host) -> str:
    """Whether the host's filters say what the groups say."""
    if not host.is_connected:
        return "unreachable"
    return "pending" if enforcement.is_stale(host) else "in-force"


def _filter(group: SecurityGroup) -> dict[str, Any]:
    return {
        "name": security.filter_name(group.name),
        "document": enforcement.compiled({group.name})[group.name],
    }


TAB_CONTEXTS = {"rules": _rules, "nics": _nics, "filter": _filter}


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    if not may(request.user, NETWORKS):
        raise Http404
    return Asking(
        request,
        security_groups.create,
        None,
        back=reverse("security_groups"),
        template="security_groups/_form.html",
        extra={"title": _("New security group")},
        after=lambda job: reverse("security_group", args=[job.result["uuid"]]),
        read=lambda operation, data: {
            name: data[name] for name in ("name", "description") if name in data
        },
    ).answer()


@require_http_methods(["GET", "HEAD", "POST"])
def operate(request: HttpRequest, uuid: UUID, name: str) -> HttpResponse:
    group = get_object_or_404(SecurityGroup.objects.visible_to(request.user), uuid=uuid)
    operation = next((one for one in of_noun("security_groups") if one.name == name), None)
    if operation is None or operation.target is not SecurityGroup:
        raise Http404
    return _asking(request, operation, group).answer()


def _asking(request: HttpRequest, operation: Operation, group: SecurityGroup) -> Asking:
    back = reverse("security_group", args=[group.uuid])
    if operation in (security_groups.add_rule, security_groups.edit_rule):
        return RuleAsking(
            request, operation, group, back=back, template="security_groups/_rule.html"
        )
    if operation is security_groups.edit:
        return Asking(
            request, operation, group, back=back, template="security_groups/_form.html",
            extra={"values": {"name": group.name, "description": group.description}},
            read=lambda operation, data: {
                "description": data.get("description", ""),
                "rules": group.rules,
                "version": group.version,
            },
        )  # fmt: skip
    if operation is security_groups.remove_rule:
        return Asking(request, operation, group, back=back, template="security_groups/_remove.html",
                      extra={"row": _row_at(request, group)})  # fmt: skip
    return Asking(
        request, operation, group, back=back,
        after=lambda job: reverse("security_groups") if operation.name == "delete" else None,
    )  # fmt: skip


def _row_at(request: HttpRequest, group: SecurityGroup) -> dict[str, Any]:
    data = request.POST if request.method == "POST" else request.GET
    place = data.get("place", "")
    rows = [row for row in _rules(group)["rules"] if str(row["place"]) == place]
    if not rows:
        raise Http404
    return {**rows[0], "version": data.get("version") or group.version}


@dataclass(frozen=True)
class RuleAsking(Asking):
    """A rule's form, with the other groups to choose from."""

    def form(
        self, arguments: dict[str, Any], errors: dict[str, str], *, status: int = 200, **more: Any
    ) -> HttpResponse:
        assert isinstance(self.target, SecurityGroup)
        more |= {
            "values": arguments or self._begun(self.target),
            "directions": DIRECTIONS,
            "protocols": PROTOCOLS,
            "services": SERVICES,
            "groups": list(SecurityGroup.objects.values_list("name", flat=True)),
        }
        return super().form(arguments, errors, status=status, **more)

    def _begun(self, group: SecurityGroup) -> dict[str, Any]:
        if self.operation is security_groups.add_rule:
            direction = "out" if self.request.GET.get("direction") == "out" else "in"
            return {**Rule(direction=direction).model_dump(), "version": group.version}
        row = _row_at(self.request, group)
        return {**row["rule"].model_dump(), "place": row["place"], "version": row["version"]}


@require_http_methods(["GET", "HEAD", "POST"])
def attach(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Put a NIC into the group, chosen in the form from all there are."""
    group = get_object_or_404(SecurityGroup.objects.visible_to(request.user), uuid=uuid)
    if not may(request.user, NETWORKS):
        raise Http404
    chosen = _nic(request, request.POST.get("nic", ""))
    taken = {nic.pk for nic in members([group.name])[group.name]}
    offered = Nic.objects.visible_to(request.user).exclude(pk__in=taken).exclude(mac="")
    asking = Asking(
        request,
        security_groups.attach,
        chosen.machine if chosen else None,
        back=reverse("security_group_nics", args=[uuid]),
        template="security_groups/_attach.html",
        extra={
            "group": group,
            "title": security_groups.attach.label,
            "nics": offered.select_related("machine", "host").defer(*_HEAVY)[:NICS_OFFERED],
            "chosen": chosen.pk if chosen else None,
        },
        read=lambda operation, data: {"mac": chosen.mac if chosen else "", "group": group.name},
    )
    if request.method == "POST" and chosen is None:
        return asking.form({}, {"nic": str(_("Choose a NIC."))}, status=422)
    return asking.answer()


_HEAVY = (
    "machine__xml", "machine__inactive_xml", "host__capabilities_xml", "host__domain_capabilities",
)  # fmt: skip


def _nic(request: HttpRequest, key: str) -> Nic | None:
    rows = Nic.objects.visible_to(request.user).select_related("machine", "machine__host")
    return rows.filter(pk=key).first() if key.isascii() and key.isdigit() else None


@require_http_methods(["GET", "HEAD", "POST"])
def of_nic(request: HttpRequest, uuid: UUID, name: str) -> HttpResponse:
    """``assign`` or ``detach`` for a NIC of a machine, which ``?mac=`` names."""
    machines = Machine.objects.visible_to(request.user).select_related("host").filter(uuid=uuid)
    if host := request.GET.get("host"):
        machines = machines.filter(host__name=host)
    machine = machines.order_by("pk").first()
    mac = request.GET.get("mac", "")
    nic = Nic.objects.filter(machine=machine, mac=mac).first() if machine and mac else None
    if machine is None or nic is None or name not in ("assign", "detach"):
        raise Http404
    return (
        _assigning(request, machine, nic) if name == "assign" else _detaching(request, machine, nic)
    )


def _assigning(request: HttpRequest, machine: Machine, nic: Nic) -> HttpResponse:
    groups, is_prevented = memberships([nic])[nic.pk]
    known = [one["address"] for one in nic.addresses if ":" not in one["address"]]
    return Asking(
        request,
        security_groups.assign,
        machine,
        back=reverse("machine_hardware", args=[machine.uuid]),
        template="security_groups/_assign.html",
        extra={
            "nic": nic,
            "groups": list(SecurityGroup.objects.visible_to(request.user)),
            "begun": {
                "groups": groups,
                "prevents_spoofing": is_prevented,
                "addresses": _given(machine, nic.mac) or known,
            },
        },
        read=lambda operation, data: {
            **arguments_of(operation, data),
            "mac": nic.mac,
            "addresses": data.get("addresses", "").replace(",", " ").split(),
        },
    ).answer()


def _given(machine: Machine, mac: str) -> list[str]:
    """The addresses that spoofing is prevented for."""
    found = next((one for one in interfaces(parse(machine.xml)) if one.mac.lower() == mac), None)
    reference = found.tree.find("filterref") if found is not None else None
    if reference is None:
        return []
    return [value for name, value in reference_of(reference).parameters if name == "IP"]


def _detaching(request: HttpRequest, machine: Machine, nic: Nic) -> HttpResponse:
    group = request.GET.get("group", "")
    return Asking(
        request,
        security_groups.detach,
        machine,
        back=reverse("security_groups"),
        template="security_groups/_detach.html",
        extra={"nic": nic, "group": group},
        read=lambda operation, data: {"mac": nic.mac, "group": group},
    ).answer()
