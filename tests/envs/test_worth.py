"""What replies are worth in an environment made of a run: as the run's own PPO has it."""

import shutil

import pytest
import torch

from dataloader import DataRoom
from rlhf.env import ChatEnvironment, make_world
from rlhf.envs.opened import open_run
from rlhf.errors import UserError
from rlhf.records import Demonstration, ask
from rlhf.tokenizer import decode_reply
from tests.conftest import SMALL
from tests.env_world import END, made_run, small, small_world, spell
from tests.rewards.helpers import save_classifier

HELD_OUT = [Demonstration(str(number), ask("Hi"), "a" * number, "", "mine") for number in (1, 2, 3)]
OF_RUN = {"device": "cpu", "prompts": ["The cat"]}


def worth(world, text: str) -> float:
    """Of a reply that ends by itself, without a penalty."""
    return world.score([world.prompts[0]], [world.encoded[0]], [[*spell(text), END]])[0][0]


def test_a_reward_is_normalised_on_the_demonstrations_that_are_given(tmp_path):
    """Letters "a" of 1, 2 and 3: mean 2, deviation 1."""
    made_run(tmp_path)
    reward = {"reward": "tests.env_world.letters", "normalise": True}
    world = make_world(tmp_path, reward=reward, demonstrations=HELD_OUT, **OF_RUN)
    assert [worth(world, text) for text in ("", "a", "aaaa")] == pytest.approx([-2, -1, 2])


@pytest.mark.parametrize("changes", [{}, {"held_out_categories": ["open_qa"], "validation_fraction": 0.2}])
def test_a_runs_own_demonstrations_are_those_of_its_phases(tmp_path, changes):
    made_run(tmp_path, data=SMALL["data"] | changes)
    run = open_run(tmp_path, None, "cpu")
    rows = run.held_out()
    assert rows == DataRoom(run.config).demonstrations("validation") and len(rows) > 100


noted: list[list[str]] = []


def noting(completions, **columns):
    """What is rewarded: 0, 1, 2, …"""
    noted.append(completions)
    return [float(number) for number in range(len(completions))]


def test_a_reward_is_normalised_on_the_runs_own_calibration_rows(tmp_path):
    """As many as the run says, and cut as the run's replies are: the letters of the first 8 tokens."""
    made_run(tmp_path, reward={"calibration_rows": 3})
    noted.clear()
    reward = {"reward": f"{__name__}.noting", "normalise": True}
    world = make_world(tmp_path, reward=reward, **OF_RUN)
    rows = open_run(tmp_path, None, "cpu").held_out()[:3]
    encode = small()[1].encode
    assert noted == [[decode_reply(small()[1], encode(row.completion)[:8]) for row in rows]]
    assert worth(world, "a") == pytest.approx(-1)  # the first of 0, 1, 2: mean 1, deviation 1


def test_demonstrations_of_other_sources_have_to_be_given(tmp_path):
    (tmp_path / "mine.jsonl").write_text("")
    made_run(
        tmp_path, data=SMALL["data"] | {"demonstrations": [str(tmp_path / "mine.jsonl")], "prompts": ["classroom"]}
    )
    reward = {"reward": "distinct", "normalise": True}
    with pytest.raises(UserError, match=r"(?s)other demonstrations.*jsonl.*load_demonstrations\(config, \"valid"):
        make_world(tmp_path, reward=reward, **OF_RUN)


def test_nothing_is_normalised_without_a_run():
    with pytest.raises(UserError, match=r"(?s)normalised, and without a run.*give run=…, or set normalise: false"):
        small_world(reward={"reward": "distinct", "normalise": True})
    with pytest.raises(UserError, match="demonstrations would have no effect"):
        small_world(demonstrations=HELD_OUT)


def test_a_classifier_is_normalised_by_default(tmp_path):
    made_run(tmp_path / "run")
    save_classifier(tmp_path / "classifier", ("bad", "good"))
    reward = {"reward": "classifier", "path": str(tmp_path / "classifier"), "label": "good"}
    held_out = [Demonstration(str(n), ask("where"), text, "", "mine") for n, text in enumerate(["a cat", "rome", "is"])]
    world = make_world(tmp_path / "run", reward=reward, demonstrations=held_out, **OF_RUN)
    columns = {"prompts": ["where"] * 3, "completions": ["a cat", "rome", "is"]}
    found = world.rewards(**columns).total
    torch.testing.assert_close(torch.stack([found.mean(), found.std()]), torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0)


def test_a_classifier_computes_in_the_runs_precision(tmp_path):
    save_classifier(tmp_path / "classifier", ("bad", "good"))
    reward = {"reward": "classifier", "path": str(tmp_path / "classifier"), "label": "good", "normalise": False}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        made_run(tmp_path / precision, model=SMALL["model"] | {"precision": precision})
        world = make_world(tmp_path / precision, reward=reward, **OF_RUN)
        assert world.rewards.rewards[0].function.model.dtype == dtype


def test_a_runs_own_rewards_and_penalty_are_the_default(tmp_path):
    """One letter "a", worth twice as much; without an end, 0.75 less."""
    letters = {"reward": "tests.env_world.letters", "weight": 2}
    made_run(tmp_path, ppo={"rewards": [letters, "model"], "missing_eos_penalty": 0.75})
    world = make_world(tmp_path, **OF_RUN)
    assert world.rewards.names == ["letters", "model"] and world.missing_eos_penalty == 0.75
    made_run(tmp_path, ppo={"rewards": [letters], "missing_eos_penalty": 0.75})
    env = ChatEnvironment("reply", run=tmp_path, **OF_RUN)
    for text, reward in (("a", 2.0), ("aaaaaaaa", 15.25)):
        env.reset(seed=0)
        assert env.step(env.encode_reply(text))[1] == reward


def test_what_is_given_goes_before_the_runs_own(tmp_path):
    made_run(tmp_path, ppo={"rewards": ["model"], "missing_eos_penalty": 0.75})
    world = make_world(tmp_path, reward="distinct", missing_eos_penalty=0.0, **OF_RUN)
    assert world.rewards.names == ["distinct"] and world.missing_eos_penalty == 0


def test_a_run_without_the_reward_model_that_it_asks_for_is_judged_by_the_gold_judge(tmp_path):
    made_run(tmp_path)
    shutil.rmtree(tmp_path / "reward")
    with pytest.raises(UserError, match="judge of the embedded corpus"):
        make_world(tmp_path, **OF_RUN)


def test_a_run_that_sets_no_penalty_has_none(tmp_path):
    made_run(tmp_path)
    assert make_world(tmp_path, **OF_RUN).missing_eos_penalty == 0 == small_world().missing_eos_penalty


@pytest.mark.parametrize("penalty", [-0.1, float("nan"), float("inf")])
def test_a_penalty_out_of_range_is_refused(penalty):
    with pytest.raises(UserError, match="missing_eos_penalty is out of range"):
        small_world(missing_eos_penalty=penalty)


def test_a_version_without_its_run_is_refused():
    with pytest.raises(UserError, match=r"(?s)version would have no effect: no run.*give run=…"):
        small_world(version="v1")
