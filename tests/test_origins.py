"""Which origins are the site's own."""

import pytest
from pytest_django import Settings

from kvmweb.origins import is_own_origin


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://kvm.example.org", "kvm.example.org"),
        ("http://kvm.example.org", "kvm.example.org:80"),
        ("http://KVM.example.org:80", "kvm.EXAMPLE.org"),
        ("https://kvm.example.org", "kvm.example.org"),
        ("https://kvm.example.org", "kvm.example.org:443"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_the_address_in_the_host_header_is_ours(origin: str, host: str) -> None:
    assert is_own_origin(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "kvm.example.org"),
        ("", "kvm.example.org"),
        ("null", "kvm.example.org"),
        ("null", ""),
        ("http://", ""),
        ("http://evil.example", "kvm.example.org"),
        ("http://kvm.example.org.evil.example", "kvm.example.org"),
        ("http://kvm.example.org:8001", "kvm.example.org:8000"),
        ("https://kvm.example.org", "kvm.example.org:80"),
        ("http://kvm.example.org/", "kvm.example.org"),
        ("http://kvm.example.org?x", "kvm.example.org"),
        ("http://user@kvm.example.org", "kvm.example.org"),
        ("http://kvm.example.org", "user@kvm.example.org"),
        ("http://kvm.example.org:99999", "kvm.example.org:99999"),
        ("http://[::1", "[::1"),
        ("file://kvm.example.org", "kvm.example.org"),
        ("chrome-extension://kvm.example.org", "kvm.example.org"),
    ],
)
def test_everything_else_is_foreign(origin: str | None, host: str) -> None:
    assert not is_own_origin(origin, host)


def test_over_tls_a_page_without_tls_is_foreign() -> None:
    assert is_own_origin("https://kvm.example.org", "kvm.example.org", secure=True)
    assert not is_own_origin("http://kvm.example.org", "kvm.example.org", secure=True)


def test_where_origins_are_given_they_are_the_only_ones(settings: Settings) -> None:
    settings.ALLOWED_ORIGINS = ["https://kvm.example.org", "http://10.0.0.1:8000"]
    assert is_own_origin("https://kvm.example.org:443", "127.0.0.1:8000")
    assert is_own_origin("http://10.0.0.1:8000", "10.0.0.1:8000")
    assert not is_own_origin("http://rebound.example:8000", "rebound.example:8000")
    assert not is_own_origin("http://kvm.example.org", "kvm.example.org")
