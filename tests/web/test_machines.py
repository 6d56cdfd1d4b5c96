"""The list of machines, the page of one, and the dialogs of what may be done with it."""

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from lxml import html
from pytest_django import DjangoAssertNumQueries

from kvmweb.models import Host, Job, JobState, Machine, Pool, Role, State, User
from tests.web.conftest import make_machine, signed_in

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
LIST = "/machines/"


def _url(machine: Machine, rest: str = "") -> str:
    return f"/machines/{machine.uuid}{rest}"


def _text(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return re.sub(r"\s+", " ", unescape(answer.content.decode()))


def _names(answer: Any) -> list[str]:
    tree = html.fromstring(answer.content)
    return [link.text_content() for link in tree.iterfind(".//tbody/tr/th/a")]


def _one(answer: Any, path: str) -> html.HtmlElement:
    """The first element at this XPath."""
    found: html.HtmlElement = html.fromstring(answer.content).xpath(path)[0]
    return found


def _button(answer: Any, label: str) -> html.HtmlElement:
    for button in html.fromstring(answer.content).iter("button"):
        if button.text_content().strip().startswith(label):
            return button
    raise AssertionError(f"no button {label}")


# The list


def test_the_list_says_what_each_machine_is(admin: Client, web1: Machine) -> None:
    text = _text(admin.get(LIST))
    assert "web1" in text
    assert "The shop" in text
    assert "running" in text
    assert "512 MiB" in text
    assert "1 machine" in text


def test_names_that_look_like_markup_are_only_names(admin: Client, local: Host) -> None:
    name = """<b onclick="x()">'odd'</b>&amp;"""
    machine = make_machine(local, "plain", state=State.SHUTOFF)
    Machine.objects.filter(pk=machine.pk).update(name=name, title="<script>")
    answer = admin.get(LIST)
    assert _names(answer) == [name]
    assert "<script>" not in answer.content.decode().split("</head>")[1]
    start = _one(answer, "//button[@hx-post]")
    assert start.get("aria-label") == f"Start {name}"


def test_fifty_are_shown_and_the_rest_can_be_paged_to_and_back(admin: Client, local: Host) -> None:
    for number in range(120):
        make_machine(local, f"m{number:03}")
    make_machine(local, "m049")  # the same name twice, on the border of two pages
    pages, address = [], LIST
    while address:
        answer = admin.get(address)
        pages.append(_names(answer))
        links = html.fromstring(answer.content).xpath("//nav[@class='pager']/a/@href")
        address = next((LIST + link for link in links[-1:] if len(pages) < 3), "")
    assert [len(page) for page in pages] == [50, 50, 21]
    names = [name for page in pages for name in page]
    assert names == sorted(names)
    back = html.fromstring(answer.content).xpath("//nav[@class='pager']/a/@href")[0]
    assert _names(admin.get(LIST + back)) == pages[1]


def test_a_cursor_that_makes_no_sense_is_the_first_page(admin: Client, web1: Machine) -> None:
    for cursor in ("nonsense", "W10", "WzEsMiwzXQ", "é", "WyIiLG51bGwsbnVsbF0"):
        assert _names(admin.get(LIST, {"cursor": cursor})) == ["web1"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"q": "SHOP"}, ["web1"]),
        ({"q": "db"}, ["db1"]),
        ({"q": "a note"}, ["db1"]),
        ({"host": "rack7"}, ["far"]),
        ({"state": "shutoff"}, ["db1"]),
        ({"q": "db", "state": "running"}, []),
        ({"state": "no such state"}, []),
    ],
)
def test_it_is_filtered_by_text_host_and_state(
    admin: Client,
    web1: Machine,
    local: Host,
    rack7: Host,
    filters: dict[str, str],
    names: list[str],
) -> None:
    make_machine(local, "db1", state=State.SHUTOFF, description="Has a note.")
    make_machine(rack7, "far")
    assert _names(admin.get(LIST, filters)) == names


def test_a_machine_is_found_by_its_uuid(admin: Client, web1: Machine) -> None:
    make_machine(web1.host, "other")
    assert _names(admin.get(LIST, {"q": str(web1.uuid)})) == ["web1"]


def test_filtering_puts_the_filters_into_the_address(admin: Client, web1: Machine) -> None:
    asked = {"q": "web", "state": "running", "host": "", "fragment": "rows"}
    answer = admin.get(LIST, asked, headers=HTMX)
    assert answer["HX-Push-Url"] == "/machines/?q=web&state=running"
    live = admin.get(LIST, asked, headers={**HTMX, "X-Live": "1"})
    assert "HX-Push-Url" not in live


def test_its_rows_refetch_themselves_with_the_same_filters(admin: Client, web1: Machine) -> None:
    answer = admin.get(LIST, {"q": "web", "state": "running"})
    region = html.fromstring(answer.content).get_element_by_id("machine-list")
    assert region.get("data-live") == "machines"
    assert region.get("data-url") == "/machines/?q=web&state=running&fragment=rows"
    fragment = html.fromstring(admin.get(str(region.get("data-url"))).content)
    assert fragment.get("id") == "machine-list"
    assert fragment.get("data-url") == region.get("data-url")


def test_the_host_is_shown_only_where_there_are_several(
    admin: Client, web1: Machine, local: Host
) -> None:
    assert "All hosts" not in _text(admin.get(LIST))
    Host.objects.create(name="second", uri="test:///default")
    assert "All hosts" in _text(admin.get(LIST))


def test_an_empty_list_says_what_to_do_next(admin: Client, viewer: Client) -> None:
    assert 'href="/hosts/add"' in _text(admin.get(LIST))
    assert "An administrator can add one." in _text(viewer.get(LIST))
    Host.objects.create(name="local", uri="qemu:///system")
    assert "No machine yet" in _text(admin.get(LIST))
    assert 'href="/machines/create"' in _text(admin.get(LIST))
    assert "No machine matches" in _text(admin.get(LIST, {"q": "x"}))


@pytest.mark.parametrize("count", [1, 60])
def test_the_list_asks_the_database_six_times_whatever_its_length(
    admin: Client, local: Host, django_assert_num_queries: DjangoAssertNumQueries, count: int
) -> None:
    for number in range(count):
        make_machine(local, f"m{number}")
    admin.get(LIST)
    with django_assert_num_queries(6) as asked:  # session, user, hosts, rows, count, running jobs
        answer = admin.get(LIST)
    assert not any("xml" in query["sql"] for query in asked.captured_queries)
    assert len(answer.content) < 120_000


def test_the_row_offers_what_suits_the_state(admin: Client, local: Host) -> None:
    for name, state in (("a", "running"), ("b", "shutoff"), ("c", "paused"), ("d", "in shutdown")):
        make_machine(local, name, state=state)
    rows = html.fromstring(admin.get(LIST).content).findall(".//tbody/tr")
    found = [row.xpath(".//button[@hx-post]/@title") for row in rows]
    assert found == [["Shut down"], ["Start"], ["Resume"], []]
    consoles = [bool(row.xpath(".//a[contains(@href, '/console')]")) for row in rows]
    assert consoles == [True, False, True, True]


def test_a_row_of_an_unreachable_host_says_why_nothing_can_be_done(
    admin: Client, rack7: Host
) -> None:
    make_machine(rack7, "far")
    button = _one(admin.get(LIST), "//button[@aria-disabled]")
    assert button.get("title") == "The host rack7 can't be reached: rack7 refused the connection."
    assert button.get("hx-post") is None


def test_a_viewer_is_offered_nothing_but_the_console(viewer: Client, web1: Machine) -> None:
    row = _one(viewer.get(LIST), "//tbody/tr")
    assert row.xpath(".//button[@hx-post]") == []
    assert row.xpath(".//a[contains(@href, '/console')]")


# The page of one


@pytest.mark.parametrize("tab", ["", "/console", "/hardware", "/xml", "/jobs"])
def test_every_tab_has_an_address(admin: Client, web1: Machine, tab: str) -> None:
    answer = admin.get(_url(web1, tab))
    assert "<h1>web1</h1>" in _text(answer)
    current = html.fromstring(answer.content).xpath("//nav[@class='tabs']/a[@aria-current]/@href")
    assert current == [_url(web1, tab)]


def test_the_overview_shows_the_facts(admin: Client, web1: Machine) -> None:
    text = _text(admin.get(_url(web1)))
    for fact in ("The shop", str(web1.uuid), "512 MiB", "VirtIO Disk 1", "/pool/web1.qcow2"):
        assert fact in text
    assert "emulated in software (TCG)" in text
    Machine.objects.filter(pk=web1.pk).update(virtualization="kvm")
    assert "emulated in software" not in _text(admin.get(_url(web1)))


def test_hardware_shows_every_device_also_unknown_ones(admin: Client, web1: Machine) -> None:
    answer = admin.get(_url(web1, "/hardware"))
    labels = html.fromstring(answer.content).xpath("//nav[contains(@class,'hardware-list')]//span")
    names = [label.text_content() for label in labels]
    assert names[:2] == ["Overview", "OS information"]
    assert {"VirtIO Disk 1", "SATA CDROM 1", "NIC 00:00:01", "flux"} <= set(names)
    text = _text(admin.get(_url(web1, "/hardware"), {"part": names.index("flux")}))
    assert "capacitor" in text
    for nonsense in ("99", "-1", "x", "٣"):
        assert admin.get(_url(web1, "/hardware"), {"part": nonsense}).status_code == 200


def test_the_xml_is_shown_as_it_is(admin: Client, web1: Machine) -> None:
    document = web1.xml.replace("web1", "web1 <!-- a > b --> &lt;x&gt;")
    Machine.objects.filter(pk=web1.pk).update(xml=document)
    shown = html.fromstring(admin.get(_url(web1, "/xml")).content).get_element_by_id("document")
    assert shown.text_content() == document


def test_the_definition_of_the_next_start_can_be_looked_at(admin: Client, web1: Machine) -> None:
    assert "After the next start" not in _text(admin.get(_url(web1, "/xml")))
    Machine.objects.filter(pk=web1.pk).update(inactive_xml=web1.xml.replace("524288", "9999"))
    assert "9999" not in _text(admin.get(_url(web1, "/xml")))
    assert "9999" in _text(admin.get(_url(web1, "/xml"), {"version": "inactive"}))


def test_a_machine_without_vnc_says_so_in_place_of_a_console(admin: Client, local: Host) -> None:
    assert "display is spice" in _text(
        admin.get(_url(make_machine(local, "s", graphics="spice"), "/console"))
    )
    assert "no graphical display" in _text(
        admin.get(_url(make_machine(local, "n", graphics=""), "/console"))
    )


def test_a_refused_button_can_be_reached_and_says_why(admin: Client, web1: Machine) -> None:
    answer = admin.get(_url(web1))
    start = _button(answer, "Start")
    assert start.get("aria-disabled") == "true"
    assert start.get("disabled") is None
    assert start.get("hx-post") is None
    reason = html.fromstring(answer.content).get_element_by_id(str(start.get("aria-describedby")))
    assert reason.text_content() == start.get("title") == "The machine is already on."
    assert _button(answer, "Pause").get("hx-post") == _url(web1, "/do/pause")
    assert _button(answer, "Delete").get("hx-get") == _url(web1, "/do/delete")


def test_a_viewer_is_told_what_is_lacking(viewer: Client, web1: Machine) -> None:
    pause = _button(viewer.get(_url(web1)), "Pause")
    assert pause.get("title") == "You are not allowed to start, shut down, reboot and pause."


def test_the_menu_of_a_row_is_made_on_demand(admin: Client, web1: Machine) -> None:
    text = _text(admin.get(_url(web1), {"fragment": "menu"}))
    assert "Force off" in text
    assert "The machine is already on." in text
    assert "<html" not in text


def test_the_header_names_what_is_under_way(admin: Client, web1: Machine, alice: User) -> None:
    Job.objects.create(
        kind="machines.shut_down",
        user=alice,
        username="alice",
        host=web1.host,
        target_type="machine",
        target_key=str(web1.uuid),
        state=JobState.RUNNING,
        message="Waiting for the guest",
    )
    answer = admin.get(_url(web1), {"fragment": "header"})
    assert "Waiting for the guest" in _text(answer)
    assert 'aria-label="Cancel Shut down"' in _text(answer)


def test_a_machine_removed_under_an_open_page_says_so(
    admin: Client, stranger: Client, web1: Machine
) -> None:
    address = _url(web1)
    web1.delete()
    header = admin.get(address, {"fragment": "header"})
    assert "This machine was removed" in _text(header)
    assert 'id="machine-header"' in _text(header)
    assert 'id="machine-tab"' in _text(admin.get(address + "/hardware", {"fragment": "tab"}))
    assert admin.get(address).status_code == 404
    assert "may have been removed" in unescape(admin.get(address).content.decode())
    assert stranger.get(address, {"fragment": "header"}).status_code == 404


def test_of_two_machines_with_one_uuid_the_host_chooses(
    admin: Client, web1: Machine, rack7: Host
) -> None:
    other = make_machine(rack7, "twin")
    Machine.objects.filter(pk=other.pk).update(uuid=web1.uuid)
    assert "<h1>web1</h1>" in _text(admin.get(_url(web1)))
    assert "<h1>twin</h1>" in _text(admin.get(_url(web1), {"host": "rack7"}))


# Charlie


@pytest.mark.parametrize(
    "rest", ["", "/console", "/hardware", "/xml", "/jobs", "?fragment=menu", "?fragment=header"]
)
def test_a_stranger_finds_no_machine(stranger: Client, web1: Machine, rest: str) -> None:
    assert stranger.get(_url(web1, rest)).status_code == 404


def test_a_stranger_sees_an_empty_list(stranger: Client, web1: Machine) -> None:
    text = _text(stranger.get(LIST))
    assert "web1" not in text
    assert "local" not in text


@pytest.mark.parametrize(
    "name",
    ["start", "resume", "pause", "shut_down", "reboot", "force_off", "force_reset", "delete"],
)
def test_a_stranger_can_do_nothing(stranger: Client, web1: Machine, name: str) -> None:
    assert stranger.get(_url(web1, f"/do/{name}")).status_code == 404
    assert stranger.post(_url(web1, f"/do/{name}")).status_code == 404
    assert not Job.objects.exists()


def test_who_is_not_signed_in_is_asked_to(client: Client, web1: Machine) -> None:
    answer = client.get(_url(web1))
    assert answer.status_code == 302
    assert answer["Location"] == f"/accounts/login/?next={_url(web1)}"


# Doing


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """No agent runs here: jobs stay queued, and nobody waits two seconds for that."""
    monkeypatch.setattr("kvmweb.web.operate.WAIT_SECONDS", 0)


def test_a_press_makes_a_job_and_a_toast_that_follows_it(admin: Client, web1: Machine) -> None:
    answer = admin.post(_url(web1, "/do/pause"), headers=HTMX)
    job = Job.objects.get()
    assert (job.kind, job.username, job.address) == ("machines.pause", "alice", "127.0.0.1")
    assert 'hx-swap-oob="beforeend:#toasts"' in _text(answer)
    assert f'data-live="job:{job.pk}"' in _text(answer)
    assert answer["HX-Trigger"] == "closedialog"


def test_without_scripts_a_press_leads_to_the_job(admin: Client, web1: Machine) -> None:
    answer = admin.post(_url(web1, "/do/pause"))
    assert answer["Location"] == f"/jobs/{Job.objects.get().pk}"
    again = admin.post(_url(web1, "/do/start"), follow=True)
    assert again.redirect_chain == [(_url(web1), 302)]
    assert "The machine is already on." in _text(again).split('id="toasts"')[1]


def test_a_refusal_is_a_toast_with_its_sentence(admin: Client, web1: Machine) -> None:
    answer = admin.post(_url(web1, "/do/start"), headers=HTMX)
    assert answer.status_code == 409
    assert "The machine is already on." in answer.content.decode()
    assert not Job.objects.exists()


def test_the_second_press_is_refused(admin: Client, web1: Machine) -> None:
    admin.post(_url(web1, "/do/pause"), headers=HTMX)
    answer = admin.post(_url(web1, "/do/pause"), headers=HTMX)
    assert answer.status_code == 409
    assert "“Pause” is already under way for web1." in answer.content.decode()
    assert Job.objects.count() == 1


def test_a_viewer_is_refused(viewer: Client, web1: Machine) -> None:
    answer = viewer.post(_url(web1, "/do/pause"), headers=HTMX)
    assert answer.status_code == 403
    assert "You are not allowed to" in answer.content.decode()


def test_an_operator_may_start_and_not_delete(operator: Client, web1: Machine) -> None:
    assert operator.post(_url(web1, "/do/pause"), headers=HTMX).status_code == 200
    assert operator.post(_url(web1, "/do/delete"), headers=HTMX).status_code == 403


def test_looking_at_a_dialog_changes_nothing(admin: Client, web1: Machine) -> None:
    text = _text(admin.get(_url(web1, "/do/force_off"), headers=HTMX))
    assert "Unsaved data in the guest is lost." in text
    assert "<html" not in text
    assert "<html" in _text(admin.get(_url(web1, "/do/force_off")))
    assert not Job.objects.exists()


def test_the_confirmation_begins_at_cancel(admin: Client, web1: Machine) -> None:
    tree = html.fromstring(admin.get(_url(web1, "/do/force_off"), headers=HTMX).content)
    assert [one.text_content() for one in tree.xpath("//*[@autofocus]")] == ["Cancel"]


def test_other_methods_and_other_operations_are_not_there(admin: Client, web1: Machine) -> None:
    assert admin.put(_url(web1, "/do/pause")).status_code == 405
    assert admin.post(_url(web1, "/do/create")).status_code == 404
    assert admin.post(_url(web1, "/do/nothing")).status_code == 404
    assert admin.post(_url(web1)).status_code == 405


def test_the_switch_says_no_where_it_is_not_set(admin: Client, web1: Machine) -> None:
    admin.post(_url(web1, "/do/set_autostart"), {"enabled": "on"}, headers=HTMX)
    assert Job.objects.get().arguments == {"enabled": True}
    Job.objects.all().delete()
    admin.post(_url(web1, "/do/set_autostart"), headers=HTMX)
    assert Job.objects.get().arguments == {"enabled": False}


# Deleting


def _boxes(answer: Any) -> dict[str, tuple[bool, bool, str]]:
    """Path of each disk: is it ticked, is it offered, what is said of it."""
    boxes = html.fromstring(answer.content).xpath("//input[@name='volumes']")
    return {
        box.get("value"): (
            box.get("checked") is not None,
            box.get("disabled") is None,
            " ".join(note.text_content() for note in box.getparent().find_class("form-hint")),
        )
        for box in boxes
    }


def test_its_own_disks_are_ticked_and_others_not(
    admin: Client, web1: Machine, images: Pool
) -> None:
    boxes = _boxes(admin.get(_url(web1, "/do/delete"), headers=HTMX))
    assert boxes["/pool/web1.qcow2"] == (True, True, "")
    assert boxes["/pool/debian.iso"] == (False, True, "Removable media. Read-only.")


def test_a_disk_of_two_machines_is_not_offered(admin: Client, web1: Machine, images: Pool) -> None:
    make_machine(web1.host, "clone", disk="/pool/web1.qcow2")
    boxes = _boxes(admin.get(_url(web1, "/do/delete"), headers=HTMX))
    assert boxes["/pool/web1.qcow2"] == (False, False, "Used by clone too.")


def test_a_disk_outside_every_pool_is_not_offered(admin: Client, web1: Machine) -> None:
    boxes = _boxes(admin.get(_url(web1, "/do/delete"), headers=HTMX))
    assert boxes["/pool/web1.qcow2"] == (False, False, "It is in no storage pool.")


def test_a_running_machine_is_warned_about(admin: Client, web1: Machine) -> None:
    warning = "This machine is running. It is forced off before it is deleted"
    assert warning in _text(admin.get(_url(web1, "/do/delete"), headers=HTMX))
    Machine.objects.filter(pk=web1.pk).update(state=State.SHUTOFF)
    assert warning not in _text(admin.get(_url(web1, "/do/delete"), headers=HTMX))


def test_what_is_ticked_and_typed_reaches_the_job(
    admin: Client, web1: Machine, images: Pool
) -> None:
    data = {"volumes": ["/pool/web1.qcow2"], "confirm_name": "web1"}
    assert admin.post(_url(web1, "/do/delete"), data, headers=HTMX).status_code == 200
    assert Job.objects.get().arguments == data


def test_every_operation_of_a_machine_has_an_address_that_answers(
    admin: Client, web1: Machine
) -> None:
    for name in ("start", "resume", "pause", "shut_down", "reboot", "force_off", "force_reset"):
        address = reverse("machine_operate", args=[web1.uuid, name])
        assert admin.get(address, headers=HTMX).status_code == 200


def test_who_loses_the_role_loses_the_page(web1: Machine, bob: User) -> None:
    client = signed_in(bob)
    assert client.get(_url(web1)).status_code == 200
    User.objects.filter(pk=bob.pk).update(role=Role.NONE)
    assert client.get(_url(web1)).status_code == 404
