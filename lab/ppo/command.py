"""PPO on four tasks of Gymnasium, five seeds each: discrete and continuous actions, with the settings of RL-Zoo.

python -m lab.ppo                                          # everything, within 15 minutes on two cores

python -m lab.ppo --tasks CartPole-v1 --seeds 2 --share 0.2 --out /tmp/ppo

The policy that training ends with plays 100 fresh episodes without exploration. No seed is left out.
"""

from dataclasses import asdict, dataclass, replace
from statistics import median

import numpy as np

from lab.experiment import Experiment, Options, need
from lab.parallel import spread
from lab.ppo import figures
from lab.ppo.runs import POINTS, Run, trained
from lab.ppo.settings import TASKS


@dataclass(frozen=True)
class Arguments(Options):
    tasks: tuple[str, ...] = tuple(TASKS)
    """Environments to learn."""
    seeds: int = 5
    """Trainings of each task."""
    share: float = 1.0
    """Of the steps of each task's settings; below 1 nothing is claimed."""
    episodes: int = 100
    """Of each evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        need(bool(self.tasks) and set(self.tasks) <= set(TASKS), "tasks", f"some of {', '.join(TASKS)}",
             ", ".join(self.tasks) or "none")  # fmt: skip
        need(self.seeds >= 1, "seeds", "1 or more", self.seeds)
        need(0 < self.share <= 1, "share", "more than 0, at most 1", self.share)
        need(self.episodes >= 1, "episodes", "1 or more", self.episodes)

    def steps(self, task: str) -> int:
        """Of each training of a task."""
        return round(TASKS[task].settings.steps * self.share)


def main(arguments: Arguments) -> None:
    """Learn everything, hold it against what was published, draw it."""
    with Experiment("ppo", arguments) as experiment:
        runs = learned(arguments)
        for task, of in runs.items():
            record(experiment, task, of)
            if arguments.share == 1:
                claim(experiment, task, of)
        log(experiment, runs)
        experiment.figure("curves", figures.curves(runs), figures.SIZE)
        experiment.figure("evaluations", figures.evaluations(runs), figures.SIZE)


def learned(arguments: Arguments) -> dict[str, list[Run]]:
    """Task → one run for each seed."""
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    jobs = [
        (task, seed, arguments.episodes, {"steps": arguments.steps(task)}) for task in arguments.tasks for seed in seeds
    ]
    done = spread(trained, jobs, "PPO", arguments.workers)
    return {task: done[number * len(seeds) :][: len(seeds)] for number, task in enumerate(arguments.tasks)}


def record(experiment: Experiment, task: str, runs: list[Run]) -> None:
    """A task's settings and results."""
    settings = replace(TASKS[task].settings, steps=runs[0].steps[-1])
    experiment.results[task] = {"settings": asdict(settings), "means": mean_returns(runs),
                                "runs": [asdict(run) for run in runs]}  # fmt: skip


def claim(experiment: Experiment, task: str, runs: list[Run]) -> None:
    """Hold the returns against what had to be reached: by each seed, or by their median."""
    wanted, means = TASKS[task], mean_returns(runs)
    if wanted.each:
        held = {f"{task}, seed {run.seed}, mean return": mean for run, mean in zip(runs, means, strict=True)}
    else:
        held = {f"{task}, median of {len(runs)} seeds, mean return": median(means)}
    for what, measured in held.items():
        experiment.claim(what, measured, wanted.wanted, wanted.source, wanted.published)


def mean_returns(runs: list[Run]) -> list[float]:
    """Of each seed's evaluation."""
    return [float(np.mean(run.evaluation)) for run in runs]


def log(experiment: Experiment, runs: dict[str, list[Run]]) -> None:
    """The curves' points, one after the other; tasks have theirs at different numbers of steps."""
    for point in range(POINTS):
        for task, of in runs.items():
            known = [reached for run in of if (reached := run.curve[point]) is not None]
            returns = {f"{task}/return": median(known)} if known else {}
            experiment.log({f"{task}/steps": of[0].steps[point], **returns}, point)
