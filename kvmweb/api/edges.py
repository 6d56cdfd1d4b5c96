"""What django-ninja leaves to Django: no such address, no such method, no sign-in page."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt

from kvmweb.api.problems import Problem, not_found

View = Callable[..., HttpResponseBase]


def with_problems(view: View) -> View:
    """The view, answering with problems always. It checks who asks itself (401, no redirect)."""

    def edged(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if "\0" in request.path:
            return not_found().response()
        if "Transfer-Encoding" in request.headers and "Content-Length" not in request.headers:
            # Django checks the size by this header before it reads anything.
            return Problem(411, _("Send a Content-Length.")).response()
        method, request.method = request.method, _as_get(request.method)
        response = view(request, *args, **kwargs)
        request.method = method
        response.setdefault("Cache-Control", "no-store")  # what one may see is for that one
        if isinstance(response, HttpResponseNotAllowed):
            return _not_allowed(response["Allow"]).response()
        return response

    # authentication.Session checks both, as problems.
    return login_not_required(csrf_exempt(edged))


def _as_get(method: str | None) -> str | None:
    """HEAD is GET, whose body the server leaves out."""
    return "GET" if method == "HEAD" else method


def nothing_here(request: HttpRequest) -> HttpResponseBase:
    return not_found().response()


def _not_allowed(allowed: str) -> Problem:
    return Problem(405, _("Here one can: %s.") % allowed, headers={"Allow": allowed})
