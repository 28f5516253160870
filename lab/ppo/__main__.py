"""PPO on four tasks of Gymnasium, five seeds each: discrete and continuous actions, with the settings of RL-Zoo.

python -m lab.ppo                                          # everything, within 15 minutes on two cores
python -m lab.ppo --tasks CartPole-v1 --seeds 2 --share 0.2 --out /tmp/ppo

The policy that training ends with plays 100 fresh episodes without exploration. No seed is left out.
"""

from dataclasses import asdict, dataclass
from statistics import median

import numpy as np

from lab.experiment import Experiment, Options, command_line, need
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
        need(bool(self.tasks) and set(self.tasks) <= set(TASKS), "tasks", f"some of {', '.join(TASKS)}",
             ", ".join(self.tasks) or "none")  # fmt: skip
        need(self.seeds >= 1, "seeds", "1 or more", self.seeds)
        need(0 < self.share <= 1, "share", "more than 0, at most 1", self.share)
        need(self.episodes >= 1, "episodes", "1 or more", self.episodes)
        need(self.workers is None or self.workers >= 1, "workers", "1 or more", self.workers)


def main(arguments: Arguments) -> None:
    """Learn everything, hold it against what was published, draw it."""
    with Experiment("ppo", arguments) as experiment:
        runs = learned(arguments)
        for task, of in runs.items():
            record(experiment, task, of, claims=arguments.share == 1)
        log(experiment, runs)
        experiment.figure("curves", figures.curves(runs), figures.SIZE)
        experiment.figure("evaluations", figures.evaluations(runs), figures.SIZE)


def learned(arguments: Arguments) -> dict[str, list[Run]]:
    """Task → one run for each seed."""
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    jobs = [
        (task, seed, arguments.episodes, {"steps": round(TASKS[task].settings.steps * arguments.share)})
        for task in arguments.tasks
        for seed in seeds
    ]
    done = spread(trained, jobs, "PPO", arguments.workers)
    return {task: done[number * len(seeds) :][: len(seeds)] for number, task in enumerate(arguments.tasks)}


def record(experiment: Experiment, task: str, runs: list[Run], claims: bool) -> None:
    """A task's results, and what they say of what had to be reached."""
    wanted = TASKS[task]
    means = [float(np.mean(run.evaluation)) for run in runs]
    experiment.results[task] = {"settings": asdict(wanted.settings), "means": means, "runs": [asdict(r) for r in runs]}
    if claims and wanted.each:
        for run, mean in zip(runs, means, strict=True):
            experiment.claim(f"{task}, seed {run.seed}, mean return", mean, wanted.wanted, wanted.source,
                             wanted.published)  # fmt: skip
    elif claims:
        experiment.claim(f"{task}, median of {len(runs)} seeds, mean return", median(means), wanted.wanted,
                         wanted.source, wanted.published)  # fmt: skip


def log(experiment: Experiment, runs: dict[str, list[Run]]) -> None:
    """The curves' points, one after the other; tasks have theirs at different numbers of steps."""
    for point in range(POINTS):
        known = {task: [run.curve[point] for run in of] for task, of in runs.items()}
        figures = {f"{task}/return": median(filter(None, each)) for task, each in known.items() if any(each)}
        experiment.log(figures | {f"{task}/steps": of[0].steps[point] for task, of in runs.items()}, point)


if __name__ == "__main__":
    command_line(main, Arguments, __doc__)
