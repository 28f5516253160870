"""Both sides of the comparison are given the same, and what is claimed can fail."""

import json
import sys
import time
from dataclasses import replace

import pytest

pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed (make dev)")

import stable_baselines3
from stable_baselines3.common.vec_env import VecNormalize

from benchmarks import lab_vs_sb3
from benchmarks.lab_vs_sb3 import Arguments, Round, as_sb3, claim, lab, main, sb3, summary, their_worlds, timed
from lab.experiment import Experiment
from lab.ppo.learner import Learner
from lab.ppo.settings import TASKS
from lab.report import tables
from lab.runs import side_by_side
from rlhf.errors import UserError

FEW = replace(TASKS["CartPole-v1"].settings, steps=256, environments=2, horizon=32, batch=32, epochs=1)
"""Four updates; learning rate 0.001 and clip 0.2 at the start, both linear to 0."""


def test_settings_of_mountain_car_as_stable_baselines_has_them() -> None:
    theirs = as_sb3(TASKS["MountainCarContinuous-v0"].settings)
    assert theirs["vf_coef"] == 0.5  # of the whole squared error
    assert (theirs["use_sde"], theirs["sde_sample_freq"]) == (True, -1)
    assert theirs["policy_kwargs"]["log_std_init"] == -2 and not theirs["policy_kwargs"]["ortho_init"]


def test_each_update_has_the_same_learning_rate_and_clip_on_both_sides(monkeypatch) -> None:
    ours, theirs = [], []

    class Watched(stable_baselines3.PPO):
        def train(self) -> None:
            super().train()
            theirs.append((self.policy.optimizer.param_groups[0]["lr"],
                           self.clip_range(self._current_progress_remaining)))  # fmt: skip

    step = Learner._step

    def watched(self, part, learning_rate, clip):
        if not ours or ours[-1] != (learning_rate, clip):  # an update has several minibatches
            ours.append((learning_rate, clip))
        return step(self, part, learning_rate, clip)

    monkeypatch.setattr(stable_baselines3, "PPO", Watched)
    monkeypatch.setattr(Learner, "_step", watched)
    lab("CartPole-v1", FEW, seed=0)
    sb3("CartPole-v1", FEW, seed=0)
    by_hand = [(1e-3, 0.2), (0.75e-3, 0.15), (0.5e-3, 0.1), (0.25e-3, 0.05)]
    assert [each == pytest.approx(want) for each, want in zip(ours, by_hand, strict=True)] == [True] * 4
    assert [each == pytest.approx(want) for each, want in zip(theirs, by_hand, strict=True)] == [True] * 4


@pytest.mark.parametrize("task", ["CartPole-v1", "Acrobot-v1"])  # without and with VecNormalize
def test_both_train_in_environments_with_the_same_seeds_and_wrappers(monkeypatch, task) -> None:
    made = []

    def kept(make):
        def keep(*given):
            made.append(make(*given))
            return made[-1]

        return keep

    settings = replace(FEW, normalise=TASKS[task].settings.normalise)
    monkeypatch.setattr(lab_vs_sb3, "side_by_side", kept(side_by_side))
    monkeypatch.setattr(lab_vs_sb3, "their_worlds", kept(their_worlds))
    lab(task, settings, seed=3)
    sb3(task, settings, seed=3)
    ours, _, theirs, _ = made  # each followed by those of its evaluation
    assert isinstance(theirs, VecNormalize) == settings.normalise
    seeds_of = [[world.unwrapped.np_random_seed for world in side.unwrapped.envs] for side in (ours, theirs)]
    assert seeds_of[0] == seeds_of[1] and len(set(seeds_of[0])) == 2
    assert [str(world) for world in ours.envs] == [str(world) for world in theirs.unwrapped.envs]


def test_their_normalised_observations_are_evaluated_normalised() -> None:
    settings = replace(TASKS["Acrobot-v1"].settings, steps=64, environments=2, horizon=32, batch=32, epochs=1)
    done = sb3("Acrobot-v1", settings, seed=0)
    assert -500 <= done.mean_return < 0 and done.steps_a_second > 0


def test_a_core_that_only_waits_does_no_work() -> None:
    done, seconds, core = timed(lambda: time.sleep(0.2))
    assert done is None and seconds >= 0.2 and core < 0.5


def rounds(times: list[float], ours: list[float], theirs: list[float]) -> dict:
    """What would have come of rounds in which the other side made 1000 steps a second."""
    both = enumerate(zip(times, ours, strict=True))
    return summary({
        "lab": [Round(seed, 1000 * many, 1.0, gained) for seed, (many, gained) in both],
        "sb3": [Round(seed, 1000.0, 1.0, gained) for seed, gained in enumerate(theirs)],
    })  # fmt: skip


def test_summary_by_hand() -> None:
    found = rounds([2.0, 4.0, 3.0], [500.0, 9.0, 490.0], [480.0, 500.0, 470.0])
    assert found["times"] == {"median": 3.0, "least": 2.0, "most": 4.0, "rounds": [2.0, 4.0, 3.0]}
    assert found["steps_a_second"] == {"lab": 3000.0, "sb3": 1000.0}
    assert found["median_return"] == {"lab": 490.0, "sb3": 480.0}
    assert found["rounds"]["lab"][1] == {"seed": 1, "steps_a_second": 4000.0, "core": 1.0, "mean_return": 9.0}


@pytest.mark.parametrize(
    ("times", "ours", "met"),
    [(1.5, 490.5, [True, True]), (1.49, 500.0, [False, True]), (2.0, 490.0, [True, False])],
)  # two hundredths of 23.2 to 500 are 9.536
def test_a_claim_is_met_or_not(tmp_path, times, ours, met) -> None:
    experiment = Experiment("demo", Arguments(out=tmp_path))
    claim(experiment, "CartPole-v1", rounds([times], [ours], [500.0]))
    assert [each["met"] for each in experiment.claims] == met


@pytest.mark.parametrize(("times", "met"), [(2.0, True), (1.2, False)])
def test_results_say_whether_claims_are_met(monkeypatch, tmp_path, times, met) -> None:
    sides = {"lab": lambda task, settings, seed: Round(seed, 1000 * times, 1.0, 500.0),
             "sb3": lambda task, settings, seed: Round(seed, 1000.0, 1.0, 500.0)}  # fmt: skip
    monkeypatch.setattr(lab_vs_sb3, "SIDES", sides)
    monkeypatch.setattr(sys, "argv", ["lab_vs_sb3", "--rounds", "2"])
    main(Arguments(out=tmp_path, tasks=("CartPole-v1",), rounds=2, note="nothing else"))
    found = json.loads((tmp_path / "ppo-beside-sb3.json").read_text())
    assert found["results"]["meanwhile"] == "nothing else"
    assert [each["seed"] for each in found["results"]["tasks"]["CartPole-v1"]["rounds"]["sb3"]] == [0, 1]
    page = tables([found])
    assert "    python -m benchmarks.lab_vs_sb3 --rounds 2" in page
    assert ("| **no** |" in page) != met


def test_both_sides_take_turns_and_a_short_try_claims_nothing(tmp_path, capsys) -> None:
    main(Arguments(out=tmp_path, tasks=("CartPole-v1",), rounds=2, share=0.006))
    found = json.loads((tmp_path / "ppo-beside-sb3.json").read_text())
    assert found["results"]["tasks"]["CartPole-v1"]["steps"] == 512  # two rollouts of 8 · 32; 600 were asked for
    assert found["claims"] == []
    turns = [line.split()[3] for line in capsys.readouterr().out.splitlines() if " round " in line]
    assert turns == ["lab", "sb3", "sb3", "lab"]


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"share": 1.5}, {"tasks": ("Chess",)}, {"workers": 2}])
def test_what_is_out_of_range_is_refused(wrong) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(wrong))} is out of range"):
        Arguments(**wrong)
