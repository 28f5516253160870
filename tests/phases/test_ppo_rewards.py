"""Phase ppo with other rewards than the learned one: no reward model, all columns, each reward by itself in the log."""

import sys
from dataclasses import replace

import pytest

from rlhf.errors import UserError
from rlhf.phases import base, ppo, reward, sft
from tests.phases.helpers import WORDS, metrics, tiny_config, tiny_run

MODULE = """
calls = []

def letters(completions, **kwargs):
    calls.append(kwargs | {"completions": completions})
    return [float(sum(map(str.isalpha, completion))) for completion in completions]

def as_the_model(completions, reward_model):
    return reward_model

def fails_on_cats(prompts, completions):
    return [{"What is a cat?": None}.get(prompt, 0.0) + 1 for prompt in prompts]
"""


@pytest.fixture
def rewards(tmp_path, monkeypatch):
    """The module phase_rewards, imported from the current folder."""
    (tmp_path / "phase_rewards.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "phase_rewards", raising=False)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """What PPO starts from; there is no reward model."""
    run = tiny_run(tmp_path_factory.mktemp("started"))
    base.run_phase(run)
    sft.run_phase(run)
    return run


def run_with(tmp_path, started, **settings):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("base", "sft"):
        (folder / name).symlink_to(started.folder / name)
    return replace(started, folder=folder, config=tiny_config(ppo=settings))


def test_ppo_on_a_function_and_a_composite_needs_no_reward_model(tmp_path, started, rewards):
    parts = ["distinct", {"reward": "length", "words": [2, 4], "weight": 3}]
    function = {"reward": "phase_rewards.letters", "weight": 0.5}
    mix = {"reward": "composite", "parts": parts}
    run = run_with(tmp_path, started, rewards=[function, mix], reward_clip=None, eval_prompts=6)
    ppo.run_phase(run)
    assert not (run.folder / "reward").exists() and (run.folder / "rlhf_gpt_neo_model").is_dir()
    rows = metrics(run.folder / "ppo")
    updates = [row for row in rows if "objective/scores" in row]
    assert len(updates) == 2
    for row, key, total in [(row, "", "objective/scores") for row in updates] + [(rows[0], "eval/", "eval/score")]:
        mean = {name: row[f"{key}rewards/{name}/mean"] for name in ("letters", "composite", "composite/distinct")}
        assert row[total] == pytest.approx(0.5 * mean["letters"] + mean["composite"], abs=1e-5)
        assert 0 <= mean["composite/distinct"] <= 1 <= row[f"{key}rewards/letters/std"]
    check_columns(run, sys.modules["phase_rewards"].calls)
    assert run.is_up_to_date("ppo")
    with pytest.raises(UserError, match=r"(?s)ppo was made with another configuration.*ppo\.rewards"):
        replace(run, config=tiny_config(ppo={"rewards": [function], "reward_clip": None})).is_up_to_date("ppo")


def check_columns(run, calls):
    """Training's prompts and held-out ones, each with its own record and tokens."""
    tokenizer, asked = run.tokenizer(), set()
    for call in calls:
        for turns, ids, reference, source in zip(
            call["messages"], call["prompt_ids"], call["reference"], call["source"], strict=True
        ):
            (word,) = [word for word in WORDS if turns == [{"role": "user", "content": f"What is a {word}?"}]]
            assert reference == f"A {word} is here." and source == "lists"
            assert f"What is a {word}?" in tokenizer.decode(ids)
            asked.add(word)
    assert asked >= {"star", "cat"}  # star is held out, cat is not


def test_beside_other_rewards_the_learned_one_is_still_asked_for(tmp_path, started, rewards):
    run = run_with(tmp_path, started, rewards=["distinct", "model"])
    with pytest.raises(UserError, match="needs the result of phase reward"):
        ppo.run_phase(run)
    reward.run_phase(run)
    ppo.run_phase(run)
    (first, *_) = [row for row in metrics(run.folder / "ppo") if "objective/scores" in row]
    assert {"rewards/model/mean", "rewards/distinct/mean"} <= first.keys()


def test_what_the_learned_reward_gives_can_be_a_part_and_be_normalised(tmp_path, started, rewards):
    mix = {"reward": "composite", "normalise": True, "parts": ["model", {"reward": "length", "words": [2, 4]}]}
    run = run_with(tmp_path, started, rewards=[mix, "phase_rewards.as_the_model"], eval_prompts=0)
    reward.run_phase(run)
    ppo.run_phase(run)
    (first, *_) = [row for row in metrics(run.folder / "ppo") if "objective/scores" in row]
    assert first["rewards/as_the_model/mean"] == pytest.approx(first["rewards/composite/model/mean"], abs=1e-6)


def test_a_function_is_normalised_on_the_calibration_rows(tmp_path, started, rewards):
    run = run_with(tmp_path, started, rewards=[{"reward": "phase_rewards.letters", "normalise": True}])
    ppo.run_phase(run)
    # its first call is on the replies of the validation split, "A red is here." and so on
    first = sys.modules["phase_rewards"].calls[0]
    assert first["completions"] == [row.completion for row in run.data.demonstrations("validation")]
    assert first["reference"] == first["completions"] and len(first["prompt_ids"]) == len(first["completions"])


def test_a_function_that_fails_ends_the_run_with_its_name_and_the_reply(tmp_path, started, rewards):
    run = run_with(tmp_path, started, rewards="phase_rewards.fails_on_cats", eval_prompts=0, total_episodes=64)
    with pytest.raises(UserError, match=r"(?s)phase_rewards.fails_on_cats failed on reply .*TypeError.*a cat"):
        ppo.run_phase(run)
    assert not (run.folder / "ppo").exists()
