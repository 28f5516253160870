"""Many people at once on a real server: nothing is lost or mixed up, and nobody who leaves stays behind.

SOAK=1 python -m pytest tests/chat/test_load.py        # fifty clients for a minute, 300 who leave

Times are measured by `benchmarks.load`, on a machine that does nothing else.
"""

import json
import os
import time
from collections.abc import Iterator

import pytest

from benchmarks.load import Tally, Watch, hammer, leave, references, summary, table, throughput
from benchmarks.load_client import Address, Client, Said
from tests.chat.serving_world import TOKEN, World, served, talkative, wait_until

SOAK = bool(os.environ.get("SOAK"))
CLIENTS, SECONDS, ABORTS = (50, 60.0, 300) if SOAK else (8, 0.0, 10)
EACH = 4
"""Replies to each client, where there is no time to fill."""
SHORT = {"max_tokens": 12, "temperature": 1, "seed": 3}
"""A random model is greedy for the same few letters; sampled, it says something else to everybody."""
PROMPTS = ["?" * length for length in range(1, 13)]
"""A random model minds where a token stands more than which it is."""

pytestmark = [pytest.mark.slow] if SOAK else []


@pytest.fixture(scope="module")
def world(tmp_path_factory, tokenizer) -> Iterator[World]:
    """With few places: some clients have to wait for one."""
    sections = {"serve": {"streams": 6}, "chat": {"queue_size": 4, "max_batch": 4}}
    with served(tmp_path_factory.mktemp("run"), talkative(tokenizer), tokenizer, **sections) as world:
        yield world


@pytest.fixture(scope="module")
def address(world) -> Address:
    return Address("127.0.0.1", world.port, TOKEN)


@pytest.fixture(scope="module")
def known(address) -> dict[str, str]:
    return references(Client(address), PROMPTS, **SHORT)


def test_prompts_have_replies_of_their_own(world, known):
    assert len(known) >= 8 and len(set(known.values())) == len(known)


def test_nothing_is_lost_or_mixed_up(world, address, known):
    until = time.monotonic() + SECONDS
    with Watch(address, os.getpid()) as watch:
        enough = (lambda done: time.monotonic() >= until) if SOAK else (lambda done: done >= EACH)
        tally = hammer(address, known, CLIENTS, enough, **SHORT)
    found = summary(tally, watch, 1.0)
    assert found["lost"] == found["mixed_up"] == found["different"] == 0, found
    assert found["right"] == found["replies"] >= CLIENTS * (1 if SOAK else EACH)
    assert max(watch.waiting, default=0) <= 4
    stored = world.service.store.counts()["replies"]
    assert stored >= found["replies"]


def test_those_who_leave_leave_nothing_behind(world, address, known):
    client = Client(address)
    references(client, PROMPTS[:1], **SHORT)
    found = leave(address, known, ABORTS, clients=4, **SHORT)
    assert found["then_right"] and found["left_behind"] == 0
    assert wait_until(lambda: world.app.extensions["slots"].taken == 0)


def test_a_table_of_it_all(world, address, known):
    with Watch(address, os.getpid()) as watch:
        tally = hammer(address, known, 2, lambda done: done >= 1, **SHORT)
    found = {
        "clients": 2,
        "load": summary(tally, watch, 1.0),
        "aborts": leave(address, known, 2, **SHORT),
        "throughput": throughput(address, known, chats=3, repeats=1, **SHORT),
    }
    json.dumps(found, allow_nan=False)
    assert "| lost, mixed up | 0, 0 | 0, 0 |" in table(found).splitlines()


def test_what_counts_as_what():
    tally, known = Tally(), {"a": "A", "b": "B"}
    for text, finished in (("A", True), ("B", True), ("C", True), ("A", False)):
        tally.add("a", Said(text, finished, 0, 0.1, 0.2), known)
    assert (tally.right, tally.mixed_up, tally.different, len(tally.lost)) == (1, 1, 1, 1)
