"""The system's Chromium, driven by Playwright."""

from playwright.sync_api import Browser, Page, Playwright

from tests.site import PASSWORD, Site

# The rest keeps it from calling home, which a machine without a way out refuses many times over.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)


def sign_in(page: Page, site: Site, user: str = "admin", password: str = PASSWORD) -> None:
    """Through the sign-in page, as a person would."""
    page.goto(f"{site.url}/accounts/login/")
    page.fill("input[name=login]", user)
    page.fill("input[name=password]", password)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(lambda url: "/accounts/login" not in url)
