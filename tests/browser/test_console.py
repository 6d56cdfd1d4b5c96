"""The console in a browser, on a machine in real QEMU; its serial line is the second witness."""

import json
import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from kvmweb import tiny_guest
from tests.browser.keyboard import type_line
from tests.guest import Serial, domain_xml
from tests.libvirtd import PrivateLibvirtd
from tests.site import PASSWORD, ROOT, Site
from tests.waiting import until

READY = r"LAB-GUEST-READY"
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
AXE = (ROOT / "node_modules/axe-core/axe.min.js").read_text
# Messages that act on the machine: keys, pointer, QEMU's own keys (RFC 6143, 7.5).
ACTING = (4, 5, 255)
# Every character of a US keyboard, in a quoted shell word.
ALL_CHARACTERS = "".join(map(chr, range(32, 127))).replace("'", "")


@dataclass
class Scene:
    """One machine, the site that shows it, and what its serial line says."""

    site: Site
    domain: libvirt.virDomain
    browser: Browser

    @property
    def address(self) -> str:
        return f"{self.site.url}/machines/{self.domain.UUIDString()}"

    def sign_in(self, name: str = "admin", **options: object) -> BrowserContext:
        context = self.browser.new_context(**options)
        page = context.new_page()
        page.goto(self.site.url + "/accounts/login/")
        page.locator("input[name=login]").fill(name)
        page.locator("input[name=password]").fill(PASSWORD)
        page.locator("input[name=password]").press("Enter")
        page.wait_for_url(re.compile("/machines/"))
        page.close()
        return context

    def is_mirrored(self) -> bool:
        return self.site.api().get(f"/machines/{self.domain.UUIDString()}").status_code == 200


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with ExitStack() as stack:
        daemon = stack.enter_context(PrivateLibvirtd())
        guest = tiny_guest.build(daemon.images / "tiny_guest")
        connection = libvirt.open(daemon.uri)
        stack.callback(connection.close)
        domain = connection.defineXML(domain_xml("screen", guest=guest))
        stack.callback(domain.undefine)
        site = stack.enter_context(Site(uri=daemon.uri))
        add_viewer(site)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        stack.callback(browser.close)
        scene = Scene(site, domain, browser)
        until(scene.is_mirrored, what="the machine to be mirrored")
        yield scene


def add_viewer(site: Site) -> None:
    make = (
        "from kvmweb.models import User; User.objects.create_user({!r}, password={!r}, role={!r})"
    )
    site.manage("shell", "-c", make.format("victor", PASSWORD, "viewer"))


@pytest.fixture
def serial(scene: Scene) -> Iterator[Serial]:
    """The machine, booted freshly where it was off."""
    is_off = not scene.domain.isActive()
    if is_off:
        scene.domain.create()
    with Serial(scene.domain) as serial:
        if is_off:
            serial.expect(READY)
        yield serial


@pytest.fixture(scope="module")
def admin(scene: Scene) -> Iterator[BrowserContext]:
    context = scene.sign_in(viewport={"width": 1280, "height": 850}, accept_downloads=True)
    yield context
    context.close()


@pytest.fixture
def page(scene: Scene, admin: BrowserContext, serial: Serial) -> Iterator[Page]:
    """The console's own window, connected."""
    page = admin.new_page()
    page.goto(scene.address + "/screen")
    connected(page)
    yield page
    page.close()


@pytest.fixture
def victor(scene: Scene) -> Iterator[Page]:
    """A viewer's page."""
    context = scene.sign_in("victor")
    yield context.new_page()
    context.close()


@pytest.fixture
def phone(scene: Scene) -> Iterator[Page]:
    context = scene.sign_in(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    yield context.new_page()
    context.close()


def console(page: Page) -> Locator:
    return page.locator("[data-console]")


def connected(page: Page) -> None:
    expect(console(page)).to_have_attribute("data-phase", "connected", timeout=20_000)


def keys_go_to(page: Page, whom: str) -> None:
    expect(console(page)).to_have_attribute("data-keys", whom)


def release_keys(page: Page) -> None:
    for key in ("ControlLeft", "AltLeft"):
        page.keyboard.down(key)
    for key in ("AltLeft", "ControlLeft"):
        page.keyboard.up(key)


def paste(page: Page, text: str) -> None:
    page.get_by_role("button", name="Paste text").click()
    page.get_by_role("textbox", name="Text", exact=True).fill(text)
    page.get_by_role("button", name="Type", exact=True).click()


def tool(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def acting_frames(page: Page) -> list[bytes]:
    """Fills, from now on, with the messages of the page's consoles that act on the machine."""
    frames: list[bytes] = []
    page.on(
        "websocket",
        lambda socket: socket.on(
            "framesent", lambda frame: frame[:1] and frame[0] in ACTING and frames.append(frame)
        ),
    )
    return frames


def test_what_is_typed_reaches_the_guest(page: Page, serial: Serial) -> None:
    keys_go_to(page, "page")
    page.locator("canvas").click()
    keys_go_to(page, "guest")
    expect(page.get_by_text("Keys go to the machine", exact=True)).to_be_visible()
    type_line(page, "typed-here")
    serial.expect("typed-here")


def test_left_ctrl_and_alt_give_the_keys_back(page: Page, serial: Serial) -> None:
    page.locator("canvas").click()
    release_keys(page)
    keys_go_to(page, "page")
    expect(tool(page, "Type here")).to_be_focused()
    page.keyboard.press("Enter")
    keys_go_to(page, "guest")
    type_line(page, "no-key-is-stuck")
    serial.expect("no-key-is-stuck")


def test_ctrl_and_alt_with_another_key_belong_to_the_guest(page: Page) -> None:
    page.locator("canvas").click()
    page.keyboard.press("ControlLeft+AltLeft+KeyX")
    page.keyboard.press("ControlLeft+AltRight")  # what Windows makes of AltGr
    page.evaluate("new Promise((resolve) => setTimeout(resolve))")
    keys_go_to(page, "guest")


def test_a_key_held_while_the_focus_leaves_is_let_go(page: Page, serial: Serial) -> None:
    page.locator("canvas").click()
    page.keyboard.down("ShiftLeft")
    page.get_by_role("button", name="Release keys").click()
    page.keyboard.up("ShiftLeft")
    page.locator("canvas").click()
    type_line(page, "small-letters")
    serial.expect("small-letters")


def test_tab_never_gets_caught_in_the_screen(page: Page) -> None:
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.tagName"))
    assert "BUTTON" in seen
    assert not {"CANVAS", "TEXTAREA"} & seen


def test_a_pasted_text_arrives_whole(page: Page, serial: Serial) -> None:
    paste(page, f"echo '{ALL_CHARACTERS}' > /dev/ttyS0\n" * 3)
    expect(page.get_by_text(re.compile(r"^Typing \d+ of \d+$"))).to_be_visible()
    for _ in range(3):
        serial.expect(re.escape(ALL_CHARACTERS), seconds=40)
    expect(page.get_by_text(re.compile(r"^Typing"))).to_be_hidden()


def test_typing_can_be_stopped(page: Page, serial: Serial) -> None:
    paste(page, "#" * 2000)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text(re.compile(r"^Stopped after \d+ of 2000 characters$"))).to_be_visible()
    page.locator("canvas").click()
    page.keyboard.press("Control+KeyC")
    type_line(page, "stopped")
    serial.expect("stopped")


def test_characters_without_a_key_are_named_beforehand(page: Page) -> None:
    page.get_by_role("button", name="Paste text").click()
    page.get_by_role("textbox", name="Text", exact=True).fill("Grüße, 東")
    warning = page.get_by_text("No key of this layout makes these characters")
    expect(warning).to_contain_text("ü ß 東")
    page.get_by_label("Keyboard layout set in the guest").select_option("de")
    expect(warning).to_contain_text(": 東")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_the_screenshot_is_a_picture_of_the_screen(page: Page, tmp_path: Path) -> None:
    with page.expect_download() as download:
        tool(page, "Screenshot").click()
    assert re.fullmatch(r"screen-\d{4}-\d\d-\d\d-\d{6}\.png", download.value.suggested_filename)
    download.value.save_as(tmp_path / "shot.png")
    data = (tmp_path / "shot.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    size = struct.unpack(">II", data[16:24])
    assert list(size) == page.evaluate(
        "(({width, height}) => [width, height])(document.querySelector('canvas'))"
    )
    assert size[0] >= 640


def test_view_only_sends_nothing(page: Page, serial: Serial) -> None:
    frames = acting_frames(page)
    page.reload()
    connected(page)
    tool(page, "View only").click()
    frames.clear()
    page.locator("canvas").click()
    page.keyboard.type("unseen\n")
    keys_go_to(page, "page")
    expect(tool(page, "Paste text")).to_have_attribute("aria-disabled", "true")
    assert frames == []
    tool(page, "View only").click()
    page.locator("canvas").click()
    type_line(page, "seen")
    serial.expect("seen")
    assert "unseen" not in serial.text


def test_a_viewer_looks_on(scene: Scene, victor: Page, serial: Serial) -> None:
    frames = acting_frames(victor)
    victor.goto(scene.address + "/screen")
    connected(victor)
    expect(victor.get_by_text("Connected, view only")).to_be_visible()
    victor.locator("canvas").click()
    victor.keyboard.type("unseen\n")
    tool(victor, "Send keys").click(force=True)  # Playwright waits for ever where it is disabled
    expect(victor.get_by_text("Ctrl+Alt+Del")).to_be_hidden()
    why = "You are allowed to look at this console, not to use it."
    assert tool(victor, "Send keys").get_attribute("title") == why
    assert frames == []


def test_it_opens_in_the_machines_page_and_stays_through_its_changes(
    scene: Scene, admin: BrowserContext, serial: Serial
) -> None:
    page = admin.new_page()
    page.goto(scene.address + "/console")
    box = page.locator(".console-box")
    before = box.bounding_box()
    connected(page)
    assert box.bounding_box() == before, "the page jumped when the console connected"
    page.evaluate("document.querySelector('canvas').dataset.first = ''")
    scene.domain.suspend()
    expect(page.get_by_text("paused", exact=True).first).to_be_visible()
    scene.domain.resume()
    expect(page.get_by_text("running", exact=True).first).to_be_visible()
    expect(page.locator("canvas[data-first]")).to_be_visible()
    page.close()


def test_a_second_one_opens_in_a_window_of_its_own(
    scene: Scene, admin: BrowserContext, serial: Serial
) -> None:
    page = admin.new_page()
    page.goto(scene.address + "/console")
    connected(page)
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Open in a window of its own").click()
    connected(popup.value)
    expect(popup.value).to_have_title("screen")
    connected(page)
    popup.value.close()
    page.close()


def test_full_screen_keeps_its_tools_within_reach(page: Page) -> None:
    bar = page.locator(".console-bar")
    tool(page, "Full screen").click()
    expect(tool(page, "Full screen")).to_have_attribute("aria-pressed", "true")
    page.locator("canvas").click()
    until(lambda: (bar.bounding_box() or {"y": 0})["y"] < -20, what="the bar to go away")
    page.mouse.move(640, 2)
    until(lambda: (bar.bounding_box() or {"y": -1})["y"] == 0, what="the bar to come back")
    tool(page, "Full screen").click()
    expect(tool(page, "Full screen")).to_have_attribute("aria-pressed", "false")


def test_native_size_shows_pixel_by_pixel_and_is_remembered(page: Page) -> None:
    measure = "(({width, clientWidth}) => clientWidth / width)(document.querySelector('canvas'))"
    assert page.evaluate(measure) > 1
    tool(page, "Fit").click()
    assert page.evaluate(measure) == 1
    page.reload()
    connected(page)
    expect(tool(page, "Fit")).to_have_attribute("aria-pressed", "false")
    tool(page, "Fit").click()


def test_a_phone_types_with_its_own_keyboard(scene: Scene, phone: Page, serial: Serial) -> None:
    phone.goto(scene.address + "/screen")
    connected(phone)
    expect(tool(phone, "Paste text")).to_be_hidden()
    tool(phone, "Tools").tap()
    expect(tool(phone, "Paste text")).to_be_visible()
    tool(phone, "On-screen keyboard").tap()
    keys_go_to(phone, "guest")
    phone.keyboard.insert_text("echo Soft-KEYS > /dev/ttyS00")
    phone.keyboard.press("Backspace")
    phone.keyboard.press("Enter")
    serial.expect("Soft-KEYS")
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_is_gone_when_the_machine_is_off_and_back_when_it_starts(
    scene: Scene, page: Page, serial: Serial
) -> None:
    page.locator("canvas").click()
    scene.domain.destroy()
    expect(page.get_by_text("The machine is shut off", exact=True).last).to_be_visible()
    scene.domain.create()
    connected(page)
    with Serial(scene.domain) as again:
        again.expect(READY)
        keys_go_to(page, "guest")
        type_line(page, "back-again")
        again.expect("back-again")


def test_it_is_back_after_an_off_too_short_to_be_seen(
    scene: Scene, page: Page, serial: Serial
) -> None:
    scene.domain.destroy()
    scene.domain.create()
    with Serial(scene.domain) as again:
        again.expect(READY)
        connected(page)
        page.locator("canvas").click()
        keys_go_to(page, "guest")
        type_line(page, "back-again")
        again.expect("back-again")


def test_ctrl_alt_del_reaches_the_guest_and_start_brings_it_back(
    scene: Scene, page: Page, serial: Serial
) -> None:
    tool(page, "Send keys").click()
    page.get_by_role("button", name="Ctrl+Alt+Del").click()
    start = tool(page, "Start")
    expect(start).to_be_visible(timeout=30_000)
    assert not scene.domain.isActive()
    start.click()
    connected(page)
    with Serial(scene.domain) as again:
        again.expect(READY)


def test_it_stays_while_the_guest_reboots(scene: Scene, page: Page, serial: Serial) -> None:
    scene.domain.reset()
    serial.expect(READY)
    connected(page)
    page.locator("canvas").click()
    type_line(page, "rebooted")
    serial.expect("rebooted")


def test_it_comes_back_when_the_site_does(scene: Scene, page: Page, serial: Serial) -> None:
    scene.site.stop()
    expect(page.get_by_text(re.compile("Trying again")).first).to_be_visible()
    scene.site.start()
    connected(page)


def test_it_says_why_it_was_closed_and_does_not_insist(
    scene: Scene, victor: Page, serial: Serial
) -> None:
    victor.goto(scene.address + "/screen")
    connected(victor)
    give_role(scene, "")
    expect(console(victor)).to_have_attribute("data-phase", "ended", timeout=10_000)
    expect(victor.get_by_role("status").filter(has_text="Disconnected. Your perm")).to_be_visible()
    give_role(scene, "viewer")
    tool(victor, "Reconnect").click()
    connected(victor)


def give_role(scene: Scene, role: str) -> None:
    change = f"User.objects.filter(username='victor').update(role='{role}')"
    scene.site.manage("shell", "-c", f"from kvmweb.models import User; {change}")


def test_leaving_the_page_closes_the_console(scene: Scene, page: Page) -> None:
    page.goto(scene.site.url + "/machines/")
    until(lambda: last_ending(scene) == "The browser left.", what="the console to be closed")


def last_ending(scene: Scene) -> str:
    last = "print(ConsoleSession.objects.latest('opened').close_reason)"
    program = f"from kvmweb.models import ConsoleSession; {last}"
    return scene.site.manage("shell", "-v0", "-c", program).strip()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Page, theme: str) -> None:
    page.evaluate(f"document.documentElement.dataset.bsTheme = '{theme}'")
    page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")
    page.locator("canvas").click()
    page.evaluate(AXE())
    found = page.evaluate("axe.run().then((result) => result.violations)")
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert serious == [], json.dumps(serious, indent=1)
