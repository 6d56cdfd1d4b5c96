"""The whole document of a host's network, as YAML in a text field."""

import yaml
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods
from pydantic import ValidationError

from kvmweb.models import Host
from kvmweb.operations.operation import sentences
from kvmweb.spec.hostnet_edits import Document, digest, rebased
from kvmweb.web.hostnet.drafts import (
    Draft,
    Wrong,
    administrators_host,
    draft_of,
    places_of,
    planned,
    say_moved,
    to_plan,
    whole,
)
from kvmweb.web.hostnet.kinds import key_of
from kvmweb.web.hostnet.pages import written
from kvmweb.web.hosts import frame


@require_http_methods(["GET", "HEAD", "POST"])
def editor(request: HttpRequest, pk: int) -> HttpResponse:
    """The document as YAML. What it was when the person began comes along with the form."""
    host = administrators_host(request, pk)
    draft = draft_of(request, host)
    if request.method != "POST":
        text = written(draft.document)
        return _editor_page(request, host, draft, text=text, base=written(draft.before))
    text, base = request.POST.get("text", ""), request.POST.get("base", "")
    try:
        mine, then = parsed(text), whole(parsed(base))
        document, conflicts = rebased(then, draft.before, whole(mine))
        job = planned(request, host, document)
    except ValidationError as error:
        places = places_of(sentences(error))
    except yaml.YAMLError as error:
        places = {"": _yaml_sentence(error)}
    except Wrong as wrong:
        places = wrong.places
    else:
        if digest(then) != digest(draft.before):
            say_moved(request, conflicts)
        return to_plan(job)
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
