"""A host's own network in a browser: from a form to the kernel and back, the countdown, a phone."""

import re
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.chromium import launch, sign_in
from tests.browser.test_shell import faults, is_live, overflow
from tests.libvirtd import PrivateLibvirtd
from tests.net.own_host import OwnHost
from tests.site import Site
from tests.waiting import until

pytestmark = pytest.mark.real
SECTIONS = ("", "/bridges", "/switches", "/routers", "/routes", "/document", "/changes")
FORMS = ("bridge", "switch", "router", "bond", "veth", "route")


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def own(stack: ExitStack) -> OwnHost:
    return stack.enter_context(OwnHost())


@pytest.fixture(scope="module")
def site(stack: ExitStack, own: OwnHost) -> Site:
    """On a real libvirtd, the helper in a namespace of its own."""
    daemon = stack.enter_context(PrivateLibvirtd())
    environment = {
        "KVMWEB_NET_PREFIX": " ".join(own.prefix),
        "KVMWEB_NET_STATE": str(own.state),
    }
    before = own.dump()
    site = stack.enter_context(Site(uri=daemon.uri, environment=environment))
    stack.callback(lambda: until(lambda: own.dump() == before, what="the host to be as it was"))
    return site


@pytest.fixture(scope="module")
def context(stack: ExitStack, site: Site) -> BrowserContext:
    playwright = stack.enter_context(sync_playwright())
    browser: Browser = launch(playwright)
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
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    assert complaints == []


@pytest.fixture
def network(page: Page, site: Site, own: OwnHost) -> Iterator[str]:
    """The address of the tab. Afterwards nothing is wanted of the host any more."""
    address = f"{site.url}/hosts/1/network"
    page.goto(address)
    expect(page.locator("#hostnet")).to_contain_text("192.0.2.10/24", timeout=20_000)
    yield address
    with site.api() as api:
        _forget(api)


def _forget(api: httpx.Client) -> None:
    at, empty = "/hosts/local/network", {"document": {}}
    if api.get(at).raise_for_status().json()["unconfirmed"]:
        api.post(f"{at}/revert").raise_for_status()
    plan = api.post(f"{at}/preview", json=empty).raise_for_status().json()
    if not plan["result"]["steps"]:
        return
    arguments = {**empty, "digest": plan["result"]["digest"]}
    done = api.post(f"{at}/apply", json=arguments).raise_for_status().json()
    if done["result"]["is_risky"]:
        api.post(f"{at}/confirm").raise_for_status()


def _links(own: OwnHost) -> str:
    return own.execute("ip", "-o", "link")


def test_a_bridge_from_the_page_and_back(page: Page, network: str, own: OwnHost) -> None:
    page.click("#add-more")
    page.get_by_role("link", name=re.compile("^Linux bridge")).last.click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("br0")
    page.get_by_label("Name", exact=True).fill("br-lab")
    page.get_by_label("Addresses", exact=True).fill("10.5.5.1")
    page.get_by_role("button", name="Plan").last.click()
    expect(page.locator("#error-input-addresses")).to_contain_text("Add the prefix")
    page.get_by_label("Addresses", exact=True).fill("10.5.5.1/24")
    page.get_by_role("button", name="Plan").last.click()
    expect(page.locator("#step-commands")).to_contain_text("ip link add name br-lab type bridge")
    expect(page.locator(".diff-added").first).to_contain_text("+links:")
    assert "br-lab" not in _links(own)
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#hostnet-change .state")).to_have_text("applied")
    assert "10.5.5.1/24" in own.execute("ip", "address", "show", "br-lab")
    page.get_by_role("button", name="Undo").click()
    page.locator("#dialog").get_by_role("button", name="Undo").click()
    expect(page.locator("#hostnet-change .state")).to_have_text("undone")
    assert "br-lab" not in _links(own)


def test_the_uplink_is_moved_and_kept_after_a_reload(
    page: Page, network: str, own: OwnHost
) -> None:
    page.goto(f"{network}?name=eth0")
    page.get_by_role("link", name="Move onto a new bridge").click()
    page.get_by_role("button", name="Plan").last.click()
    expect(page.get_by_text("This could cut you off from the host.")).to_be_visible()
    page.get_by_role("button", name="Apply").click()
    seconds = page.locator("[data-seconds]")
    expect(seconds).to_be_visible()
    first = int(seconds.inner_text())
    until(lambda: int(seconds.inner_text()) < first, what="the countdown to go on")
    page.goto(network.removesuffix("/network"))
    assert int(seconds.inner_text()) <= first
    page.get_by_role("button", name="Keep this change").click()
    expect(page.locator(".confirm-banner")).to_have_count(0)
    assert own.is_reachable()
    assert "192.0.2.10/24" in own.execute("ip", "address", "show", "br0")


def test_put_back_now_does_so(page: Page, network: str, own: OwnHost) -> None:
    page.goto(f"{network}/form?kind=bridge&uplink=eth0")
    page.get_by_role("button", name="Plan").last.click()
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("button", name="Put back now").click()
    expect(page.locator("#hostnet-change .state")).to_have_text("reverted")
    expect(page.locator(".confirm-banner")).to_have_count(0)
    assert "br0" not in _links(own)


def test_what_happens_at_a_shell_is_seen_and_keeps_what_was_asked_for(
    page: Page, network: str, own: OwnHost
) -> None:
    page.goto(f"{network}/routers")
    is_live(page)
    page.locator("#command-0").fill("ip -br address")
    page.locator("#command-0").press("Enter")
    expect(page.locator("#ran-0 pre")).to_contain_text("192.0.2.10/24")
    own.execute("ip", "netns", "add", "red")
    try:
        expect(page.get_by_role("heading", name="red")).to_be_visible(timeout=3000)
        expect(page.locator("#ran-0 pre")).to_contain_text("192.0.2.10/24")
    finally:
        own.execute("ip", "netns", "delete", "red")
    expect(page.get_by_role("heading", name="red")).to_have_count(0)


def test_drift_comes_into_the_page_and_is_put_back(page: Page, network: str, own: OwnHost) -> None:
    page.goto(f"{network}/form?kind=bridge")
    page.get_by_label("Name", exact=True).fill("br-lab")
    page.get_by_role("button", name="Plan").last.click()
    page.get_by_role("button", name="Apply").click()
    page.goto(f"{network}/bridges")
    is_live(page)
    own.execute("ip", "link", "set", "br-lab", "down")
    expect(page.get_by_text("The host differs from what was applied")).to_be_visible(timeout=2000)
    page.get_by_role("button", name="Put back").click()
    page.locator("#dialog").get_by_role("button", name="Put back").click()
    expect(page.get_by_text("The host differs from what was applied")).to_have_count(0)
    assert "UP" in own.execute("ip", "link", "show", "br-lab").split(">")[0]


def test_rows_of_a_router_come_and_go(page: Page, network: str) -> None:
    page.goto(f"{network}/form?kind=router")
    page.locator("#input-legs-0-addresses").fill("10.0.0.1/24")
    page.get_by_role("button", name="Add: Source NAT").click()
    expect(page.locator("#input-snat-0-source")).to_be_visible()
    expect(page.locator("#input-legs-0-addresses")).to_have_value("10.0.0.1/24")
    page.get_by_role("button", name="Remove: Legs 2").click()
    expect(page.locator("#input-legs-1-name")).to_have_count(0)
    page.locator("#input-legs-0-name").press("Enter")  # plans, and takes no row away
    expect(page.locator("#error-input-snat-0-source")).to_contain_text("This is needed")


WANT = """
from kvmweb.models import HostNetwork
from kvmweb.spec.hostnet import HostNetwork as Document
HostNetwork.objects.update(desired=Document(switches={}).model_dump(mode="json"))
"""


def test_a_port_of_open_vswitch_asks_for_what_its_kind_has(
    page: Page, network: str, site: Site
) -> None:
    """No Open vSwitch runs here, so the bridge is only wanted."""
    site.manage("shell", "-c", WANT.replace("{}", '[{"name": "br-int"}]'))
    try:
        page.goto(f"{network}/form?kind=port&switch=br-int")
    finally:
        site.manage("shell", "-c", WANT.replace("{}", "[]"))
    expect(page.locator("#input-remote_ip")).to_be_hidden()
    page.locator("#input-kind").select_option("gre")
    expect(page.locator("#input-remote_ip")).to_be_visible()
    expect(page.locator("#input-peer")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible(page: Page, network: str, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    found = []
    for rest in (*SECTIONS, "?name=eth0", "/edit", *(f"/form?kind={one}" for one in FORMS)):
        page.goto(network + rest)
        for one in page.locator("details").all():
            one.evaluate("element => element.setAttribute('open', '')")
        found += faults(page)
    assert found == []


def test_every_page_fits_a_phone(page: Page, network: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for rest in (*SECTIONS, "?name=eth0", "/edit", *(f"/form?kind={one}" for one in FORMS)):
        page.goto(network + rest)
        for one in page.locator("details").all():
            one.evaluate("element => element.setAttribute('open', '')")
        assert overflow(page) <= 0, rest
