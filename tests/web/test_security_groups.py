"""Security groups: the list, the page of one, and the forms; here nobody runs the jobs."""

import uuid
from html import unescape
from typing import Any

import pytest
from django.template import Context, Template
from django.test import Client, RequestFactory
from lxml import html
from pytest_django import DjangoAssertNumQueries

from kvmweb.models import Host, HostNetwork, Job, Nic, NwFilter, SecurityGroup, User
from kvmweb.spec import security
from kvmweb.spec.security import Rule
from tests.web.conftest import make_machine

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
MAC = "52:54:00:00:00:01"
RULES = [
    {"direction": "out", "protocol": "any"},
    {"direction": "in", "protocol": "tcp", "ports": "80, 443", "description": "The <shop>"},
    {"direction": "in", "protocol": "any", "group": "db"},
    {"direction": "in", "protocol": "icmp", "subnet": "10.0.0.0/8"},
]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvmweb.web.operate.WAIT_SECONDS", 0)


@pytest.fixture
def web(local: Host) -> SecurityGroup:
    Host.objects.filter(pk=local.pk).update(has_filters=True)
    SecurityGroup.objects.create(name="db")
    return SecurityGroup.objects.create(name="web", description="Front", rules=RULES)


@pytest.fixture
def nic(local: Host, web: SecurityGroup) -> Nic:
    """In web and db."""
    name, xml = security.combined(["web", "db"], is_spoofing_prevented=True)
    references = ["kvmweb-sg-db", "kvmweb-sg-web", "clean-traffic"]
    make_filter(local, name, xml, references)
    for group, rules in (("web", RULES), ("db", [])):
        addresses = {"db": ["10.0.0.7"]} if group == "web" else {}
        xml = security.compiled(group, map(Rule.model_validate, rules), addresses)
        make_filter(local, f"kvmweb-sg-{group}", xml)
    return Nic.objects.create(
        machine=make_machine(local, "web1"), host=local, index=0, kind="bridge", mac=MAC,
        filter=name, addresses=[{"address": "10.0.0.7", "prefix": 24, "from": "lease"}],
    )  # fmt: skip


def make_filter(host: Host, name: str, xml: str, references: list[str] | None = None) -> None:
    NwFilter.objects.create(
        host=host,
        uuid=security.filter_uuid(name),
        name=name,
        xml=xml,
        references=references or [],
    )


def _text(answer: Any, status: int = 200) -> str:
    assert answer.status_code == status, answer.status_code
    return " ".join(unescape(answer.content.decode()).split())


def _tree(answer: Any) -> Any:
    return html.fromstring(answer.content.decode())


def _shown(answer: Any) -> str:
    return " ".join(" ".join(_tree(answer).itertext()).split())


def test_the_list_says_what_is_in_each(viewer: Client, nic: Nic) -> None:
    text = _shown(viewer.get("/networks/groups/"))
    assert "web Front 4 1" in text
    assert "New security group" not in text


def test_without_one_it_says_what_they_are_for(admin: Client, viewer: Client) -> None:
    assert "No security group" in _shown(viewer.get("/networks/groups/"))
    assert "An administrator can make one." in _shown(viewer.get("/networks/groups/"))
    assert "/networks/groups/add" in _text(admin.get("/networks/groups/"))


def test_the_list_needs_few_queries(
    viewer: Client, nic: Nic, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(30):
        SecurityGroup.objects.create(name=f"g{number}")
    # session, user, groups, NICs, filters that join groups, hosts, bridging, running jobs
    with django_assert_num_queries(8):
        viewer.get("/networks/groups/")


def test_the_rules_are_readable_and_incoming_ones_first(viewer: Client, web: SecurityGroup) -> None:
    answer = viewer.get(f"/networks/groups/{web.uuid}")
    rows = [" ".join(row.text_content().split()) for row in _tree(answer).xpath("//tbody/tr")]
    assert rows == [
        "Incoming TCP 80, 443 from anywhere The <shop>",
        "Incoming Any protocol all from db",
        "Incoming ICMP all from 10.0.0.0/8",
        "Outgoing Any protocol all to anywhere",
    ]
    assert "Everything else is dropped." in _shown(answer)


def test_one_without_rules_says_what_that_means(viewer: Client, web: SecurityGroup) -> None:
    SecurityGroup.objects.filter(pk=web.pk).update(rules=[])
    assert "Nothing is allowed" in _shown(viewer.get(f"/networks/groups/{web.uuid}"))


def test_its_nics_are_shown_with_what_is_in_force(
    viewer: Client, local: Host, nic: Nic, web: SecurityGroup
) -> None:
    address = f"/networks/groups/{web.uuid}/nics"
    text = _shown(viewer.get(address))
    assert f"web1 {MAC} spoofing is prevented 10.0.0.7 db in force" in text
    NwFilter.objects.filter(name="kvmweb-sg-web").update(xml="<filter name='kvmweb-sg-web'/>")
    assert "being brought up to date" in _shown(viewer.get(address))
    HostNetwork.objects.create(host=local, actual={"bridging": {"iptables": False}})
    text = _shown(viewer.get(address))
    assert "without effect" in text
    assert "On local filters for IP have no effect" in text
    HostNetwork.objects.all().delete()
    Host.objects.filter(pk=local.pk).update(state="unreachable")
    assert "when the host is back" in _shown(viewer.get(address))


def test_the_filter_has_the_addresses_of_the_groups_it_names(
    viewer: Client, nic: Nic, web: SecurityGroup
) -> None:
    tree = _tree(viewer.get(f"/networks/groups/{web.uuid}/filter"))
    document = tree.get_element_by_id("document").text_content()
    assert 'name="kvmweb-sg-web"' in document
    assert 'srcipaddr="10.0.0.7" srcipmask="32"' in document


class TestForms:
    def test_a_new_one_begins_with_everything_going_out(self, admin: Client) -> None:
        answer = admin.post("/networks/groups/add", {"name": "My Group", "description": ""})
        assert "small letters" in _text(answer, 422)
        admin.post("/networks/groups/add", {"name": "mine", "description": "x"})
        job = Job.objects.get()
        assert job.arguments["rules"] == [Rule(direction="out", protocol="any").model_dump()]
        assert job.host is None

    def test_a_name_that_is_taken_is_said_at_its_field(
        self, admin: Client, web: SecurityGroup
    ) -> None:
        answer = admin.post("/networks/groups/add", {"name": "web"})
        assert "There is a security group named web already." in _text(answer, 422)

    def test_a_rule_is_checked_at_its_fields(self, admin: Client, web: SecurityGroup) -> None:
        address = f"/networks/groups/{web.uuid}/do/add_rule"
        data = {"direction": "in", "protocol": "icmp", "ports": "80", "subnet": "10.0.0.1/8"}
        tree = _tree(admin.post(address, data, headers=HTMX))
        assert "Only TCP and UDP" in tree.get_element_by_id("error-ports").text_content()
        assert "10.0.0.0/8" in tree.get_element_by_id("error-subnet").text_content()
        assert tree.get_element_by_id("input-subnet").get("value") == "10.0.0.1/8"
        data = {"direction": "in", "protocol": "any", "group": "nothing"}
        text = _text(admin.post(address, data, headers=HTMX), 422)
        assert "There is no security group named nothing." in text
        assert not Job.objects.exists()

    def test_edit_begins_with_the_rule_and_knows_its_version(
        self, admin: Client, web: SecurityGroup
    ) -> None:
        address = f"/networks/groups/{web.uuid}/do/edit_rule"
        tree = _tree(admin.get(address, {"place": "1"}, headers=HTMX))
        assert tree.get_element_by_id("input-ports").get("value") == "80, 443"
        assert tree.xpath("//input[@name='version']/@value") == ["1"]
        data = {"place": "1", "version": "1", "direction": "in", "protocol": "tcp", "ports": "22"}
        admin.post(address, data, headers=HTMX)
        arguments = Job.objects.get().arguments
        assert (arguments["place"], arguments["version"], arguments["ports"]) == (1, 1, "22")

    def test_removing_shows_the_rule(self, admin: Client, web: SecurityGroup) -> None:
        address = f"/networks/groups/{web.uuid}/do/remove_rule"
        text = _shown(admin.get(address, {"place": "2"}, headers=HTMX))
        assert "Incoming Any protocol db" in text
        assert admin.get(address, {"place": "9"}, headers=HTMX).status_code == 404

    def test_description_is_edited_and_rules_stay(self, admin: Client, web: SecurityGroup) -> None:
        address = f"/networks/groups/{web.uuid}/do/edit"
        admin.post(address, {"description": "New"}, headers=HTMX)
        arguments = Job.objects.get().arguments
        assert arguments["description"] == "New"
        assert len(arguments["rules"]) == 4

    def test_deleting_one_in_use_is_refused(
        self, admin: Client, nic: Nic, web: SecurityGroup
    ) -> None:
        answer = admin.post(f"/networks/groups/{web.uuid}/do/delete", headers=HTMX)
        assert f"web1 ({MAC})" in _text(answer, 409)

    def test_a_nic_is_chosen_and_put_into_the_group(
        self, admin: Client, local: Host, web: SecurityGroup, nic: Nic
    ) -> None:
        other = Nic.objects.create(
            machine=make_machine(local, "free"), host=local, index=0, kind="bridge",
            mac="52:54:00:00:00:02",
        )  # fmt: skip
        address = f"/networks/groups/{web.uuid}/attach"
        tree = _tree(admin.get(address, headers=HTMX))
        assert tree.xpath("//select[@name='nic']/option/@value") == ["", str(other.pk)]
        answer = admin.post(address, {"nic": "x"}, headers=HTMX)
        assert "Choose a NIC." in _text(answer, 422)
        admin.post(address, {"nic": str(other.pk)}, headers=HTMX)
        job = Job.objects.get()
        assert (job.kind, job.target_name) == ("security_groups.attach", "free")
        assert job.arguments == {"mac": other.mac, "group": "web"}

    def test_the_groups_of_a_nic_are_ticked(self, admin: Client, nic: Nic) -> None:
        SecurityGroup.objects.create(name="third")
        address = f"/machines/{nic.machine.uuid}/security_groups/assign?mac={MAC}"
        tree = _tree(admin.get(address, headers=HTMX))
        ticked = tree.xpath("//input[@name='groups'][@checked]/@value")
        assert ticked == ["db", "web"]
        assert tree.xpath("//input[@name='prevents_spoofing'][@checked]")
        assert tree.get_element_by_id("input-addresses").get("value") == "10.0.0.7"
        data = {"groups": ["web"], "prevents_spoofing": "on", "addresses": "10.0.0.7, 10.0.0.x"}
        assert "“10.0.0.x” is not" in _text(admin.post(address, data, headers=HTMX), 422)
        admin.post(address, {**data, "addresses": "10.0.0.7,10.0.0.8"}, headers=HTMX)
        assert Job.objects.get().arguments == {
            "mac": MAC,
            "groups": ["web"],
            "prevents_spoofing": True,
            "addresses": ["10.0.0.7", "10.0.0.8"],
        }

    def test_the_addresses_given_before_are_there_again(self, admin: Client, nic: Nic) -> None:
        machine = nic.machine
        machine.xml = machine.xml.replace(
            "<source network='default'/>",
            "<source network='default'/><filterref filter='x'><parameter name='IP'"
            " value='10.0.0.8'/><parameter name='IP' value='10.0.0.9'/></filterref>",
        )
        machine.save()
        address = f"/machines/{machine.uuid}/security_groups/assign?mac={MAC}"
        tree = _tree(admin.get(address, headers=HTMX))
        assert tree.get_element_by_id("input-addresses").get("value") == "10.0.0.8 10.0.0.9"

    def test_a_nic_is_taken_out(self, admin: Client, nic: Nic) -> None:
        address = f"/machines/{nic.machine.uuid}/security_groups/detach?mac={MAC}&group=db"
        assert "Take web1 out of db?" in _shown(admin.get(address, headers=HTMX))
        admin.post(address, headers=HTMX)
        assert Job.objects.get().arguments == {"mac": MAC, "group": "db"}


def test_a_nics_groups_are_shown_beside_it(alice: User, victor: User, nic: Nic) -> None:
    template = Template("{% load security_groups %}<dl>{% security_groups_of nic %}</dl>")
    for user, may_change in ((alice, True), (victor, False)):
        request = RequestFactory().get("/")
        request.user = user
        tree = html.fromstring(template.render(Context({"nic": nic, "request": request})))
        text = " ".join(" ".join(tree.itertext()).split())
        assert text.startswith("Security groups db , web spoofing is prevented")
        assert bool(tree.xpath("//button")) is may_change


def test_viewers_and_operators_look_and_do_not_touch(
    viewer: Client, operator: Client, nic: Nic, web: SecurityGroup
) -> None:
    for client in (viewer, operator):
        assert client.get("/networks/groups/add").status_code == 404
        assert client.post(f"/networks/groups/{web.uuid}/attach").status_code == 404
        for name in ("edit", "delete", "add_rule"):
            answer = client.post(f"/networks/groups/{web.uuid}/do/{name}", headers=HTMX)
            assert answer.status_code == 403, name
        for name in ("assign", "detach"):
            address = f"/machines/{nic.machine.uuid}/security_groups/{name}?mac={MAC}"
            assert client.post(address, headers=HTMX).status_code == 403
    assert not Job.objects.exists()


def test_a_stranger_finds_no_group(stranger: Client, nic: Nic, web: SecurityGroup) -> None:
    assert "Front" not in _shown(stranger.get("/networks/groups/"))
    for rest in ("", "/nics", "/filter", "/do/edit", "/attach", "?fragment=page"):
        assert stranger.get(f"/networks/groups/{web.uuid}{rest}").status_code == 404
    address = f"/machines/{nic.machine.uuid}/security_groups/assign?mac={MAC}"
    assert stranger.post(address).status_code == 404


def test_one_that_is_gone_says_so_where_its_page_is_open(viewer: Client) -> None:
    address = f"/networks/groups/{uuid.uuid4()}"
    assert viewer.get(address).status_code == 404
    assert "not there any more" in _text(viewer.get(address, {"fragment": "page"}))
