"""The duel page in a real browser: two answers at once, a choice by key or button, the names after it, and undo."""

import json
import re

import pytest

from tests.chat.browser.conftest import LONG, PHONE, REFUSED, ready
from tests.chat.browser.payloads import PAYLOADS, assert_harmless
from tests.chat.browser.test_accessibility import CONTRAST, UNNAMED

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture
def duels(open_page):
    """Opens the duel page: `duels(settings=…, **how)`."""

    def open_duels(**how):
        page = open_page("duel", **how)
        ready(page)
        return page

    return open_duels


def with_length(route, max_tokens):
    return json.dumps(route.request.post_data_json | {"settings": {"max_tokens": max_tokens}})


def state(page, name):
    expect(page.locator(f"main[data-state={name}]")).to_be_visible()


def ask(page, text):
    page.get_by_label("Question", exact=True).first.fill(text)
    page.get_by_role("button", name="Ask both").click()


def choices(site, page):
    return [duel.choice for duel in site.store.duels() if duel.user == site.user_of(page)]


def test_a_question_is_offered_judged_by_key_named_and_taken_back(duels, site):
    page, said = duels(), []

    def heard(route):
        answer = route.fetch()
        said.append((route.request.url, answer.text()))
        route.fulfill(response=answer)

    page.route("**/api/duels**", heard)
    expect(page.get_by_label("Question", exact=True).first).not_to_be_empty()
    page.keyboard.press("Enter")  # the button has the focus
    state(page, "voting")
    for side in ("#left-text", "#right-text"):
        expect(page.locator(side)).not_to_be_empty()
    expect(page.locator(".version:visible")).to_have_count(0)
    assert "ppo" not in page.locator("main").inner_text()
    expect(page.locator("#live")).to_contain_text("complete")
    page.keyboard.press("a")
    state(page, "voted")
    expect(page.locator(".version:visible")).to_have_count(2)
    expect(page.locator("#left .won")).to_be_visible()
    assert choices(site, page) == ["left"]
    before = [text for url, text in said if not url.endswith("/vote")]
    assert before and not any("ppo" in text or "sft" in text for text in before)
    page.keyboard.press("u")
    state(page, "voting")
    expect(page.locator(".version:visible")).to_have_count(0)
    assert choices(site, page) == [None]
    expect(page.locator("#tally")).to_contain_text("no longer counts")  # the names are known
    page.get_by_role("button", name="Both bad").click()
    state(page, "voted")
    assert choices(site, page) == ["both_bad"]
    page.get_by_role("button", name="Next question").click()
    state(page, "asking")


@pytest.mark.parametrize(("key", "choice"), [("b", "right"), ("t", "tie"), ("x", "both_bad")])
def test_a_question_of_ones_own(duels, site, key, choice):
    page = duels()
    ask(page, "Is a cat an animal?")
    state(page, "voting")
    expect(page.locator("#asked-text")).to_have_text("Is a cat an animal?")
    page.keyboard.press(key)
    state(page, "voted")
    (duel,) = (one for one in site.store.duels() if one.user == site.user_of(page))
    assert (duel.choice, duel.chosen_by) == (choice, "asked")
    assert duel.latency_ms is not None and duel.latency_ms >= 0


def test_what_the_server_refuses_is_said_beside_the_question(duels, site):
    page = duels()
    page.watch.allowed.append(REFUSED)
    ask(page, "cat " * 3000)
    expect(page.locator("#problem")).to_contain_text(re.compile("too long|at most", re.IGNORECASE))
    state(page, "asking")
    assert choices(site, page) == []
    ask(page, "A cat")
    state(page, "voting")


def test_stop_frees_the_server(duels, site):
    page = duels()
    page.route("**/api/duels", lambda route: route.continue_(post_data=with_length(route, LONG["max_tokens"])))
    ask(page, "Tell me all about cats")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    state(page, "asking")
    page.wait_for_function("async () => (await (await fetch('/api/monitor')).json()).queue.active === 0")
    assert choices(site, page) in ([], [None])
    assert "Tell me all about cats" in page.get_by_label("Question", exact=True).first.input_value()


def test_on_a_phone_the_answers_stand_below_each_other(duels):
    page = duels(viewport=PHONE, has_touch=True)
    ask(page, "A cat")
    state(page, "voting")
    left, right = (page.locator(f"#{side}").bounding_box() for side in ("left", "right"))
    assert right["y"] >= left["y"] + left["height"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.get_by_role("button", name="Tie")).to_be_in_viewport()


def test_questions_that_would_run_a_script(duels):
    page = duels()
    page.watch.allowed.append(REFUSED)  # some of them the guardrails or the context refuse
    for payload in PAYLOADS[::6]:
        ask(page, payload[:60])
        expect(page.locator("main[data-state=voting], #problem:visible").first).to_be_visible()
        assert_harmless(page)
        if page.locator("main[data-state=voting]").count():
            page.keyboard.press("t")
            state(page, "voted")
            page.keyboard.press("n")
            state(page, "asking")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_names_in_each_state(duels, scheme):
    page = duels(color_scheme=scheme)
    page.watch.allowed.append(REFUSED)

    def check(name):
        state(page, name)
        assert page.evaluate(CONTRAST) == []
        assert page.evaluate(UNNAMED) == []

    ask(page, "cat " * 3000)
    expect(page.locator("#problem")).to_be_visible()
    check("asking")
    ask(page, "A cat")
    check("voting")
    page.keyboard.press("a")
    check("voted")
    expect(page.locator("[aria-live]")).to_have_count(1)


def test_by_keyboard_alone(duels, site):
    """From the question that is offered to the next one, without a mouse and without losing the focus."""
    page = duels()
    expect(page.get_by_role("button", name="Ask both")).to_be_focused()
    page.keyboard.press("Enter")
    state(page, "voting")
    expect(page.get_by_role("group", name="Your choice")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the first choice
    state(page, "voted")
    assert choices(site, page) == ["left"]
    expect(page.get_by_role("button", name="Next question")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")  # undo
    state(page, "voting")
    page.keyboard.press("t")
    state(page, "voted")
    assert choices(site, page) == ["tie"]
    page.keyboard.press("Enter")
    state(page, "asking")
    expect(page.get_by_role("button", name="Ask both")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Question", exact=True).first).to_be_focused()
    page.keyboard.type("a b t x")  # letters, in a text field
    expect(page.get_by_label("Question", exact=True).first).to_have_value("a b t x")


def test_another_question(duels):
    page = duels()
    question = page.get_by_label("Question", exact=True).first
    seen = {question.input_value()}
    for _ in range(12):  # any of them may come twice in a row
        with page.expect_response("**/api/duels/next") as answer:
            page.get_by_role("button", name="Another question").click()
        offered = answer.value.json()["prompt"]
        expect(question).to_have_value(offered)
        seen.add(offered)
    assert len(seen) > 1
    page.reload()
    expect(question).to_have_value(offered)  # it stays until the duel begins


def test_nothing_is_asked_without_a_question(duels):
    page = duels()
    ask(page, "   ")
    expect(page.locator("#problem")).to_have_text("Type a question first.")
    state(page, "asking")


def test_leaving_the_page_frees_the_server(duels, site):
    page = duels()
    page.route("**/api/duels", lambda route: route.continue_(post_data=with_length(route, LONG["max_tokens"])))
    ask(page, "Tell me all about dogs")
    state(page, "streaming")
    page.goto(f"{site.url}monitor")
    page.wait_for_function("async () => (await (await fetch('/api/monitor')).json()).queue.active === 0")
