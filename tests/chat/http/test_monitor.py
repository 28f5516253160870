"""The monitor's figures, from a store that was filled by hand."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
from transformers import PreTrainedTokenizerBase

from rlhf.chat.feedback import FeedbackStore, Rating, StoredMessage
from rlhf.chat.http.monitor import REWARD_SPAN, left_side, quantiles, snapshot
from rlhf.chat.http.monitor_shape import Snapshot
from rlhf.chat.service import ChatService
from rlhf.chat.store.judgements import IMPORTED
from rlhf.registry import Version
from tests.chat.serving_world import TOKEN, World, served, talkative


@pytest.fixture
def world(tmp_path, tokenizer) -> Iterator[World]:
    with served(tmp_path / "run", talkative(tokenizer), tokenizer) as world:
        yield world


def look(world: World) -> dict[str, Any]:
    service = world.service
    found = snapshot(service, service.store, service.registry, service.engine)
    Snapshot.model_validate(found)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


class Talk:
    """Writes a conversation into the store."""

    def __init__(self, store: FeedbackStore) -> None:
        self.store, self.number = store, 0
        self.conversation = store.new_conversation("ann").id

    def turn(self, **fields: Any) -> str:
        self.number += 1
        message = StoredMessage(f"q{self.number}", self.conversation, None, "user", "?", **fields)
        return self.store.add_message(message).id

    def reply(self, question: str, version: str = "sft", **fields: Any) -> str:
        self.number += 1
        message = StoredMessage(
            f"a{self.number}", self.conversation, question, "assistant", f"! {self.number}", version=version,
            finish_reason="stop", completion_tokens=10, prompt_tokens=5, seconds=1.0, first_token_seconds=0.1,
        )  # fmt: skip
        return self.store.add_message(replace(message, **fields)).id


def test_an_empty_store(world):
    found = look(world)
    assert found["times"]["replies"] == 0 and found["times"]["whole"] == {"p50": None, "p95": None}
    assert found["left_side"] == {"wins": 0, "losses": 0, "rate": None, "low": None, "high": None}
    assert found["rewards"] == found["curves"] == found["tests"] == []
    assert [(row["name"], row["state"], row["duels"]) for row in found["versions"]] == [("sft", "live", 0)]
    assert found["queue"] == {"waiting": 0, "active": 0, "size": 64}
    assert found["memory"]["resident"] > 10**8 and found["memory"]["gpu"] is None


def test_times_are_those_of_the_last_minutes(world):
    talk = Talk(world.service.store)
    question = talk.turn()
    for seconds in (1.0, 2.0, 3.0):
        talk.reply(question, seconds=seconds, first_token_seconds=seconds / 10)
    talk.reply(question, seconds=50.0, blocked=True)
    talk.reply(question, seconds=70.0, created=time.time() - 3600)
    times = look(world)["times"]
    assert times["replies"] == 3
    assert times["whole"] == {"p50": 2.0, "p95": pytest.approx(2.9)}  # 95% of the way from first to third
    assert times["first_token"]["p50"] == pytest.approx(0.2)
    assert times["tokens_per_second"] == 5.0  # the median of 10 / 1, 10 / 2 and 10 / 3
    assert times["throughput"] == pytest.approx(30 / 900)


def test_rewards_by_span_and_version(world):
    store = world.service.store
    talk = Talk(store)
    question, now = talk.turn(), time.time()
    begin = math.floor(now / REWARD_SPAN) * REWARD_SPAN
    for version, created, reward in (
        ("ppo", begin - 1, 9.0),
        ("sft", begin + 0.1, 1.0),
        ("sft", begin + 0.2, 2.0),
        ("ppo", begin + 0.3, 4.0),
        ("ppo", now - 2 * 24 * 3600, 100.0),
        ("sft", begin + 0.4, None),
        ("sft", begin + 0.5, math.nan),
    ):
        message = talk.reply(question, version, created=created)
        if reward is not None and not math.isnan(reward):
            store.set_reward(message, reward)
    assert look(world)["rewards"] == [
        {"time": begin - REWARD_SPAN, "version": "ppo", "mean": 9.0, "replies": 1},
        {"time": begin, "version": "ppo", "mean": 4.0, "replies": 1},
        {"time": begin, "version": "sft", "mean": 1.5, "replies": 2},
    ]


def test_feedback_and_blocks_are_counted(world):
    store = world.service.store
    talk = Talk(store)
    question = talk.turn()
    store.rate("ann", talk.reply(question), Rating(thumb=1))
    store.rate("ann", talk.reply(question), Rating(thumb=-1, correction="Yes."))
    store.log("blocked", reason="words", side="input")
    store.log("blocked", reason="words", side="output")
    store.log("blocked", reason="length", side="input")
    found = look(world)
    assert (found["feedback"]["thumbs_up"], found["feedback"]["thumbs_down"]) == (1, 1)
    assert found["blocks"] == {"words": 2, "length": 1}


def duels(
    store: FeedbackStore, choices: list[str], left: str = "ppo", right: str = "sft", user: str = "ann", **fields: Any
) -> None:
    """Judged duels; `fields` are those of all their turns."""
    talk = Talk(store)
    talk.number = 1000 * len(store.duels())
    with store.together():
        for choice in choices:
            question = talk.turn(**fields)
            sides = talk.reply(question, left, **fields), talk.reply(question, right, **fields)
            duel = store.open_duel(user, question, *sides, "random")
            store.vote(user, duel.id, choice)


def test_the_left_side(world):
    store = world.service.store
    duels(store, ["left"] * 3 + ["right"] + ["tie", "both_bad"])
    duels(store, ["left"] * 5, user=IMPORTED)
    side = look(world)["left_side"]
    assert (side["wins"], side["losses"], side["rate"]) == (3, 1, 0.75)
    # Wilson (1927) for 3 of 4 at z = 1.959964: centre (p + z²/2n) / (1 + z²/n) = 0.62753, reach 0.32688
    assert (side["low"], side["high"]) == (pytest.approx(0.30064, abs=1e-5), pytest.approx(0.95441, abs=1e-5))
    assert left_side(0, 0).rate is None


def test_a_duel_that_is_not_judged_moves_no_version_s_figures(world):
    store, talk = world.service.store, Talk(world.service.store)
    question = talk.turn()
    sides = [talk.reply(question, version, reward=1.0) for version in ("ppo", "sft")]
    duel = store.open_duel("ann", question, *sides, "random")
    assert look(world)["rewards"] == []
    store.vote("ann", duel.id, "left")
    assert {point["version"] for point in look(world)["rewards"]} == {"ppo", "sft"}


def test_versions_stand_by_their_duels(world):
    store = world.service.store
    duels(store, ["left"] * 8 + ["both_bad"] * 5, "sft", "other")
    duels(store, ["left"], "sft", "sft")  # says nothing of versions
    [row] = look(world)["versions"]
    assert row["duels"] == 8
    assert 0 < row["low"] < row["strength"] < row["high"]
    store.unvote("ann", store.duels(voted=True)[0].id)
    assert look(world)["versions"][0]["duels"] == 7


def challenge(world: World, tokenizer: PreTrainedTokenizerBase) -> ChatService:
    """A challenger v1 comes."""
    service = world.service
    folder = service.run_folder / "versions" / "v1"
    talkative(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    service.registry.register(Version("v1", "versions/v1", None, "sft", "candidate", "", {}, None, {"gold": 0.5}))
    service.check_versions()
    return service


def test_a_challenger_is_tested(world, tokenizer):
    service = challenge(world, tokenizer)
    duels(service.store, ["left"] * 3, "v1", "sft")
    found = look(world)
    [test] = found["tests"]
    assert (test["live"], test["challenger"], test["decision"]) == ("sft", "v1", "continue")
    assert (test["live_judgements"], test["challenger_judgements"]) == (3, 3)
    assert test["difference"] == pytest.approx(0.6)  # with a win and a loss more on each side, 4/5 less 1/5
    assert {row["name"]: row["state"] for row in found["versions"]} == {"sft": "live", "v1": "candidate"}
    assert found["versions"][1]["metrics"] == {"gold": 0.5}


def test_a_look_costs_the_same_however_much_was_judged(steps, world, tokenizer):
    """… where nobody has judged since the last one. Counted in the database's own steps, not in seconds."""
    store, yesterday = world.service.store, time.time() - 2 * 24 * 3600
    challenge(world, tokenizer)

    def cost_after(count: int) -> int:
        duels(store, ["left", "right"] * (count // 2), "v1", "sft", created=yesterday)
        found = look(world)
        before = len(steps)
        assert look(world)["versions"] == found["versions"]
        return len(steps) - before

    few, many = cost_after(10), cost_after(1990)
    assert look(world)["feedback"]["duels"] == 2000 and look(world)["tests"][0]["live_judgements"] == 2000
    assert many == few > 0


def test_curves_of_the_run(world):
    (world.service.run_folder / "sft" / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    assert look(world)["curves"] == [{"run": "sft", "phase": "sft", "metric": "loss", "steps": [1.0], "values": [2.0]}]


def test_it_is_what_the_server_sends(world):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    body = requests.get(f"{world.url}api/monitor", headers=headers, timeout=60).json()
    assert Snapshot.model_validate(body).queue.size == 64


def test_quantiles_lie_between_the_two_nearest():
    assert quantiles([1.0, 2.0]).p50 == 1.5
    assert quantiles([7.0]).p95 == 7.0
