"""What a request carries: a JSON object that the database can hold, or a problem.

The operations check the meaning; here only that which would break before they see it.
"""

import json
import math
from typing import Any

from django.http import HttpRequest
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext as _
from ninja.parser import Parser

from kvmweb.api.problems import Problem, bad_input

LARGEST = 2**63 - 1


def body(request: HttpRequest) -> dict[str, Any]:
    """The JSON object sent; an empty one where nothing was. Raises ``Problem``."""
    if not request.body:
        return {}
    try:
        found = json.loads(request.body, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        if request.content_type != "application/json":
            raise Problem(415, _("Send JSON, with Content-Type: application/json.")) from None
        raise Problem(400, _("The body is not JSON: %s.") % error) from None
    if not isinstance(found, dict):
        raise Problem(422, _("Send a JSON object, like {}."))
    fields = {str(name): _flaw(name) or _flaw(value) for name, value in found.items()}
    flaws = {name: sentence for name, sentence in fields.items() if sentence}
    if flaws:
        raise bad_input(flaws)
    return found


class StrictParser(Parser):
    """An empty parameter is none, as from a form that was not filled in. One with a NUL is refused:
    PostgreSQL can't look for it."""

    def parse_querydict(
        self, data: MultiValueDict[str, Any], list_fields: list[str], request: HttpRequest
    ) -> dict[str, Any]:
        flaws = {name: _flaw(values) for name, values in data.lists()}
        if any(flaws.values()):
            raise bad_input({name: sentence for name, sentence in flaws.items() if sentence})
        filled = {name: [value for value in values if value] for name, values in data.lists()}
        given = MultiValueDict({name: values for name, values in filled.items() if values})
        return super().parse_querydict(given, list_fields, request)


def _flaw(value: Any) -> str:
    """What the database could not keep of this, as a sentence."""
    match value:
        case str():
            return _text_flaw(value)
        case bool():
            return ""
        case int():
            return "" if abs(value) <= LARGEST else _("This number is too large.")
        case list():
            return next(filter(None, map(_flaw, value)), "")
        case dict():
            return next(filter(None, map(_flaw, [*value, *value.values()])), "")
    return ""


def _text_flaw(text: str) -> str:
    if "\0" in text:
        return _("This can't contain a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError:
        return _("This contains half a character (a lone surrogate).")
    return ""


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
