"""Signing in and out, one's own page, and tokens for programs."""

import pytest
from django.core.cache import cache
from django.test import Client
from lxml import html

from kvmweb.models import ApiToken, User

pytestmark = pytest.mark.django_db
SIGN_IN = "/accounts/login/"


@pytest.fixture(autouse=True)
def no_earlier_tries() -> None:
    """The rate limit counts in the cache."""
    cache.clear()


def test_a_person_signs_in_and_out(client: Client, alice: User) -> None:
    answer = client.post(SIGN_IN, {"login": "alice", "password": "alice has a secret"})
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert client.get("/machines/").status_code == 200
    assert client.get("/accounts/logout/").status_code == 200  # looking does not sign out
    assert client.get("/machines/").status_code == 200
    assert client.post("/accounts/logout/").status_code == 302
    assert client.get("/machines/").status_code == 302


def test_it_leads_to_where_one_wanted_to_go_on_this_site_only(client: Client, alice: User) -> None:
    data = {"login": "alice", "password": "alice has a secret"}
    answer = client.post(SIGN_IN + "?next=/hosts/", data | {"next": "/hosts/"})
    assert answer["Location"] == "/hosts/"
    client.logout()
    answer = client.post(SIGN_IN, data | {"next": "https://evil.example/"})
    assert answer["Location"] == "/"


def test_a_wrong_password_is_said_without_saying_which_half_is_wrong(
    client: Client, alice: User
) -> None:
    texts = []
    for name in ("alice", "nobody"):
        answer = client.post(SIGN_IN, {"login": name, "password": "wrong"})
        texts.append(html.fromstring(answer.content).find_class("alert")[0].text_content().strip())
    assert texts[0] == texts[1]
    assert texts[0]


def test_the_sixth_wrong_password_is_not_even_looked_at(client: Client, alice: User) -> None:
    for _number in range(5):
        client.post(SIGN_IN, {"login": "alice", "password": "wrong"})
    client.post(SIGN_IN, {"login": "alice", "password": "alice has a secret"})
    assert client.get("/machines/").status_code == 302


def test_nobody_signs_up(client: Client) -> None:
    data = {"username": "x", "password1": "a long secret", "password2": "a long secret"}
    answer = client.post("/accounts/signup/", data)
    assert "Accounts are made by an administrator." in answer.content.decode()
    assert not User.objects.exists()


def test_the_page_answers_everybody(stranger: Client) -> None:
    text = stranger.get("/account/").content.decode()
    assert "charlie" in text
    assert "No role" in text


def test_a_token_is_shown_once_and_works(admin: Client, alice: User) -> None:
    answer = admin.post("/account/tokens/add", {"name": "backup <b>"})
    text = html.fromstring(answer.content).get_element_by_id("token").text_content()
    assert ApiToken.find(text) == ApiToken.objects.get(user=alice, name="backup <b>")
    assert "no-store" in answer["Cache-Control"]
    assert text not in admin.get("/account/").content.decode()


def test_a_token_needs_a_name(admin: Client) -> None:
    for name in ("", "x" * 101):
        answer = admin.post("/account/tokens/add", {"name": name})
        assert answer.status_code == 422
        assert html.fromstring(answer.content).get_element_by_id("id_name_error") is not None
    assert not ApiToken.objects.exists()
    assert admin.get("/account/tokens/add").status_code == 405


def test_only_the_own_token_can_be_removed(admin: Client, stranger: Client, alice: User) -> None:
    token, _text = ApiToken.issue(alice, "backup")
    assert stranger.post(f"/account/tokens/{token.pk}/remove").status_code == 404
    assert admin.get(f"/account/tokens/{token.pk}/remove").status_code == 405
    assert admin.post(f"/account/tokens/{token.pk}/remove").status_code == 302
    assert not ApiToken.objects.exists()


def test_a_person_changes_the_password(admin: Client, client: Client, alice: User) -> None:
    data = {
        "oldpassword": "alice has a secret",
        "password1": "another long secret",
        "password2": "another long secret",
    }
    assert admin.get("/accounts/password/change/").status_code == 200
    assert admin.post("/accounts/password/change/", data).status_code == 302
    alice.refresh_from_db()
    assert alice.check_password("another long secret")
