"""Network filters: the list, the page of one, and the forms. What the operations do is tested with
them; here nobody runs the jobs.
"""

import uuid
from html import unescape
from typing import Any

import pytest
from django.test import Client
from lxml import html
from pytest_django import DjangoAssertNumQueries

from kvmweb.models import Host, HostNetwork, HostState, Job, Nic, NwFilter
from kvmweb.spec import security
from tests.web.conftest import make_machine

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
WEB = """<filter name='web' chain='root'>
  <uuid>{uuid}</uuid>
  <filterref filter='no-mac-spoofing'/>
  <rule action='accept' direction='in' priority='500'>
    <tcp srcipaddr='10.0.0.0' srcipmask='8' dstportstart='80' dstportend='88'
      comment='the &lt;shop&gt;'/>
  </rule>
  <rule action='drop' direction='inout' priority='1000' statematch='false'>
    <tcp dstportstart='$PORT'/>
  </rule>
</filter>"""


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvmweb.web.operate.WAIT_SECONDS", 0)


@pytest.fixture
def local(local: Host) -> Host:
    Host.objects.filter(pk=local.pk).update(has_filters=True)
    local.refresh_from_db()
    return local


def make_filter(host: Host, name: str, xml: str = "", **fields: Any) -> NwFilter:
    key = fields.pop("uuid", None) or uuid.uuid4()
    document = xml.format(uuid=key) if xml else f"<filter name='{name}'><uuid>{key}</uuid></filter>"
    return NwFilter.objects.create(
        host=host, uuid=key, name=name, xml=document, **{"chain": "root", **fields}
    )


@pytest.fixture
def web(local: Host) -> NwFilter:
    return make_filter(local, "web", WEB, references=["no-mac-spoofing"])


def _text(answer: Any, status: int = 200) -> str:
    assert answer.status_code == status, answer.status_code
    return " ".join(unescape(answer.content.decode()).split())


def _tree(answer: Any) -> Any:
    return html.fromstring(answer.content.decode())


def _shown(answer: Any) -> str:
    """As a person sees it."""
    return " ".join(" ".join(_tree(answer).itertext()).split())


def test_the_list_counts_users_and_names_groups(viewer: Client, local: Host, web: NwFilter) -> None:
    make_filter(local, "no-mac-spoofing", chain="mac")
    make_filter(local, "kvmweb-sg-db", uuid=security.filter_uuid("kvmweb-sg-db"))
    machine = make_machine(local, "web1")
    Nic.objects.create(machine=machine, host=local, index=0, kind="bridge", filter="web")
    text = _shown(viewer.get("/networks/filters/"))
    for part in ("web root 1 NIC", "no-mac-spoofing mac 1 filter", "from the security group db"):
        assert part in text
    assert "New filter" not in text


def test_the_list_is_filtered_by_name_and_host(
    admin: Client, local: Host, rack7: Host, web: NwFilter
) -> None:
    make_filter(rack7, "web")
    make_filter(local, "other")
    rows = _tree(admin.get("/networks/filters/?q=WE&host=rack7")).xpath("//tbody/tr")
    assert len(rows) == 1
    assert "No filter matches" in _text(admin.get("/networks/filters/?q=nothing"))
    assert "<html" not in _text(admin.get("/networks/filters/?fragment=rows"))


def test_the_list_needs_few_queries(
    viewer: Client, local: Host, rack7: Host, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(40):
        make_filter(local if number % 2 else rack7, f"f{number}")
    # session, user, hosts, page, total, NICs, references, bridging, running jobs
    with django_assert_num_queries(9):
        viewer.get("/networks/filters/")


def test_a_host_without_filters_is_named_with_its_driver(admin: Client, local: Host) -> None:
    Host.objects.filter(pk=local.pk).update(has_filters=False, driver="TEST")
    for address in ("/networks/filters/", "/networks/groups/", "/networks/filters/add"):
        text = _text(admin.get(address))
        assert "Libvirt's driver of the host local (TEST) has no network filters." in text
    assert "No network filter" in _text(admin.get("/networks/filters/"))


def test_where_filters_have_no_effect_it_says_so_and_offers_the_remedy(
    admin: Client, viewer: Client, local: Host
) -> None:
    address = f"/networks/filters/hosts/{local.pk}/do/show_bridged"
    assert admin.post(address, headers=HTMX).status_code == 409
    HostNetwork.objects.create(
        host=local, actual={"bridging": {"iptables": False, "ip6tables": None}}
    )
    row = make_filter(local, "web", WEB)
    for where in ("/networks/filters/", "/networks/groups/", f"/networks/filters/{row.uuid}"):
        text = _text(admin.get(where))
        assert "On local filters for IP have no effect" in text
        assert "(net.bridge.bridge-nf-call-iptables = 0)" in text
        assert address in text
    assert "iptables rules" in _text(admin.get(address, headers=HTMX))
    assert viewer.post(address, headers=HTMX).status_code == 403
    assert admin.get(address.replace("show_bridged", "create")).status_code == 404
    admin.post(address, headers=HTMX)
    assert Job.objects.get().kind == "filters.show_bridged"


def test_the_rules_are_readable(viewer: Client, web: NwFilter) -> None:
    answer = viewer.get(f"/networks/filters/{web.uuid}")
    text = _shown(answer)
    for part in (
        "all rules of no-mac-spoofing (missing on this host)",
        "500 incoming accept tcp 10.0.0.0/8 port 80-88 the <shop>",
        "1000 both ways drop tcp port $PORT stateless",
        "Values that a NIC gives it: $PORT",
    ):
        assert part in text
    assert not _tree(answer).xpath("//*[contains(@class, 'row-actions')]")


@pytest.mark.parametrize("tab", ["", "/users", "/xml"])
def test_every_tab_has_an_address(viewer: Client, web: NwFilter, tab: str) -> None:
    assert "<h1>web</h1>" in _text(viewer.get(f"/networks/filters/{web.uuid}{tab}"))


def test_who_uses_it_is_told_directly_through_others_and_later(
    viewer: Client, local: Host, web: NwFilter
) -> None:
    other = "<filter name='both'><uuid>{uuid}</uuid><filterref filter='web'/></filter>"
    make_filter(local, "both", other, references=["web"])
    for index, name in enumerate(("web", "both")):
        machine = make_machine(local, f"m{index}")
        mac = f"52:54:00:00:00:1{index}"
        Nic.objects.create(
            machine=machine, host=local, index=0, kind="bridge", mac=mac, filter=name
        )
    later = make_machine(local, "later")
    later.inactive_xml = later.xml.replace(
        "<source network='default'/>", "<source network='default'/><filterref filter='web'/>"
    )
    later.save()
    text = _shown(viewer.get(f"/networks/filters/{web.uuid}/users"))
    for part in (
        "m0 52:54:00:00:00:10 directly",
        "m1 52:54:00:00:00:11 through both",
        "later 52:54:00:00:00:01 after its next start",
        "both – a filter that uses it",
    ):
        assert part in text


def test_the_same_filter_of_another_host_is_found_by_its_name(
    viewer: Client, rack7: Host, web: NwFilter
) -> None:
    make_filter(rack7, "web", uuid=web.uuid)
    answer = viewer.get(f"/networks/filters/{web.uuid}?host=rack7")
    assert "rack7" in _text(answer)
    assert "rack7" not in _text(viewer.get(f"/networks/filters/{web.uuid}?host=local"))


def test_its_buttons_mean_the_one_of_this_host(admin: Client, rack7: Host, web: NwFilter) -> None:
    Host.objects.filter(pk=rack7.pk).update(state=HostState.CONNECTED, has_filters=True)
    twin = make_filter(rack7, "web", uuid=web.uuid)
    tree = _tree(admin.get(f"/networks/filters/{web.uuid}?host=rack7"))
    addresses = tree.xpath("//*[@id='filter-page']//@hx-get")
    assert addresses
    assert all("host=rack7" in address for address in addresses)
    assert all("host=rack7" in address for address in tree.xpath("//nav[@class='tabs']/a/@href"))
    admin.post(f"/networks/filters/{web.uuid}/do/clone?host=rack7", {"name": "new"}, headers=HTMX)
    assert Job.objects.get().host == twin.host


def test_a_groups_filter_is_not_edited_by_hand(admin: Client, local: Host) -> None:
    name = "kvmweb-sg-db"
    row = make_filter(local, name, uuid=security.filter_uuid(name))
    page = _tree(admin.get(f"/networks/filters/{row.uuid}"))
    assert not page.xpath("//button[contains(., 'Add rule')]")
    data = {"action": "drop", "direction": "in", "protocol": "tcp", "priority": "500"}
    answer = admin.post(f"/networks/filters/{row.uuid}/do/add_rule", data, headers=HTMX)
    assert "made from the security group db" in _text(answer, 409)


class TestForms:
    def test_the_conditions_follow_the_protocol(self, admin: Client, web: NwFilter) -> None:
        address = f"/networks/filters/{web.uuid}/do/add_rule"
        tree = _tree(admin.get(address, headers=HTMX))
        assert tree.get_element_by_id("input-c-dstportstart") is not None
        query = {"action": "drop", "direction": "out", "protocol": "arp", "c-srcmacaddr": "$MAC"}
        tree = _tree(admin.get(address, query, headers=HTMX))
        assert tree.get_element_by_id("input-c-srcmacaddr").get("value") == "$MAC"
        assert tree.get_element_by_id("input-c-opcode") is not None
        assert not tree.xpath("//*[@id='input-c-dstportstart']")
        chosen = tree.xpath("//select[@name='action']/option[@selected]/@value")
        assert chosen == ["drop"]

    def test_a_rule_is_submitted_with_its_conditions(self, admin: Client, web: NwFilter) -> None:
        data = {
            "action": "drop", "direction": "in", "priority": "10", "protocol": "udp",
            "c-srcipaddr": "10.0.0.0/8", "c-dstportstart": "53", "c-dscp": "",
            "comment": "no dns", "version": web.version,
        }  # fmt: skip
        answer = admin.post(f"/networks/filters/{web.uuid}/do/add_rule", data, headers=HTMX)
        assert answer.status_code == 200
        arguments = Job.objects.get().arguments
        assert arguments["conditions"] == {
            "srcipaddr": "10.0.0.0",
            "srcipmask": "8",
            "dstportstart": "53",
        }
        assert (arguments["priority"], arguments["is_stateful"]) == (10, False)

    def test_what_is_wrong_is_said_at_its_field(self, admin: Client, web: NwFilter) -> None:
        data = {
            "action": "drop", "direction": "in", "priority": "1001", "protocol": "tcp",
            "c-srcipaddr": "10.0.0.0/33", "c-dscp": "99", "c-dstportstart": "80; reboot",
        }  # fmt: skip
        answer = admin.post(f"/networks/filters/{web.uuid}/do/add_rule", data, headers=HTMX)
        tree = _tree(answer)
        assert answer.status_code == 422
        for name, sentence in (
            ("priority", "Enter 1000 or less."),
            ("c-srcipaddr", "“33” is not a prefix length"),
            ("c-dscp", "from 0 to 63"),
            ("c-dstportstart", "from 0 to 65535"),
        ):
            assert tree.get_element_by_id(f"input-{name}").get("aria-invalid") == "true"
            assert sentence in tree.get_element_by_id(f"error-{name}").text_content()
        assert tree.get_element_by_id("input-c-srcipaddr").get("value") == "10.0.0.0/33"
        assert tree.xpath("//details[@open]"), "the wrong field is not hidden"
        assert not Job.objects.exists()

    def test_edit_begins_with_the_rule(self, admin: Client, web: NwFilter) -> None:
        address = f"/networks/filters/{web.uuid}/do/edit_rule"
        tree = _tree(admin.get(address, {"place": "1"}, headers=HTMX))
        assert tree.get_element_by_id("input-c-srcipaddr").get("value") == "10.0.0.0/8"
        assert tree.get_element_by_id("input-c-dstportstart").get("value") == "80-88"
        assert tree.get_element_by_id("input-comment").get("value") == "the <shop>"
        for place in ("0", "3", "-1", "x", ""):
            assert admin.get(address, {"place": place}, headers=HTMX).status_code == 404

    def test_another_filter_is_used_with_values_but_never_itself(
        self, admin: Client, local: Host, web: NwFilter
    ) -> None:
        xml = (
            "<filter name='dhcp'><uuid>{uuid}</uuid><rule action='accept' direction='in'>"
            "<ip srcipaddr='$DHCPSERVER'/></rule></filter>"
        )
        make_filter(local, "dhcp", xml)
        user = "<filter name='user'><uuid>{uuid}</uuid><filterref filter='web'/></filter>"
        make_filter(local, "user", user, references=["web"])
        address = f"/networks/filters/{web.uuid}/do/add_reference"
        tree = _tree(admin.get(address, {"filter": "dhcp"}, headers=HTMX))
        assert tree.get_element_by_id("input-c-DHCPSERVER") is not None
        assert tree.xpath("//select[@name='filter']/option/text()") == ["Choose one", "dhcp"]
        admin.post(address, {"filter": "dhcp", "c-DHCPSERVER": "10.0.0.1"}, headers=HTMX)
        assert Job.objects.get().arguments["parameters"] == {"DHCPSERVER": "10.0.0.1"}

    def test_the_document_is_checked_with_its_line(self, admin: Client, web: NwFilter) -> None:
        address = f"/networks/filters/{web.uuid}/do/edit"
        tree = _tree(admin.get(address, headers=HTMX))
        assert tree.get_element_by_id("input-xml").text.strip() == web.xml
        answer = admin.post(address, {"xml": "<filter name='web'>\n<rule/></filter>"}, headers=HTMX)
        assert "Line 2: A <rule> needs action=" in _text(answer, 422)
        answer = admin.post(address, {"xml": "<filter name='new'/>"}, headers=HTMX)
        assert "A filter keeps its name, web." in _text(answer, 422)
        assert not Job.objects.exists()

    def test_a_new_one_is_empty_or_xml(self, admin: Client, web: NwFilter) -> None:
        address = "/networks/filters/add"
        answer = admin.post(address, {"host": "local", "name": "web", "chain": "root"})
        assert "There is a filter named web on this host already." in _text(answer, 422)
        answer = admin.post(address, {"host": "local", "name": "a b", "chain": "cellar"})
        assert "Begin with a letter" in _text(answer, 422)
        assert "“cellar” is not a chain" in _text(answer, 422)
        answer = admin.post(address, {"from": "xml", "host": "local", "xml": "<filter/>"})
        assert "A filter needs a name." in _text(answer, 422)
        admin.post(address, {"from": "xml", "host": "local", "xml": "<filter name='new'/>"})
        assert Job.objects.get().kind == "filters.define"

    def test_removing_shows_the_rule(self, admin: Client, web: NwFilter) -> None:
        address = f"/networks/filters/{web.uuid}/do/remove"
        text = _shown(admin.get(address, {"place": "1"}, headers=HTMX))
        assert "accept incoming tcp from 10.0.0.0/8" in text
        text = _shown(admin.get(address, {"place": "0"}, headers=HTMX))
        assert "Stop using no-mac-spoofing?" in text

    def test_deleting_one_in_use_is_refused_with_its_users(
        self, admin: Client, local: Host, web: NwFilter
    ) -> None:
        machine = make_machine(local, "web1")
        machine.xml = machine.xml.replace("</interface>", "<filterref filter='web'/></interface>")
        machine.save()
        answer = admin.post(f"/networks/filters/{web.uuid}/do/delete", headers=HTMX)
        assert "the NIC 52:54:00:00:00:01 of web1" in _text(answer, 409)
        assert "aria-disabled" in _text(admin.get(f"/networks/filters/{web.uuid}"))
        assert not Job.objects.exists()


def test_viewers_and_operators_look_and_do_not_touch(
    viewer: Client, operator: Client, web: NwFilter
) -> None:
    for client in (viewer, operator):
        assert client.get("/networks/filters/add").status_code == 404
        for name in ("edit", "clone", "delete", "add_rule", "move", "add_reference"):
            answer = client.post(f"/networks/filters/{web.uuid}/do/{name}", headers=HTMX)
            assert answer.status_code == 403, name
    assert not Job.objects.exists()


def test_a_stranger_finds_no_filter(stranger: Client, local: Host, web: NwFilter) -> None:
    assert "web" not in _shown(stranger.get("/networks/filters/?fragment=rows"))
    for rest in ("", "/users", "/xml", "/do/edit", "?fragment=page"):
        assert stranger.get(f"/networks/filters/{web.uuid}{rest}").status_code == 404
    assert stranger.get("/networks/filters/add").status_code == 404
    address = f"/networks/filters/hosts/{local.pk}/do/show_bridged"
    assert stranger.post(address).status_code == 404


def test_one_that_is_gone_says_so_where_its_page_is_open(viewer: Client) -> None:
    address = f"/networks/filters/{uuid.uuid4()}"
    assert viewer.get(address).status_code == 404
    assert "not there any more" in _text(viewer.get(address, {"fragment": "page"}))
