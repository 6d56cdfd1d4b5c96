"""From a form to a plan, and from the plan to the host.

What was typed becomes the whole document that is wanted; the job of its preview is the draft. Its
page shows the plan; more forms may add to it; applying it asks for the operation.
"""

import re
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import yaml
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from pydantic import ValidationError

from kvmweb.models import Host, HostNetwork, Job, JobState, Network
from kvmweb.models.access import NETWORKS, may
from kvmweb.operations import hostnet
from kvmweb.operations.operation import Refused, sentences
from kvmweb.spec import hostnet as spec
from kvmweb.spec.hostnet_edits import Document, digest, rebased
from kvmweb.web.hostnet.diffs import unified
from kvmweb.web.hostnet.fields import Choices, Form, changed_rows, typed
from kvmweb.web.hostnet.kinds import (
    KINDS,
    TO_ADD,
    Kind,
    as_typed,
    completed,
    entries,
    find,
    key_of,
    proposed,
    removed,
    written,
)
from kvmweb.web.hostnet.pages import find_host
from kvmweb.web.hostnet.pages import written as as_yaml
from kvmweb.web.hosts import frame
from kvmweb.web.operate import WAIT_SECONDS, is_htmx, status_of, submit

# Pydantic puts a link's kind into the place of an error: links.0.bridge.name.
_TAG = re.compile(rf"^(links\.\d+)\.(?:{'|'.join([*KINDS, 'macvtap'])})\b")
_SECTIONS = {"ports": "switches", "mirrors": "switches", "forwards": "routes"}


@dataclass
class Draft:
    """The document a form starts from. ``before``: what was wanted then; ``job``: an earlier
    draft it goes on from.
    """

    host: Host
    document: Document
    before: Document
    job: Job | None = None
    conflicts: list[str] = field(default_factory=list)

    @property
    def query(self) -> dict[str, str]:
        return {"draft": str(self.job.pk)} if self.job else {}


def _draft(request: HttpRequest, host: Host) -> Draft:
    """What is wanted now, or the draft named in the address, brought up to date."""
    row = HostNetwork.of(host)
    now = _whole(row.desired)
    key = request.GET.get("draft", "")
    if not key:
        return Draft(host, now, now)
    job = get_object_or_404(_previews(request, host), pk=_uuid(key))
    document, conflicts = rebased(_whole(_before(job)), now, job.arguments["document"])
    return Draft(host, document, now, job, conflicts)


def _before(job: Job) -> Document:
    before: Document = job.result.get("before", {})
    return before


def _whole(document: Document) -> Document:
    """With every field, so that two documents can be compared."""
    return spec.HostNetwork.model_validate(document).model_dump(mode="json")


def _previews(request: HttpRequest, host: Host) -> Any:
    rows = Job.objects.visible_to(request.user)
    return rows.filter(host=host, kind=hostnet.preview.kind)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None


class _Wrong(Exception):
    """A sentence for each place of the document that is wrong; "" for the whole."""

    def __init__(self, places: dict[str, str], status: int = 422) -> None:
        super().__init__(places)
        self.places = places
        self.status = status


def _planned(request: HttpRequest, host: Host, document: Document) -> Job:
    """The job of the preview, begun and perhaps ended. Raises ``_Wrong``."""
    try:
        job = submit(request, hostnet.preview, host, {"document": document})
    except Refused as refused:
        raise _Wrong(
            _places(refused.fields) or {"": refused.sentence}, status_of(refused)
        ) from None
    job.wait(WAIT_SECONDS)
    if job.state == JobState.FAILED:
        raise _Wrong(_places({job.error_field: job.error}))
    return job


def _places(fields: dict[str, str]) -> dict[str, str]:
    found = {}
    for name, sentence in fields.items():
        place = name.removeprefix("document").removeprefix(".")
        found[_TAG.sub(r"\1", place)] = sentence
    return found


def _to_plan(job: Job) -> HttpResponse:
    return redirect("hostnet_plan", job.host_id, job.pk)


def _administrators_host(request: HttpRequest, pk: int) -> Host:
    host = find_host(request, pk)
    if not may(request.user, NETWORKS, host):
        raise Http404
    return host


# Forms


@require_http_methods(["GET", "HEAD", "POST"])
def form(request: HttpRequest, pk: int) -> HttpResponse:
    """Add or change one thing. In the address: kind, and where there is one name and switch."""
    host = _administrators_host(request, pk)
    kind = KINDS.get(request.GET.get("kind", ""))
    if kind is None:
        raise Http404
    return _Filling(request, host, kind).answer()


class _Filling:
    """One form, filled in by one person."""

    def __init__(self, request: HttpRequest, host: Host, kind: Kind) -> None:
        self.request, self.host, self.kind = request, host, kind
        self.draft = _draft(request, host)
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
            return _to_plan(_planned(self.request, self.host, document))
        except _Wrong as wrong:
            return self._page(values, self._own(wrong.places), status=wrong.status)

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
            raise _Wrong({f"*.{name}": text for name, text in sentences(error).items()}) from None
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
    host = _administrators_host(request, pk)
    kind = KINDS.get(request.GET.get("kind", ""))
    draft, switch = _draft(request, host), request.GET.get("switch", "")
    entry = find(kind, draft.document, request.GET.get("name", ""), switch) if kind else None
    if kind is None or entry is None:
        raise Http404
    return _plan_or_back(request, host, removed(kind, draft.document, entry, switch))


@require_POST
def offload(request: HttpRequest, pk: int) -> HttpResponse:
    """The plan with one of a link's offloads switched."""
    host = _administrators_host(request, pk)
    name, feature = request.GET.get("name", ""), request.POST.get("feature", "")
    document = _draft(request, host).document
    link = next((one for one in document["links"] if one["name"] == name), None)
    changed = link or spec.Physical.model_construct(name=name).model_dump(mode="json")
    offloads = {**changed["offloads"], feature: request.POST.get("on") == "1"}
    changed = {**changed, "offloads": offloads}
    return _plan_or_back(request, host, written(_kind_of(changed), document, changed, old=link))


def _kind_of(link: Document) -> Kind:
    return KINDS["macvlan" if link["kind"] == "macvtap" else link["kind"]]


def _plan_or_back(request: HttpRequest, host: Host, document: Document) -> HttpResponse:
    try:
        return _to_plan(_planned(request, host, document))
    except _Wrong as wrong:
        for sentence in wrong.places.values():
            messages.error(request, sentence)
        return redirect("host_network", host.pk)


# The whole document


@require_http_methods(["GET", "HEAD", "POST"])
def editor(request: HttpRequest, pk: int) -> HttpResponse:
    """The document as YAML. What it was when the person began comes along with the form."""
    host = _administrators_host(request, pk)
    draft = _draft(request, host)
    if request.method != "POST":
        text = as_yaml(draft.document)
        return _editor_page(request, host, draft, text=text, base=as_yaml(draft.before))
    text, base = request.POST.get("text", ""), request.POST.get("base", "")
    try:
        mine, then = parsed(text), _whole(parsed(base))
        document, conflicts = rebased(then, draft.before, _whole(mine))
        job = _planned(request, host, document)
    except ValidationError as error:
        places = _places(sentences(error))
    except yaml.YAMLError as error:
        places = {"": _yaml_sentence(error)}
    except _Wrong as wrong:
        places = wrong.places
    else:
        if digest(then) != digest(draft.before):
            _say_moved(request, conflicts)
        return _to_plan(job)
    return _editor_page(request, host, draft, text=text, base=base, places=places)


def parsed(text: str) -> Document:
    """Raises ``yaml.YAMLError``; a document that is no mapping is left to be refused."""
    found = yaml.safe_load(text)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise yaml.YAMLError(_("Write fields and what they are: links: [...]"))
    return found


def _yaml_sentence(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return _("This is not YAML: %s") % error
    return _("Line %(line)d, column %(column)d: %(problem)s.") % {
        "line": mark.line + 1,
        "column": mark.column + 1,
        "problem": getattr(error, "problem", "") or error,
    }


def _editor_page(
    request: HttpRequest,
    host: Host,
    draft: Draft,
    *,
    text: str,
    base: str,
    places: dict[str, str] | None = None,
) -> HttpResponse:
    context = {
        **frame(host, "network"),
        "text": text,
        "base": base,
        "places": [
            (_readable(place, text), sentence) for place, sentence in (places or {}).items()
        ],
        "draft": draft,
        "address": request.get_full_path(),
        "back": reverse("host_network_section", args=[host.pk, "document"]),
    }
    return render(request, "hostnet/editor.html", context, status=422 if places else 200)


def _readable(place: str, text: str) -> str:
    """``links.0.mtu`` with what the entry is called: links.0 (br0).mtu."""
    section, _dot, rest = place.partition(".")
    number, _dot, _rest = rest.partition(".")
    try:
        listed = parsed(text)[section][int(number)]
        name = key_of(listed)
    except (yaml.YAMLError, KeyError, ValueError, IndexError, TypeError):
        return place
    return (
        place.replace(f"{section}.{number}", f"{section}.{number} ({name})", 1) if name else place
    )


# Plans


@require_safe
def plan(request: HttpRequest, pk: int, job: UUID) -> HttpResponse:
    host = find_host(request, pk)
    found = get_object_or_404(_previews(request, host), pk=job)
    is_part = request.GET.get("fragment") == "plan"
    name = "hostnet/_plan.html" if is_part else "hostnet/plan.html"
    return render(request, name, _plan_context(request, host, found))


def _plan_context(request: HttpRequest, host: Host, found: Job) -> dict[str, Any]:
    before, after = _before(found), found.arguments["document"]
    applying = _applying(request, host)
    return {
        **frame(host, "network"),
        "job": found,
        "plan": found.result,
        "diff": unified(as_yaml(before), as_yaml(after)),
        "has_moved": digest(_whole(before)) != digest(_whole(HostNetwork.of(host).desired)),
        "applying": applying,
        "goto": _change_address(applying) if applying else "",
        "to_add": TO_ADD,
        "may_change": may(request.user, NETWORKS, host),
        "address": request.get_full_path(),
        "refusal": hostnet.apply.refusal(request.user, host),
    }


def _applying(request: HttpRequest, host: Host) -> Job | None:
    key = request.GET.get("applying", "")
    if not key:
        return None
    rows = Job.objects.visible_to(request.user).filter(host=host, kind=hostnet.apply.kind)
    return rows.filter(pk=_uuid(key)).first()


def _change_address(job: Job) -> str:
    if job.state != JobState.DONE:
        return ""
    return reverse("hostnet_change", args=[job.host_id, job.result["change"]])


@require_POST
def apply(request: HttpRequest, pk: int, job: UUID) -> HttpResponse:
    """Ask for what the plan shows. Where the ground has moved, there is a new plan to look at."""
    host = _administrators_host(request, pk)
    found = get_object_or_404(_previews(request, host), pk=job)
    arguments = {"document": found.arguments["document"], "digest": found.result.get("digest", "")}
    try:
        asked = submit(request, hostnet.apply, host, arguments)
    except Refused as refused:
        messages.error(request, " ".join(refused.fields.values()) or refused.sentence)
        return redirect("hostnet_plan", pk, found.pk)
    asked.wait(WAIT_SECONDS)
    if asked.state == JobState.DONE:
        return HttpResponseRedirect(_change_address(asked))
    if asked.state == JobState.FAILED and asked.error_field == "digest":
        return _plan_anew(request, host, found)
    query = urlencode({"applying": str(asked.pk)})
    return HttpResponseRedirect(f"{reverse('hostnet_plan', args=[pk, found.pk])}?{query}")


@require_POST
def replan(request: HttpRequest, pk: int, job: UUID) -> HttpResponse:
    """The same wish, on the ground as it is now."""
    host = _administrators_host(request, pk)
    return _plan_anew(request, host, get_object_or_404(_previews(request, host), pk=job))


def _plan_anew(request: HttpRequest, host: Host, old: Job) -> HttpResponse:
    now = _whole(HostNetwork.of(host).desired)
    document, conflicts = rebased(_whole(_before(old)), now, old.arguments["document"])
    try:
        job = _planned(request, host, document)
    except _Wrong as wrong:
        for place, sentence in wrong.places.items():
            messages.error(request, f"{place}: {sentence}" if place else sentence)
        return redirect("hostnet_plan", host.pk, old.pk)
    _say_moved(request, conflicts)
    return _to_plan(job)


def _say_moved(request: HttpRequest, conflicts: list[str]) -> None:
    messages.warning(
        request,
        _("The ground has moved: the host's network was changed meanwhile. This is the new plan."),
    )
    if conflicts:
        text = _("Somebody else changed the same, and yours would take its place: %s")
        messages.warning(request, text % ", ".join(conflicts))
