"""A machine's NICs in a browser, on a libvirtd of our own; its machine is never started."""

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import libvirt
import pytest
from lxml import etree
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.browser.chromium import launch, sign_in
from tests.libvirtd import PrivateLibvirtd
from tests.site import Site
from tests.waiting import until

pytestmark = pytest.mark.real
NAME = f"kvmweb-nics-{uuid.uuid4().hex[:6]}"
MAC = "52:54:00:6e:01:01"
XML = f"""<domain type='qemu'><name>web1</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<interface type='network'><mac address='{MAC}'/><source network='lan'/><model type='virtio'/>
<rom bar='off'/></interface></devices></domain>"""
LAN = "<network><name>{}</name><bridge name='kvmweb-{}'/></network>"


@pytest.fixture(scope="module")
def daemon() -> Iterator[PrivateLibvirtd]:
    subprocess.run(["ip", "netns", "add", NAME], check=True)
    try:
        subprocess.run(["ip", "-n", NAME, "link", "set", "lo", "up"], check=True)
        with PrivateLibvirtd(network=NAME) as running:
            opened = libvirt.open(running.uri)
            for name in ("lan", "wan"):
                opened.networkDefineXML(LAN.format(name, name)).create()
            opened.defineXML(XML)
            opened.close()
            yield running
    finally:
        subprocess.run(["ip", "netns", "delete", NAME], check=True)


@pytest.fixture(scope="module")
def window(daemon: PrivateLibvirtd) -> Iterator[Page]:
    with Site(uri=daemon.uri) as site, sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, base_url=site.url)
        sign_in(page, site)
        yield page
        browser.close()


@dataclass
class Card:
    page: Page
    dom: libvirt.virDomain

    def open(self, mac: str = MAC) -> None:
        self.page.goto(f"/machines/{self.dom.UUIDString()}/hardware")
        self.page.get_by_role("link", name=f"NIC {mac[-8:]}").click()
        expect(self.page.locator("#live")).to_have_attribute("data-state", "live")

    def input(self, name: str) -> Locator:
        return self.page.locator(f"#nic-{name}")

    def apply(self) -> None:
        self.page.get_by_role("button", name="Apply").click()

    def told(self, text: str) -> None:
        expect(self.page.locator("#toasts")).to_contain_text(text)

    def of(self, path: str, mac: str = MAC) -> str:
        root = etree.fromstring(self.dom.XMLDesc())
        return next(iter(root.xpath(f"devices/interface[mac/@address='{mac}']/{path}")), "")


@pytest.fixture
def card(window: Page, daemon: PrivateLibvirtd) -> Iterator[Card]:
    opened = libvirt.open(daemon.uri)
    dom = opened.lookupByName("web1")
    before = dom.XMLDesc()
    complaints: list[str] = []
    window.on("pageerror", lambda error: complaints.append(str(error)))
    found = Card(window, dom)
    found.open()
    yield found
    opened.defineXML(before)
    opened.close()
    assert complaints == []


def test_a_change_is_kept_and_the_form_says_so(card: Card) -> None:
    card.input("source").select_option("network:wan")
    card.page.get_by_text("Advanced").click()
    card.input("mtu").fill("1400")
    card.apply()
    card.told("Edit NIC: web1")
    assert card.of("source/@network") == "wan"
    assert card.of("mtu/@size") == "1400"
    assert card.of("rom/@bar") == "off"
    card.page.reload()
    expect(card.input("source")).to_have_value("network:wan")
    expect(card.input("mtu")).to_have_value("1400")


def test_a_mistake_stays_at_its_input_until_it_is_put_right(card: Card) -> None:
    card.page.get_by_text("Advanced").click()
    card.input("mtu").fill("12")
    card.apply()
    expect(card.page.locator("#nic-error-mtu")).to_have_text("Enter 68 or more.")
    expect(card.input("mtu")).to_have_value("12")
    card.input("mtu").fill("1300")
    card.apply()
    card.told("Edit NIC: web1")
    expect(card.page.locator("#nic-error-mtu")).to_have_count(0)
    assert card.of("mtu/@size") == "1300"


def test_what_is_being_typed_survives_what_happens_meanwhile(card: Card) -> None:
    card.input("mac").fill("52:54:00:6e:01:")
    root = etree.fromstring(card.dom.XMLDesc())
    link = etree.SubElement(root.find("devices/interface"), "link", state="down")
    assert link is not None
    card.dom.connect().defineXML(etree.tostring(root, encoding="unicode"))
    expect(card.page.get_by_text("Link down")).to_be_visible()
    expect(card.input("mac")).to_have_value("52:54:00:6e:01:")
    card.page.get_by_role("button", name="Discard changes").click()
    expect(card.input("mac")).to_have_value(MAC)


def test_only_what_a_source_has_a_use_for_is_asked(card: Card) -> None:
    for source, shown, hidden in (
        ("user", "guest_address", "vlan"),
        ("ovs:", "vlan", "macvtap_mode"),
        ("direct:", "macvtap_mode", "vlan"),
        ("network:lan", "model", "source_name"),
    ):
        card.input("source").select_option(source)
        expect(card.input(shown)).to_be_visible()
        expect(card.input(hidden)).to_be_hidden()
    card.input("source").select_option("ovs:")
    card.input("source_name").fill("br-lab")
    card.input("vlan").fill("7")
    card.apply()
    card.told("Edit NIC: web1")
    assert card.of("source/@bridge") == "br-lab"
    assert card.of("virtualport/@type") == "openvswitch"
    assert card.of("vlan/tag/@id") == "7"


def test_a_card_is_added_unplugged_and_removed(card: Card) -> None:
    card.page.get_by_role("button", name="Add NIC").click()
    dialog = card.page.locator("#dialog")
    expect(dialog).to_contain_text("Add a NIC to web1")
    dialog.locator("#new-nic-mac").fill(MAC)
    dialog.get_by_role("button", name="Add NIC").click()
    expect(dialog).to_contain_text(f"has a NIC with the MAC address {MAC} already")
    dialog.locator("#new-nic-mac").fill("")
    dialog.get_by_role("button", name="Add NIC").click()
    expect(dialog).to_be_hidden()
    links = card.page.locator(".hardware-list a", has_text="NIC ")
    expect(links).to_have_count(2)
    macs = etree.fromstring(card.dom.XMLDesc()).xpath("devices/interface/mac/@address")
    other = next(mac for mac in macs if mac != MAC)

    card.open(other)
    card.page.locator("label", has=card.page.locator("#nic-link")).click()
    expect(card.page.get_by_text("Link down")).to_be_visible()
    until(lambda: card.of("link/@state", other) == "down")

    card.page.locator(".nic-head").get_by_role("button", name="Remove").click()
    expect(dialog).to_contain_text(f"Remove the NIC {other} of web1?")
    dialog.get_by_role("button", name="Remove NIC").click()
    expect(links).to_have_count(1)
    assert card.of("@type", other) == ""
