"""Which pages may open a websocket here: one rule for consoles and live updates.

A browser sends the session cookie with a websocket that any page opens, and no CSRF token; only
the Origin header says whose page it was (RFC 6455, 10.2).
"""

from urllib.parse import SplitResult, urlsplit

from django.conf import settings

PORTS = {"http": 80, "https": 443}


def is_own_origin(origin: str | None, host_header: str, *, secure: bool = False) -> bool:
    """Whether a page of this site asks. ``secure``: the request is known to have come over TLS.

    With ``settings.ALLOWED_ORIGINS`` these are the only ones, as they are for the pages; without,
    the origin must be what the Host header says. No origin at all is not ours.
    """
    parts = _split(origin or "")
    if parts is None:
        return False
    if settings.ALLOWED_ORIGINS:
        allowed = map(_split, settings.ALLOWED_ORIGINS)
        return _address(parts) in {_address(known) for known in allowed if known}
    host = _split(f"{parts.scheme}://{host_header}")
    if host is None or (secure and parts.scheme != "https"):
        return False
    return _address(parts) == _address(host)


def _split(origin: str) -> SplitResult | None:
    """Its parts; None for what is not scheme://host[:port] and nothing else ("null" for one)."""
    try:
        parts = urlsplit(origin)
        is_whole = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    rest = parts.path or parts.query or parts.fragment or "@" in parts.netloc
    return parts if is_whole and not rest else None


def _address(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]
