"""The scorer: rewards as the reward model gives them, in the background, by whichever model is live."""

import math
import threading

import pytest
import torch

from reward_model import RewardModel
from rlhf.chat.records import ReplySettings
from rlhf.chat.serving.scorer import Judged, Scorer
from rlhf.encoding import Encoder
from rlhf.records import ask
from tests.chat.world import chat_config, save_reward, service_on

ROWS = [Judged(ask("What is a cat?"), "A cat is an animal.", True), Judged(ask("Two?"), "It is", False)]
CPU = torch.device("cpu")


@pytest.fixture
def scorer(tokenizer):
    scorer = Scorer(chat_config(), tokenizer, CPU)
    yield scorer
    scorer.close()


def test_rewards_are_those_of_the_reward_model(scorer, tokenizer, tmp_path):
    folder = save_reward(tmp_path / "reward", tokenizer)
    assert scorer.score(ROWS) is None and not scorer.ready
    scorer.use(folder)
    assert scorer.ready
    encoder = Encoder(tokenizer, chat_config().data)
    ids = [encoder.prompt(row.prompt) + encoder.reply(row.reply, end=row.ended) for row in ROWS]
    assert (ids[0][-1] == tokenizer.eos_token_id, ids[1][-1] == tokenizer.eos_token_id) == (True, False)
    expected = RewardModel.load(folder, tokenizer, "fp32", CPU).score_ids(ids).tolist()
    assert scorer.score(ROWS) == pytest.approx(expected, abs=1e-5)
    assert expected[0] != pytest.approx(expected[1], abs=1e-3)
    scorer.use(None)
    assert scorer.score(ROWS) is None


def test_later_tells_each_its_own(scorer, tokenizer, tmp_path):
    scorer.use(save_reward(tmp_path / "reward", tokenizer))
    told, done = {}, threading.Event()

    def tell(name, reward):
        told[name] = reward
        if len(told) == 2:
            done.set()

    for name, row in zip("ab", ROWS, strict=True):
        scorer.later(row, lambda reward, name=name: tell(name, reward))
    assert done.wait(60)
    assert [told["a"], told["b"]] == pytest.approx(scorer.score(ROWS), abs=1e-5)


def test_people_go_first(scorer, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("rlhf.chat.serving.scorer.PATIENCE_SECONDS", 60)
    scorer.use(save_reward(tmp_path / "reward", tokenizer))
    looked, free, told = threading.Event(), threading.Event(), threading.Event()

    def busy():
        looked.set()
        return not free.is_set()

    scorer.busy = busy
    scorer.later(ROWS[0], lambda reward: told.set())
    assert looked.wait(60) and not told.is_set()
    free.set()
    assert told.wait(60)


@pytest.mark.parametrize("config", [None, "{", '{"model_type": "gpt_neo", "attention_types": 3}'])
def test_a_broken_reward_model_is_not_used(scorer, tmp_path, caplog, config):
    (tmp_path / "reward").mkdir()
    if config:
        (tmp_path / "reward" / "config.json").write_text(config)
    scorer.use(tmp_path / "reward")
    assert not scorer.ready and "no rewards" in caplog.text


def test_closing_does_not_wait_for_all_that_wait(scorer, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("rlhf.chat.serving.scorer.CLOSING_SECONDS", 0)
    scorer.use(save_reward(tmp_path / "reward", tokenizer))
    begun, going_on, told = threading.Event(), threading.Event(), []

    def first(reward):
        begun.set()
        going_on.wait(60)

    scorer.later(ROWS[0], first)
    assert begun.wait(60)
    for _ in range(100):
        scorer.later(ROWS[1], told.append)
    closing = threading.Thread(target=scorer.close)
    closing.start()
    while scorer._until == math.inf:
        closing.join(0.01)
    going_on.set()
    closing.join(60)
    assert not closing.is_alive() and told == []


def test_a_fault_in_one_reward_does_not_end_the_others(scorer, tokenizer, tmp_path):
    scorer.use(save_reward(tmp_path / "reward", tokenizer))
    done = threading.Event()
    scorer.later(ROWS[0], lambda reward: 1 / 0)
    scorer.later(ROWS[1], lambda reward: done.set())
    scorer.later(ROWS[1], lambda reward: done.set())
    assert done.wait(60)


def test_replies_get_their_rewards(folder, tokenizer):
    save_reward(folder / "reward", tokenizer)
    with service_on(folder, chat_config(), rewards=True) as service:
        assert service.scorer.folder == folder / "reward"  # the live version's own
        reply = service.say("ann", service.create("ann").id, None, "Hello", ReplySettings(max_tokens=4)).done()
        duel = service.duel("ann", None, ReplySettings(max_tokens=4)).done()
        service.scorer.close()
        expected = service.scorer.score([Judged(ask("Hello"), reply.content, False)])
        assert service.store.message(reply.id).reward == pytest.approx(expected[0], abs=1e-5)
        assert service.store.message(duel.left).reward is not None
        service.scorer = None
