"""Steps a second and returns of the lab's PPO and of Stable-Baselines3's: same task, settings and seeds, same run.

python -m benchmarks.lab_vs_sb3 --out docs/results/lab                                  # as the lab's experiments
python -m benchmarks.lab_vs_sb3 --rounds 1 --share 0.1 --tasks CartPole-v1              # a try

Both step Gymnasium's environments one after the other in one process on one thread: SyncVectorEnv here, DummyVecEnv
there, both around what `gymnasium.make` gives. They take turns. Round n trains both with seed n, in environments with
the same seeds; both make as many updates, with the same learning rate and clip in each. Then both play the same hundred
episodes without exploration.

What differs: a step of the lab that only resets an environment is not counted (there, resetting is part of the step
that ended the episode); Stable-Baselines3 learns after every step how to normalise (`VecNormalize`), the lab once a
rollout; random numbers come from other generators.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any, NamedTuple, TypeVar

import gymnasium
import numpy as np
import stable_baselines3
import torch
from numpy.typing import NDArray
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch import nn

from benchmarks.machine import described
from lab.experiment import Experiment, Options, at_least, command_line, need
from lab.ppo.learner import train
from lab.ppo.settings import COURSES, TASKS, Settings
from lab.runs import Acts, evaluate, side_by_side
from lab.schedules import Schedule
from lab.seeds import EVALUATING, TRAINING, seeds
from rlhf.stopwatch import now

Done = TypeVar("Done")
EPISODES = 100
TIMES = 1.5
"""The steps a second of Stable-Baselines3 that are asked for."""
TOLERANCE = 0.02
"""Of a task's range, by which the lab's median return may lie below Stable-Baselines3's."""
RANGES = {"CartPole-v1": (23.2, 500.0), "Acrobot-v1": (-500.0, -73.5), "Pendulum-v1": (-1199.4, -172.2),
          "MountainCarContinuous-v0": (-33.3, 88.3)}  # fmt: skip
"""From the mean return of random actions (100 episodes) to what RL-Baselines3-Zoo publishes for PPO."""


@dataclass(frozen=True)
class Arguments(Options):
    beside = ("tasks", "note")

    tasks: tuple[str, ...] = tuple(TASKS)
    """Environments to learn."""
    rounds: int = 5
    """Trainings of each side, each with a seed of its own."""
    share: float = 1.0
    """Of the steps of each task's settings; below 1 nothing is claimed."""
    note: str = ""
    """What else the machine was doing; kept with the results."""

    def __post_init__(self) -> None:
        super().__post_init__()
        need(bool(self.tasks) and set(self.tasks) <= set(TASKS), "tasks", f"some of {', '.join(TASKS)}",
             ", ".join(self.tasks) or "none")  # fmt: skip
        need(self.rounds >= 1, "rounds", "1 or more", self.rounds)
        need(0 < self.share <= 1, "share", "more than 0, at most 1", self.share)
        need(self.workers in (None, 1), "workers", "1: both take turns on one thread", self.workers)


class Round(NamedTuple):
    """One training of one side."""

    seed: int
    steps_a_second: float
    core: float
    """Seconds of processors' work in a second of training: less than 1 where other work took the core away."""
    mean_return: float
    """Of the evaluation episodes."""


def lab(task: str, settings: Settings, seed: int) -> Round:
    worlds = side_by_side(task, settings.environments)
    training, seconds, core = timed(lambda: train(worlds, settings, seed))
    return Round(seed, training.steps / seconds, core, returns(training.agent, task, seed))


def sb3(task: str, settings: Settings, seed: int) -> Round:
    set_random_seed(seed)  # not by the model's argument: that would count the environments' seeds up from it
    worlds = their_worlds(task, settings, seed)
    model = stable_baselines3.PPO("MlpPolicy", worlds, device="cpu", **as_sb3(settings))
    steps = updates(settings) * rollout(settings)
    _, seconds, core = timed(lambda: model.learn(steps, log_interval=None))  # type: ignore[arg-type]  # they take None
    return Round(seed, model.num_timesteps / seconds, core, returns(_Theirs(model, worlds), task, seed))


def timed(work: Callable[[], Done]) -> tuple[Done, float, float]:
    """What is done, its seconds, and the seconds of processors' work in each of them."""
    began, worked = now(), time.process_time()
    done = work()
    seconds = now() - began
    return done, seconds, (time.process_time() - worked) / seconds


def their_worlds(task: str, settings: Settings, seed: int) -> VecEnv:
    """Without Stable-Baselines3's Monitor, which takes time and for which the lab has no counterpart that does."""
    worlds = DummyVecEnv([partial(gymnasium.make, task)] * settings.environments)
    for world, own in zip(worlds.envs, seeds(seed, TRAINING)(settings.environments), strict=True):
        world.reset(seed=own)  # the reset with which learning begins goes on from it
    return VecNormalize(worlds, gamma=settings.gamma) if settings.normalise else worlds


def rollout(settings: Settings) -> int:
    """Steps of all environments between two updates."""
    return settings.horizon * settings.environments


def updates(settings: Settings) -> int:
    """As many as the lab makes; Stable-Baselines3 would round a last rollout up."""
    return max(1, settings.steps // rollout(settings))


def as_sb3(settings: Settings) -> dict[str, Any]:
    """Stable-Baselines3's arguments for the lab's settings; its value loss is the whole squared error."""
    rate = COURSES[settings.learning_rate_course](settings.learning_rate)
    clip = COURSES[settings.clip_course](settings.clip)
    every = settings.noise_every
    sde = {} if every is None else {"use_sde": True, "sde_sample_freq": every or -1}
    return {
        "n_steps": settings.horizon, "batch_size": settings.batch, "n_epochs": settings.epochs,
        "gamma": settings.gamma, "gae_lambda": settings.lam, "vf_coef": settings.value_weight / 2,
        "ent_coef": settings.entropy_weight, "max_grad_norm": settings.max_norm,
        "learning_rate": by_what_is_left(rate, updates(settings)),
        "clip_range": by_what_is_left(clip, updates(settings)),
        "policy_kwargs": {"net_arch": list(settings.hidden), "activation_fn": nn.Tanh,
                          "ortho_init": settings.orthogonal, "log_std_init": settings.log_std}, **sde,
    }  # fmt: skip


def by_what_is_left(schedule: Schedule, updates: int) -> Callable[[float], float]:
    """A schedule as Stable-Baselines3 asks for it: by the share of training that is left.

    It counts the rollout before it learns from it: before update k of K (from 0) it asks for 1 - (k + 1) / K, where the
    lab is at k / K. A schedule down to 0 would reach it with the last update, which then would change nothing. So what
    is given here is one update behind; schedules take progress below 0, asked for when the model is made, as 0.
    """
    return lambda left: schedule(1 - left - 1 / updates)


@dataclass(frozen=True)
class _Theirs:
    """Their model, as `evaluate` wants an agent."""

    model: stable_baselines3.PPO
    worlds: VecEnv

    def best(self, observations: NDArray) -> NDArray:
        if isinstance(self.worlds, VecNormalize):
            observations = np.asarray(self.worlds.normalize_obs(observations))
        return self.model.predict(observations, deterministic=True)[0]


def returns(agent: Acts, task: str, seed: int) -> float:
    return float(evaluate(agent, side_by_side(task, EPISODES), seeds(seed, EVALUATING)(EPISODES)).mean())


SIDES: dict[str, Callable[[str, Settings, int], Round]] = {"lab": lab, "sb3": sb3}


def compared(task: str, arguments: Arguments) -> dict[str, Any]:
    """Rounds in turn, each side first in every other one, and their medians."""
    settings = TASKS[task].settings
    settings = replace(settings, steps=round(settings.steps * arguments.share))
    done: dict[str, list[Round]] = {side: [] for side in SIDES}
    for number in range(arguments.rounds):
        for side in list(SIDES)[:: 1 if number % 2 == 0 else -1]:
            last = SIDES[side](task, settings, arguments.seed + number)
            done[side].append(last)
            print(f"{task} round {number} {side:4}{last.steps_a_second:8.0f} steps/s, {last.core:.2f} cores, "
                  f"mean return {last.mean_return:.1f}", flush=True)  # fmt: skip
    return {"steps": updates(settings) * rollout(settings)} | summary(done)


def summary(done: dict[str, list[Round]]) -> dict[str, Any]:
    """Medians over the rounds, the spread of the times, and every round.

    Args:
        done: "lab" and "sb3" → rounds, in the same order.
    """
    times = [ours.steps_a_second / theirs.steps_a_second for ours, theirs in zip(*done.values(), strict=True)]
    return {
        "times": {"median": median(times), "least": min(times), "most": max(times), "rounds": times},
        "steps_a_second": {side: median(each.steps_a_second for each in of) for side, of in done.items()},
        "median_return": {side: median(each.mean_return for each in of) for side, of in done.items()},
        "rounds": {side: [each._asdict() for each in of] for side, of in done.items()},
    }  # fmt: skip


def claim(experiment: Experiment, task: str, found: dict[str, Any]) -> None:
    """Faster, and no worse."""
    source = f"Stable-Baselines3 {stable_baselines3.__version__}, measured in the same run"
    many, speed, gained = len(found["times"]["rounds"]), found["steps_a_second"], found["median_return"]
    experiment.claim(
        f"{task}, times Stable-Baselines3's steps a second, median of {many} rounds", found["times"]["median"],
        at_least(TIMES), source, f"1 ({speed['sb3']:.0f} steps/s; the lab {speed['lab']:.0f})",
    )  # fmt: skip
    low, high = RANGES[task]
    experiment.claim(
        f"{task}, return less Stable-Baselines3's, medians of {many} seeds", gained["lab"] - gained["sb3"],
        at_least(-TOLERANCE * (high - low)), f"{source}; may be lower by {TOLERANCE:.0%} of {low:g} to {high:g}",
        f"0 ({gained['sb3']:.1f}; the lab {gained['lab']:.1f})",
    )  # fmt: skip


def main(arguments: Arguments) -> None:
    """Measure every task, and hold the lab against the other."""
    torch.set_num_threads(1)
    with Experiment("ppo-beside-sb3", arguments, "benchmarks.lab_vs_sb3") as experiment:
        machine = described() | {"sb3": stable_baselines3.__version__, "cores": os.cpu_count()}
        before = os.getloadavg()[0]
        experiment.results["tasks"] = {task: compared(task, arguments) for task in arguments.tasks}
        experiment.results |= {"machine": machine, "meanwhile": arguments.note,
                               "load": {"before": before, "after": os.getloadavg()[0]}}  # fmt: skip
        for task, found in experiment.results["tasks"].items():
            experiment.log({f"{task}, times": found["times"]["median"]}, step=arguments.rounds)
            if arguments.share == 1:
                claim(experiment, task, found)


if __name__ == "__main__":
    command_line(main, Arguments, __doc__)
