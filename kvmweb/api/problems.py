"""Everything that went wrong, told as RFC 9457 wants it: application/problem+json.

``type`` is always ``about:blank``: the status says what kind it is, ``detail`` is a sentence for
the person, ``fields`` says which argument is to blame for which sentence.
"""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from ninja.errors import HttpError

from kvmweb.operations.consoles import TooMany
from kvmweb.operations.operation import Conflict, Forbidden, Invalid, Refused

CONTENT_TYPE = "application/problem+json"
log = logging.getLogger(__name__)


class Problem(Exception):
    """Raised where there is nothing better to answer."""

    def __init__(
        self,
        status: int,
        detail: str | Promise,
        *,
        fields: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.status = HTTPStatus(status)
        self.detail = detail
        self.fields = fields or {}
        self.headers = headers or {}

    def response(self) -> HttpResponse:
        document = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": str(self.detail),
        }
        if self.fields:
            document["fields"] = self.fields
        return JsonResponse(
            document, status=self.status, content_type=CONTENT_TYPE, headers=self.headers
        )


def not_found() -> Problem:
    return Problem(404, _("There is nothing at this address, or you may not see it."))


def bad_input(fields: dict[str, str]) -> Problem:
    return Problem(422, _("Some values need another look."), fields=fields)


def unauthorized(detail: str | Promise) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": 'Bearer realm="kvmweb"'})


STATUSES: dict[type[Refused], int] = {Forbidden: 403, Conflict: 409, Invalid: 422, TooMany: 429}


def _refused(refused: Refused) -> Problem:
    status = STATUSES.get(type(refused), 409)
    headers = {"Retry-After": "60"} if status == 429 else None
    return Problem(status, refused.sentence, fields=refused.fields, headers=headers)


def _http_error(error: HttpError) -> Problem:
    if error.status_code == 401:
        return unauthorized(_("Sign in, or send an API token: “Authorization: Bearer kvmweb_…”."))
    return Problem(error.status_code, error.message)


def _unexpected(error: Exception) -> Problem:
    log.error("The API failed", exc_info=error)
    return Problem(500, _("Something went wrong here; the site's log has the details."))


AS_PROBLEM: dict[type[Exception], Callable[..., Problem]] = {
    Problem: lambda problem: problem,
    Refused: _refused,
    HttpError: _http_error,
    Http404: lambda _error: not_found(),
    RequestDataTooBig: lambda _error: Problem(413, _("This is larger than the site accepts.")),
    SuspiciousOperation: lambda _error: Problem(400, _("The site can't make sense of this.")),
    Exception: _unexpected,
}


def handler(kind: type[Exception]) -> Callable[[HttpRequest, Any], HttpResponse]:
    """What django-ninja calls when a view raises ``kind``."""
    return lambda _request, error: AS_PROBLEM[kind](error).response()
