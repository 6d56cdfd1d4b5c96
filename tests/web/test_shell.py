"""What every page has in common."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from kvmweb.models import Host, Machine, Pool

pytestmark = pytest.mark.django_db
TEMPLATES = Path(__file__).resolve().parent.parent.parent / "templates"


@pytest.fixture
def pages(admin: Client, web1: Machine, images: Pool, local: Host) -> list[Any]:
    machine = f"/machines/{web1.uuid}"
    addresses = [
        "/machines/", machine, f"{machine}/console", f"{machine}/hardware", f"{machine}/xml",
        f"{machine}/jobs", f"{machine}/do/delete", "/hosts/", "/hosts/add", f"/hosts/{local.pk}",
        f"/hosts/{local.pk}/devices", f"/hosts/{local.pk}/xml", "/networks/", "/storage/",
        f"/storage/{images.uuid}", "/jobs/", "/account/", "/users/", "/users/add", "/nowhere",
        "/accounts/password/change/", "/accounts/logout/",
    ]  # fmt: skip
    answers = [admin.get(address) for address in addresses]
    assert {answer.status_code for answer in answers} == {200, 404}
    return answers


def test_the_policy_forbids_everything_inline(pages: list[Any]) -> None:
    for page in pages:
        policy = page["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_no_page_has_a_script_or_style_in_it(pages: list[Any]) -> None:
    for page in pages:
        text = page.content.decode()
        address = page.wsgi_request.path
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text), address
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), address


def test_every_page_has_a_title_a_heading_and_a_main_part(pages: list[Any]) -> None:
    for page in pages:
        text = page.content.decode()
        address = page.wsgi_request.path
        assert re.search(r"<title>[^<]+ · kvmweb</title>", text), address
        assert len(re.findall(r"<main", text)) == 1, address
        assert re.search(r"<h[12]", text), address
        assert '<html lang="en">' in text, address


def test_no_template_writes_a_script_or_style() -> None:
    for path in TEMPLATES.rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=\"|hx-on", text), path
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), path
