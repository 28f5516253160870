"""Judging replies on the chat page: thumbs, criteria, corrections; saved, shown again, changed and undone."""

import pytest

from rlhf.chat.feedback import Rating
from tests.chat.browser.conftest import REFUSED, ready
from tests.chat.stored import talk

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture
def rated(open_page, site):
    """A page with a reply, and a function that gives the rating in the store."""
    page = open_page()
    user = site.user_of(page)
    asked, reply = talk(site.store, user, "What is a cat?", "A cat is a dog.")
    site.show(page, asked.conversation)
    return page, lambda: site.store.rating(user, reply.id)


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def test_a_thumb_is_confirmed_changed_and_undone(rated, site):
    page, rating = rated
    before = len(site.store.events())
    button(page, "Good reply").click()
    expect(page.locator(".saved")).to_contain_text("Saved: Good reply")
    expect(page.locator("#live")).to_have_text("Rating saved")
    expect(button(page, "Good reply")).to_have_attribute("aria-pressed", "true")
    assert rating() == Rating(thumb=1)
    button(page, "Bad reply").click()
    expect(page.locator(".saved")).to_contain_text("Saved: Bad reply")
    expect(button(page, "Good reply")).to_have_attribute("aria-pressed", "false")
    page.reload()
    ready(page)
    expect(page.locator(".saved")).to_contain_text("Saved: Bad reply")
    assert rating() == Rating(thumb=-1)
    button(page, "Undo").click()
    expect(page.locator(".saved")).to_be_hidden()
    expect(page.locator("#live")).to_have_text("Rating removed")
    assert rating() is None
    assert len(site.store.events()) == before + 3  # two judgements, and the undo
    button(page, "Good reply").click()
    expect(page.locator(".saved")).to_be_visible()
    button(page, "Good reply").click()  # a second click takes it back
    expect(page.locator(".saved")).to_be_hidden()
    assert rating() is None


def test_criteria_and_a_correction(rated):
    page, rating = rated
    button(page, "Rate in detail").click()
    for name, stars in {"Helpful": 2, "Relevant": 4, "Correct": 1, "Safe": 5}.items():
        page.get_by_role("group", name=name, exact=True).get_by_label(f"{stars}:").check(force=True)
    page.get_by_label("What it should have said").fill("A cat is an animal.")
    page.get_by_label("Comment").fill("Dogs bark.")
    button(page, "Save").click()
    saved = "Saved: helpful 2/5, relevant 4/5, correct 1/5, safe 5/5, corrected, with a comment"
    expect(page.locator(".saved")).to_contain_text(saved)
    expect(button(page, "Rate in detail")).to_be_focused()
    assert rating() == Rating(
        helpful=2, relevant=4, correct=1, safe=5, correction="A cat is an animal.", comment="Dogs bark."
    )
    page.reload()
    ready(page)
    expect(page.locator(".saved")).to_contain_text(saved)
    button(page, "Change").click()
    expect(page.get_by_label("What it should have said")).to_have_value("A cat is an animal.")
    expect(page.get_by_role("group", name="Relevant", exact=True).get_by_label("4:")).to_be_checked()
    button(page, "No rating for helpful").click()
    page.get_by_label("Comment").fill("")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".saved")).to_contain_text("Saved: relevant 4/5, correct 1/5, safe 5/5, corrected")
    assert rating() == Rating(relevant=4, correct=1, safe=5, correction="A cat is an animal.")
    button(page, "Good reply").click()
    expect(page.locator(".saved")).to_contain_text("Good reply, relevant 4/5")
    assert rating().thumb == 1 and rating().correction == "A cat is an animal."


def test_what_cannot_be_saved_stays_in_the_form(rated):
    page, rating = rated
    button(page, "Rate in detail").click()
    page.get_by_label("What it should have said").fill("An animal.")
    page.watch.allowed.append(REFUSED)
    page.context.set_offline(True)
    button(page, "Save").click()
    expect(page.locator(".toast.error")).to_contain_text("The server cannot be reached.")
    expect(page.get_by_label("What it should have said")).to_have_value("An animal.")
    expect(page.locator(".saved")).to_be_hidden()
    page.context.set_offline(False)
    button(page, "Save").click()
    expect(page.locator(".saved")).to_contain_text("Saved: corrected")
    assert rating() == Rating(correction="An animal.")
