"""Screenshots of the duel page and of the monitor, on a run with a trained model.

    cp -r models/tiny /tmp/copy                          # what is said there stays in its feedback.sqlite
    python -m tests.chat.browser.screenshots_duel --run /tmp/copy --out docs/results/ui

The monitor shows what a rule did, not people: it asks, rates, and prefers the live version to the challenger, PPO from
the base model. The times of what it did are spread over a day afterwards, so that the curves have a length.
"""

import argparse
import random
import sqlite3
import time
from pathlib import Path
from typing import Any

from dataloader import DataRoom
from rlhf.chat.feedback import FILE, Rating
from rlhf.chat.records import ReplySettings
from rlhf.chat.service import ChatService
from rlhf.config import load_config
from rlhf.registry import Registry, Version
from rlhf.run import Run
from tests.chat.browser.screenshots import DESKTOP, PHONE, QUESTIONS, people, save
from tests.chat.serving_world import wait_until
from tests.chat.web_world import running

CHALLENGER = "ppo_from_base"
DUELS, TALKS = 60, 60
DAY = 24 * 3600.0
LOOKS = 12
"""Of the monitor, so that its small lines have points."""


def duel_pages(new: Any, out: Path) -> None:
    for name, how in {"duel-phone": PHONE, "duel": DESKTOP}.items():
        page = new("duel", color_scheme="light", **how)
        page.wait_for_selector("body[data-ready]")
        page.get_by_label("Question", exact=True).first.fill("What is the capital of Italy?")
        page.get_by_role("button", name="Ask both").click()
        page.locator("[data-state=voting]").wait_for()
        save(page, out / f"{name}.png")
    page.keyboard.press("b" if "Rome" in page.locator("#right-text").inner_text() else "a")
    page.locator("[data-state=voted]").wait_for()
    save(page, out / "duel-voted.png")


def monitor_pages(new: Any, out: Path, service: ChatService) -> None:
    kinds = {"monitor": ("light", DESKTOP), "monitor-dark": ("dark", DESKTOP), "monitor-phone": ("light", PHONE)}
    for name, (scheme, how) in kinds.items():
        page = new("monitor", color_scheme=scheme, **how)
        page.wait_for_selector("body[data-ready]")
        for _ in range(LOOKS):
            say(service, QUESTIONS[0])
            with page.expect_response("**/api/monitor"):
                page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.locator("#curves .main-svg").first.wait_for()
        save(page, out / f"{name}.png", whole=name == "monitor")


def settings(service: ChatService) -> ReplySettings:
    return ReplySettings(temperature=service.config.chat.temperature)


def say(service: ChatService, text: str) -> str:
    """The id of a reply."""
    return service.say("ann", service.create("ann").id, None, text, settings(service)).done().id


def use(service: ChatService, rng: random.Random) -> None:
    """Ask, rate, judge."""
    store = service.store
    for number in range(TALKS):
        reply = say(service, rng.choice(QUESTIONS))
        if number % 2:
            good = rng.random() < (0.3 if store.message(reply).version == CHALLENGER else 0.8)
            stars = rng.randint(3, 5) if number % 3 == 0 else None
            service.rate("ann", reply, Rating(thumb=1 if good else -1, helpful=stars, comment=None if good else "No."))
    for _ in range(DUELS):
        duel = service.duel("ann", None, settings(service)).done()
        live = [side for side in ("left", "right") if store.message(getattr(duel, side)).version != CHALLENGER]
        choice = rng.choices((rng.choice(live or ["left", "right"]), rng.choice(["left", "right"]), "tie", "both_bad"),
                             (70, 15, 10, 5))[0]  # fmt: skip
        service.vote("ann", duel.id, choice, rng.randint(3000, 20_000))
    for text in ("x" * (service.config.guardrails.max_characters + 1), "What the fuck?", "Fuck off"):
        say(service, text)


def spread(service: ChatService, rng: random.Random) -> None:
    """Give three of four replies a time within the last day, once all have their rewards."""
    rewarded = lambda: all(reply.reward is not None for reply in service.store.replies(0, 10_000) if not reply.blocked)  # noqa: E731
    wait_until(rewarded)
    with sqlite3.connect(service.run_folder / FILE) as database:
        for (id,) in database.execute("SELECT id FROM messages WHERE role = 'assistant'").fetchall():
            if rng.random() < 0.75:
                database.execute("UPDATE messages SET created = ? WHERE id = ?", (time.time() - rng.random() * DAY, id))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run; what is said is kept there")
    parser.add_argument("--config", default="configs/tiny.yaml")
    parser.add_argument("--out", type=Path, default=Path("docs/results/ui"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    registry, rng = Registry(given.run), random.Random(0)
    if CHALLENGER not in [version.name for version in registry.versions()]:
        registry.register(Version(CHALLENGER, CHALLENGER, reward="reward"))
    config = load_config(given.config, ["serve.port=0", "guardrails.requests_per_minute=1000000"])
    with running(Run(config, given.run, DataRoom(config), "")) as server, people(server.server.url) as new:
        use(server.service, rng)
        spread(server.service, rng)
        duel_pages(new, given.out)
        monitor_pages(new, given.out, server.service)


if __name__ == "__main__":
    main()
