"""The NICs of a machine: on its Hardware tab, and the dialogs of what may be done with them."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST

from kvmweb.models import Machine, Nic
from kvmweb.operations import nics
from kvmweb.operations.nics import checks, macs, sources
from kvmweb.operations.nics.settings import FIELDS, NewNic, settings_of
from kvmweb.operations.operation import Operation
from kvmweb.spec.devices.interface import Interface
from kvmweb.spec.hardware import Part
from kvmweb.spec.xml import parse
from kvmweb.web import nic_form
from kvmweb.web.operate import Asking

_APPLY = (
    ("now", _("now, as far as a running machine can; the rest at its next start")),
    ("replug", _("now, unplugging the card for a moment where it must be")),
    ("next_start", _("at the next start only")),
)


def tab(request: HttpRequest, machine: Machine, parts: list[Part], chosen: int) -> dict[str, Any]:
    """What the Hardware tab says beside the facts."""
    context = {
        "nic_add_url": reverse("nic_add", args=[machine.uuid]),
        "nic_add_refusal": nics.add.refusal(request.user, machine),
    }
    if not _is_nic(parts[chosen]):
        return context
    interface = Interface(parse(parts[chosen].xml))
    same = [part for part in parts[:chosen] if _is_nic(part) and _mac(part) == interface.mac]
    key = interface.mac + (f"@{len(same) + 1}" if same else "")
    return context | {"nic": _shown(request, machine, interface, key)}


def _is_nic(part: Part) -> bool:
    return part.xml.startswith("<interface")


def _mac(part: Part) -> str:
    return Interface(parse(part.xml)).mac


def _shown(
    request: HttpRequest, machine: Machine, interface: Interface, key: str
) -> dict[str, Any]:
    row = Nic.objects.filter(machine=machine, mac=interface.mac.lower()).first()
    refusal = nics.edit.refusal(request.user, machine)
    settings = settings_of(checks.find(machine, key) or interface)
    asked = sources.asked(machine.host, interface.source)
    return {
        "key": key,
        "row": row,
        "interface": interface,
        "addresses": [(one, _FROM.get(one["from"], "")) for one in row.addresses] if row else [],
        "refusal": refusal,
        "link_refusal": nics.set_link.refusal(request.user, machine),
        "taken": macs.taken(interface.mac, _owner(machine)) if interface.mac else "",
        "reasons": asked.reasons if interface.model.startswith("virtio") else (),
        "is_as_asked": all(settings[name] == value for name, value in asked.settings.items()),
        "differences": [
            (nic_form.label_of(name), nic_form.shown(before), nic_form.shown(after))
            for name, before, after in checks.differences(machine, key)
        ],
        **({} if refusal else _form(machine, settings, {})),
    }


_FROM = {"agent": _("guest agent"), "lease": _("DHCP lease"), "arp": _("ARP")}


def _owner(machine: Machine) -> macs.Owner:
    return macs.Owner(machine.host, machine.uuid, machine.name)


def _form(
    machine: Machine, settings: dict[str, Any], errors: dict[str, str], *, is_new: bool = False
) -> dict[str, Any]:
    values = nic_form.written(settings)
    return {
        "groups": nic_form.groups(machine, values, errors, is_new=is_new),
        "was": json.dumps(values),
        "apply_choices": _APPLY if machine.is_active and machine.is_persistent else (),
        "apply": "now",
    }


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest, uuid: UUID) -> HttpResponse:
    machine = _find(request, uuid)
    return NicForm(
        request,
        nics.add,
        machine,
        back=reverse("machine_hardware", args=[uuid]),
        template="nics/_add.html",
        read=_new,
        machine=machine,
    ).answer()


def _new(operation: Operation, data: QueryDict) -> dict[str, Any]:
    given = {name: value for name, value in nic_form.typed(data).items() if value}
    return {
        **given,
        "is_link_up": "is_link_up" in data,
        "at_next_start": data.get("apply") == "next_start",
    }


@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, uuid: UUID, key: str) -> HttpResponse:
    machine = _find(request, uuid)
    interface = checks.find(machine, key)
    if interface is None:
        raise Http404

    def read(operation: Operation, data: QueryDict) -> dict[str, Any]:
        return {**nic_form.changed(data), "nic": key, "apply": data.get("apply") or "now"}

    form = NicForm(
        request,
        nics.edit,
        machine,
        back=reverse("machine_hardware", args=[uuid]),
        template="nics/_edit.html",
        extra={"key": key},
        read=read,
        machine=machine,
        settings=settings_of(interface),
    )
    return _in_place(form.answer())


@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, uuid: UUID, key: str) -> HttpResponse:
    machine = _find(request, uuid)
    if checks.find(machine, key) is None:
        raise Http404
    return Asking(
        request,
        nics.remove,
        machine,
        back=reverse("machine_hardware", args=[uuid]),
        template="nics/_remove.html",
        extra={"key": key, "may_wait": machine.is_active and machine.is_persistent},
        read=lambda operation, data: {"nic": key, "at_next_start": "at_next_start" in data},
    ).answer()


@require_POST
def link(request: HttpRequest, uuid: UUID, key: str) -> HttpResponse:
    machine = _find(request, uuid)
    return Asking(
        request,
        nics.set_link,
        machine,
        back=reverse("machine_hardware", args=[uuid]),
        read=lambda operation, data: {"nic": key, "up": "up" in data},
    ).answer()


def _find(request: HttpRequest, uuid: UUID) -> Machine:
    """Of two hosts' machines with this UUID ``?host=`` chooses, as on the machine's page."""
    rows = Machine.objects.visible_to(request.user).filter(uuid=uuid).select_related("host")
    if host := request.GET.get("host"):
        rows = rows.filter(host__name=host)
    machine = rows.order_by("pk").first()
    if machine is None:
        raise Http404
    return machine


def _in_place(response: HttpResponse) -> HttpResponse:
    """The form stays where it is when all is well; the page itself shows what has become of it."""
    if "HX-Trigger" in response:
        response["HX-Reswap"] = "none"
    return response


@dataclass(frozen=True)
class NicForm(Asking):
    """``settings``: what the card has; None for a new one."""

    machine: Machine | None = None
    settings: dict[str, Any] | None = None

    def form(
        self, arguments: dict[str, Any], errors: dict[str, str], *, status: int = 200, **more: Any
    ) -> HttpResponse:
        assert self.machine
        is_new = self.settings is None
        settings = self._defaults() if self.settings is None else self.settings
        context = _form(self.machine, settings, errors, is_new=is_new)
        if self.request.method == "POST":
            values = nic_form.as_typed(self.request.POST)
            context["groups"] = nic_form.groups(self.machine, values, errors, is_new=is_new)
            context["was"] = self.request.POST.get("was", "{}")
            context["apply"] = self.request.POST.get("apply", "now")
        context["machine"] = self.machine
        shown = {one.name for group in context["groups"] for one in group.inputs}
        context["form_error"] = " ".join(text for name, text in errors.items() if name not in shown)
        return super().form(arguments, errors, status=status, **context, **more)

    def _defaults(self) -> dict[str, Any]:
        assert self.machine
        return {
            **{name: NewNic.model_fields[name].default for name in FIELDS},
            "source": sources.default_source(self.machine.host),
            "model": sources.default_model(self.machine),
        }
