"""What people and models write is shown, never run: on every way on which a text reaches the chat page."""

import json
import re

import pytest

from rlhf.chat.feedback import Rating
from tests.chat.browser.conftest import REFUSED, ready
from tests.chat.browser.payloads import PAYLOADS, assert_harmless
from tests.chat.stored import talk

expect = pytest.importorskip("playwright.sync_api").expect


def test_there_are_enough():
    assert len(set(PAYLOADS)) >= 30


def test_what_the_user_says(open_page, site):
    """Typed in, sent and edited; then all that was said before."""
    page = open_page(settings={"max_tokens": 1})
    box = page.get_by_label("Your message", exact=True)
    typed = PAYLOADS[::4]
    for i, payload in enumerate(typed, 1):
        box.fill(payload)
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.locator(".reply")).to_have_count(i)
        expect(page.locator(".pending")).to_have_count(0)
    assert_harmless(page)
    asked = [m.content for m in site.store.messages(page.url.split("#")[1]) if m.role == "user"]
    assert asked == [payload.strip() for payload in typed]
    texts = [text for payload in PAYLOADS for text in (payload, "Yes")]
    site.show(page, talk(site.store, site.user_of(page), *texts)[0].conversation)
    expect(page.locator(".bubble")).to_have_count(len(PAYLOADS))
    assert page.locator(".bubble").first.inner_text() == PAYLOADS[0]
    for button in page.get_by_role("button", name="Edit and send again").all()[::8]:
        button.click()
    assert page.get_by_label("Edit your message").first.input_value() == PAYLOADS[0]
    assert_harmless(page)


def test_what_the_model_says_as_it_comes(open_page):
    """Letter by letter, so that every beginning of a payload is shown, too; then as it was replaced."""
    page = open_page()
    message = {"role": "assistant", "parent": "u", "version": "ppo", "settings": {}, "finish_reason": "stop"}
    whole = "\n\n".join(PAYLOADS)

    def stream(route):
        said = route.request.post_data_json["content"]
        asked = {"id": "u", "parent": None, "role": "user", "content": said, "settings": {}}
        events = [("start", {"turn": "t", "user_message": asked, "reply_id": "r"})]
        events += [("delta", {"text": letter}) for payload in PAYLOADS for letter in f"{payload}\n\n"]
        events += [("replace", {"text": whole}), ("done", {"message": {"id": "r", "content": whole, **message}})]
        body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
        route.fulfill(body=body, content_type="text/event-stream")

    page.route("**/messages", stream)
    page.get_by_label("Your message", exact=True).fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Good reply")).to_be_visible()
    assert_harmless(page)
    text = """async (payloads) => {
      const { renderMarkdown } = await import("/static/js/markdown.js");
      const box = document.body.appendChild(document.createElement("div"));
      for (const payload of payloads)
        for (let end = 1; end <= payload.length; end++) renderMarkdown(box, payload.slice(0, end));
    }"""
    page.evaluate(text, list(PAYLOADS))
    assert_harmless(page)


def test_what_the_model_said(open_page, site):
    page = open_page()
    texts = [text for payload in PAYLOADS for text in ("What?", payload)]
    site.show(page, talk(site.store, site.user_of(page), *texts)[0].conversation)
    replies = page.locator(".reply .markdown")
    expect(replies).to_have_count(len(PAYLOADS))
    expect(replies.nth(0)).to_have_text(PAYLOADS[0])
    expect(replies.nth(PAYLOADS.index("[a link](javascript:__ran.push(1))"))).to_contain_text("a link")
    for button in page.get_by_role("button", name="How it was made").all()[-3:]:
        button.click()
    assert_harmless(page)


def test_titles(open_page, site):
    page = open_page()
    user = site.user_of(page)
    made = [talk(site.store, user, payload, "Yes")[0].conversation for payload in PAYLOADS]
    site.show(page, made[0])
    expect(page.get_by_role("navigation", name="Your conversations").get_by_role("link")).to_have_count(len(PAYLOADS))
    expect(page.get_by_role("heading", level=1)).to_have_text(PAYLOADS[0])
    page.get_by_role("link", name=PAYLOADS[0], exact=True).focus()
    page.keyboard.press("F2")
    page.get_by_label("New name").fill(PAYLOADS[3])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(PAYLOADS[3])
    page.keyboard.press("Delete")
    expect(page.locator(".toast")).to_contain_text(PAYLOADS[3])
    assert_harmless(page)


def test_ratings(open_page, site):
    page = open_page()
    user = site.user_of(page)
    messages = talk(site.store, user, *[text for _ in PAYLOADS for text in ("What?", "That.")])
    for payload, reply in zip(PAYLOADS, messages[1::2], strict=True):
        site.store.rate(user, reply.id, Rating(thumb=-1, correction=payload, comment=payload))
    site.show(page, messages[0].conversation)
    expect(page.locator(".saved")).to_contain_text([re.compile("corrected, with a comment")] * len(PAYLOADS))
    for button in page.get_by_role("button", name="Change").all():
        button.click()
    expect(page.get_by_label("What it should have said")).to_have_count(len(PAYLOADS))
    expect(page.get_by_label("What it should have said").first).to_have_value(PAYLOADS[0])
    page.get_by_label("Comment").first.fill(PAYLOADS[5])
    page.get_by_role("button", name="Save", exact=True).first.click()
    expect(page.get_by_role("textbox", name="Comment")).to_have_count(len(PAYLOADS) - 1)
    assert site.store.rating(user, messages[1].id).comment == PAYLOADS[5]
    assert_harmless(page)


def test_errors(open_page):
    page = open_page()
    page.watch.allowed.append(REFUSED)
    left = list(PAYLOADS)

    def refuse(route):
        payload = left.pop()
        error = {"code": payload, "message": payload, "expected": payload, "todo": payload}
        route.fulfill(status=400, json={"error": error})

    page.route("**/messages", refuse)
    for i in range(1, 6):
        page.get_by_label("Your message", exact=True).fill("Hello")
        page.keyboard.press("Enter")
        expect(page.locator(".toast.error")).to_have_count(i)
    assert_harmless(page)


def test_the_address(open_page, site):
    page = open_page()
    page.watch.allowed.append(REFUSED)
    for payload in PAYLOADS[:3]:
        page.goto("about:blank")
        page.goto(f"{site.url}#{payload}")
        ready(page)
        expect(page.locator(".toast.error")).to_have_count(1)
    assert_harmless(page)
