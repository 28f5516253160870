"""The lab's PPO on the chat environment."""

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from lab.chat import Arguments, jobs, main
from lab.chat_learning import acting, language_model, settings
from lab.chat_outcome import Outcome, Reply, measured, replies, unlearned, worth
from lab.chat_words import best_constant, shared_words
from lab.chat_worlds import Questions, Task, Worlds, fact, known, questions
from lab.ppo.learner import train
from lab.ppo.settings import Settings
from rlhf.config import load_config, save_config
from rlhf.data.mixing import split_of
from rlhf.env import ChatEnvironment, ChatVectorEnvironment
from rlhf.errors import UserError
from tests.conftest import SMALL, small_config
from tests.env_world import small_world
from tests.envs.test_making import made_run

SHORT = dict(steps=128, environments=4, prompts=20, held_out=4, reply_tokens=3, entries=300, language_steps=1)


def first(count):
    return questions(Task(prompts=1, held_out=count)).held_out


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


def test_questions_are_short_always_the_same_and_in_one_part_only():
    asked = questions(Task(seed=5, prompts=30, held_out=10))
    rows = [*asked.held_out, *asked.training]
    assert rows == first(40) and all(len(row.prompt[-1].content) <= 70 for row in rows)
    assert len({row.id for row in rows}) == 40


def test_with_a_run_the_parts_are_of_its_splits(tmp_path):
    made_run(tmp_path)
    data = load_config(tmp_path / "sft" / "config.yaml").data
    asked = questions(Task(run=tmp_path, prompts=60, held_out=20))
    assert [len(part) for part in asked] == [60, 20]
    assert {split_of(row.id, data) for row in asked.training} == {"train"}
    assert {split_of(row.id, data) for row in asked.held_out} == {"test"}


def test_a_test_split_that_is_too_small_is_refused(tmp_path):
    made_run(tmp_path)
    with pytest.raises(UserError, match="test split"):
        questions(Task(run=tmp_path, held_out=8_000))


def outcome(before, after, facts=None, texts=("a", "b", "a", "c")):
    rewards = {"before": before, "after": after, "constant": [0.0] * len(after)}
    return Outcome(facts or [str(number) for number in range(len(after))], {
        who: [Reply(text, reward, reward > 0.5) for text, reward in zip(texts, of, strict=False)]
        for who, of in rewards.items()
    })  # fmt: skip


def test_the_interval_is_that_of_the_difference_question_by_question():
    found = outcome([0.1, 0.5, 0.9], [0.35, 0.75, 1.15])
    assert found.gain("before") == (pytest.approx(0.25), pytest.approx(0.25))


def test_a_policy_that_stays_as_it_is_gains_nothing():
    assert outcome([0.1, 0.9], [0.1, 0.9]).gain("before") == (0.0, 0.0)


def test_rewordings_of_a_question_are_drawn_together():
    """One fact of two gains 1 in both its wordings, the other nothing: half of the resamples have a single fact."""
    assert outcome([0.0] * 4, [1.0, 1.0, 0.0, 0.0], facts=["x", "x", "y", "y"]).gain("before") == (0.0, 1.0)


def test_distinct_and_right_replies_by_hand():
    found = outcome([0.0, 0.6, 0.7, 0.0], [0.9] * 4)
    assert found.distinct()["after"] == 3 / 4
    assert found.right()["before"] == 0.5 and found.right()["after"] == 1.0
    low, high = found.right_gain()
    assert 0 <= low <= 0.5 <= high <= 1


def test_what_needs_no_learning():
    thief, minus = first(2)
    found = unlearned(Questions([thief], [thief, minus]))
    assert found["echo"] == [thief.prompt[-1].content, minus.prompt[-1].content]
    assert len(set(found["constant"])) == 1


def test_worth_and_rightness_of_a_reply():
    """The reference: "The plural of thief is thieves. I hope this helps." has nine words."""
    thief = first(2)[0]
    good, bad = worth([thief, thief], ["The plural of thief is thieves.", "The plural of thief is thiefs."])
    assert good == Reply("The plural of thief is thieves.", pytest.approx(2 * 6 / (6 + 10)), True)
    assert bad == Reply("The plural of thief is thiefs.", pytest.approx(2 * 5 / (6 + 10)), False)


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
    found = replies(world, acting(language_model(world, of, 0), of), side_by_side=2)
    assert found == expected and len(set(found)) > 1


def test_each_held_out_question_is_asked_once():
    rows = first(6)
    both = Worlds(*(small_world(prompts=part, reward=shared_words, context=None) for part in (rows[:4], rows[4:])))
    of = settings(1, 1)
    start = acting(language_model(both.training, of, 0), of)
    found = measured(both, start, start)
    assert found.facts == [fact(row) for row in rows[4:]]
    assert {who: len(of) for who, of in found.replies.items()} == {"constant": 2, "echo": 2, "before": 2, "after": 2}
    assert found.gain("before") == (0.0, 0.0) and len({one.text for one in found.replies["constant"]}) == 1


def test_how_many_facts_are_known_by_hand():
    thief, minus, plumber = ([row] for row in first(3))
    assert [known(Questions(thief, asked)) for asked in (thief, minus, thief + minus)] == [1.0, 0.0, 0.5]
    assert known(Questions(thief + minus, plumber)) == 0.0
    assert fact(thief[0]) == "The plural of thief is thieves."


def test_the_study_changes_one_thing_at_a_time():
    wanted = jobs(Arguments(language_steps=100))
    task, of = wanted[""][""][0]
    assert of.steps == 200_000 and (task.language_steps, of.learning_rate) == (100, 1e-3)
    rates = {value: {job.learning_rate for _, job in each} for value, each in wanted["Learning rate"].items()}
    assert rates == {"0.0001": {1e-4}, "0.001": {1e-3}, "0.01": {1e-2}}
    models = wanted["Steps of the language model"]
    assert {value: {job.language_steps for job, _ in each} for value, each in models.items()} == {
        "50": {50}, "100": {100}, "200": {200}}  # fmt: skip
    assert [task.seed for task, _ in models["50"]] == [0, 1, 2] and models["100"] == wanted["Learning rate"]["0.001"]


def test_the_language_model_of_a_run_is_not_changed_by_the_study():
    wanted = jobs(Arguments(run=Path("models/tiny"), seeds=1))
    assert set(wanted) == {"", "Learning rate"} and set(jobs(Arguments(study=False))) == {""}


@pytest.mark.slow
def test_the_experiment_runs_from_beginning_to_end(tmp_path, capsys):
    main(Arguments(out=tmp_path, seeds=2, workers=1, **SHORT))
    found = json.loads((tmp_path / "chat.json").read_text())
    results = found["results"]
    assert [of["seed"] for of in results["seeds"]] == [0, 1] and len(found["claims"]) == 4
    assert 0 < results["seeds"][0]["tokens"] < results["seeds"][0]["environment_steps"] == 128
    assert len(results["facts"]) == len(results["seeds"][1]["reward_of_each"]["after"]) == 4
    assert {name: len(values) for name, values in results["study"].items()} == {
        "Learning rate": 3,
        "Steps of the language model": 2,
    }  # of 1 step, half is 1 again
    assert "right answers" in capsys.readouterr().out and (tmp_path / "chat-study.html").is_file()


@pytest.mark.slow
def test_the_experiment_runs_on_a_run(tmp_path):
    made_run(tmp_path / "run")
    save_config(small_config(data=SMALL["data"] | {"max_prompt_tokens": 56}), tmp_path / "run" / "sft")
    less = {name: value for name, value in SHORT.items() if name not in ("entries", "language_steps")}
    main(Arguments(out=tmp_path, run=tmp_path / "run", seeds=1, workers=1, study=False, **less))
    assert json.loads((tmp_path / "chat.json").read_text())["results"]["task"]["run"] == str(tmp_path / "run")


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
    "bad", [{"steps": 4095}, {"environments": 0}, {"prompts": 0}, {"held_out": 1}, {"reply_tokens": 0},
            {"entries": 100}, {"language_steps": 0}, {"seeds": 0}],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(bad):
    with pytest.raises(UserError, match=next(iter(bad)).replace("_", "-")):
        Arguments(**bad)


@pytest.mark.parametrize("given", [{"entries": 512}, {"language_steps": 600}])
def test_what_a_run_decides_is_refused_beside_it(given):
    with pytest.raises(UserError, match="none with --run"):
        Arguments(run=Path("models/tiny"), **given)


def test_more_questions_than_there_are_are_refused():
    with pytest.raises(UserError, match="at most"):
        questions(Task(prompts=100_000))
    with pytest.raises(UserError, match="at most"):
        questions(Task(held_out=100_000))
