"""The engine: what it says and to how many at a time, who is stopped, who is refused, who hears of a fault."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.chat.engine import Engine, EngineClosed, QueueFull
from rlhf.chat.inference.batch import Row
from rlhf.chat.inference.context import PromptTooLong
from rlhf.chat.inference.fleet import UnknownVersion
from rlhf.chat.inference.generation import Generation, GenerationFailed
from rlhf.chat.records import ReplySettings
from rlhf.chat.settings import ChatSection
from rlhf.decoding import Sampling, decode
from rlhf.errors import UserError
from rlhf.kv_cache import CachedRows
from rlhf.models import load_causal_lm
from rlhf.padding import pad_left
from rlhf.records import Message, ask
from rlhf.tokenizer import decode_reply, encode_prompt
from tests.conftest import small_config

QUESTIONS = [ask(text) for text in ("France", "What is a cat?", "two plus three", "Is it an animal? It is.")]
GREEDY = ReplySettings(temperature=0.0)
LIVELY = ReplySettings(temperature=1.0, seed=7, max_tokens=20)
"""Says something, for a random model."""
WAIT = 60.0
"""Seconds: far more than a reply takes, so that a test that hangs ends."""


def make_engine(start: Path, **chat) -> Engine:
    config = small_config(chat=ChatSection(**chat).model_dump())
    return Engine.of(config, {"base": start})


@pytest.fixture
def engine(start):
    with make_engine(start) as engine:
        yield engine


class Gate:
    """Holds the engine before its next pass through the network until it is opened."""

    def __init__(self, engine: Engine) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        with engine._fleet.role("base") as model:
            self.hook = model.register_forward_pre_hook(self.wait)
            self.trunk = model.base_model.register_forward_pre_hook(self.wait)

    def wait(self, *_) -> None:
        self.reached.set()
        assert self.open.wait(WAIT)


def test_greedy_replies_equal_decoding(engine, start, tokenizer):
    prompts = [encode_prompt(tokenizer, question) for question in QUESTIONS]
    ids, mask = pad_left(prompts, tokenizer.pad_token_id)
    roles = tuple(tokenizer.get_added_vocab()[name] for name in ("<|user|>", "<|assistant|>", "<|system|>"))
    sampling = Sampling(8, (tokenizer.eos_token_id, *roles), tokenizer.pad_token_id, 0.0)
    model = load_causal_lm(str(start), tokenizer, "fp32", torch.device("cpu"))
    found = decode(model, ids, mask, sampling, torch.rand(4, 8))
    expected = [tokens[real].tolist() for tokens, real in zip(found.tokens, found.mask, strict=True)]
    generations = [engine.submit(question, "base", GREEDY) for question in QUESTIONS]
    replies = [generation.result(WAIT) for generation in generations]
    assert [reply.text for reply in replies] == [decode_reply(tokenizer, ids) for ids in expected]
    assert [reply.completion_tokens for reply in replies] == [len(ids) for ids in expected]
    assert [reply.prompt_tokens for reply in replies] == [len(ids) for ids in prompts]
    assert [reply.finish_reason == "stop" for reply in replies] == found.ended.tolist()


def test_the_stream_is_the_reply(engine):
    generation = engine.submit(QUESTIONS[1], "base", ReplySettings(temperature=1.0, seed=3))
    deltas = list(generation)
    reply = generation.result(WAIT)
    assert "".join(deltas) == reply.text and generation.done and reply.seed == 3
    assert list(generation) == []  # a second reader sees the end
    assert 0 < reply.first_token_seconds <= reply.seconds


def test_equal_seeds_give_equal_replies_in_any_company(engine):
    settings = ReplySettings(temperature=1.0, top_p=0.9, seed=5)
    first = engine.reply(QUESTIONS[0], "base", settings)
    others = [engine.submit(question, "base", ReplySettings(temperature=1.0)) for question in QUESTIONS * 3]
    again = engine.reply(QUESTIONS[0], "base", settings)
    drawn = {generation.result(WAIT).seed for generation in others}
    assert first.text == again.text
    assert len(drawn) == len(others)


def test_a_stop_text_ends_the_reply_before_it(engine):
    whole = engine.reply(QUESTIONS[1], "base", LIVELY).text
    assert len(whole) > 8
    for stop in {whole[1], whole[2:4], whole[-2:]}:
        generation = engine.submit(QUESTIONS[1], "base", replace(LIVELY, stop=("never", stop)))
        text = "".join(generation)
        assert text == whole[: whole.index(stop)] and generation.result().finish_reason == "stop"


def test_the_limit_ends_the_reply(engine):
    reply = engine.reply(QUESTIONS[1], "base", replace(LIVELY, max_tokens=2))
    assert reply.completion_tokens == 2 and reply.finish_reason == "length"


def told(tokenizer, tokens: list[int], stop: tuple[str, ...] = ()) -> tuple[list[str], str]:
    row = Row([1], len(tokens), 0.0, 1.0, 0)
    generation = Generation(row, "v", stop, 0, tokenizer)
    for token in tokens:
        row.tokens.append(token)
        generation.tell()
        if row.finished:
            break
    generation.finish()
    return list(generation), generation.result().text


@given(text=st.text(min_size=1, max_size=30))
def test_no_half_character_is_told(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    deltas, whole = told(tokenizer, ids)
    assert "".join(deltas) == whole == text
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(deltas) or "\N{REPLACEMENT CHARACTER}" in text


@given(text=st.text("abc", min_size=1, max_size=20), stop=st.text("abc", min_size=1, max_size=4))
def test_no_part_of_a_stop_text_is_told(tokenizer, text, stop):
    ids = [tokenizer.convert_tokens_to_ids(character) for character in text]
    deltas, whole = told(tokenizer, ids, (stop,))
    assert "".join(deltas) == whole == text.split(stop)[0]


def test_cancel_frees_the_place(start):
    with make_engine(start, max_batch=1) as engine:
        gate = Gate(engine)
        long = engine.submit(QUESTIONS[0], "base", replace(LIVELY, max_tokens=40))
        next_one = engine.submit(QUESTIONS[1], "base", LIVELY)
        given_up = engine.submit(QUESTIONS[2], "base", LIVELY)
        assert gate.reached.wait(WAIT)
        long.cancel()
        given_up.cancel()
        gate.open.set()
        assert next_one.result(WAIT).text
        assert long.result(WAIT).finish_reason == "cancelled" and long.result().completion_tokens <= 1
        assert given_up.result(WAIT).finish_reason == "cancelled" and given_up.result().text == ""


def test_a_full_queue_says_when_to_come_back(start):
    with make_engine(start, max_batch=1, queue_size=2) as engine:
        gate = Gate(engine)
        running = engine.submit(QUESTIONS[0], "base", LIVELY)
        assert gate.reached.wait(WAIT)
        waiting = [engine.submit(QUESTIONS[0], "base", LIVELY) for _ in range(2)]
        with pytest.raises(QueueFull) as error:
            engine.submit(QUESTIONS[0], "base", LIVELY)
        assert error.value.retry_after >= 1 and error.value.waiting == 2
        stats = engine.stats()
        assert (stats.waiting, stats.active, stats.queue_size) == (2, 1, 2)
        gate.open.set()
        assert len({generation.result(WAIT).text for generation in (running, *waiting)}) == 1


def test_what_is_urgent_neither_waits_nor_is_refused(start):
    with make_engine(start, max_batch=1, queue_size=1) as engine:
        gate = Gate(engine)
        running = engine.submit(QUESTIONS[0], "base", replace(LIVELY, max_tokens=40))
        assert gate.reached.wait(WAIT)
        waiting = engine.submit(QUESTIONS[1], "base", LIVELY)
        urgent = engine.submit(QUESTIONS[2], "base", replace(LIVELY, max_tokens=1), urgent=True)
        gate.open.set()
        assert urgent.result(WAIT).completion_tokens == 1
        assert running.result(WAIT).text and waiting.result(WAIT).text
        assert urgent._last < running._last < waiting._last


def fail_once(engine: Engine, error: Exception, rows: int = 1) -> None:
    """The next pass of at least so many rows fails."""
    with engine._fleet.role("base") as model:
        trunk = model.base_model

        def strike(module, args, kwargs):
            if len(kwargs["input_ids"]) >= rows:
                hook.remove()
                raise error

        hook = trunk.register_forward_pre_hook(strike, with_kwargs=True)


def test_a_fault_reaches_the_caller_and_the_engine_goes_on(engine):
    fail_once(engine, ValueError("broken on purpose"))
    generation = engine.submit(QUESTIONS[0], "base", LIVELY)
    with pytest.raises(GenerationFailed, match="broken on purpose"):
        list(generation)
    with pytest.raises(GenerationFailed) as error:
        generation.result(WAIT)
    assert isinstance(error.value.__cause__, ValueError)
    assert engine.reply(QUESTIONS[0], "base", LIVELY).text
    assert engine.stats().active == 0


def test_out_of_memory_halves_the_batch_and_changes_no_reply(engine):
    expected = [engine.reply(question, "base", LIVELY).text for question in QUESTIONS * 2]
    fail_once(engine, torch.OutOfMemoryError("out of memory"), rows=3)
    generations = [engine.submit(question, "base", LIVELY) for question in QUESTIONS * 2]
    assert [generation.result(WAIT).text for generation in generations] == expected
    assert engine.stats().max_batch < 8
    fail_once(engine, torch.OutOfMemoryError("out of memory"))
    with pytest.raises(GenerationFailed, match="out of memory"):
        engine.submit(QUESTIONS[0], "base", LIVELY).result(WAIT)


def test_memory_that_runs_out_while_rows_leave_loses_no_reply(engine, monkeypatch):
    """Taking rows out copies the cache, which needs memory, too."""
    settings = [replace(LIVELY, max_tokens=4 + 4 * place) for place in range(4)]
    expected = [engine.reply(QUESTIONS[1], "base", one).text for one in settings]
    keep, failed = CachedRows.keep, []

    def strike(self, rows):
        if not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("out of memory")
        keep(self, rows)

    monkeypatch.setattr(CachedRows, "keep", strike)
    generations = [engine.submit(QUESTIONS[1], "base", one) for one in settings]
    assert [generation.result(WAIT).text for generation in generations] == expected and failed


def test_a_text_that_cannot_be_told_fails_alone(engine, monkeypatch):
    good, bad = (replace(LIVELY, seed=seed) for seed in (7, 8))
    expected = engine.reply(QUESTIONS[1], "base", good).text
    gate = Gate(engine)
    generations = [engine.submit(QUESTIONS[1], "base", settings) for settings in (good, bad)]
    monkeypatch.setattr(generations[1], "tell", lambda: 1 / 0)
    gate.open.set()
    assert generations[0].result(WAIT).text == expected
    with pytest.raises(GenerationFailed, match="division by zero"):
        generations[1].result(WAIT)


def test_a_fault_in_the_engine_itself_does_not_end_it(engine, monkeypatch):
    expected = engine.reply(QUESTIONS[1], "base", LIVELY).text
    monkeypatch.setattr(engine, "_pass", lambda *args: 1 / 0)
    with pytest.raises(GenerationFailed, match="division by zero"):
        engine.reply(QUESTIONS[1], "base", LIVELY)
    monkeypatch.undo()
    assert engine.reply(QUESTIONS[1], "base", LIVELY).text == expected


def test_weights_that_are_no_numbers_fail_before_a_token_is_drawn(engine):
    with engine._fleet.role("base") as model:
        model.transformer.ln_f.weight[0] = float("nan")
    with pytest.raises(GenerationFailed, match="give no numbers"):
        engine.reply(QUESTIONS[1], "base", LIVELY)


def test_a_smaller_batch_grows_again(start, monkeypatch):
    monkeypatch.setattr("rlhf.chat.engine.PASSES_TO_GROW", 3)
    with make_engine(start, max_batch=4) as engine:
        fail_once(engine, torch.OutOfMemoryError("out of memory"), rows=2)
        for generation in [engine.submit(question, "base", LIVELY) for question in QUESTIONS]:
            generation.result(WAIT)
        for _ in range(3):
            engine.reply(QUESTIONS[1], "base", LIVELY)
        assert engine.stats().max_batch == 4


def test_who_is_waited_for_is_in_use(start):
    with make_engine(start, max_batch=1) as engine:
        engine.load("copy", start)
        gate = Gate(engine)
        running, waiting = engine.submit(QUESTIONS[0], "base", LIVELY), engine.submit(QUESTIONS[0], "copy", LIVELY)
        assert engine.in_use() == {"base", "copy"}
        gate.open.set()
        assert running.result(WAIT) and waiting.result(WAIT)
        engine.unload("none")  # waits its turn: the engine is done with both
        assert engine.in_use() == frozenset()


def test_versions_come_and_go_while_others_reply(engine, start):
    engine.load("copy", start)
    assert engine.versions == ("base", "copy")
    mixed = [engine.submit(QUESTIONS[1], version, LIVELY) for version in ("base", "copy", "base")]
    assert len({generation.result(WAIT).text for generation in mixed}) == 1
    assert [generation.result().version for generation in mixed] == ["base", "copy", "base"]
    engine.unload("copy")
    with pytest.raises(UnknownVersion, match="copy"):
        engine.submit(QUESTIONS[1], "copy", LIVELY)
    with pytest.raises(UserError, match="does not exist"):
        engine.load("base", start / "nothing")
    assert engine.reply(QUESTIONS[1], "base", LIVELY).text == mixed[0].result().text


def test_an_exchanged_version_finishes_its_replies(engine, start):
    expected = engine.reply(QUESTIONS[1], "base", LIVELY).text
    generations = [engine.submit(QUESTIONS[1], "base", LIVELY) for _ in range(3)]
    engine.load("base", start)
    assert {generation.result(WAIT).text for generation in generations} == {expected}


def test_what_cannot_be_answered_is_refused_at_once(engine):
    long = (Message("user", "cat " * 100),)
    with pytest.raises(PromptTooLong, match="together at most 64 tokens"):
        engine.submit(long, "base", GREEDY)
    for wrong in ({"temperature": 3.0}, {"top_p": 0.0}, {"max_tokens": 0}, {"seed": -1}, {"stop": ("",)}):
        with pytest.raises(UserError, match=f"Bad {next(iter(wrong))}"):
            engine.submit(QUESTIONS[0], "base", ReplySettings(**wrong))
    with pytest.raises(UnknownVersion, match="did you mean base"):
        engine.submit(QUESTIONS[0], "bas", GREEDY)
    turns = tuple(Message(role, "cat and dog") for role in ("user", "assistant") * 8) + ask("Hi")
    assert engine.reply(turns, "base", GREEDY).dropped_turns > 0


def test_closing_ends_every_wait(start):
    engine = make_engine(start, max_batch=1)
    gate = Gate(engine)
    running, waiting = (engine.submit(QUESTIONS[0], "base", LIVELY) for _ in range(2))
    assert gate.reached.wait(WAIT)
    closing = threading.Thread(target=engine.close)
    closing.start()
    while not engine._closed:
        time.sleep(0.001)
    gate.open.set()
    closing.join(WAIT)
    for generation in (running, waiting):
        with pytest.raises(GenerationFailed, match="closed"):
            generation.result(WAIT)
    with pytest.raises(EngineClosed):
        engine.submit(QUESTIONS[0], "base", LIVELY)
    with pytest.raises(EngineClosed):
        engine.load("more", start)


def test_a_reply_that_takes_too_long_is_not_lost(start):
    with make_engine(start) as engine:
        gate = Gate(engine)
        generation = engine.submit(QUESTIONS[0], "base", LIVELY)
        with pytest.raises(TimeoutError):
            generation.result(0.01)
        gate.open.set()
        assert generation.result(WAIT).text
