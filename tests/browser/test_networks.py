"""A virtual network in a browser, from an empty list to its end, on a real host with guests."""

from collections.abc import Iterator
from contextlib import ExitStack

import libvirt
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests import dumps
from tests.browser.chromium import launch, sign_in
from tests.browser.test_shell import faults, is_live, overflow
from tests.guests import plugged_in
from tests.nodes import Lab, Node
from tests.site import Site
from tests.waiting import until

pytestmark = pytest.mark.real
TABS = ("", "/leases", "/forwards", "/dns", "/portgroups", "/xml", "/jobs", "/edit", "/edit?as=xml")


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def site(stack: ExitStack, lab: Lab) -> Site:
    return stack.enter_context(Site(uri=lab.a.ssh_uri))


@pytest.fixture(scope="module")
def context(stack: ExitStack, site: Site) -> BrowserContext:
    browser: Browser = launch(stack.enter_context(sync_playwright()))
    stack.callback(browser.close)
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    first = context.new_page()
    sign_in(first, site)
    first.close()
    return context


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A tab in which nothing may go wrong in a script."""
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    assert complaints == []


@pytest.fixture
def node(lab: Lab) -> Iterator[Node]:
    """After the test its whole network is as it was, but for what libvirt makes once for good."""
    opened = libvirt.open(lab.a.uri)
    opened.networkCreateXML(
        "<network><name>first</name><forward mode='nat'/><bridge name='first'/>"
        "<ip address='10.231.99.1' prefix='24'/></network>"
    ).destroy()
    until(lambda: "tentative" not in lab.a.execute("ip", "address"))
    # The site tries the emulator out, once.
    until(lambda: "kvmweb-probe" not in lab.a.execute("ps", "-e", "-o", "args="))
    before = dumps.whole(lab.a.said)
    yield lab.a
    for network in opened.listAllNetworks():
        if network.isActive():
            network.destroy()
        network.undefine()
    opened.close()
    left = dumps.settled(before, lab.a.said)
    assert not left, f"the test left this behind:\n{left}"


def test_from_an_empty_list_to_its_end(page: Page, site: Site, node: Node) -> None:
    page.goto(f"{site.url}/networks/")
    expect(page.get_by_text("No virtual network")).to_be_visible()
    with site.api() as api:
        at = "/hosts/local/network"
        until(lambda: api.get(at).json()["actual"], what="the host's network to be read")
    _make(page)
    with plugged_in(node, "lab") as guest:
        address = guest.lease("-x", "hostname:printer")["ip"]
        _reserve(page, address)
        _forward(page, address)
    _change(page)
    _look_at_everything(page)
    _delete(page)


def _make(page: Page) -> None:
    page.get_by_role("link", name="New network").first.click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("network")
    subnet = page.get_by_label("Address and prefix")
    expect(subnet).to_have_value("192.168.100.1/24")
    assert faults(page) == []
    page.get_by_label("Name", exact=True).fill("lab")
    page.get_by_label("Bridge", exact=True).fill("lab")
    subnet.fill("10.77.0.0/24")
    page.get_by_role("button", name="Create").last.click()
    expect(page.get_by_text("This overlaps with the host's link eth0")).to_be_visible()
    subnet.fill("10.231.1.0/24")
    subnet.press("Tab")
    expect(page.locator("#input-ips-0-ranges-0-start")).to_have_value("10.231.1.128")
    page.locator("#section-bridge summary").click()
    page.get_by_label("Options for dnsmasq").fill("no-ping")
    page.get_by_label("Spanning tree (STP)").uncheck()
    page.get_by_role("button", name="Create").last.click()
    expect(page.get_by_role("heading", name="lab", exact=True)).to_be_visible()
    expect(page.locator("#network-header")).to_contain_text("active")
    expect(page.locator("#network-tab")).to_contain_text("10.231.1.0/24")
    is_live(page)


def _reserve(page: Page, address: str) -> None:
    """The lease appears by itself, and is kept for the guest by one press."""
    page.get_by_role("link", name="Leases").click()
    row = page.get_by_role("row", name=address).first
    expect(row).to_contain_text("printer", timeout=20_000)
    page.get_by_role("button", name=f"Reserve {address}").click()
    expect(row).to_contain_text("reserved")
    expect(page.get_by_role("button", name=f"Remove the reservation {address}")).to_be_visible()


def _forward(page: Page, address: str) -> None:
    page.get_by_role("link", name="Port forwards").click()
    page.get_by_role("button", name="Forward a port").click()
    dialog = page.locator("#dialog")
    expect(dialog.get_by_label("Port of the host")).to_be_focused()
    dialog.get_by_label("Port of the host").fill("8080")
    dialog.get_by_label("Address of the guest").fill("10.9.9.9")
    dialog.get_by_role("button", name="Forward a port").click()
    expect(dialog).to_contain_text("10.9.9.9 is in none of this network's subnets.")
    dialog.get_by_label("Address of the guest").fill(address)
    dialog.get_by_label("Port of the guest").fill("80")
    assert faults(page) == []
    dialog.get_by_role("button", name="Forward a port").click()
    row = page.get_by_role("row", name="8080")
    expect(row).to_contain_text("open")
    page.get_by_role("button", name="Remove the port forward 8080").click()
    expect(row).to_have_count(0)


def _change(page: Page) -> None:
    """What can't be done while it runs waits, and is brought about by a restart."""
    page.get_by_role("link", name="Edit").click()
    page.locator("#section-dns summary").click()
    page.get_by_role("button", name="Add: Names").click()
    page.locator("#input-dns_hosts-0-address").fill("10.231.1.9")
    page.locator("#input-dns_hosts-0-names").fill("gate gate.lab")
    page.get_by_label("MTU").fill("1400")
    page.get_by_role("button", name="Save").last.click()
    waiting = page.get_by_text("Changes wait for the network's next start.")
    expect(waiting).to_be_visible()
    assert faults(page) == []
    page.locator(".waiting").get_by_role("button", name="Restart").click()
    page.locator("#dialog").get_by_role("button", name="Restart").click()
    expect(waiting).to_have_count(0)
    expect(page.locator("#network-tab")).to_contain_text("1400")
    page.get_by_role("link", name="DNS").click()
    expect(page.locator("#network-tab")).to_contain_text("gate, gate.lab")


def _look_at_everything(page: Page) -> None:
    """On a phone, in the dark."""
    address = page.url.partition("?")[0].removesuffix("/dns")
    size = page.viewport_size
    assert size
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    found, wide = [], {}
    for tab in TABS:
        page.goto(address + tab)
        found += faults(page)
        wide[tab] = overflow(page)
    page.set_viewport_size(size)
    assert found == []
    assert {tab: more for tab, more in wide.items() if more > 0} == {}
    page.goto(address)


def _delete(page: Page) -> None:
    page.get_by_role("button", name="Delete").click()
    dialog = page.locator("#dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No virtual network")).to_be_visible()
