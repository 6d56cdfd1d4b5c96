"""The NICs of a machine on its Hardware tab, and the forms that change them."""

import json
import re
import uuid
from html import unescape
from typing import Any

import pytest
from django.test import Client
from lxml import html

from kvmweb.models import Host, HostNetwork, Job, Machine, Network, Nic
from tests.web.conftest import make_machine

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
MAC = "52:54:00:00:00:01"
# The interface comes after the five sections and the two disks.
PART = 7


@pytest.fixture
def web1(local: Host) -> Machine:
    Network.objects.create(
        host=local, uuid=uuid.uuid4(), name="default", is_active=True, forward_mode="nat",
        bridge="virbr0", xml="<network/>",
    )  # fmt: skip
    machine = make_machine(local, "web1")
    xml = machine.xml.replace("<source network", "<model type='virtio'/><source network")
    Machine.objects.update(xml=xml, inactive_xml=xml)
    Nic.objects.create(
        machine=machine, host=local, index=0, mac=MAC, kind="network", source="default",
        model="virtio", tap="vnet3", bridge="virbr0",
        addresses=[{"address": "192.168.122.7", "prefix": 24, "from": "agent"}],
    )  # fmt: skip
    machine.refresh_from_db()
    return machine


def _url(machine: Machine, rest: str = "") -> str:
    return f"/machines/{machine.uuid}{rest}"


def _hardware(machine: Machine) -> str:
    return _url(machine, f"/hardware?part={PART}")


def _edit(machine: Machine, mac: str = MAC) -> str:
    return _url(machine, f"/nics/{mac}/edit")


def _text(answer: Any) -> str:
    return re.sub(r"\s+", " ", unescape(answer.content.decode()))


def _form(answer: Any, identity: str = "nic-form") -> dict[str, str]:
    """What a browser would send of the form, untouched."""
    form = html.fromstring(answer.content).xpath(f"//form[@id='{identity}']")[0]
    return {name: value or "" for name, value in form.form_values()}


def _post(client: Client, address: str, data: dict[str, str]) -> Any:
    """As htmx; there is no agent, so that the answer is a toast of a waiting job."""
    return client.post(address, data, headers=HTMX)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvmweb.web.operate.WAIT_SECONDS", 0.0)


def test_the_tab_shows_the_card_its_addresses_and_a_form(admin: Client, web1: Machine) -> None:
    answer = admin.get(_hardware(web1))
    text = _text(answer)
    assert "192.168.122.7/24" in text
    assert "guest agent" in text
    assert "vnet3" in text
    form = _form(answer)
    assert (form["source"], form["model"], form["mac"]) == ("network:default", "virtio", MAC)
    assert form["apply"] == "now"
    page = html.fromstring(answer.content)
    for field in page.xpath("//form[@id='nic-form']//*[@name][not(@type='hidden')]"):
        labelled = page.xpath(f"//label[@for='{field.get('id')}']") or field.xpath(
            "ancestor::label"
        )
        assert labelled, field.get("name")


def test_only_what_was_touched_is_asked_for(admin: Client, web1: Machine) -> None:
    form = _form(admin.get(_hardware(web1)))
    _post(admin, _edit(web1), {**form, "mtu": "1400", "apply": "next_start"})
    job = Job.objects.get()
    assert job.kind == "nics.edit"
    assert job.arguments == {"nic": MAC, "mtu": 1400, "apply": "next_start"}


def test_what_somebody_else_changed_meanwhile_stays_changed(admin: Client, web1: Machine) -> None:
    form = _form(admin.get(_hardware(web1)))
    Machine.objects.update(inactive_xml=web1.xml.replace("default", "dmz"))
    _post(admin, _edit(web1), {**form, "queues": "4"})
    assert "source" not in Job.objects.get().arguments


def test_a_name_that_is_typed_completes_the_source(admin: Client, web1: Machine) -> None:
    form = _form(admin.get(_hardware(web1)))
    _post(admin, _edit(web1), {**form, "source": "ovs:", "source_name": "br-lab", "vlan": "7"})
    assert Job.objects.get().arguments["source"] == "ovs:br-lab"


def test_every_mistake_is_said_at_its_input_and_what_was_typed_is_kept(
    admin: Client, web1: Machine
) -> None:
    form = _form(admin.get(_hardware(web1)))
    wrong = {**form, "mtu": "12", "mac": "zz", "source": "bridge:", "source_name": "a/b"}
    answer = _post(admin, _edit(web1), wrong)
    assert answer.status_code == 422
    page = html.fromstring(answer.content)
    assert page.xpath("//form/@data-typed") == [""], "a live update must not overwrite it"
    for name, sentence in (
        ("mtu", "Enter 68 or more."), ("mac", "is not a MAC address"), ("source", "no slash"),
    ):  # fmt: skip
        (field,) = page.xpath(f"//*[@name='{name}']")
        assert field.get("aria-invalid") == "true"
        (said,) = page.xpath(f"//*[@id='nic-error-{name}']")
        assert sentence in said.text_content()
        assert said.get("id") in field.get("aria-describedby")
    again = _form(answer)
    assert (again["mtu"], again["mac"], again["source_name"]) == ("12", "zz", "a/b")
    assert json.loads(again["was"])["mtu"] == ""
    assert not Job.objects.exists()


def test_nothing_changed_is_said_and_asked_of_nobody(admin: Client, web1: Machine) -> None:
    form = _form(admin.get(_hardware(web1)))
    answer = _post(admin, _edit(web1), form)
    assert "Nothing is changed." in _text(answer)
    assert not Job.objects.exists()


def test_a_form_that_worked_stays_where_it_is(admin: Client, web1: Machine) -> None:
    form = _form(admin.get(_hardware(web1)))
    answer = _post(admin, _edit(web1), {**form, "mtu": "1400"})
    assert answer["HX-Reswap"] == "none"


def test_what_waits_for_the_next_start_is_shown_beside_what_is(
    admin: Client, web1: Machine
) -> None:
    kept = web1.xml.replace("<source network", "<mtu size='1400'/><source network")
    Machine.objects.update(inactive_xml=kept)
    answer = admin.get(_hardware(web1))
    assert "Takes effect at the next start" in _text(answer)
    rows = html.fromstring(answer.content).xpath("//div[contains(@class,'nic-pending')]//tbody/tr")
    assert [[cell.text_content() for cell in row] for row in rows] == [["MTU", "–", "1400"]]
    assert _form(answer)["mtu"] == "1400", "the form is about the next start"


def test_what_its_network_gave_a_card_is_no_difference(admin: Client, web1: Machine) -> None:
    current = web1.xml.replace("<source network", "<vlan><tag id='7'/></vlan><source network")
    Machine.objects.update(xml=current)
    assert "Takes effect" not in _text(admin.get(_hardware(web1)))


def test_a_card_of_one_document_only_says_which(admin: Client, web1: Machine) -> None:
    Nic.objects.update(is_kept=False)
    assert "gone after the next start" in _text(admin.get(_hardware(web1)))
    Nic.objects.update(is_kept=True, is_current=False)
    assert "plugged in at the next start" in _text(admin.get(_hardware(web1)))


def test_an_address_that_two_machines_have_is_warned_of(
    admin: Client, web1: Machine, rack7: Host
) -> None:
    other = make_machine(rack7, "twin")
    Nic.objects.create(machine=other, host=rack7, index=0, mac=MAC, kind="user")
    assert "“twin” on rack7 has the MAC address" in _text(admin.get(_hardware(web1)))


def test_what_a_switch_asks_for_is_said_and_whether_it_is_so(admin: Client, web1: Machine) -> None:
    switches = [{"name": "virbr0", "datapath_type": "netdev", "ports": []}]
    HostNetwork.objects.create(host=web1.host, actual={"switches": switches, "links": []})
    assert "Not set as its source asks for" in _text(admin.get(_hardware(web1)))
    offs = " ".join(f"{name}='off'" for name in ("csum", "tso4", "tso6", "ecn", "ufo"))
    driver = f"<driver><host {offs} gso='off'/><guest {offs}/></driver><source network"
    xml = web1.xml.replace("<source network", driver)
    Machine.objects.update(xml=xml, inactive_xml=xml)
    assert "Set by the site itself" in _text(admin.get(_hardware(web1)))


def test_the_dialog_proposes_what_most_people_want(admin: Client, web1: Machine) -> None:
    answer = admin.get(_url(web1, "/nics/add"), headers=HTMX)
    page = html.fromstring(answer.content)
    assert page.xpath("//select[@name='source']//option[@selected]/@value") == ["network:default"]
    assert page.xpath("//select[@name='model']//option[@selected]/@value") == ["virtio"]
    assert page.xpath("//input[@name='mac']/@value") == [""]
    data = {"source": "network:default", "model": "virtio", "is_link_up": "yes", "mac": ""}
    _post(admin, _url(web1, "/nics/add"), data)
    assert Job.objects.get().arguments == {
        "source": "network:default", "model": "virtio", "is_link_up": True, "at_next_start": False,
    }  # fmt: skip


def test_a_box_that_is_not_ticked_says_no(admin: Client, web1: Machine) -> None:
    _post(admin, _url(web1, "/nics/add"), {"source": "user", "model": "", "apply": "next_start"})
    arguments = Job.objects.get().arguments
    assert arguments["is_link_up"] is False
    assert arguments["at_next_start"] is True


def test_removing_is_asked_about_first(admin: Client, web1: Machine) -> None:
    address = _url(web1, f"/nics/{MAC}/remove")
    answer = admin.get(address, headers=HTMX)
    assert f"Remove the NIC {MAC} of web1?" in _text(answer)
    assert "Only at the next start" in _text(answer)
    assert not Job.objects.exists()
    _post(admin, address, {"at_next_start": "yes"})
    assert Job.objects.get().arguments == {"nic": MAC, "at_next_start": True}


def test_the_cable_is_a_switch(operator: Client, web1: Machine) -> None:
    text = _text(operator.get(_hardware(web1)))
    assert "Link up" in text
    _post(operator, _url(web1, f"/nics/{MAC}/link"), {})
    assert Job.objects.get().arguments == {"nic": MAC, "up": False}


def test_an_operator_sees_the_facts_and_why_there_is_no_form(
    operator: Client, web1: Machine
) -> None:
    answer = operator.get(_hardware(web1))
    assert "You are not allowed to edit the hardware of machines." in _text(answer)
    assert "nic-form" not in answer.content.decode()
    for rest in ("add", f"{MAC}/remove", f"{MAC}/edit"):
        assert _post(operator, _url(web1, f"/nics/{rest}"), {"mtu": "1400"}).status_code == 403
    assert not Job.objects.exists()


def test_a_stranger_finds_nothing(stranger: Client, web1: Machine) -> None:
    for rest in ("add", f"{MAC}/edit", f"{MAC}/remove", f"{MAC}/link"):
        assert stranger.post(_url(web1, f"/nics/{rest}")).status_code == 404
        if not rest.endswith("link"):
            assert stranger.get(_url(web1, f"/nics/{rest}")).status_code == 404


def test_a_card_that_is_gone_is_not_found(admin: Client, web1: Machine) -> None:
    for rest in ("edit", "remove"):
        assert admin.get(_url(web1, f"/nics/52:54:00:99:99:99/{rest}")).status_code == 404


def test_nothing_changes_by_get(admin: Client, web1: Machine) -> None:
    for rest in ("add", f"{MAC}/edit", f"{MAC}/remove"):
        assert admin.get(_url(web1, f"/nics/{rest}")).status_code == 200
    assert admin.get(_url(web1, f"/nics/{MAC}/link")).status_code == 405
    assert not Job.objects.exists()


def test_odd_names_are_only_names(admin: Client, web1: Machine) -> None:
    Network.objects.update(name='<b onclick="x()">&amp;')
    answer = admin.get(_hardware(web1))
    assert "<b onclick" not in answer.content.decode().split("</head>")[1]


def test_without_scripts_the_form_is_a_page(admin: Client, web1: Machine) -> None:
    form = _form(admin.get(_edit(web1)))
    answer = admin.post(_edit(web1), {**form, "mtu": "x"})
    assert answer.status_code == 422
    assert "Enter a whole number." in _text(answer)
    assert admin.post(_edit(web1), {**form, "mtu": "1400"}).status_code == 302
