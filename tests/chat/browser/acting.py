"""What a person does on the chat page."""

import pytest

expect = pytest.importorskip("playwright.sync_api").expect

LONGER = "([before]) => document.querySelector('.reply .markdown')?.textContent.length > before"


def say(page, text):
    page.get_by_label("Your message", exact=True).fill(text)
    page.keyboard.press("Enter")


def complete(page, replies=1):
    """Wait until so many replies are there and none is on its way."""
    expect(page.locator(".reply")).to_have_count(replies)
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    expect(page.locator(".pending")).to_have_count(0)


def press(page, name, at=-1):
    page.get_by_role("button", name=name, exact=True).nth(at).click()


def stored(site, page):
    return site.store.messages(page.url.split("#")[1])
