"""The pages in a browser: accessible, within the width of a phone, and true without a reload."""

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from tests.browser.chromium import launch, sign_in
from tests.conftest import WORLD
from tests.site import ROOT, Site
from tests.waiting import until

WEB1 = "11111111-0000-4000-8000-000000000001"
DEFAULT = "22222222-0000-4000-8000-000000000001"
POOL = "33333333-0000-4000-8000-000000000001"
AXE = ROOT / "node_modules/axe-core/axe.min.js"
PAGES = (
    "/machines/", "/machines/?q=nothing-has-this", "/machines/create",
    f"/machines/{WEB1}", f"/machines/{WEB1}/console", f"/machines/{WEB1}/hardware",
    f"/machines/{WEB1}/xml", f"/machines/{WEB1}/jobs", f"/machines/{WEB1}/do/delete",
    f"/machines/{WEB1}/hardware?part=6", f"/machines/{WEB1}/nics/add",
    f"/machines/{WEB1}/nics/52:54:00:00:00:01/remove",
    "/networks/", "/networks/create", "/networks/create?as=xml", f"/networks/{DEFAULT}",
    f"/networks/{DEFAULT}/leases", f"/networks/{DEFAULT}/forwards", f"/networks/{DEFAULT}/dns",
    f"/networks/{DEFAULT}/portgroups", f"/networks/{DEFAULT}/xml", f"/networks/{DEFAULT}/jobs",
    f"/networks/{DEFAULT}/edit", f"/networks/{DEFAULT}/edit?as=xml",
    f"/networks/{DEFAULT}/do/stop", f"/networks/{DEFAULT}/do/delete",
    f"/networks/{DEFAULT}/do/add_forward", f"/networks/{DEFAULT}/do/add_reservation",
    "/networks/filters/", "/networks/filters/add", "/networks/groups/",
    "/networks/groups/add", "/storage/", f"/storage/{POOL}", "/hosts/", "/hosts/add", "/hosts/1",
    "/hosts/1/devices", "/hosts/1/devices?device=computer", "/hosts/1/xml", "/hosts/1/do/edit",
    "/jobs/", "/account/", "/users/", "/users/add", "/users/1", "/accounts/password/change/",
    "/accounts/logout/", "/nowhere",
)  # fmt: skip
# Missing pages and wrong forms are looked at too, and the test driver has no screen.
EXPECTED = (
    "Failed to load resource: the server responded with a status of 4",
    "Failed when connec",
)
RENAME = "from kvmweb.models import Host; Host.objects.update(name='renamed')"
DOMAIN = (
    "<domain type='test'><name>{}</name><memory>65536</memory><os><type>hvm</type></os></domain>"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright, ExitStack() as stack:
        browser = launch(playwright)
        stack.callback(browser.close)
        yield browser


@pytest.fixture(scope="module")
def session(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 850})
    first = context.new_page()
    sign_in(first, site)
    first.close()
    yield context
    context.close()


@pytest.fixture
def page(session: BrowserContext) -> Iterator[Page]:
    """A tab in which nothing may be written to the console as an error."""
    page = session.new_page()
    complaints: list[str] = []
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    assert [line for line in complaints if not line.startswith(EXPECTED)] == []


@pytest.fixture
def machine(site: Site) -> Iterator[str]:
    """The name of a machine that is this test's own."""
    name = f"own-{uuid.uuid4().hex[:8]}"
    with site.api() as api:
        made = api.post("/machines", json={"host": "local", "xml": DOMAIN.format(name)})
        assert made.status_code in (200, 202), made.text
        until(lambda: _find(site, name), what=f"{name} to be there")
        yield name
        if row := _find(site, name):
            api.post(f"/machines/{row['uuid']}/delete").raise_for_status()
    until(lambda: not _find(site, name), what=f"{name} to be gone")


def _find(site: Site, name: str) -> dict[str, str] | None:
    with site.api() as api:
        items = api.get("/machines", params={"q": name}).raise_for_status().json()["items"]
    return next((item for item in items if item["name"] == name), None)


def _uuid(site: Site, name: str) -> str:
    found = _find(site, name)
    assert found is not None
    return found["uuid"]


def _ask(site: Site, name: str, operation: str) -> None:
    """As somebody else would, somewhere else."""
    with site.api() as api:
        api.post(f"/machines/{_uuid(site, name)}/{operation}").raise_for_status()


def is_live(page: Page) -> None:
    expect(page.locator("#live")).to_have_attribute("data-state", "live")


def faults(page: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text())
    found = page.evaluate(
        "async () => (await axe.run()).violations"
        ".filter(one => ['serious', 'critical'].includes(one.impact))"
        ".map(one => one.id + ' ' + one.nodes.map(node => node.html.slice(0, 200)).join(' | '))"
    )
    return [f"{page.url}: {one}" for one in found]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_on_any_page(page: Page, site: Site, scheme: str) -> None:
    page.emulate_media(
        color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce"
    )
    found = []
    for address in PAGES:
        page.goto(site.url + address)
        assert page.evaluate("document.documentElement.dataset.bsTheme") == scheme
        found += faults(page)
    assert found == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_in_what_opens(page: Page, site: Site, scheme: str) -> None:
    page.emulate_media(
        color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce"
    )
    page.goto(f"{site.url}/machines/{WEB1}")
    found = []
    for opener, opened in (
        (page.get_by_title("Your account"), page.locator("#user-menu")),
        (page.locator("#jobs-button"), page.locator("#jobs-body > *")),
        (page.locator("#shut-down-more"), page.locator("#shut-down-menu")),
        (page.get_by_role("button", name="Delete"), page.locator("#dialog")),
    ):
        opener.click()
        expect(opened).to_be_visible()
        found += faults(page)
        page.keyboard.press("Escape")
        expect(opened).to_be_hidden()
    assert found == []


def test_the_sign_in_page_is_accessible_too(browser: Browser, site: Site) -> None:
    page = browser.new_page()
    page.goto(site.url + "/accounts/login/")
    assert faults(page) == []
    expect(page.locator("input[name=login]")).to_be_focused()
    page.close()


def test_no_page_is_wider_than_a_phone(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    wide = {}
    for address in PAGES:
        page.goto(site.url + address)
        if overflow(page) > 0:
            wide[address] = overflow(page)
    assert wide == {}


def test_on_a_phone_the_navigation_opens_and_closes(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(site.url + "/machines/")
    navigation = page.get_by_role("navigation", name="Main")
    expect(navigation).to_be_hidden()
    page.get_by_role("button", name="Navigation").click()
    expect(navigation).to_be_visible()
    navigation.get_by_role("link", name="Networks").click()
    page.wait_for_url("**/networks/")
    expect(navigation).to_be_hidden()


def test_the_content_is_one_key_away(page: Page, site: Site) -> None:
    page.goto(site.url + "/machines/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_dark_and_light_are_kept_and_there_before_the_first_paint(page: Page, site: Site) -> None:
    page.goto(site.url + "/machines/")
    page.get_by_title("Your account").click()
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "dark"
    page.add_init_script(
        "document.addEventListener('readystatechange', () => window.seen ??="
        " document.documentElement.dataset.bsTheme, {once: true})"
    )
    page.reload()
    assert page.evaluate("window.seen") == "dark"
    page.get_by_title("Your account").click()
    page.get_by_role("button", name="As the system").click()
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "light"


def test_the_list_follows_what_happens_elsewhere(page: Page, site: Site, machine: str) -> None:
    page.goto(f"{site.url}/machines/?q={machine}")
    is_live(page)
    row = page.get_by_role("row", name=machine)
    expect(row).to_contain_text("shut off")
    _ask(site, machine, "start")
    expect(row).to_contain_text("running")
    _ask(site, machine, "pause")
    expect(row).to_contain_text("paused")


def test_a_new_machine_appears_by_itself(page: Page, site: Site) -> None:
    name = f"own-{uuid.uuid4().hex[:8]}"
    page.goto(f"{site.url}/machines/?q={name}")
    is_live(page)
    expect(page.get_by_text("No machine matches")).to_be_visible()
    with site.api() as api:
        api.post("/machines", json={"host": "local", "xml": DOMAIN.format(name)}).raise_for_status()
    expect(page.get_by_role("row", name=name)).to_be_visible()
    _ask(site, name, "delete")
    expect(page.get_by_text("No machine matches")).to_be_visible()


def test_focus_an_open_menu_and_typed_text_survive_an_update(
    page: Page, site: Site, machine: str
) -> None:
    page.goto(f"{site.url}/machines/{_uuid(site, machine)}")
    is_live(page)
    page.locator("#shut-down-more").focus()
    page.keyboard.press("Enter")
    menu = page.locator("#shut-down-menu")
    expect(menu.get_by_role("button", name="Reboot")).to_be_focused()
    _ask(site, machine, "start")
    expect(page.locator("#machine-header .state").first).to_have_text("running")
    expect(menu).to_be_visible()
    reboot = menu.get_by_role("button", name="Reboot")
    expect(reboot).to_be_focused()
    expect(reboot).not_to_have_attribute("aria-disabled", "true")
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(page.locator("#shut-down-more")).to_be_focused()


def test_the_menu_of_a_row_stays_open_while_its_row_changes(
    page: Page, site: Site, machine: str
) -> None:
    page.goto(f"{site.url}/machines/?q={machine}")
    is_live(page)
    button = page.get_by_role("button", name=f"More for {machine}")
    button.click()
    expect(page.locator("#menu")).to_contain_text("Force off")
    expect(button).to_have_attribute("aria-expanded", "true")
    _ask(site, machine, "start")
    expect(page.get_by_role("row", name=machine)).to_contain_text("running")
    expect(page.locator("#menu")).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(page.locator("#menu")).to_be_hidden()
    expect(button).to_be_focused()


def test_a_press_starts_the_machine_and_says_so(page: Page, site: Site, machine: str) -> None:
    page.goto(f"{site.url}/machines/{_uuid(site, machine)}")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".toast-success")).to_contain_text(f"Start: {machine}")
    expect(page.locator("#machine-header .state").first).to_have_text("running")
    start = page.get_by_role("button", name="Start", exact=True)
    expect(start).to_have_attribute("aria-disabled", "true")
    expect(start).to_have_accessible_description("The machine is already on.")


def test_force_off_by_keyboard_begins_at_cancel(page: Page, site: Site, machine: str) -> None:
    _ask(site, machine, "start")
    page.goto(f"{site.url}/machines/{_uuid(site, machine)}")
    more = page.locator("#shut-down-more")
    dialog = page.get_by_role("dialog", name=f"Force off: {machine}")
    _choose(page, more, "Force off")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    _choose(page, more, "Force off")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator("#machine-header .state").first).to_have_text("shut off")


def _choose(page: Page, opener: Locator, label: str) -> None:
    opener.focus()
    page.keyboard.press("Enter")
    item = page.locator(".menu:popover-open").get_by_role("button", name=label)
    for _number in range(10):
        page.keyboard.press("ArrowDown")
        if item.evaluate("item => item === document.activeElement"):
            break
    page.keyboard.press("Enter")


def test_data_dies_only_with_the_name_typed(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/machines/{WEB1}")
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete web1?")
    name = dialog.get_by_label("Type web1 to confirm")
    expect(name).to_be_visible()
    dialog.get_by_label("vda /pool/web1.qcow2").uncheck()
    expect(name).to_be_hidden()
    dialog.get_by_label("vda /pool/web1.qcow2").check()
    name.fill("web2")
    dialog.get_by_role("button", name="Delete").click()
    expect(name).to_have_accessible_description(re.compile("Type the machine's name, web1"))
    expect(name).to_be_focused()
    expect(dialog.get_by_label("vda /pool/web1.qcow2")).to_be_checked()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert _find(site, "web1")


def test_deleting_leads_back_to_the_list(page: Page, site: Site, machine: str) -> None:
    page.goto(f"{site.url}/machines/{_uuid(site, machine)}")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/machines/")
    expect(page.locator(".toast-success")).to_contain_text(f"Delete: {machine}. Done.")
    assert not _find(site, machine)


def test_a_machine_removed_under_an_open_page_says_so(page: Page, site: Site, machine: str) -> None:
    page.goto(f"{site.url}/machines/{_uuid(site, machine)}/hardware")
    is_live(page)
    _ask(site, machine, "delete")
    expect(page.get_by_role("heading", name="This machine was removed")).to_be_visible()
    expect(page.get_by_role("navigation", name="Parts of the machine")).to_be_hidden()
    page.get_by_role("link", name="Back to the machines").click()
    page.wait_for_url("**/machines/")


def test_filtering_keeps_the_cursor_in_the_field_and_the_address_true(
    page: Page, site: Site, machine: str
) -> None:
    page.goto(site.url + "/machines/")
    page.keyboard.press("/")
    field = page.get_by_role("searchbox", name="Filter")
    expect(field).to_be_focused()
    page.keyboard.type(machine)
    page.wait_for_url(f"**/machines/?q={machine}")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(field).to_be_focused()
    page.get_by_label("State").select_option("running")
    page.wait_for_url(f"**/machines/?q={machine}&state=running")
    expect(page.get_by_text("No machine matches")).to_be_visible()
    page.go_back()
    page.wait_for_url(f"**/machines/?q={machine}")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_the_panel_of_jobs_is_filled_while_it_is_open(page: Page, site: Site, machine: str) -> None:
    page.goto(site.url + "/machines/")
    is_live(page)
    page.locator("#jobs-button").click()
    panel = page.locator("#jobs")
    expect(panel.locator("#jobs-panel")).to_be_visible()
    _ask(site, machine, "start")
    expect(panel).to_contain_text(f"Start: {machine}")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.locator("#jobs-panel")).to_have_count(0)


def test_after_the_site_was_away_the_page_becomes_true_again(browser: Browser) -> None:
    with Site(uri=f"test://{WORLD}") as own:
        context = browser.new_context()
        page = context.new_page()
        sign_in(page, own)
        page.goto(f"{own.url}/machines/{WEB1}")
        is_live(page)
        expect(page.locator("#machine-header .state").first).to_have_text("running")
        own.stop()
        expect(page.locator("#live")).to_have_text("reconnecting…")
        own.manage("shell", "-c", RENAME)
        own.start()
        is_live(page)
        expect(page.locator("#live")).to_have_text("live")
        expect(page.locator("#machine-header")).to_contain_text("renamed")
        context.close()


def test_who_was_signed_out_lands_at_the_sign_in_page(browser: Browser, site: Site) -> None:
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, site)
    page.goto(f"{site.url}/machines/{WEB1}")
    is_live(page)
    context.clear_cookies(name="kvmweb_session")
    # At once: a live update may notice it too, and be off before a click by the mouse is ready.
    page.evaluate("document.querySelector('[hx-post$=\"/do/pause\"]')?.click()")
    page.wait_for_url(f"**/accounts/login/?next=*{WEB1}")
    context.close()


def test_an_update_is_quick(page: Page, site: Site, machine: str) -> None:
    """Loosely: bench/live.py measures it. This notices a second lost."""
    page.goto(f"{site.url}/machines/{_uuid(site, machine)}")
    is_live(page)
    _ask(site, machine, "start")
    started = time.monotonic()
    expect(page.locator("#machine-header .state").first).to_have_text("running")
    assert time.monotonic() - started < 1
