"""The chat page where the server refuses, breaks off, or is not there."""

import pytest

from tests.chat.browser.acting import complete, press, say, stored
from tests.chat.browser.conftest import REFUSED
from tests.chat.stored import talk

expect = pytest.importorskip("playwright.sync_api").expect


def test_a_message_that_is_refused_comes_back(open_page, site):
    page = open_page(settings={"max_tokens": 4090})
    page.watch.allowed.append(REFUSED)
    say(page, "What is a cat? And a dog?")
    toast = page.locator(".toast.error")
    expect(toast).to_contain_text("The message is too long for the model. Found: ")
    expect(toast).to_contain_text("Expected: message and reply together at most 4096 tokens, the model's context.")
    expect(toast).to_contain_text("Shorten the message")
    expect(page.get_by_label("Your message", exact=True)).to_have_value("What is a cat? And a dog?")
    expect(page.locator(".message")).to_have_count(0)
    page.get_by_label("Your message", exact=True).fill("x" * 8001)
    expect(page.locator("#count")).to_have_text("8001 of 8000 characters")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Send", exact=True)).to_have_attribute("aria-disabled", "true")
    expect(page.locator(".message")).to_have_count(0)


def test_a_busy_server_is_asked_again(open_page, site):
    page = open_page()
    page.watch.allowed.append(REFUSED)
    keys = []

    def busy(route):
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) > 1:
            return route.continue_()
        error = {"error": {"code": "busy", "message": "Too many wait.", "todo": "Try again."}}
        return route.fulfill(status=429, json=error, headers={"Retry-After": "1"})

    page.route("**/messages", busy)
    say(page, "Hello")
    expect(page.get_by_text("The server is busy. Trying again in 1 s.")).to_be_visible()
    complete(page)
    assert len(keys) == 2 and keys[0] == keys[1]
    expect(page.locator(".toast")).to_have_count(0)


def test_the_server_is_gone_and_back(open_page):
    page = open_page()
    page.watch.allowed.append(REFUSED)
    page.context.set_offline(True)
    say(page, "Hello")
    expect(page.locator(".toast.error").first).to_contain_text("The server cannot be reached.")
    expect(page.get_by_label("Your message", exact=True)).to_have_value("Hello")
    page.context.set_offline(False)
    page.keyboard.press("Enter")
    complete(page)


def test_a_reply_that_breaks_off_can_be_tried_again(open_page, site):
    passes = []

    def broken(*_):
        passes.append(1)
        if len(passes) > 5:
            raise RuntimeError("the network is on fire")

    page = open_page(settings={"temperature": 0})
    with site.service.engine._fleet.role("ppo") as model:
        hook = model.base_model.register_forward_pre_hook(broken)
    try:
        say(page, "Hello")
        expect(page.locator(".note.warning")).to_have_text("The reply could not be finished. Ask again.")
    finally:
        hook.remove()
    expect(page.locator("#live")).to_have_text("No reply: The reply could not be finished.")
    expect(page.locator(".reply .markdown")).not_to_be_empty()
    press(page, "Try again")
    expect(page.locator(".branches").last).to_contain_text("2/2")
    complete(page)
    assert [message.finish_reason for message in stored(site, page)] == [None, "error", "length"]


def test_a_server_that_was_started_anew_knows_nobody(open_page):
    page = open_page()
    page.watch.allowed.append(REFUSED)
    page.context.clear_cookies()
    say(page, "Hello")
    expect(page.locator(".toast.error").first).to_contain_text("token")


def test_somebody_elses_conversation_is_not_there(open_page, site):
    page, other = open_page(), open_page()
    page.watch.allowed.append(REFUSED)
    hers = talk(site.store, site.user_of(other), "A secret", "Psst")[0].conversation
    page.goto(f"{site.url}#{hers}")
    expect(page.locator(".toast.error")).to_be_visible()
    expect(page.locator(".message")).to_have_count(0)
