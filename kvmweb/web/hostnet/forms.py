"""The forms that add and change one thing each; what was filled in becomes a plan."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST
from pydantic import ValidationError

from kvmweb.models import Host, HostNetwork, Network
from kvmweb.operations.operation import sentences
from kvmweb.spec import hostnet as spec
from kvmweb.spec.hostnet_edits import Document
from kvmweb.web.hostnet.drafts import (
    Wrong,
    administrators_host,
    draft_of,
    planned,
    say_moved,
    to_plan,
)
from kvmweb.web.hostnet.fields import Choices, Form
from kvmweb.web.hostnet.kinds import (
    KINDS,
    Kind,
    as_typed,
    completed,
    entries,
    find,
    kind_of,
    proposed,
    removed,
    written,
)
from kvmweb.web.hostnet.typed import changed_rows, typed
from kvmweb.web.hosts import frame
from kvmweb.web.operate import is_htmx

# Where to go back to, by the list of the document the thing lies in.
_SECTIONS = {"ports": "switches", "mirrors": "switches", "forwards": "routes"}


@require_http_methods(["GET", "HEAD", "POST"])
def form(request: HttpRequest, pk: int) -> HttpResponse:
    """Add or change one thing. In the address: kind, and where there is one name and switch."""
    host = administrators_host(request, pk)
    kind = KINDS.get(request.GET.get("kind", ""))
    if kind is None:
        raise Http404
    return _Filling(request, host, kind).answer()


class _Filling:
    """One form, filled in by one person."""

    def __init__(self, request: HttpRequest, host: Host, kind: Kind) -> None:
        self.request, self.host, self.kind = request, host, kind
        self.draft = draft_of(request, host)
        self.switch = request.GET.get("switch", "")
        key = request.GET.get("name", "")
        self.old = find(kind, self.draft.document, key, self.switch) if key else None
        if kind.is_in_switch and self.switch not in self._switch_names():
            raise Http404
        if key and self.old is None and kind.name != "physical":
            raise Http404
        self.is_named = bool(key)

    def answer(self) -> HttpResponse:
        if self.request.method != "POST":
            return self._page(self._start(), {})
        data = self.request.POST
        values = self._typed(data)
        if "add" in data or "remove" in data:
            changed_rows(values, str(data.get("add", "")), str(data.get("remove", "")))
            return self._page(values, {})
        try:
            document = self._document(values)
            job = planned(self.request, self.host, document)
        except Wrong as wrong:
            return self._page(values, self._own(wrong.places), status=wrong.status)
        if self.draft.has_moved:
            say_moved(self.request, self.draft.conflicts)
        return to_plan(job)

    def _start(self) -> dict[str, Any]:
        if self.old is not None:
            return as_typed(self.old)
        taken = {one["name"] for one in HostNetwork.of(self.host).actual.get("links", [])}
        taken |= {
            one["name"]
            for section in ("links", "switches", "routers")
            for one in self.draft.document.get(section, [])
        }
        taken |= {
            str(one.get("name")) for one in entries(self.kind, self.draft.document, self.switch)
        }
        start: dict[str, Any] = {"name": proposed(self.kind, taken)}
        if self.kind.name == "veth":
            start["peer"] = proposed(self.kind, taken | {start["name"]})
        if self.kind.name == "router":
            start["legs"] = [{"name": "wan"}, {"name": "lan"}]
        given = self.request.GET
        return start | {
            name: given[name] for name in self.kind.model.model_fields if given.get(name)
        }

    def _typed(self, data: QueryDict) -> dict[str, Any]:
        values = typed(self.kind.model, data, without=self.kind.without)
        if self.is_named:
            values["name"] = self.request.GET["name"]
            if self.kind.section in ("routes", "forwards"):
                del values["name"]
        if self.old is not None:
            values |= {name: self.old[name] for name in self.kind.without}
        return values

    def _document(self, values: dict[str, Any]) -> Document:
        try:
            entry = self.kind.model.model_validate(completed(self.kind, values)).model_dump(
                mode="json"
            )
        except ValidationError as error:
            raise Wrong({f"*.{name}": text for name, text in sentences(error).items()}) from None
        members = self.request.POST.getlist("members") if self.kind.has_members else None
        return written(
            self.kind,
            self.draft.document,
            entry,
            old=self.old,
            switch=self.switch,
            members=members,
        )

    def _own(self, places: dict[str, str]) -> dict[str, str]:
        """Places within the entry as the form calls them; the others stay as they are."""
        prefix = self._place()
        found = {}
        for place, sentence in places.items():
            if place.startswith("*."):
                found[place[2:].replace("__all__", "")] = sentence
            elif prefix and (place == prefix or place.startswith(f"{prefix}.")):
                found[place[len(prefix) + 1 :]] = sentence
            else:
                found[place] = sentence
        return found

    def _place(self) -> str:
        """Where in the document that was sent the entry lies: links.3."""
        listed = entries(self.kind, self.draft.document, self.switch)
        number = listed.index(self.old) if self.old in listed else len(listed)
        if not self.kind.is_in_switch:
            return f"{self.kind.section}.{number}"
        switch = self._switch_names().index(self.switch)
        return f"switches.{switch}.{self.kind.section}.{number}"

    def _switch_names(self) -> list[str]:
        return [one["name"] for one in self.draft.document.get("switches", [])]

    def _page(
        self, values: dict[str, Any], errors: dict[str, str], *, status: int = 200
    ) -> HttpResponse:
        made = Form(
            self.kind.model,
            values,
            errors,
            options=_options(self.host, self.draft.document),
            without=self.kind.without,
        )
        parts = made.parts
        basic = [parts[name] for name in self.kind.basic if name in parts]
        more = [part for name, part in parts.items() if name not in self.kind.basic]
        section = _SECTIONS.get(self.kind.section, self.kind.section)
        if self.kind.name == "bridge":
            section = "bridges"
        context = {
            **frame(self.host, "network"),
            "kind": self.kind,
            "is_edit": self.old is not None,
            "basic": basic,
            "more": more,
            "is_more_open": any(part.is_wrong or part.is_filled for part in more),
            "form_errors": made.unplaced,
            "fixed_name": self.request.GET["name"] if self.is_named else "",
            "members": self._members(values) if self.kind.has_members else [],
            "draft": self.draft,
            "switch": self.switch,
            "address": self.request.get_full_path(),
            "back": reverse("host_network_section", args=[self.host.pk, section]),
        }
        name = "hostnet/_form.html" if is_htmx(self.request) else "hostnet/form.html"
        return render(self.request, name, context, status=status)

    def _members(self, values: dict[str, Any]) -> list[tuple[str, bool]]:
        """Links that could be its ports, and whether they are to be."""
        if self.request.method == "POST":
            chosen = set(self.request.POST.getlist("members"))
        else:
            chosen = {
                one["name"]
                for one in self.draft.document.get("links", [])
                if self.old and one.get("master") == self.old["name"]
            }
        own = values.get("name")
        names = [name for name, _label in _link_choices(self.host, self.draft.document)]
        fit = [name for name in names if name not in (own, "lo")]
        return [(name, name in chosen) for name in fit]


def _link_choices(host: Host, document: Document) -> Choices:
    """The host's own links, with those the document will make."""
    found: dict[str, str] = {}
    for link in HostNetwork.of(host).actual.get("links", []):
        if not link["namespace"]:
            found[link["name"]] = " · ".join([link["name"], *link["addresses"][:2]])
    for link in document.get("links", []):
        found.setdefault(link["name"], link["name"])
    return list(found.items())


def _options(host: Host, document: Document) -> dict[str, Choices]:
    """What to choose from, by ``Model.field``."""
    links = _link_choices(host, document)
    actual = HostNetwork.of(host).actual.get("links", [])
    kinds = {one["name"]: one["kind"] for one in actual if not one["namespace"]}
    kinds |= {
        one["name"]: one["kind"]
        for one in document.get("links", [])
        if one["kind"] != "physical" or one["name"] not in kinds
    }
    switches = [one["name"] for one in document.get("switches", [])]
    switches += [
        one["name"]
        for one in HostNetwork.of(host).actual.get("switches", [])
        if one["name"] not in switches
    ]
    bridges = [one for one in links if kinds.get(one[0]) == "bridge" and one[0] not in switches]
    masters = bridges + [one for one in links if kinds.get(one[0]) == "bond"]
    cards: Choices = [
        one for one in links if kinds.get(one[0]) in ("physical", "bond", "vlan", "veth")
    ]
    networks = Network.objects.filter(host=host).exclude(forward_mode="").order_by("name")
    return {
        "Bridge.uplink": cards,
        "Switch.uplink": cards,
        "VlanLink.parent": links,
        "Macvlan.parent": links,
        "Vxlan.dev": links,
        "Route.dev": links,
        **{
            f"{kind.model.__name__}.master": masters
            for kind in KINDS.values()
            if kind.section == "links"
        },
        "Leg.switch": [*bridges, *((name, f"{name} · Open vSwitch") for name in switches)],
        "Forward.network": [(one.name, one.name) for one in networks],
    }


@require_POST
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    """The plan without one thing."""
    host = administrators_host(request, pk)
    kind = KINDS.get(request.GET.get("kind", ""))
    draft, switch = draft_of(request, host), request.GET.get("switch", "")
    entry = find(kind, draft.document, request.GET.get("name", ""), switch) if kind else None
    if kind is None or entry is None:
        raise Http404
    return _plan_or_back(request, host, removed(kind, draft.document, entry, switch))


@require_POST
def offload(request: HttpRequest, pk: int) -> HttpResponse:
    """The plan with one of a link's offloads switched."""
    host = administrators_host(request, pk)
    name, feature = request.GET.get("name", ""), request.POST.get("feature", "")
    document = draft_of(request, host).document
    link = next((one for one in document["links"] if one["name"] == name), None)
    changed = link or spec.Physical.model_construct(name=name).model_dump(mode="json")
    offloads = {**changed["offloads"], feature: request.POST.get("on") == "1"}
    changed = {**changed, "offloads": offloads}
    return _plan_or_back(request, host, written(kind_of(changed), document, changed, old=link))


def _plan_or_back(request: HttpRequest, host: Host, document: Document) -> HttpResponse:
    try:
        return to_plan(planned(request, host, document))
    except Wrong as wrong:
        for sentence in wrong.places.values():
            messages.error(request, sentence)
        return redirect("host_network", host.pk)
