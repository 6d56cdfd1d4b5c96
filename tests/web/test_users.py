"""Users: only administrators reach them, and the last of these stays one."""

import pytest
from django.test import Client
from lxml import html

from kvmweb.models import Role, User
from tests.web.conftest import signed_in

pytestmark = pytest.mark.django_db
GOOD = "a long enough secret"


@pytest.mark.parametrize("role", [Role.NONE, Role.VIEWER, Role.OPERATOR])
def test_nobody_else_finds_them(alice: User, role: Role) -> None:
    client = signed_in(User.objects.create_user("someone", role=role))
    for address in ("/users/", "/users/add", f"/users/{alice.pk}"):
        assert client.get(address).status_code == 404
        assert client.post(address, {"role": "administrator"}).status_code in (404, 405)
    assert 'href="/users/"' not in client.get("/machines/").content.decode()


def test_a_user_is_added_and_can_sign_in(admin: Client, client: Client) -> None:
    data = {"username": "dora", "role": "operator", "is_active": "on", "password": GOOD}
    assert admin.post("/users/add", data).status_code == 302
    assert User.objects.get(username="dora").role == Role.OPERATOR
    answer = client.post("/accounts/login/", {"login": "dora", "password": GOOD})
    assert (answer.status_code, answer["Location"]) == (302, "/")


@pytest.mark.parametrize(
    ("changed", "field", "sentence"),
    [
        ({"password": ""}, "password", "required"),
        ({"password": "1234"}, "password", "too short"),
        ({"password": "password"}, "password", "too common"),
        ({"username": "alice"}, "username", "already exists"),
        ({"username": "two words"}, "username", "valid username"),
        ({"role": "king"}, "role", "valid choice"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(
    admin: Client, changed: dict[str, str], field: str, sentence: str
) -> None:
    data = {"username": "dora", "role": "viewer", "is_active": "on", "password": GOOD} | changed
    answer = admin.post("/users/add", data)
    assert answer.status_code == 422
    error = html.fromstring(answer.content).get_element_by_id(f"id_{field}_error")
    assert sentence in error.text_content()
    assert not User.objects.filter(username="dora").exists()


def test_an_empty_password_keeps_the_present_one(admin: Client, bob: User) -> None:
    data = {"username": "bob", "role": "viewer", "is_active": "on", "password": ""}
    assert admin.post(f"/users/{bob.pk}", data).status_code == 302
    bob.refresh_from_db()
    assert bob.role == Role.VIEWER
    assert bob.check_password("bob has a secret")


def test_a_new_password_ends_open_sessions(admin: Client, operator: Client, bob: User) -> None:
    data = {"username": "bob", "role": "operator", "is_active": "on", "password": GOOD}
    admin.post(f"/users/{bob.pk}", data)
    assert operator.get("/machines/").status_code == 302


def test_who_may_not_sign_in_is_signed_out(admin: Client, operator: Client, bob: User) -> None:
    admin.post(f"/users/{bob.pk}", {"username": "bob", "role": "operator", "password": ""})
    assert operator.get("/machines/").status_code == 302


@pytest.mark.parametrize(
    ("changed", "field"), [({"role": "viewer"}, "role"), ({"is_active": ""}, "is_active")]
)
def test_the_last_administrator_stays_one(
    admin: Client, alice: User, changed: dict[str, str], field: str
) -> None:
    data = {"username": "alice", "role": "administrator", "is_active": "on", "password": ""}
    answer = admin.post(f"/users/{alice.pk}", data | changed)
    assert answer.status_code == 422
    error = html.fromstring(answer.content).get_element_by_id(f"id_{field}_error")
    assert "This is the last administrator who may sign in." in error.text_content()
    alice.refresh_from_db()
    assert alice.role == Role.ADMINISTRATOR
    assert alice.is_active
    User.objects.create_user("second", role=Role.ADMINISTRATOR)
    assert admin.post(f"/users/{alice.pk}", data | changed).status_code == 302
