"""The chat page in a real browser, against the real server: replies, branches, the list, notices."""

import re

import pytest

from tests.chat.browser.acting import LONGER, complete, press, say, stored
from tests.chat.browser.conftest import LONG, ready
from tests.chat.serving_world import wait_until
from tests.chat.stored import talk

expect = pytest.importorskip("playwright.sync_api").expect


def test_a_reply_streams_and_stops_in_the_engine_too(open_page, site):
    page = open_page(settings=LONG)
    say(page, "A long story, please")
    page.wait_for_function(LONGER, arg=[0])
    length = len(page.locator(".reply .markdown").inner_text())
    page.wait_for_function(LONGER, arg=[length])
    expect(page.locator("#live")).to_have_text("Generating the reply")
    assert page.get_by_role("article").last.get_attribute("aria-busy") == "true"
    press(page, "Stop generating")
    expect(page.locator(".note")).to_have_text("Stopped")
    expect(page.locator("#live")).to_have_text(re.compile("^Stopped: "))
    assert wait_until(lambda: site.service.engine.stats().active == 0 and site.running.streams == 0)
    asked, reply = stored(site, page)
    assert (asked.content, reply.finish_reason) == ("A long story, please", "cancelled")
    assert page.locator(".reply .markdown").inner_text() == reply.content


def test_the_end_of_a_reply_is_said_and_shown(open_page, site):
    page = open_page(settings={"temperature": 0})
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    say(page, "Hello")
    complete(page)
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_hidden()
    reply = stored(site, page)[1]
    expect(page.locator("#live")).to_have_text(f"Reply complete: {reply.content}")
    expect(page.locator(".note")).to_have_text("Cut at the limit of tokens")
    press(page, "How it was made")
    expect(page.locator(".details > div")).to_contain_text(
        ["Versionppo", "Temperature0", "Top-p1", "Seed", "8 of reply"]
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("Hello")


def test_another_reply_is_another_branch(open_page, site):
    page = open_page()
    say(page, "Hello")
    complete(page)
    press(page, "Another reply")
    expect(page.locator(".branches").last).to_contain_text("2/2")
    complete(page)
    first, second = [message.content for message in stored(site, page) if message.role == "assistant"]
    expect(page.locator(".reply .markdown")).to_have_text(second)
    press(page, "Previous version")
    expect(page.locator(".reply .markdown")).to_have_text(first)
    page.reload()
    ready(page)
    expect(page.locator(".reply .markdown")).to_have_text(first)  # the branch that was chosen
    press(page, "Another reply")
    complete(page)
    expect(page.locator(".branches").last).to_contain_text("3/3")
    page.reload()
    ready(page)
    expect(page.locator(".branches").last).to_contain_text("3/3")


def test_editing_makes_a_branch_and_loses_nothing(open_page, site):
    page = open_page()
    say(page, "One")
    complete(page)
    say(page, "Two")
    complete(page, 2)
    press(page, "Edit and send again", 0)
    editor = page.get_by_label("Edit your message")
    expect(editor).to_have_value("One")
    editor.fill("Uno")
    page.keyboard.press("Enter")
    expect(page.locator(".bubble")).to_have_text(["Uno"])
    complete(page)
    press(page, "Previous version", 0)
    expect(page.locator(".bubble")).to_have_text(["One", "Two"])
    press(page, "Next version", 0)
    expect(page.locator(".bubble")).to_have_text(["Uno"])
    messages = stored(site, page)
    assert [m.content for m in messages if m.role == "user"] == ["One", "Two", "Uno"]
    assert [m.parent for m in messages if m.content in ("One", "Uno")] == [None, None]
    assert len(messages) == 6
    press(page, "Edit and send again")
    page.get_by_label("Edit your message").fill("Nothing")
    page.keyboard.press("Escape")
    expect(page.locator(".bubble")).to_have_text(["Uno"])
    expect(page.get_by_role("button", name="Edit and send again")).to_be_focused()


def test_an_edit_waits_while_a_reply_is_made(open_page):
    page = open_page(settings=LONG)
    say(page, "One")
    page.wait_for_function(LONGER, arg=[0])
    press(page, "Edit and send again")
    page.get_by_label("Edit your message").fill("Two")
    page.keyboard.press("Enter")
    expect(page.locator("#live")).to_have_text("A reply is on its way: stop it first")
    expect(page.get_by_label("Edit your message")).to_have_value("Two")
    press(page, "Stop generating")
    expect(page.locator(".note")).to_have_text("Stopped")


def test_a_conversation_goes_on_while_another_is_read(open_page, site):
    page = open_page(settings=LONG)
    say(page, "The long one")
    page.wait_for_function(LONGER, arg=[0])
    press(page, "New chat", 0)
    expect(page.locator(".message")).to_have_count(0)
    assert site.running.streams == 1
    page.get_by_role("link", name="The long one").click()
    page.wait_for_function(LONGER, arg=[20])
    press(page, "Stop generating")
    expect(page.locator(".note")).to_have_text("Stopped")


def test_leaving_the_page_stops_the_reply_and_keeps_it(open_page, site):
    page = open_page(settings=LONG)
    say(page, "Hello")
    page.wait_for_function(LONGER, arg=[0])
    page.reload()
    ready(page)
    expect(page.locator(".note")).to_have_text("Stopped")
    assert wait_until(lambda: site.service.engine.stats().active == 0)
    assert [message.finish_reason for message in stored(site, page)] == [None, "cancelled"]


def test_what_was_never_answered_can_be(open_page, site):
    page = open_page()
    asked = talk(site.store, site.user_of(page), "Is anybody there?")[0]
    site.show(page, asked.conversation)
    press(page, "Get a reply")
    complete(page)
    assert [message.parent for message in stored(site, page)] == [None, asked.id]
    expect(page.get_by_role("button", name="Get a reply")).to_have_count(0)


def test_copy(open_page, site):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    text = "Look:\n\n```python\nprint(1)\n```"
    site.show(page, talk(site.store, site.user_of(page), "Code?", text)[0].conversation)
    pasted = "navigator.clipboard.readText()"
    press(page, "Copy the code")
    expect(page.locator("#live")).to_have_text("Copied")
    assert page.evaluate(pasted) == "print(1)\n"
    press(page, "Copy the message", -1)
    page.wait_for_function(f"async () => (await {pasted}).startsWith('Look')")
    assert page.evaluate(pasted) == text


MARKDOWN = """# Title

**bold** *soft* ~~gone~~ `code` [a link](https://example.com/x) https://example.org

1. one
   - nested
2. two

> said

| a | b |
|---|--:|
| 1 | 2 |

---

```py
x = "<b>"
```

![a picture](https://evil.example/x.png) <b>no HTML</b>"""


def test_markdown_becomes_elements(open_page, site):
    page = open_page()
    site.show(page, talk(site.store, site.user_of(page), "**Mine** stays", MARKDOWN)[0].conversation)
    expect(page.locator(".bubble")).to_have_text("**Mine** stays")
    reply = page.locator(".reply .markdown")
    for selector, text in {
        "h3": "Title", "strong": "bold", "em": "soft", "del": "gone", "p > code": "code", "ol ul li": "nested",
        "blockquote": "said", "td >> nth=1": "2", "pre code": 'x = "<b>"', "figcaption span": "py",
    }.items():  # fmt: skip
        expect(reply.locator(selector)).to_have_text(text)
    links = reply.get_by_role("link").all()
    assert [link.get_attribute("href") for link in links] == [
        "https://example.com/x", "https://example.org/", "https://evil.example/x.png"]  # fmt: skip
    assert {link.get_attribute("rel") for link in links} == {"noopener noreferrer"}
    expect(reply).to_contain_text("Image: a picture <b>no HTML</b>")
    expect(reply.locator("img, b")).to_have_count(0)


def test_conversations_are_listed_renamed_and_deleted_with_a_way_back(open_page, site):
    page = open_page()
    user = site.user_of(page)
    first, second = (talk(site.store, user, name, "Yes")[0].conversation for name in ("First", "Second"))
    site.show(page, first)
    nav = page.get_by_role("navigation", name="Your conversations")
    expect(nav.get_by_role("link")).to_have_text(["Second", "First"])
    expect(nav.locator("[aria-current=page]")).to_have_text("First")
    nav.get_by_role("link", name="First").hover()
    press(page, "Rename “First”")
    page.get_by_label("New name").fill("Renamed")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Renamed")
    assert site.store.conversation(first).title == "Renamed"

    nav.get_by_role("link", name="Renamed").hover()
    press(page, "Delete “Renamed”")
    expect(nav.get_by_role("link")).to_have_text(["Second"])
    expect(page.locator(".message")).to_have_count(0)
    press(page, "Undo")
    expect(nav.get_by_role("link")).to_have_text(["Second", "Renamed"])
    expect(page.locator(".message")).to_have_count(2)
    assert not site.store.conversation(first).hidden

    nav.get_by_role("link", name="Second").hover()
    press(page, "Delete “Second”")
    press(page, "Dismiss")  # the way back is gone
    assert wait_until(lambda: site.store.conversation(second).hidden)
    page.reload()
    ready(page)
    expect(nav.get_by_role("link")).to_have_text(["Renamed"])
    nav.get_by_role("link", name="Renamed").hover()
    press(page, "Delete “Renamed”")
    page.goto("about:blank")  # leaving settles it
    assert wait_until(lambda: site.store.conversation(first).hidden)


def test_settings_go_into_the_request_and_stay(open_page, site):
    page = open_page()
    press(page, "Settings of the replies")
    page.get_by_label("Longest reply, in tokens").fill("3")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Seed").fill("-1")
    expect(page.get_by_role("alert").filter(has_text="Not changed.")).to_be_visible()
    press(page, "Done")
    expect(page.locator("#settings-note")).to_have_text("3 changed")
    page.reload()
    ready(page)
    say(page, "Hello")
    complete(page)
    reply = stored(site, page)[1]
    assert reply.completion_tokens == 3
    assert {name: reply.settings[name] for name in ("max_tokens", "seed", "temperature", "top_p")} == {
        "max_tokens": 3, "seed": 7, "temperature": 0.5, "top_p": 1.0}  # fmt: skip
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    press(page, "Back to the defaults")
    expect(page.get_by_label("Seed")).to_have_value("")
    page.keyboard.press("Escape")
    expect(page.locator("#settings-note")).to_be_empty()


def test_notices(open_page, site):
    page = open_page()
    user = site.user_of(page)
    old = [text for i in range(12) for text in (f"{i} " + "What is a cat? " * 100, "A cat is an animal. " * 60)]
    site.show(page, talk(site.store, user, *old)[0].conversation)
    say(page, "And now?")
    complete(page, 13)
    dropped = stored(site, page)[-1].settings["dropped_turns"]
    assert dropped > 0
    notice = page.get_by_text(f"The oldest {dropped} turns were left out")
    expect(notice).to_be_visible()
    page.reload()
    ready(page)
    expect(notice).to_be_visible()

    press(page, "New chat", 0)
    say(page, "Oh fuck")
    complete(page)
    expect(page.locator(".note")).to_have_text("Held back by the guardrails; nothing is learned from it")
    expect(page.get_by_role("button", name="Good reply")).to_have_count(0)
    late = {"finish_reason": "cancelled", "settings": {"timed_out": True}}
    site.show(page, talk(site.store, user, "Slow?", "Ye", **late)[0].conversation)
    expect(page.locator(".note")).to_have_text("The reply took too long and was stopped.")
    site.show(page, talk(site.store, user, "Broken?", "Ye", finish_reason="error")[0].conversation)
    expect(page.locator(".note")).to_have_text("The reply broke off")
