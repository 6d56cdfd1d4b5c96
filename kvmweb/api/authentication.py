"""Who asks: a program with its token, or the site's own pages with the session cookie."""

from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.translation import gettext_lazy as _
from ninja.security import HttpBearer
from ninja.security.base import AuthBase

from kvmweb.api.problems import Problem, unauthorized
from kvmweb.models import ApiToken, User


class Token(HttpBearer):
    """A token that is sent but not valid is refused, whatever the cookies say."""

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken:
        found = ApiToken.find(token)
        if found is None:
            raise unauthorized(_("This API token is unknown or has expired."))
        request.user = found.user
        return found


class Session(AuthBase):
    """Django's session. Only here CSRF matters: a foreign page can't send a token's header."""

    openapi_type = "apiKey"
    openapi_in = "cookie"
    openapi_name = settings.SESSION_COOKIE_NAME

    def __call__(self, request: HttpRequest) -> User | None:
        user = request.user
        if not isinstance(user, User):
            return None
        if _csrf_flaw(request):
            raise Problem(403, _("The CSRF token is missing or wrong; send X-CSRFToken."))
        return user


class _CsrfCheck(CsrfViewMiddleware):
    """Django's, with the reason in place of its page (as in Django REST framework)."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def _csrf_flaw(request: HttpRequest) -> object:
    check = _CsrfCheck(HttpResponse)
    check.process_request(request)
    return check.process_view(request, HttpResponse, (), {})


def caller(request: HttpRequest) -> User:
    """The person, in a view that is behind ``Token`` or ``Session``."""
    assert isinstance(request.user, User)
    return request.user


def token(request: HttpRequest) -> ApiToken | None:
    """The token that was sent; None where it was a session."""
    found = getattr(request, "auth", None)
    return found if isinstance(found, ApiToken) else None


def address(request: HttpRequest) -> str | None:
    """Where the request comes from; None for a Unix socket."""
    text = request.META.get("REMOTE_ADDR", "").partition("%")[0]  # fe80::1%eth0
    try:
        return str(ip_address(text))
    except ValueError:
        return None
