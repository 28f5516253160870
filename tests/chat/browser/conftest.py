"""A real server and a real browser: chromium, driven by Playwright, on a random model that replies at once.

def test_x(open_page, site):
    page = open_page()                       # somebody new, on the chat page, who knows the token
    page = open_page("duel", viewport={"width": 390, "height": 844}, color_scheme="dark")

Every page is watched: at the end no script has failed, no rule of the content security policy was broken, no dialog was
opened and nothing was asked for elsewhere. A test that has the server refuse something allows the browser's line about
that: `page.watch.allowed.append(REFUSED)`.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rlhf.chat.feedback import FeedbackStore
from rlhf.chat.service import ChatService
from tests.chat.web_world import TOKEN, Running, run_of, running, save_version

LONG = {"temperature": 0, "max_tokens": 4000}
"""Settings of a reply that takes until it is stopped, or many seconds."""
PHONE = {"width": 390, "height": 844}
REFUSED = "Failed to load resource: "
"""How the browser's lines begin about requests that the server refused, or that did not reach it."""
FLAG = "window.__ran = []"
"""Where an injected script would leave its trace: see `payloads`."""


def pytest_collection_modifyitems(items: list[Any]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@dataclass
class Site:
    """What runs, and where."""

    running: Running
    folder: Path

    @property
    def url(self) -> str:
        return self.running.server.url

    @property
    def service(self) -> ChatService:
        return self.running.service

    @property
    def store(self) -> FeedbackStore:
        return self.service.store

    def user_of(self, page: Any) -> str:
        """Who sits before a page, as the store knows them."""
        return page.evaluate("async () => (await (await fetch('/api/me')).json()).user")

    def show(self, page: Any, conversation: str) -> None:
        """Open a conversation, loading the page anew."""
        page.goto(f"{self.url}#{conversation}")
        page.reload()
        ready(page)


@pytest.fixture(scope="session")
def site(tmp_path_factory, tokenizer) -> Iterator[Site]:
    """A server with the versions sft and ppo, which is live and never ends a reply by itself."""
    folder = tmp_path_factory.mktemp("site")
    save_version(folder / "sft", tokenizer)
    save_version(folder / "ppo", tokenizer, endless=True)
    run = run_of(folder, serve={"port": 0}, guardrails={"requests_per_minute": 1_000_000})
    with running(run) as server:
        yield Site(server, folder)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's chromium, or whatever is called so."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make dev)")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("chromium is not installed")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to be root within one
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=sandbox)
        yield browser
        browser.close()


@dataclass
class Watch:
    """What a page did besides what it was asked to."""

    origin: str
    errors: list[str] = field(default_factory=list)
    """Scripts that failed, and whatever the console calls an error, broken rules of the policy among it."""
    allowed: list[str] = field(default_factory=list)
    """Beginnings of errors that are none."""
    dialogs: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    """Addresses elsewhere that were asked for."""

    def follow(self, page: Any) -> None:
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.asked(request.url))

    def asked(self, address: str) -> None:
        if not address.startswith((self.origin, "data:", "blob:")):
            self.foreign.append(address)

    def check(self) -> None:
        errors = [error for error in self.errors if not error.startswith(tuple(self.allowed))]
        assert (errors, self.dialogs, self.foreign) == ([], [], [])


@pytest.fixture
def open_page(site, browser) -> Iterator[Callable[..., Any]]:
    """Opens pages: `open_page(path="", settings={…}, **how)`; each is somebody new.

    Keyword arguments go to `Browser.new_context`; `settings` are those of the replies, kept in the browser.
    """
    opened: list[tuple[Any, Watch]] = []

    def open_page(path: str = "", settings: dict[str, Any] | None = None, **how: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"} | how)
        context.set_default_timeout(20_000)
        watch = Watch(site.url)
        context.on("page", watch.follow)
        context.add_init_script(FLAG)
        page = context.new_page()
        page.watch = watch
        opened.append((context, watch))
        if settings:
            chosen = json.dumps(settings)
            context.add_init_script(f"localStorage.getItem('settings') ?? localStorage.setItem('settings', `{chosen}`)")
        page.goto(f"{site.url}{path}?token={TOKEN}")
        if not path:
            ready(page)
        return page

    yield open_page
    for context, _ in opened:
        for page in context.pages:  # a request that a test has caught may be under way
            page.unroute_all(behavior="ignoreErrors")
        context.close()
    for _, watch in opened:
        watch.check()


def ready(page: Any) -> None:
    """Wait until the scripts of the chat page have loaded what they show first."""
    page.wait_for_selector("body[data-ready]")
