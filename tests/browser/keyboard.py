"""Typing into a guest through the page."""

from playwright.sync_api import Page


def type_line(page: Page, word: str) -> None:
    """``echo word > /dev/ttyS0``, with the Shift key that Playwright's ``type`` leaves out."""
    page.keyboard.type(f"echo {word} ", delay=20)
    page.keyboard.press("Shift+Period")
    page.keyboard.type(" /dev/tty", delay=20)
    page.keyboard.press("Shift+KeyS")
    page.keyboard.type("0\n", delay=20)
