"""Hosts: the cards, the page of one, and the forms. What the operations do is tested with them."""

from html import unescape
from typing import Any

import pytest
from django.test import Client
from lxml import html
from pytest_django import DjangoAssertNumQueries

from kvmweb.models import Host, Job, NodeDevice, User
from tests.conftest import Stage
from tests.waiting import until
from tests.web.conftest import make_machine, signed_in

HTMX = {"HX-Request": "true"}


def _text(answer: Any, status: int = 200) -> str:
    assert answer.status_code == status, answer.status_code
    return " ".join(unescape(answer.content.decode()).split())


def _error(answer: Any, field: str) -> str:
    """The sentence at this field."""
    tree = html.fromstring(answer.content)
    assert tree.get_element_by_id(f"input-{field}").get("aria-invalid") == "true"
    return str(tree.get_element_by_id(f"error-{field}").text_content())


@pytest.mark.django_db
class TestWithoutAnAgent:
    @pytest.fixture(autouse=True)
    def _no_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kvmweb.web.operate.WAIT_SECONDS", 0)
        monkeypatch.setattr("kvmweb.web.hosts.WAIT_SECONDS", 0)

    def test_the_cards_show_state_reason_and_usage(
        self, admin: Client, local: Host, rack7: Host
    ) -> None:
        make_machine(local, "web1")
        text = _text(admin.get("/hosts/"))
        assert "connected" in text
        assert "rack7 refused the connection." in text
        assert 'aria-valuenow="12"' in text
        assert "not known" in text

    def test_without_a_host_it_says_what_to_do(self, admin: Client, viewer: Client) -> None:
        assert 'href="/hosts/add"' in _text(admin.get("/hosts/"))
        assert 'href="/hosts/add"' not in _text(viewer.get("/hosts/"))

    def test_the_cards_need_few_queries(
        self, admin: Client, local: Host, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(20):
            make_machine(Host.objects.create(name=f"h{number}", uri="test:///default"), "m")
        with django_assert_num_queries(4):  # session, user, hosts, running jobs
            admin.get("/hosts/")

    @pytest.mark.parametrize("tab", ["", "/devices", "/xml"])
    def test_every_tab_has_an_address(self, viewer: Client, local: Host, tab: str) -> None:
        assert "<h1>local</h1>" in _text(viewer.get(f"/hosts/{local.pk}{tab}"))

    def test_devices_lie_below_their_parents(self, viewer: Client, local: Host) -> None:
        for name, parent in (("b", "a"), ("a", ""), ("c", "b"), ("lost", "gone"), ("self", "self")):
            NodeDevice.objects.create(host=local, name=name, parent=parent, xml=f"<d>{name}</d>")
        answer = viewer.get(f"/hosts/{local.pk}/devices", {"device": "c"})
        rows = html.fromstring(answer.content).xpath("//tbody/tr/th")
        found = [(row.text_content(), row.get("class")) for row in rows]
        assert found == [
            ("a", "depth-0"),
            ("b", "depth-1"),
            ("c", "depth-2"),
            ("lost", "depth-0"),
            ("self", "depth-0"),
        ]
        assert html.fromstring(answer.content).xpath("//pre")[0].text_content() == "<d>c</d>"

    def test_devices_that_are_each_others_parents_do_not_hang_the_page(
        self, viewer: Client, local: Host
    ) -> None:
        NodeDevice.objects.create(host=local, name="x", parent="y", xml="<d/>")
        NodeDevice.objects.create(host=local, name="y", parent="x", xml="<d/>")
        assert viewer.get(f"/hosts/{local.pk}/devices").status_code == 200

    def test_a_viewer_can_neither_add_nor_change(self, viewer: Client, local: Host) -> None:
        assert viewer.get("/hosts/add").status_code == 404
        assert viewer.post("/hosts/add", {"name": "x", "uri": "test:///default"}).status_code == 404
        for name in ("edit", "remove", "reconnect"):
            answer = viewer.post(f"/hosts/{local.pk}/do/{name}", headers=HTMX)
            assert answer.status_code == 403, name
        assert not Job.objects.exists()

    def test_a_stranger_finds_no_host(self, stranger: Client, local: Host) -> None:
        assert "local" not in _text(stranger.get("/hosts/"))
        for rest in ("", "/devices", "/xml", "/do/edit"):
            assert stranger.get(f"/hosts/{local.pk}{rest}").status_code == 404

    def test_the_form_has_examples(self, admin: Client) -> None:
        text = _text(admin.get("/hosts/add"))
        for uri in ("qemu+ssh://root@host/system", "qemu+tls://", "test:///default"):
            assert uri in text

    @pytest.mark.parametrize(
        ("name", "uri", "field", "sentence"),
        [
            ("", "qemu:///system", "name", "at least 1"),
            ("a b", "qemu:///system", "name", "letters, digits"),
            ("x" * 64, "qemu:///system", "name", "at most 63"),
            ("ok", "", "uri", "at least 1"),
            ("ok", "nonsense", "uri", "not a URI"),
            ("ok", "qemu+ssh://u:secret@h/system", "uri", "password"),
        ],
    )
    def test_what_is_wrong_is_said_at_its_field(
        self, admin: Client, name: str, uri: str, field: str, sentence: str
    ) -> None:
        answer = admin.post("/hosts/add", {"name": name, "uri": uri})
        assert answer.status_code == 422
        assert sentence in _error(answer, field)
        tree = html.fromstring(answer.content)
        assert tree.get_element_by_id("input-uri").get("value") == uri
        assert not Job.objects.exists()

    def test_a_test_that_takes_long_is_followed_in_the_form(self, admin: Client) -> None:
        answer = admin.post("/hosts/add", {"name": "x", "uri": "test:///default", "test": "1"})
        job = Job.objects.get()
        assert f'data-live="job:{job.pk}"' in _text(answer)
        Job.objects.update(state="failed", error="Nobody answers there.")
        later = admin.get(f"/jobs/{job.pk}", {"fragment": "test"})
        assert "Nobody answers there." in _text(later)
        assert "data-live" not in _text(later)

    def test_edit_begins_with_what_is(self, admin: Client, local: Host) -> None:
        answer = admin.get(f"/hosts/{local.pk}/do/edit", headers=HTMX)
        tree = html.fromstring(answer.content)
        assert tree.get_element_by_id("input-name").get("value") == "local"
        assert tree.get_element_by_id("input-uri").get("value") == "qemu:///system"

    def test_removing_says_what_is_forgotten_and_what_is_not_touched(
        self, admin: Client, local: Host
    ) -> None:
        make_machine(local, "web1")
        text = _text(admin.get(f"/hosts/{local.pk}/do/remove", headers=HTMX))
        assert "Nothing on the host itself is touched" in text
        assert "1 machine there is forgotten" in text
        assert Host.objects.filter(pk=local.pk).exists()


class TestWithAnAgent:
    """On libvirt's test driver, through the forms."""

    @pytest.fixture
    def browser(self, agent: Stage, monkeypatch: pytest.MonkeyPatch) -> Client:
        # A busy machine may take longer than the two seconds a person is kept waiting.
        monkeypatch.setattr("kvmweb.web.operate.WAIT_SECONDS", 30)
        monkeypatch.setattr("kvmweb.web.hosts.WAIT_SECONDS", 30)
        user = User.objects.create_user("alice", password="x", role="administrator")
        return signed_in(user)

    def test_test_says_what_answers_and_keeps_what_was_typed(self, browser: Client) -> None:
        data = {"name": "two", "uri": "test:///default", "test": "1"}
        answer = browser.post("/hosts/add", data, headers=HTMX)
        assert "answers (TEST)" in _text(answer)
        assert 'value="two"' in _text(answer)
        assert not Host.objects.filter(name="two").exists()

    def test_test_says_what_to_fix_at_the_field(self, browser: Client) -> None:
        data = {"name": "two", "uri": "qemu+unix:///system?socket=/no/such", "test": "1"}
        answer = browser.post("/hosts/add", data, headers=HTMX)
        assert answer.status_code == 422
        assert "/no/such" in _error(answer, "uri")

    def test_adding_leads_to_the_page_of_the_host(self, browser: Client) -> None:
        answer = browser.post("/hosts/add", {"name": "two", "uri": "test:///default"})
        host = Host.objects.get(name="two")
        assert (answer.status_code, answer["Location"]) == (302, f"/hosts/{host.pk}")

    def test_a_name_that_is_taken_is_said_at_its_field(self, browser: Client) -> None:
        answer = browser.post("/hosts/add", {"name": "local", "uri": "test:///default"})
        assert answer.status_code == 422
        assert "There is a host named local already." in _error(answer, "name")

    def test_a_host_is_renamed_and_removed(self, browser: Client, agent: Stage) -> None:
        address = f"/hosts/{agent.host.pk}/do/"
        data = {"name": "renamed", "uri": agent.host.uri}
        answer = browser.post(address + "edit", data, headers=HTMX)
        assert answer["HX-Redirect"] == f"/hosts/{agent.host.pk}"
        assert Host.objects.get(pk=agent.host.pk).name == "renamed"
        answer = browser.post(address + "remove", headers=HTMX)
        assert answer["HX-Redirect"] == "/hosts/"
        until(lambda: not Host.objects.filter(pk=agent.host.pk).exists())
