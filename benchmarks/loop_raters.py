"""Simulated people: shown two replies over HTTP, they read them and vote as the gold judge would, but for mistakes.

    with served(folder, arguments) as address:
        tally = rate(address, judge, duels=300, seed=1)

How long somebody "read" is drawn from a distribution and told to the server, as a page would tell it; nobody waits for
it. Nothing else is simulated: the server, its queue and its database are those that people meet.
"""

import json
import math
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rlhf.chat.feedback import FILE, Choice, FeedbackStore, StoredMessage, new_id
from rlhf.data.source import Judge
from rlhf.records import Prompt, ask, prompt_id

MISTAKES = 0.15
"""Share of the votes for a side that go to the worse one."""
READERS = 6
"""People who judge at a time."""
POOR = 0.3
"""Two replies of one gold score below this are both bad; else they are a tie."""
LETTERS_A_SECOND = 24.0
"""Silent reading: 238 words a minute (Brysbaert 2019), six letters a word with its space."""
PATIENCE = 180.0
"""Seconds that a server may take to start."""


TRIES = 50
"""Duels that a person asks for, where a server finds no prompt to which its versions say two things."""


class Conflict(RuntimeError):
    """The server says that this cannot be done now (409)."""


class Address(NamedTuple):
    """Where a server is, and its token."""

    url: str
    token: str

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, user: str = "rater") -> dict[str, Any]:
        """One request in JSON; waits as told where the server is busy."""
        headers = {"Authorization": f"Bearer {self.token}", "X-User": user, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        while True:
            request = urllib.request.Request(self.url + path, data, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                    return dict(json.load(response))
            except urllib.error.HTTPError as error:
                if error.code != 429:
                    kind = Conflict if error.code == 409 else RuntimeError
                    raise kind(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from error
                time.sleep(float(error.headers.get("Retry-After", 1)))


@dataclass
class Reader:
    """One person, with luck of their own."""

    name: str
    judge: Judge
    dice: random.Random

    def opinion(self, prompt: str, left: str, right: str) -> tuple[Choice, int, bool]:
        """What they vote, how long they took (milliseconds), and whether they were mistaken."""
        asked = Prompt(prompt_id(ask(prompt)), ask(prompt), "", "duel", origin=prompt_id(ask(prompt)))
        gold = [self.judge(asked, reply) or 0.0 for reply in (left, right)]
        seconds = (0.8 + (len(left) + len(right)) / LETTERS_A_SECOND) * self.dice.lognormvariate(0, 0.3)
        if math.isclose(*gold, abs_tol=1e-6):
            return ("both_bad" if gold[0] < POOR else "tie"), round(1000 * seconds), False
        sides: tuple[Choice, Choice] = ("left", "right") if gold[0] > gold[1] else ("right", "left")
        mistaken = self.dice.random() < MISTAKES
        return sides[mistaken], round(1000 * seconds), mistaken


def readers(judge: Judge, seed: int) -> list[Reader]:
    """As many as judge at a time."""
    return [Reader(f"rater-{n}", judge, random.Random(f"{seed} {n}")) for n in range(READERS)]


def rate(address: Address, judge: Judge, duels: int, seed: int) -> Counter[str]:
    """Let people vote on so many duels; returns how often each choice was made, and the mistakes."""

    def sit(reader: Reader, share: int) -> Counter[str]:
        found: Counter[str] = Counter()
        for _ in range(share):
            duel = _duel(address, reader.name)
            choice, latency, mistaken = reader.opinion(duel["prompt"], duel["left"]["text"], duel["right"]["text"])
            address.call("POST", f"/api/duels/{duel['duel']}/vote", {"choice": choice, "latency_ms": latency},
                         reader.name)  # fmt: skip
            found.update([choice, *["mistakes"] * mistaken])
        return found

    people = readers(judge, seed)
    shares = [duels // READERS + (n < duels % READERS) for n in range(READERS)]
    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(sit, people, shares), Counter())


def _duel(address: Address, user: str) -> dict[str, Any]:
    """Two replies; another prompt where a prompt's replies are all the same."""
    for _ in range(TRIES - 1):
        with suppress(Conflict):
            return address.call("POST", "/api/duels", {}, user)
    return address.call("POST", "/api/duels", {}, user)


@contextmanager
def served(folder: Path, arguments: list[str]) -> Iterator[Address]:
    """`main.py --phase serve` in a process of its own, stopped as by Ctrl-C; its log is FOLDER/serve.log."""
    address = Address(f"http://127.0.0.1:{free_port()}", secrets.token_urlsafe(16))
    port = address.url.rpartition(":")[2]
    command = [sys.executable, "main.py", "--phase", "serve", *arguments, "--set", f"serve.port={port}"]
    with (folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"RLHF_TOKEN": address.token})
        try:
            _wait_for(address, process, folder / "serve.log")
            yield address
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _wait_for(address: Address, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            address.call("GET", "/health")
            return
        except (OSError, RuntimeError):
            time.sleep(0.5)
    raise RuntimeError(f"the server does not answer: {log.read_text(errors='replace')[-2000:]}")


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rate_directly(
    folder: Path, judge: Judge, seed: int, version: str, shown: list[tuple[Prompt, str, str]]
) -> Counter[str]:
    """The same votes without a server, straight into the database: for trying settings out."""
    found: Counter[str] = Counter()
    people = readers(judge, seed)
    with FeedbackStore(folder / FILE) as store:
        for number, (prompt, *replies) in enumerate(shown):
            reader, text = people[number % READERS], prompt.prompt[-1].content
            talk = store.new_conversation(reader.name, kind="duel")
            asked = store.add_message(StoredMessage(new_id(), talk.id, None, "user", text))
            left, right = (_put(store, talk.id, asked.id, reply, version) for reply in replies)
            choice, latency, mistaken = reader.opinion(text, replies[0], replies[1])
            duel = store.open_duel(reader.name, asked.id, left.id, right.id, "random")
            store.vote(reader.name, duel.id, choice, latency)
            found.update([choice, *["mistakes"] * mistaken])
    return found


def _put(store: FeedbackStore, talk: str, parent: str, text: str, version: str) -> StoredMessage:
    reply = StoredMessage(new_id(), talk, parent, "assistant", text, version=version, finish_reason="stop")
    return store.add_message(reply)
