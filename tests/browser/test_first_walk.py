"""The walk of somebody new: sign in, make the tiny guest, type into it, shut it down, delete it.

On real QEMU, through the pages alone; libvirt and the guest's serial line are the witnesses. With
``KVMWEB_SCREENSHOTS=docs/screenshots`` it leaves its pictures there.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import libvirt
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.chromium import launch, sign_in
from tests.browser.keyboard import type_line
from tests.guest import Serial
from tests.libvirtd import PrivateLibvirtd
from tests.site import Site
from tests.waiting import until

SIZE = {"width": 1280, "height": 800}
Shoot = Callable[[str], None]


@pytest.fixture(scope="module")
def daemon() -> Iterator[PrivateLibvirtd]:
    """As a new host has it: no machine, no pool."""
    with PrivateLibvirtd() as own:
        yield own


@pytest.fixture
def page(daemon: PrivateLibvirtd) -> Iterator[Page]:
    with ExitStack() as stack:
        site = stack.enter_context(Site(uri=daemon.uri))
        browser = launch(stack.enter_context(sync_playwright()))
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: pytest.fail(f"{page.url}: {error}"))
        sign_in(page, site)
        yield page
        browser.close()


@pytest.fixture
def shoot(page: Page) -> Shoot:
    """Take pictures in light and dark, where they are wanted."""
    directory = os.environ.get("KVMWEB_SCREENSHOTS")

    def shoot(name: str) -> None:
        for scheme in ("light", "dark") if directory else ():
            page.emulate_media(color_scheme=scheme)
            picture = Path(str(directory)) / f"{name}-{scheme}.png"
            page.screenshot(path=picture, animations="disabled")

    return shoot


def test_from_an_empty_site_to_a_console_and_back(
    page: Page, daemon: PrivateLibvirtd, shoot: Shoot
) -> None:
    expect(page.get_by_text("No machine yet")).to_be_visible()
    page.get_by_role("link", name="New machine").first.click()
    page.get_by_label("Tiny guest").check()
    shoot("wizard")
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("tiny1")
    shoot("wizard-ready")
    page.get_by_role("button", name="Create").click()

    page.wait_for_url("**/console", timeout=60_000)
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    connection = libvirt.open(daemon.uri)
    dom = connection.lookupByName("tiny1")
    assert dom.isActive()
    with Serial(dom) as serial:
        serial.expect("LAB-GUEST-READY")
        page.locator("canvas").click()
        type_line(page, "typed-in-the-browser")
        serial.expect("typed-in-the-browser")
    shoot("console")

    page.get_by_role("link", name="Hardware").click()
    page.get_by_role("link", name="Display VNC").click()
    shoot("hardware")
    page.get_by_role("link", name="Overview", exact=True).first.click()
    shoot("machine")
    page.get_by_role("link", name="Machines").first.click()
    expect(page.get_by_role("row", name="tiny1")).to_contain_text("running")
    shoot("machines")
    page.get_by_role("link", name="tiny1", exact=True).click()

    page.get_by_role("button", name="Shut down").click()
    expect(page.get_by_text("shut off").first).to_be_visible(timeout=60_000)
    assert not dom.isActive()
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    shoot("delete")
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No machine yet")).to_be_visible()
    until(lambda: connection.listAllDomains() == [], what="libvirt to have forgotten the machine")
    page.goto(page.url.split("/machines/")[0] + "/jobs/")
    shoot("jobs")
    # Kernel and initrd stay for the next tiny guest.
    pool = connection.storagePoolLookupByName("default")
    pool.refresh()
    assert [name for name in pool.listVolumes() if not name.startswith("kvmweb-tiny-")] == []
    connection.close()
