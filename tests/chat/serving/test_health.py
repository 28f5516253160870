"""Health: one token at a time, shared by all who ask, and no thread held by an engine that does not answer."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rlhf.chat.engine import Engine, UnknownVersion
from rlhf.chat.http.refusals import refusal_of
from rlhf.chat.serving import health
from rlhf.chat.serving.health import Health
from tests.chat.world import Gate, chat_config


@pytest.fixture
def engine(folder):
    with Engine.of(chat_config(), {"sft": folder / "sft", "ppo": folder / "ppo"}) as engine:
        yield engine


def test_many_who_ask_cost_one_token(engine, monkeypatch):
    monkeypatch.setattr(health, "FRESH_SECONDS", 60)
    asked = Health(engine, lambda: "ppo", 60)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: asked.seconds(), range(60)))
    assert len(set(answers)) == 1 and answers[0][0] == "ppo" and answers[0][1] > 0
    assert engine.stats().tokens == 1


def test_another_live_version_is_asked_itself(engine, monkeypatch):
    monkeypatch.setattr(health, "FRESH_SECONDS", 60)
    live = "ppo"
    asked = Health(engine, lambda: live, 60)
    assert asked.seconds()[0] == "ppo"
    live = "sft"
    assert asked.seconds()[0] == "sft"
    live = "gone"
    with pytest.raises(UnknownVersion):
        asked.seconds()


def test_an_engine_that_hangs_holds_one_caller_and_is_asked_for_one_token(engine, monkeypatch):
    monkeypatch.setattr(health, "FRESH_SECONDS", 0.1)
    gate, asked, errors = Gate(engine, "ppo"), Health(engine, lambda: "ppo", 60), []
    first = threading.Thread(target=asked.seconds)
    first.start()
    assert gate.reached.wait(60)
    for _ in range(10):
        try:
            asked.seconds()
        except TimeoutError as error:
            errors.append(error)
    assert len(errors) == 10 and first.is_alive()  # they waited for a moment, the first one waits for its token
    gate.gone()
    first.join(60)
    assert asked.seconds()[0] == "ppo" and engine.stats().tokens <= 2


def test_a_token_that_takes_too_long(engine):
    over = threading.Event()
    busy = threading.Thread(target=engine._on_thread, args=(lambda: over.wait(60),))
    busy.start()
    with pytest.raises(TimeoutError) as late:
        Health(engine, lambda: "ppo", 0.05).seconds()
    assert refusal_of(late.value).code == 503
    over.set()
    busy.join(60)
    assert Health(engine, lambda: "ppo", 60).seconds()[0] == "ppo"
