"""Deep Q-networks on CartPole and Acrobot: replay, target network, double DQN, prioritised replay, each seed shown.

python -m lab.dqn                            # everything: five seeds, 50,000 steps each, and the study

python -m lab.dqn --variants dqn --dqn.learning-rate 1e-3 --out models/lab

python -m lab.dqn --tasks FrozenLake-v1 --variants double --seeds 2 --no-study

One update is `lab.dqn_learner`, the loop around it `lab.dqn_training`, the memory `lab.replay`. Every variant learns
on every seed. The policy that training ends with plays 100 fresh episodes without exploration; nothing is chosen on
the way. The study trains the first variant with one setting changed at a time.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from lab.dqn_learner import Settings
from lab.dqn_training import check, trained
from lab.experiment import Experiment, Options, at_least, command_line, need
from lab.run_figures import SIZE, STUDY_SIZE, curves, evaluations, sensitivity
from lab.runs import Run, mean_returns
from lab.trainings import EPISODES, SEEDS, Swept, learned, log, outcomes, record, sweep, too_few

Variant = Literal["dqn", "double", "prioritised", "double and prioritised"]
VARIANTS: dict[str, dict[str, Any]] = {
    "dqn": dict(double=False, prioritised=False),
    "double": dict(double=True, prioritised=False),
    "prioritised": dict(double=False, prioritised=True),
    "double and prioritised": dict(double=True, prioritised=True),
}
GOALS = {"CartPole-v1": (475.0, "500"), "Acrobot-v1": (-100.0, "-76.6")}
"""Task → the mean return asked for, the one published for DQN."""
SOURCE = "RL-Zoo, benchmark.md, DQN (one run)"
PLAIN = "dqn"
STUDY_SEEDS = 2
SWEPT: dict[str, list[float]] = {
    "discount": [0.98, 0.99, 0.995, 0.998],
    "train_every": [8, 64, 256],
    "target_rate": [0.003, 0.01, 0.03, 0.1],
    "huber": [1.0, 10.0, 100.0],
}
"""Setting → what it is given in turn; each list holds the usual one."""


@dataclass(frozen=True)
class Arguments(Options):
    beside = ("tasks", "variants", "study")

    tasks: tuple[str, ...] = ("CartPole-v1", "Acrobot-v1")
    """Environments of Gymnasium, with Discrete actions, all with the same settings. The first one is learned with every
    variant and is the study's, the others are learned with the first variant."""
    seeds: int = SEEDS
    """Trainings of each variant, from --seed on."""
    variants: tuple[Variant, ...] = ("double", "prioritised", "double and prioritised", "dqn")
    """What is compared."""
    episodes: int = EPISODES
    """Of the evaluation after training."""
    dqn: Settings = Settings()
    """Of the learning. Where they differ from the defaults, nothing is claimed."""
    study: bool = True
    """Afterwards, train the first variant with one setting changed at a time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        need(len(self.tasks) >= 1, "tasks", "at least one", "none")
        need(self.seeds >= 1, "seeds", "at least 1", self.seeds)
        need(self.episodes >= 1, "episodes", "at least 1", self.episodes)
        need(len(self.variants) >= 1, "variants", "at least one", "none")

    def settings(self, variant: str) -> Settings:
        """Of each training of a variant."""
        return replace(self.dqn, **VARIANTS[variant])

    def wanted(self) -> dict[tuple[str, str], tuple[str, Settings]]:
        """Task and variant → task and settings."""
        first, *others = self.tasks
        pairs = [(first, variant) for variant in self.variants] + [(task, self.variants[0]) for task in others]
        return {(task, variant): (task, self.settings(variant)) for task, variant in pairs}

    def unclaimed(self, task: str, variant: str) -> str | None:
        """Why nothing is claimed of a task and a variant; None: it is."""
        if task not in GOALS:
            return "nothing published is known here"
        if variant == PLAIN:
            return "for comparison: it takes the largest of noisy values for the truth and fails on a seed now and then"
        if self.dqn != Settings():
            return "settings differ"
        return too_few(self.seeds, self.episodes)


def main(arguments: Arguments) -> None:
    """Learn everything, hold it against what was published, draw it."""
    for task in arguments.tasks:
        check(task, arguments.dqn)
    with Experiment("dqn", arguments) as experiment:
        runs, asked = trainings(arguments), {}
        for (task, variant), (_, settings) in arguments.wanted().items():
            name, why = f"{task}, {variant}", arguments.unclaimed(task, variant)
            record(experiment, name, settings, why, runs[name])
            if why is None:
                claim(experiment, task, f"DQN ({variant})", runs[name])
                asked[name] = GOALS[task][0]
        log(experiment, runs)
        size = (SIZE[0], 340 * ((len(runs) + 1) // 2))
        experiment.figure("curves", curves(runs, asked, "DQN while it learns"), size)
        experiment.figure("evaluations", evaluations(runs, asked, "DQN without exploration, after training"), size)
        if arguments.study:
            study(experiment, arguments)


def trainings(arguments: Arguments) -> dict[str, list[Run]]:
    """Task and variant → one run for each seed."""
    wanted = {f"{task}, {variant}": of for (task, variant), of in arguments.wanted().items()}
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    return learned(trained, wanted, seeds, "DQN", arguments.episodes, arguments.workers)


def claim(experiment: Experiment, task: str, method: str, runs: list[Run]) -> None:
    """Hold each seed against what was published."""
    goal, published = GOALS[task]
    for run, mean in zip(runs, mean_returns(runs), strict=True):
        what = f"{method}, {task}, {run.steps[-1]:,} steps, seed {run.seed}, mean return"
        experiment.claim(what, mean, at_least(goal), SOURCE, published)


def study(experiment: Experiment, arguments: Arguments) -> None:
    """How much the settings matter: its numbers and its figure."""
    found, task = studied(arguments), arguments.tasks[0]
    experiment.results["study"] = {"task": task, "variant": arguments.variants[0], "outcomes": outcomes(found)}
    experiment.figure("study", sensitivity(found, f"{task}, {arguments.variants[0]}"), STUDY_SIZE)


def studied(arguments: Arguments) -> Swept:
    """The first task with the first variant, one setting changed at a time, on fewer seeds."""
    seeds = range(arguments.seed, arguments.seed + min(arguments.seeds, STUDY_SEEDS))
    settings = arguments.settings(arguments.variants[0])
    return sweep(trained, arguments.tasks[0], settings, SWEPT, seeds, arguments.episodes, arguments.workers)


if __name__ == "__main__":
    command_line(main, Arguments, __doc__)
