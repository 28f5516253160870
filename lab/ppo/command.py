"""PPO on four tasks of Gymnasium, five seeds each: discrete and continuous actions, with settings from RL-Zoo's on.

python -m lab.ppo                                          # everything, within 15 minutes on two cores

python -m lab.ppo --tasks CartPole-v1 --seeds 2 --share 0.2 --out /tmp/ppo

python -m lab.ppo --tasks CartPole-v1 --set learning_rate=3e-4 clip_course=linear hidden=[32,32]

python -m lab.ppo --tasks FrozenLake-v1 --seeds 1          # any environment, with the defaults of `Settings`

The policy that training ends with plays 100 fresh episodes without exploration. No seed is left out. The study trains
CartPole with one setting changed at a time. `lab.ppo.settings` says what can be set.
"""

from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from tyro.conf import UseAppendAction

from lab.experiment import Experiment, Options, need
from lab.ppo.runs import check, trained
from lab.ppo.settings import TASKS, Settings, changed, usual
from lab.run_figures import SIZE, STUDY_SIZE, curves, evaluations, sensitivity
from lab.runs import Run, mean_returns
from lab.trainings import EPISODES, SEEDS, Swept, learned, log, outcomes, record, sweep, too_few
from rlhf.assignments import assignment

STUDIED = "CartPole-v1"
"""The task whose settings are changed."""
STUDY_STEPS = 40_000
"""Of each training of the study: fewer than the task has, so that what is slower shows."""
STUDY_SEEDS = 3
SWEPT: dict[str, list[float]] = {
    "learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
    "clip": [0.02, 0.05, 0.1, 0.2, 0.5, 1.0],
    "lam": [0.0, 0.5, 0.8, 0.9, 0.95, 1.0],
}
"""Setting → what it is given in turn; each list holds what CartPole's settings have."""


@dataclass(frozen=True)
class Arguments(Options):
    beside = ("tasks", "study")

    tasks: tuple[str, ...] = tuple(TASKS)
    """Environments of Gymnasium to learn. Where there is nothing published to claim, the default settings are used."""
    seeds: int = SEEDS
    """Trainings of each task."""
    share: float = 1.0
    """Of the steps of each task's settings; below 1 nothing is claimed."""
    episodes: int = EPISODES
    """Of each evaluation."""
    set: UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """NAME=VALUE ...: settings of PPO that all tasks have instead of their own, the values in YAML; may be repeated.
    Nothing is claimed then."""
    study: bool = True
    """After the tasks, train CartPole with one setting changed at a time; not with --set, or if it is none of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        need(bool(self.tasks), "tasks", "at least one", "none")
        need(self.seeds >= 1, "seeds", "1 or more", self.seeds)
        need(0 < self.share <= 1, "share", "more than 0, at most 1", self.share)
        need(self.episodes >= 1, "episodes", "1 or more", self.episodes)
        for task in self.tasks:
            self.settings(task)

    def changes(self) -> dict[str, Any]:
        """What every --set together say."""
        return dict(assignment(text, "name=value", "learning_rate=3e-4") for texts in self.set for text in texts)

    def settings(self, task: str) -> Settings:
        """Of each training of a task. Raises `UserError` where --set names none of them or is out of range."""
        settings = changed(usual(task), self.changes())
        return replace(settings, steps=max(1, round(settings.steps * self.share)))

    def study_settings(self) -> Settings:
        """Of the study, before one of them is changed."""
        return replace(usual(STUDIED), steps=max(1, round(STUDY_STEPS * self.share)))

    def unclaimed(self, task: str) -> str | None:
        """Why nothing is claimed of a task; None: it is."""
        if task not in TASKS:
            return "nothing published is known here"
        if self.changes():
            return f"settings differ: {', '.join(f'{name}={value}' for name, value in self.changes().items())}"
        if self.share < 1:
            return f"trained for {self.share:g} of its steps"
        return too_few(self.seeds, self.episodes)


def main(arguments: Arguments) -> None:
    """Learn everything, hold it against what was published, draw it."""
    for task in arguments.tasks:
        check(task, arguments.settings(task))
    studies = arguments.study and STUDIED in arguments.tasks and not arguments.changes()
    if studies:
        check(STUDIED, arguments.study_settings())
    with Experiment("ppo", arguments) as experiment:
        runs = trainings(arguments)
        for task, of in runs.items():
            why = arguments.unclaimed(task)
            record(experiment, task, arguments.settings(task), why, of)
            if why is None:
                claim(experiment, task, of)
        log(experiment, runs)
        asked = {task: TASKS[task].wanted.low for task in runs if arguments.unclaimed(task) is None}
        experiment.figure("curves", curves(runs, asked, "PPO while it learns"), SIZE)
        experiment.figure("evaluations", evaluations(runs, asked, "PPO without exploration, after training"), SIZE)
        if studies:
            study(experiment, arguments)


def trainings(arguments: Arguments) -> dict[str, list[Run]]:
    """Task → one run for each seed."""
    wanted = {task: (task, arguments.settings(task)) for task in arguments.tasks}
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    return learned(trained, wanted, seeds, "PPO", arguments.episodes, arguments.workers)


def claim(experiment: Experiment, task: str, runs: list[Run]) -> None:
    """Hold the returns against what had to be reached: by each seed, or by their median."""
    wanted, means = TASKS[task], mean_returns(runs)
    what = f"{task}, {wanted.settings.steps:,} steps"
    if wanted.each:
        held = {f"{what}, seed {run.seed}, mean return": mean for run, mean in zip(runs, means, strict=True)}
    else:
        held = {f"{what}, median of {len(runs)} seeds, mean return": median(means)}
    for what, measured in held.items():
        experiment.claim(what, measured, wanted.wanted, wanted.source, wanted.published)


def study(experiment: Experiment, arguments: Arguments) -> None:
    """How much the settings matter: its numbers and its figure."""
    found = studied(arguments)
    experiment.results["study"] = {
        "task": STUDIED,
        "steps": arguments.study_settings().taken,
        "outcomes": outcomes(found),
    }
    experiment.figure("study", sensitivity(found, STUDIED), STUDY_SIZE)


def studied(arguments: Arguments) -> Swept:
    """CartPole with one setting changed at a time, on fewer seeds."""
    seeds = range(arguments.seed, arguments.seed + min(arguments.seeds, STUDY_SEEDS))
    return sweep(trained, STUDIED, arguments.study_settings(), SWEPT, seeds, arguments.episodes, arguments.workers)
