"""/api/v1/openapi.json: what django-ninja knows, and what it does not know of problems."""

import json
from functools import cache
from typing import Any

from django.utils.translation import get_language
from ninja import NinjaAPI
from ninja.responses import NinjaJSONEncoder

from kvmweb.api import schemas

DESCRIPTION = """\
Everything the site can do, for programs.

Send an API token (`python manage.py token USER`, or your account's page):
`Authorization: Bearer kvmweb_...`. The site's own pages use the session's cookie, and for changes
the header `X-CSRFToken`.

**Changes** are jobs. The answer is the job: 200 when it has ended within 2 seconds, well or not -
look at its `state` (`done`, `failed`, `cancelled`) and its `error` - else 202, with its address in
`Location`. What is refused from the start has no job but a problem (403, 409, 422).

**Problems** are RFC 9457 (`application/problem+json`); `fields` has a sentence for each argument.

**Lists** give `items` and `next`; send it as `cursor` for the next page. `host` and `q` that fit
nothing give an empty list; a `state` that does not exist is a problem.
"""
_PROBLEM = {
    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
}
_PROBLEMS = {
    "400": "The body is not JSON",
    "401": "Nobody is signed in, or the token is not valid",
    "403": "Not allowed to this user",
    "404": "Not there, or not to be seen by this user",
    "409": "The thing is in another state than this needs, or busy with the same",
    "413": "Too large",
    "415": "The body is a form, not JSON",
    "422": "Some values need another look",
    "default": "Any other problem",
}


def document(api: NinjaAPI) -> dict[str, Any]:
    return _document(api, get_language())


@cache
def _document(api: NinjaAPI, language: str) -> dict[str, Any]:
    # Through JSON: in this language, and nothing below shares a part with the routes.
    text = json.dumps(api.get_openapi_schema(), cls=NinjaJSONEncoder)
    found: dict[str, Any] = json.loads(text)
    named = found["components"]["schemas"]
    for address, methods in found["paths"].items():
        for method, route in methods.items():
            _hoist(route, named)
            for status in _statuses(address, method, route):
                route["responses"][status] = {"$ref": f"#/components/responses/{status}"}
    named["Problem"] = schemas.Problem.model_json_schema()
    found["components"]["responses"] = {
        status: {"description": when, "content": _PROBLEM} for status, when in _PROBLEMS.items()
    }
    return found


def _statuses(address: str, method: str, route: dict[str, Any]) -> list[str]:
    found = ["401", "default"]
    if "{" in address:
        found.append("404")
    if method != "get":
        found += ["400", "403", "409", "413", "415", "422"]
    elif route["parameters"]:
        found.append("422")
    return found


def _hoist(route: dict[str, Any], named: dict[str, Any]) -> None:
    """Move what pydantic puts beside a body's schema to where its references look."""
    for media in route.get("requestBody", {}).get("content", {}).values():
        named.update(media["schema"].pop("$defs", {}))
