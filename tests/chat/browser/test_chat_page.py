"""The chat page in a real browser, against the real server."""

import pytest

expect = pytest.importorskip("playwright.sync_api").expect


def test_a_reply_streams_in(open_page):
    page = open_page()
    page.get_by_label("Your message").fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Good reply")).to_be_visible()
