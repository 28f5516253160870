"""Steps a second of the lab's PPO and of Stable-Baselines3's: same task, settings and number of environments, same run.

python -m benchmarks.lab_vs_sb3 --out docs/results/lab-vs-sb3.json
python -m benchmarks.lab_vs_sb3 --rounds 1 --share 0.1 --tasks CartPole-v1        # a try

Both step Gymnasium's environments one after the other in one process on one thread: SyncVectorEnv here, DummyVecEnv
there. They take turns, and the medians of the rounds count. A step of the lab that only resets an environment is not
counted. Both make as many updates; Stable-Baselines3 would round a last rollout up. Round n trains both with seed n;
then both play the same number of episodes without exploration.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import stable_baselines3
import torch
from numpy.typing import NDArray
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from benchmarks.machine import described
from benchmarks.processes import write_json
from lab.ppo.evaluation import Acts, evaluate
from lab.ppo.learner import train
from lab.ppo.runs import EVALUATION_SEED, environments
from lab.ppo.settings import COURSES, TASKS, Settings
from rlhf.stopwatch import now

EPISODES = 100


class Round(NamedTuple):
    """One training of one side."""

    steps_a_second: float
    mean_return: float
    """Of the evaluation episodes."""


def lab(task: str, settings: Settings, seed: int) -> Round:
    worlds = environments(task, settings.environments)
    began = now()
    training = train(worlds, settings, seed)
    seconds = now() - began
    return Round(training.steps / seconds, returns(training.agent, task))


def sb3(task: str, settings: Settings, seed: int) -> Round:
    worlds = make_vec_env(task, settings.environments, seed=seed)
    if settings.normalise:
        worlds = VecNormalize(worlds, gamma=settings.gamma)
    model = stable_baselines3.PPO("MlpPolicy", worlds, seed=seed, device="cpu", **as_sb3(settings))
    began = now()
    model.learn(settings.steps)
    seconds = now() - began
    return Round(model.num_timesteps / seconds, returns(_Theirs(model, worlds), task))


def as_sb3(settings: Settings) -> dict[str, Any]:
    """Stable-Baselines3's arguments for the lab's settings; its value loss is the whole squared error."""
    rate, clip = (
        COURSES[settings.learning_rate_course](settings.learning_rate), COURSES[settings.clip_course](settings.clip)
    )  # fmt: skip
    every = settings.noise_every
    sde = {} if every is None else {"use_sde": True, "sde_sample_freq": every or -1}
    return {
        "n_steps": settings.horizon, "batch_size": settings.batch, "n_epochs": settings.epochs,
        "gamma": settings.gamma, "gae_lambda": settings.lam, "vf_coef": settings.value_weight / 2,
        "ent_coef": settings.entropy_weight, "max_grad_norm": settings.max_norm,
        "learning_rate": lambda left: rate(1 - left), "clip_range": lambda left: clip(1 - left),
        "policy_kwargs": {"net_arch": list(settings.hidden), "activation_fn": nn.Tanh,
                          "ortho_init": settings.orthogonal, "log_std_init": settings.log_std}, **sde,
    }  # fmt: skip


@dataclass(frozen=True)
class _Theirs:
    """Their model, as `evaluate` wants an agent."""

    model: stable_baselines3.PPO
    worlds: Any

    def best(self, observations: NDArray) -> NDArray:
        if isinstance(self.worlds, VecNormalize):
            observations = np.asarray(self.worlds.normalize_obs(observations))
        return self.model.predict(observations, deterministic=True)[0]


def returns(agent: Acts, task: str) -> float:
    return float(evaluate(agent, environments(task, EPISODES), EVALUATION_SEED).mean())


SIDES: dict[str, Callable[[str, Settings, int], Round]] = {"lab": lab, "sb3": sb3}


def compared(task: str, rounds: int, share: float) -> dict[str, Any]:
    """Rounds in turn, each side first in every other one, and their medians."""
    settings = TASKS[task].settings
    rollout = settings.horizon * settings.environments
    settings = replace(settings, steps=max(1, round(settings.steps * share) // rollout) * rollout)
    done: dict[str, list[Round]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in list(SIDES)[:: 1 if number % 2 == 0 else -1]:
            done[side].append(SIDES[side](task, settings, number))
            print(f"{task} round {number} {side:4}{done[side][-1].steps_a_second:8.0f} steps/s, "
                  f"mean return {done[side][-1].mean_return:.1f}", flush=True)  # fmt: skip
    speed = {side: median(each.steps_a_second for each in of) for side, of in done.items()}
    gained = {side: median(each.mean_return for each in of) for side, of in done.items()}
    every = {side: [each._asdict() for each in of] for side, of in done.items()}
    return {"steps": settings.steps, "steps_a_second": speed, "times": speed["lab"] / speed["sb3"],
            "median_return": gained, "rounds": every}  # fmt: skip


def table(results: dict[str, Any]) -> str:
    """One line for each task."""
    lines = ["| task | lab, steps/s | SB3, steps/s | times | lab, return | SB3, return |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for task, found in results.items():
        speed, gained = found["steps_a_second"], found["median_return"]
        lines.append(f"| {task} | {speed['lab']:.0f} | {speed['sb3']:.0f} | {found['times']:.2f} | "
                     f"{gained['lab']:.1f} | {gained['sb3']:.1f} |")  # fmt: skip
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--rounds", type=int, default=5, help="trainings of each side, each with a seed of its own")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps of each task's settings")
    parser.add_argument("--out", type=Path, help="JSON to write")
    given = parser.parse_args(arguments)
    if given.rounds < 1 or not 0 < given.share <= 1:
        parser.error("--rounds must be 1 or more, --share more than 0 and at most 1")
    torch.set_num_threads(1)
    results = {task: compared(task, given.rounds, given.share) for task in given.tasks}
    print(table(results))
    if given.out:
        machine = described() | {"gymnasium": gymnasium.__version__, "sb3": stable_baselines3.__version__}
        write_json({"machine": machine, "numpy": np.__version__, "tasks": results}, given.out)


if __name__ == "__main__":
    main()
