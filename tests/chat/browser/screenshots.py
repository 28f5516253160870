"""Screenshots of the chat page, on a run with a trained model.

    cp -r models/tiny /tmp/copy                          # what is said there stays in its feedback.sqlite
    python -m tests.chat.browser.screenshots --run /tmp/copy --out docs/results/ui

Real replies of the live version. The first who looks at the page sees an empty list: each picture is of somebody new.
"""

import argparse
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from dataloader import DataRoom
from rlhf.config import load_config
from rlhf.run import Run
from tests.chat.web_world import TOKEN, running

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True}
QUESTIONS = ("What is the opposite of early?", "What is the capital of France?")
COLOURS = 256


@contextmanager
def people(url: str) -> Iterator[Any]:
    """A function that seats somebody new before a page: `new(path="", **how)`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)

        def new(path: str = "", **how: Any) -> Any:
            page = browser.new_context(reduced_motion="reduce", **how).new_page()
            page.goto(f"{url}{path}?token={TOKEN}")
            return page

        yield new
        browser.close()


def ask(page: Any, *questions: str) -> None:
    """Ask, and wait for each reply."""
    page.wait_for_selector("body[data-ready]")
    for question in questions:
        page.get_by_label("Your message", exact=True).fill(question)
        page.get_by_role("button", name="Send", exact=True).click()
        page.locator(".bubble", has_text=question).last.wait_for()
        page.get_by_role("button", name="Send", exact=True).wait_for()
        page.wait_for_function("!document.querySelector('.pending')")


def save(page: Any, path: Path, whole: bool = False) -> None:
    """As a PNG of few colours, which is a third of the size; `whole`: with what is below the window."""
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(700, 560)  # over nothing
    image = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def conversations(page: Any) -> None:
    """A list with something in it, and a judged reply."""
    for question in ("Explain the word baker.", "Which of these is a fruit: hammer or apple?"):
        ask(page, question)
        page.get_by_role("button", name="New chat", exact=True).first.click()
    ask(page, QUESTIONS[0])
    page.get_by_role("button", name="Good reply").click()
    page.get_by_text("Saved: Good reply").wait_for()
    ask(page, QUESTIONS[1])
    page.get_by_role("button", name="Another reply").last.click()
    page.get_by_text("2/2").wait_for()
    page.wait_for_function("!document.querySelector('.pending')")


def chat_pages(new: Any, out: Path) -> None:
    for name, scheme in {"chat": "light", "chat-dark": "dark"}.items():
        page = new(color_scheme=scheme, **DESKTOP)
        conversations(page)
        save(page, out / f"{name}.png")
    page = new(color_scheme="light", **DESKTOP)
    ask(page, QUESTIONS[1])
    page.get_by_role("button", name="Bad reply").click()
    page.get_by_role("button", name="Rate in detail").click()
    for name, stars in {"Helpful": 2, "Relevant": 4, "Correct": 1, "Safe": 5}.items():
        page.get_by_role("group", name=name, exact=True).get_by_label(f"{stars}:").check(force=True)
    page.get_by_label("What it should have said").fill("The capital of France is Paris.")
    save(page, out / "rating.png")
    page = new(color_scheme="light", **DESKTOP)
    page.wait_for_selector("body[data-ready]")
    save(page, out / "welcome.png")
    page = new(color_scheme="light", **PHONE)
    ask(page, *QUESTIONS)
    page.get_by_role("button", name="Good reply").last.click()
    page.get_by_text("Saved: Good reply").wait_for()
    save(page, out / "phone.png")
    page.get_by_role("button", name="Conversations", exact=True).click()
    save(page, out / "phone-list.png")


PAGES = (chat_pages,)
"""Each takes `new` of `people`, and the folder for its pictures."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run; what is said is kept there")
    parser.add_argument("--config", default="configs/tiny.yaml")
    parser.add_argument("--out", type=Path, default=Path("docs/results/ui"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    config = load_config(given.config, ["serve.port=0", "guardrails.requests_per_minute=6000"])
    with running(Run(config, given.run, DataRoom(config), "")) as server, people(server.server.url) as new:
        for pictures in PAGES:
            pictures(new, given.out)


if __name__ == "__main__":
    main()
