"""The chat page by keyboard alone, for screen readers, on a phone, in both colour schemes."""

import re

import pytest

from rlhf.chat.feedback import Rating
from tests.chat.browser.conftest import PHONE, ready
from tests.chat.serving_world import wait_until
from tests.chat.stored import talk

expect = pytest.importorskip("playwright.sync_api").expect

UNNAMED = """() => [...document.querySelectorAll("button, a[href], input, textarea, [role=img]")].filter((element) => {
  const label = element.getAttribute("aria-label") || element.labels?.[0]?.textContent || element.textContent;
  return !label.trim();
}).map((element) => element.outerHTML)"""
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (colour) => {
    if (!known.has(colour)) known.set(colour, draw(colour));
    return known.get(colour);
  };
  const draw = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((part, i) => part * a + under[i] * (1 - a));
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    return over(rgba(getComputedStyle(element).backgroundColor), ground(element.parentElement));
  };
  const light = (colour) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const style = getComputedStyle(element);
    const seen = element.checkVisibility({ visibilityProperty: true });
    const hidden = !seen || element.closest(".sr-only, .skip, noscript");
    if (hidden || !walker.currentNode.textContent.trim()) continue;
    const under = ground(element);
    const [a, b] = [light(over(rgba(style.color), under)), light(under)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${element.outerHTML.slice(0, 80)}`);
  }
  return found;
}"""
"""Texts whose contrast is under 4.5 (WCAG 2.2, 1.4.3); translucent colours are laid over what is under them."""
TEXT = "See **this** [link](https://example.com), `code`\n\n```py\nx = 1\n```\n\n> said\n\n| a |\n|---|\n| 1 |"


@pytest.fixture
def full(open_page, site):
    """A page on which everything is to be seen: replies, a rating with its form, notes, details."""

    def full(**how):
        page = open_page(**how)
        user = site.user_of(page)
        asked, reply = talk(site.store, user, "What is a cat?", TEXT, finish_reason="length")
        site.store.rate(user, reply.id, Rating(thumb=1, helpful=4, correction="An animal."))
        site.show(page, asked.conversation)
        page.get_by_role("button", name="How it was made").click()
        page.get_by_role("button", name="Change").click()
        return page

    return full


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 900}], ids=["phone", "desktop"])
def test_contrast_and_names(full, scheme, viewport):
    page = full(color_scheme=scheme, viewport=viewport)
    page.evaluate(
        "import('/static/js/toast.js').then(({ toast }) => toast('Oh', { kind: 'error', detail: 'Do this.' }))"
    )
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate(UNNAMED) == []
    page.get_by_role("button", name="Settings of the replies").click()
    assert page.evaluate(CONTRAST) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Conversations", exact=True).click()
    assert page.evaluate(CONTRAST) == []


def test_what_a_screen_reader_finds(full):
    page = full()
    assert page.locator("html").get_attribute("lang") == "en"
    for role, name in [("main", None), ("complementary", "Conversations"), ("navigation", "Your conversations"),
                       ("log", "Messages"), ("region", "Notices")]:  # fmt: skip
        expect(page.get_by_role(role, name=name)).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("log").get_by_role("heading", level=2)).to_have_text(["You", "Reply"])
    live = page.locator("#live")
    assert (live.get_attribute("role"), live.get_attribute("aria-live")) == ("status", "polite")
    box = live.bounding_box()
    assert box["width"] <= 1 and box["height"] <= 1
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "off")  # not every word of a reply is read out
    expect(page.get_by_role("group", name="Helpful", exact=True).get_by_role("radio")).to_have_count(5)
    assert page.evaluate("[...document.querySelectorAll('[tabindex]')].filter((one) => one.tabIndex > 0).length") == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(({ id }) => id)")
    assert len(ids) == len(set(ids))


def focused(page):
    return page.evaluate(
        "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()"
    )


def tab_to(page, name, key="Tab", most=40):
    """Press Tab until a thing has the focus; the focus is seen on the way."""
    for _ in range(most):
        page.keyboard.press(key)
        if re.match(name, focused(page) or ""):
            return assert_seen(page)
    raise AssertionError(f"{name} cannot be reached")


def assert_seen(page):
    """What has the focus has an outline, or is drawn as a star that has one."""
    assert page.evaluate("""() => {
      const element = document.activeElement;
      const shown = element.closest(".star, .composer") ?? element;
      const style = getComputedStyle(shown);
      return style.outlineStyle !== "none" || style.boxShadow !== "none";
    }""")


def test_by_keyboard_alone(open_page, site):
    page = open_page()
    page.keyboard.type("What is a cat?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Good reply")).to_be_visible()
    reply = site.store.messages(page.url.split("#")[1])[1]
    user = site.user_of(page)
    tab_to(page, "Bad reply", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".saved")).to_contain_text("Saved: Bad reply")
    tab_to(page, "Rate in detail")
    page.keyboard.press("Space")
    expect(page.get_by_role("form", name="Rate this reply")).to_be_visible()
    page.keyboard.press("ArrowRight")  # from 1 to 2
    tab_to(page, "")
    while not page.evaluate("document.activeElement.name === 'correction'"):
        page.keyboard.press("Tab")
    page.keyboard.type("An animal.")
    tab_to(page, "Save")
    page.keyboard.press("Enter")
    expect(page.locator(".saved")).to_contain_text("Saved: Bad reply, helpful 2/5, corrected")
    assert site.store.rating(user, reply.id) == Rating(thumb=-1, helpful=2, correction="An animal.")

    for key, seen in [("g", "Saved: Good reply"), ("x", "Saved: Bad reply")]:
        page.keyboard.press(key)
        expect(page.locator(".saved")).to_contain_text(seen)
    page.keyboard.press("r")
    expect(page.locator(".branches").last).to_contain_text("2/2")
    expect(page.locator(".pending")).to_have_count(0)
    page.keyboard.press("[")
    expect(page.locator(".saved")).to_contain_text("Saved: Bad reply")
    page.keyboard.press("]")
    expect(page.locator(".saved")).to_be_hidden()
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("What is a dog?")
    page.keyboard.press("Enter")
    expect(page.locator(".bubble")).to_have_text(["What is a dog?"])
    expect(page.locator(".pending")).to_have_count(0)
    page.keyboard.press("/")
    expect(page.get_by_label("Your message", exact=True)).to_be_focused()
    page.keyboard.type("n")  # in a text field a key is a letter
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    expect(page.locator(".message")).to_have_count(0)


def test_the_list_by_keyboard(open_page, site):
    page = open_page()
    user = site.user_of(page)
    for name in ("First", "Second", "Third"):
        last = talk(site.store, user, name, "Yes")[0].conversation
    page.reload()
    ready(page)
    tab_to(page, "Third", "Shift+Tab")
    page.keyboard.press("ArrowDown")
    assert focused(page) == "Second"
    page.keyboard.press("Home")
    page.keyboard.press("F2")
    page.keyboard.type("Renamed")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Renamed")).to_be_focused()
    assert site.store.conversation(last).title == "Renamed"
    page.keyboard.press("Delete")
    expect(page.get_by_role("link", name="Renamed")).to_have_count(0)
    expect(page.get_by_role("link", name="Second")).to_be_focused()
    page.keyboard.press("z")
    expect(page.get_by_role("link", name="Renamed")).to_be_focused()
    page.keyboard.press("Delete")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("First")
    page.get_by_role("button", name="Dismiss").press("Enter")
    assert wait_until(lambda: site.store.conversation(last).hidden)


def test_the_dialog_of_shortcuts(open_page):
    page = open_page()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_contain_text("Edit your last message")
    page.keyboard.press("n")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Single keys do something").uncheck()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.keyboard.press("?")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Keyboard shortcuts").click()
    dialog.get_by_label("Single keys do something").check()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_focused()
    page.keyboard.press("b")
    expect(page.get_by_role("button", name="Conversations", exact=True)).to_have_attribute("aria-expanded", "false")
    expect(page.get_by_role("complementary")).to_have_count(0)


def test_colours(open_page):
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    page = open_page(color_scheme="dark")
    dark = page.evaluate(ground)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ground)
    assert light != dark
    theme = page.locator("#theme")
    for name, colour in [("light", light), ("dark", dark)]:
        theme.click()
        expect(theme).to_have_accessible_name(f"Colours: {name}")
        assert page.evaluate(ground) == colour
    page.reload()
    ready(page)
    assert page.evaluate(ground) == dark
    theme.click()
    expect(theme).to_have_accessible_name("Colours: system")
    assert page.evaluate(ground) == light


@pytest.mark.parametrize("width", [390, 320])
def test_on_a_phone(full, site, width):
    """320 px is also what a page of 1280 px has at a zoom of 400% (WCAG 2.2, 1.4.10)."""
    page = full(viewport={"width": width, "height": 844}, has_touch=True, is_mobile=True)
    beyond = "document.documentElement.scrollWidth > innerWidth || scroll.scrollWidth > scroll.clientWidth".replace(
        "scroll.", "document.getElementById('scroll')."
    )
    assert not page.evaluate(beyond)
    page.get_by_role("button", name="Cancel").tap()
    small = page.evaluate("""() => [...document.querySelectorAll("button, .star")].filter((one) => one.checkVisibility()
      && !one.matches(".text-button") && one.closest("[inert]") === null)
      .filter((one) => Math.min(one.clientWidth, one.clientHeight) < 32).map((one) => one.outerHTML)""")
    assert small == []
    sidebar = page.get_by_role("complementary", name="Conversations")
    expect(sidebar).to_have_count(0)
    page.get_by_role("button", name="Conversations", exact=True).tap()
    expect(sidebar).to_be_visible()
    expect(page.locator("#main")).to_have_attribute("inert", "")  # behind the list, and out of reach
    page.keyboard.press("Escape")
    expect(sidebar).to_have_count(0)
    page.get_by_role("button", name="New chat").tap()
    page.get_by_label("Your message", exact=True).fill("Hello")
    page.get_by_role("button", name="Send", exact=True).tap()
    expect(page.get_by_role("button", name="Good reply")).to_be_in_viewport()
    page.get_by_role("button", name="Good reply").tap()
    expect(page.locator(".saved")).to_be_in_viewport()
    assert not page.evaluate(beyond)
