"""The monitor in a real browser: every figure with something to draw, what stands there without, and hostile names."""

import json

import pytest

from rlhf.chat.feedback import Rating
from tests.chat.browser.conftest import PHONE, REFUSED, ready
from tests.chat.browser.payloads import PAYLOADS, assert_harmless
from tests.chat.browser.test_accessibility import CONTRAST, UNNAMED
from tests.chat.stored import duel, talk

expect = pytest.importorskip("playwright.sync_api").expect

FIGURES = ("standings", "rewards", "feedback", "blocks", "sides")


@pytest.fixture
def monitor(open_page):
    """Opens the monitor, once it has its first figures."""

    def open_monitor(**how):
        page = open_page("monitor", **how)
        ready(page)
        return page

    return open_monitor


@pytest.fixture
def used(site):
    """Judgements, duels and a block in the store."""
    store = site.store
    for number in range(8):
        (*_, reply) = talk(store, "ann", f"Question {number}?", f"Answer {number}.")
        store.set_reward(reply.id, number / 8)
        store.rate("ann", reply.id, Rating(thumb=1 if number % 3 else -1))
        one = duel(store, "ann", f"Duel {number}?", "The first answer.", "The second one.", version="sft")
        store.vote("ann", one.id, "left" if number % 4 else "right", 60_000)
    store.log("blocked", reason="words", where="input")
    return store


def test_every_figure_is_drawn(monitor, used):
    page = monitor()
    for figure in FIGURES:
        expect(page.locator(f"#{figure} .main-svg").first).to_be_visible()
    expect(page.locator("#tiles dt")).to_have_count(6)
    expect(page.locator("#versions")).to_contain_text("ppo")
    expect(page.locator("#updated")).to_contain_text("Updated")
    page.locator("#feedback summary").click()
    row = page.locator("#feedback table tr", has_text="Thumbs up")
    assert int(row.locator("td").last.inner_text()) >= 5


def test_without_anything_each_figure_says_what_would_be_there(monitor):
    """The server's figures, emptied on their way."""

    def emptied(route):
        answer = route.fetch()
        body = answer.json() | {"rewards": [], "curves": [], "tests": [], "blocks": {}}
        body["versions"] = [one | {"strength": None, "low": None, "high": None} for one in body["versions"]]
        route.fulfill(response=answer, json=body)

    page = monitor()
    page.route("**/api/monitor", emptied)
    page.reload()
    ready(page)
    for figure in ("standings", "rewards", "tests", "training"):
        empty = page.locator(f"#{figure} [data-empty]")
        expect(empty).to_be_visible()
        assert len(empty.inner_text()) > 20


def test_it_goes_on_by_itself_and_can_be_held(monitor, used):
    page = monitor()
    with page.expect_response("**/api/monitor"):
        pass
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#updated")).to_contain_text("Paused")
    with page.expect_response("**/api/monitor"):
        page.get_by_role("button", name="Go on").click()


@pytest.mark.parametrize("how", [{"viewport": PHONE}, {"color_scheme": "dark"}], ids=["phone", "dark"])
def test_on_a_phone_and_in_the_dark(monitor, used, how):
    page = monitor(**how)
    expect(page.locator("#standings .main-svg").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if "color_scheme" in how:
        red = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        assert int(red) < 60


def test_names_that_would_run_a_script(monitor, used):
    """Names of versions, runs and reasons, on their way from the server."""

    def hostile(route):
        answer = route.fetch()
        body = answer.json()
        first = body["versions"][0]
        body["versions"] = [first | {"name": name, "parent": name, "strength": 0.1 * n, "low": 0.0, "high": 1.0}
                            for n, name in enumerate(PAYLOADS)]  # fmt: skip
        body["rewards"] = [{**point, "version": PAYLOADS[n % len(PAYLOADS)]} for n, point in enumerate(body["rewards"])]
        body["curves"] = [curve | {"run": PAYLOADS[n % len(PAYLOADS)]} for n, curve in enumerate(body["curves"])]
        route.fulfill(response=answer, json=body)

    page = monitor()
    page.route("**/api/monitor", hostile)
    page.reload()
    ready(page)
    expect(page.locator("#standings .main-svg").first).to_be_visible()
    for summary in page.locator("summary:visible").all():
        summary.click()
    expect(page.locator("#versions")).to_contain_text("<script>")
    page.watch.check()
    assert page.evaluate("window.__ran") == []
    page.unroute("**/api/monitor")
    page.reload()
    assert_harmless(page)


HOSTILE = [payload for payload in PAYLOADS if "/" not in payload and "\x00" not in payload]
"""Payloads that can be names of folders, too."""


def test_what_the_store_and_the_run_folder_hold(monitor, used, site):
    """Hostile names where they come from: reasons of blocks, versions of old replies, folders of runs."""
    assert len(HOSTILE) >= 6
    for number, name in enumerate(HOSTILE):
        used.log("blocked", reason=name, side="input")
        *_, reply = talk(used, "bob", "A question", "An answer", version=name)
        used.set_reward(reply.id, 0.1 * number)
    for name in HOSTILE[-6:]:
        folder = site.folder / "versions" / name / "ppo"
        folder.mkdir(parents=True)
        lines = [{"step": step, "objective/scores": 0.1 * step, "objective/kl": step} for step in range(5)]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    page = monitor()
    expect(page.locator("#curves .main-svg").first).to_be_visible()
    for summary in page.locator("summary:visible").all():
        summary.click()
    expect(page.locator("#blocks table")).to_contain_text(HOSTILE[0])
    expect(page.locator("#rewards table")).to_contain_text(HOSTILE[0])
    expect(page.locator("#curves table").first).to_contain_text(HOSTILE[-1])
    expect(page.locator("#blocks .main-svg").first).to_contain_text(HOSTILE[0][:20])  # as text, and cut
    assert page.evaluate("window.__ran") == []
    assert page.locator("main a[href], main img, main iframe, main script").count() == 0
    page.watch.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_names(monitor, used, scheme):
    page = monitor(color_scheme=scheme)
    expect(page.locator("#standings .main-svg").first).to_be_visible()
    page.locator("#standings summary").click()
    expect(page.locator("#standings table")).to_be_visible()
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate(UNNAMED) == []


def test_the_plots_follow_the_colours_that_are_chosen(monitor, used):
    page = monitor(color_scheme="light")
    label = page.locator("#standings .ytick text").first
    fill = "element => getComputedStyle(element).fill"
    light = label.evaluate(fill)
    page.locator("#theme").click()  # light, which it was
    page.locator("#theme").click()
    expect(page.locator("#theme")).to_have_accessible_name("Colours: dark")
    expect(label).not_to_have_css("fill", light)


def test_a_refresh_draws_nothing_anew_that_is_as_it_was(monitor, used):
    page = monitor()
    expect(page.locator("#standings .main-svg").first).to_be_visible()
    page.locator("#standings summary").click()
    expect(page.locator("#standings table")).to_be_visible()
    mark = "() => document.querySelectorAll('#standings *').forEach((one) => { one.mark = true; })"
    page.evaluate(mark)
    with page.expect_response("**/api/monitor"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#updated")).to_contain_text("Updated")
    assert page.evaluate("() => [...document.querySelectorAll('#standings *')].every((one) => one.mark)")


def test_a_server_that_is_gone_is_said_and_the_last_figures_stay(monitor, used):
    page = monitor()
    page.watch.allowed.append(REFUSED)
    page.route("**/api/monitor", lambda route: route.abort())
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    expect(page.locator("#updated")).to_contain_text("As of")
    expect(page.locator("#standings .main-svg").first).to_be_visible()
    page.unroute("**/api/monitor")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("alert")).to_have_count(0)
