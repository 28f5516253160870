"""The lab's PPO on the chat environment."""

import json

import gymnasium
import numpy as np
import pytest

from lab.chat import (
    Arguments,
    Outcome,
    Reply,
    Worlds,
    acting,
    known,
    language_model,
    main,
    measure,
    questions,
    replies,
    settings,
    shared_words,
)
from lab.chat_words import best_constant
from lab.ppo.learner import train
from lab.ppo.settings import Settings
from rlhf.env import ChatEnvironment, ChatVectorEnvironment
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


def outcome(before, after, texts=("a", "b", "a", "c")):
    return Outcome(*[[Reply(text, reward) for text, reward in zip(texts, rewards, strict=False)]
                     for rewards in (before, after, [0.0] * len(after))])  # fmt: skip


def test_the_interval_is_that_of_the_difference_question_by_question():
    found = outcome([0.1, 0.5, 0.9], [0.35, 0.75, 1.15])
    assert found.gain("before") == (pytest.approx(0.25), pytest.approx(0.25))


def test_a_policy_that_stays_as_it_is_gains_nothing():
    assert outcome([0.1, 0.9], [0.1, 0.9]).gain("before") == (0.0, 0.0)


def test_distinct_replies_by_hand():
    assert outcome([0.0] * 4, [0.0] * 4).distinct()["after"] == 3 / 4


def test_the_best_constant_reply_by_hand():
    references = ["the cat", "the cat", "the dog"]
    assert best_constant(references) == "the cat"  # (1 + 1 + 1/2) / 3; all three words 4/5, "the" alone 2/3
    assert best_constant(references, frequent=1) == "the"


def test_the_policy_that_training_starts_from_is_the_language_model():
    """Token by token it says what the model itself writes at temperature 0 (the environment of parameters)."""
    world, of = small_world(), settings(1, 1)
    written = ChatEnvironment("parameters", world=world)
    coldest = np.array([-1, 1, 1], np.float32)
    expected = []
    for number in range(len(world.prompts)):
        written.reset(options={"prompt": number})
        expected.append(written.step(coldest)[4]["reply"])
    found = [one.text for one in replies(world, acting(language_model(world, of, 0), of))]
    assert found == expected and len(set(found)) > 1


def test_each_held_out_question_is_asked_once():
    rows = questions(6)
    both = Worlds(*(small_world(prompts=part, reward=shared_words, context=None) for part in (rows[:4], rows[4:])))
    of = settings(1, 1)
    start = acting(language_model(both.training, of, 0), of)
    found = measure(both, start, start)
    assert [len(part) for part in found] == [2, 2, 2]
    assert found.gain("before") == (0.0, 0.0) and len({one.text for one in found.constant}) == 1


def test_how_many_facts_are_known_by_hand():
    thief, minus, plumber = (small_world(prompts=[row], context=None) for row in questions(3))
    both = small_world(prompts=questions(2), context=None)
    assert [known(Worlds(thief, asked)) for asked in (thief, minus, both)] == [1.0, 0.0, 0.5]
    assert known(Worlds(both, plumber)) == 0.0


@pytest.mark.slow
def test_the_experiment_runs_from_beginning_to_end(tmp_path):
    main(Arguments(out=tmp_path, **SHORT))
    found = json.loads((tmp_path / "chat.json").read_text())
    assert {"rewards", "gains", "distinct", "constant", "known", "curve"} <= found["results"].keys()
    assert len(found["claims"]) == 3 and (tmp_path / "chat-curve.html").is_file()


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
