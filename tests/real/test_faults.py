"""What happens when libvirt or the site itself fails: the sentence people see, and nothing lost."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import libvirt
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.browser.chromium import launch, sign_in
from tests.guest import domain_xml
from tests.libvirtd import PrivateLibvirtd
from tests.site import Site
from tests.waiting import until


@pytest.fixture(scope="module")
def daemon() -> Iterator[PrivateLibvirtd]:
    """Apart from the other tests': here it is killed and frozen."""
    with PrivateLibvirtd() as own:
        yield own


@pytest.fixture(scope="module")
def site(daemon: PrivateLibvirtd) -> Iterator[Site]:
    with Site(uri=daemon.uri) as running:
        yield running


@pytest.fixture
def api(site: Site, daemon: PrivateLibvirtd) -> Iterator[httpx.Client]:
    daemon.start()
    with site.api() as client:
        until(lambda: host(client)["state"] == "connected", seconds=40)
        yield client


def host(api: httpx.Client) -> dict[str, str]:
    found: dict[str, str] = api.get("/hosts/local").json()
    return found


@contextmanager
def machine(daemon: PrivateLibvirtd, name: str) -> Iterator[libvirt.virDomain]:
    """A running machine without any system on it: it ignores its power button."""
    connection = libvirt.open(daemon.uri)
    dom = connection.defineXML(domain_xml(name))
    dom.create()
    connection.close()
    try:
        yield dom.UUIDString()
    finally:
        connection = libvirt.open(daemon.uri)
        try:
            dom = connection.lookupByName(name)
            if dom.isActive():
                dom.destroy()
            dom.undefine()
        except libvirt.libvirtError:
            pass  # the test itself removed it
        connection.close()


def state(api: httpx.Client, uuid: str) -> str:
    answer = api.get(f"/machines/{uuid}")
    return str(answer.json()["state"]) if answer.status_code == 200 else ""


def test_a_killed_libvirtd_is_told_of_and_found_again(
    api: httpx.Client, daemon: PrivateLibvirtd
) -> None:
    with machine(daemon, "survivor") as uuid:
        until(lambda: state(api, uuid) == "running")
        daemon.kill()
        until(lambda: host(api)["state"] == "unreachable")
        assert "stopped, restarted or killed" in host(api)["state_reason"] or (
            "No libvirt daemon listens" in host(api)["state_reason"]
        )
        assert state(api, uuid) == "running"  # the last truth known
        refused = api.post(f"/machines/{uuid}/force_off")
        assert refused.status_code == 409
        assert "The host local can't be reached" in refused.json()["detail"]
        daemon.start()
        until(lambda: host(api)["state"] == "connected", seconds=40)
        assert state(api, uuid) == "running"
        assert api.post(f"/machines/{uuid}/force_off").json()["state"] == "done"


def test_a_frozen_libvirtd_holds_up_no_page_and_is_noticed(
    api: httpx.Client, site: Site, daemon: PrivateLibvirtd
) -> None:
    with machine(daemon, "still") as uuid:
        until(lambda: state(api, uuid) == "running")
        daemon.freeze()
        try:
            job = api.post(f"/machines/{uuid}/force_off", headers={"Prefer": "respond-async"})
            with site.browser_session() as browser:
                for page in ("/machines/", f"/machines/{uuid}", "/hosts/", "/storage/"):
                    assert browser.get(page, timeout=5).status_code == 200
            until(lambda: host(api)["state"] == "unreachable", seconds=40)
            assert "does not answer any more" in host(api)["state_reason"]
        finally:
            daemon.thaw()
        until(lambda: host(api)["state"] == "connected", seconds=60)
        ended = until(lambda: _ended(api, job.json()["id"]), seconds=60)
        assert ended["state"] == "failed"
        assert "connection to the host was lost" in ended["error"]
        # Whether libvirt still did what it was asked, the page shows what is true.
        dom = libvirt.open(daemon.uri).lookupByName("still")
        until(lambda: state(api, uuid) == ("running" if dom.isActive() else "shutoff"))


def test_a_restart_ends_the_job_that_waits_with_a_sentence(
    api: httpx.Client, daemon: PrivateLibvirtd
) -> None:
    with machine(daemon, "deaf") as uuid:
        until(lambda: state(api, uuid) == "running")
        job = api.post(f"/machines/{uuid}/shut_down")
        assert job.status_code == 202
        daemon.restart()
        ended = until(lambda: _ended(api, job.json()["id"]), seconds=40)
        assert ended["state"] == "failed"
        assert "connection to the host was lost" in ended["error"]
        until(lambda: host(api)["state"] == "connected", seconds=40)
        assert state(api, uuid) == "running"


def test_force_off_overrules_a_shutdown_the_guest_ignores(
    api: httpx.Client, daemon: PrivateLibvirtd
) -> None:
    with machine(daemon, "stubborn") as uuid:
        until(lambda: state(api, uuid) == "running")
        waiting = api.post(f"/machines/{uuid}/shut_down")
        assert waiting.status_code == 202
        forced = api.post(f"/machines/{uuid}/force_off")
        assert (forced.status_code, forced.json()["state"]) == (200, "done")
        assert until(lambda: _ended(api, waiting.json()["id"]))["state"] == "cancelled"


def test_two_browsers_that_press_one_button_make_one_change(
    api: httpx.Client, daemon: PrivateLibvirtd
) -> None:
    with machine(daemon, "pressed") as uuid:
        until(lambda: state(api, uuid) == "running")
        answers: list[httpx.Response] = []
        presses = [
            threading.Thread(target=lambda: answers.append(api.post(f"/machines/{uuid}/shut_down")))
            for _ in range(2)
        ]
        for press in presses:
            press.start()
        for press in presses:
            press.join()
        assert sorted(answer.status_code for answer in answers) == [202, 409]
        refused = next(answer for answer in answers if answer.status_code == 409)
        assert "already under way for pressed" in refused.json()["detail"]
        jobs = api.get("/jobs", params={"machine": uuid}).json()["items"]
        assert len(jobs) == 1


def test_a_machine_undefined_outside_leaves_a_page_that_says_so(
    api: httpx.Client, site: Site, daemon: PrivateLibvirtd
) -> None:
    with machine(daemon, "fleeting") as uuid, sync_playwright() as playwright:
        until(lambda: state(api, uuid) == "running")
        browser = launch(playwright)
        page = browser.new_page()
        sign_in(page, site)
        page.goto(f"{site.url}/machines/{uuid}")
        expect(page.get_by_role("button", name="Pause")).to_be_enabled()
        dom = libvirt.open(daemon.uri).lookupByName("fleeting")
        dom.undefine()
        dom.destroy()
        expect(page.get_by_text("was removed").first).to_be_visible()
        browser.close()
        assert api.post(f"/machines/{uuid}/pause").status_code == 404


def test_a_killed_site_marks_its_job_lost_and_reads_the_truth_again(
    api: httpx.Client, site: Site, daemon: PrivateLibvirtd
) -> None:
    with machine(daemon, "orphan") as uuid:
        until(lambda: state(api, uuid) == "running")
        job = api.post(f"/machines/{uuid}/shut_down").json()
        until(lambda: api.get(f"/jobs/{job['id']}").json()["state"] == "running")
        site.kill()
        libvirt.open(daemon.uri).lookupByName("orphan").destroy()
        site.start()
        until(lambda: host(api)["state"] == "connected", seconds=40)
        ended = until(lambda: _ended(api, job["id"]))
        assert ended["state"] == "lost"
        assert "stopped in the middle" in ended["error"]
        assert state(api, uuid) == "shutoff"


def _ended(api: httpx.Client, job: str) -> dict[str, str] | None:
    found: dict[str, str] = api.get(f"/jobs/{job}").json()
    return None if found["state"] in ("queued", "running") else found
