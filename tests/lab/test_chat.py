"""The lab's PPO on the chat environment."""

import json

import gymnasium
import numpy as np
import pytest

from lab.chat import Arguments, Outcome, main, questions, shared_words
from lab.ppo.learner import train
from lab.ppo.settings import Settings
from rlhf.env import ChatVectorEnvironment
from rlhf.errors import UserError
from tests.env_world import small_world

SHORT = dict(steps=64, environments=4, prompts=20, held_out=4, reply_tokens=3, entries=300, language_steps=1)


@pytest.mark.parametrize(
    ("reply", "reference", "f1"),
    [
        ("The capital is Rome.", "the capital is Rome", 1.0),
        ("Rome", "The capital is Rome.", 2 * 1 / (1 + 4)),
        ("Rome Rome Rome", "The capital is Rome.", 2 * 1 / (3 + 4)),
        ("Rome}", "Rome", 0.0),
        ("", "Rome", 0.0),
        ("", "", 0.0),
    ],
)
def test_shared_words_by_hand(reply, reference, f1):
    assert shared_words([reply], [reference]) == [pytest.approx(f1)]


def test_questions_are_short_and_always_the_same():
    rows = questions(30)
    assert rows == questions(40)[:30] and all(len(row.prompt[-1].content) <= 70 for row in rows)


def test_the_interval_is_that_of_the_difference_question_by_question():
    before = np.array([0.1, 0.5, 0.9])
    low, high = Outcome(before, before + 0.25, before).gain
    assert (low, high) == (pytest.approx(0.25), pytest.approx(0.25))


@pytest.mark.slow
def test_the_experiment_runs_from_beginning_to_end(tmp_path):
    main(Arguments(out=tmp_path, **SHORT))
    found = json.loads((tmp_path / "chat.json").read_text())
    assert {"before", "after", "language_model", "gain", "curve", "examples"} <= found["results"].keys()
    assert len(found["claims"]) == 1 and (tmp_path / "chat-curve.html").is_file()


@pytest.mark.slow
def test_ppo_learns_on_the_environment():
    """Each letter "a" of a reply of three tokens pays 1; the policy starts without knowing which token it is."""
    environments = ChatVectorEnvironment(32, "token", "features", world=small_world(max_reply_tokens=3))
    assert isinstance(environments, gymnasium.vector.VectorEnv)
    settings = Settings(steps=24_000, environments=32, horizon=16, batch=128, epochs=4, gamma=1.0,
                        learning_rate=3e-3, normalise=True, hidden=(64,))  # fmt: skip
    rewards = [episode.reward for episode in train(environments, settings, seed=0).episodes]
    assert np.mean(rewards[:200]) < 0.2 and np.mean(rewards[-200:]) > 1.0


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"environments": 0}, {"prompts": 0}, {"held_out": 1}, {"reply_tokens": 0}, {"entries": 100},
            {"language_steps": 0}],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(bad):
    with pytest.raises(UserError, match=next(iter(bad)).replace("_", "-")):
        Arguments(**bad)


def test_more_questions_than_there_are_are_refused():
    with pytest.raises(UserError, match="at most"):
        questions(100_000)
