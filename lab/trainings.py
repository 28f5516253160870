"""Trainings side by side: tasks, variants or settings, each on several seeds; what is told of them, and a study.

runs = learned(trained, {"CartPole-v1": ("CartPole-v1", settings)}, seeds=range(5), title="PPO")
runs["CartPole-v1"]                              # one run for each seed
found = sweep(trained, "CartPole-v1", settings, {"clip": [0.1, 0.2, 0.5]}, seeds=range(3))
found["clip"][0.2]                               # the same, one setting changed at a time
outcomes(found)["clip"]["0.2"]                   # measure → a number for each seed, as JSON has it
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lab.experiment import Experiment
from lab.parallel import spread
from lab.runs import POINTS, Run, mean_returns

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Settings = TypeVar("Settings", bound=DataclassInstance)
else:
    Settings = TypeVar("Settings")

Trained = Callable[[str, int, Settings, int], Run]
"""Trains on a task with a seed and settings, and evaluates on so many episodes."""
Swept = dict[str, dict[float, list[Run]]]
"""Setting → value → one run for each seed."""
SEEDS, EPISODES = 5, 100
"""Trainings, and episodes of each evaluation, that a claim rests on."""


def reached(run: Run) -> float:
    """The mean return of the evaluation."""
    return float(np.mean(run.evaluation))


def meanwhile(run: Run) -> float | None:
    """The mean of the learning curve; None where no episode ended."""
    known = [point for point in run.curve if point is not None]
    return float(np.mean(known)) if known else None


MEASURES: Mapping[str, Callable[[Run], float | None]] = {
    "Evaluation return": reached,
    "Mean training return": meanwhile,
}
"""What is told of a run: what it reached, and how fast."""


def learned(
    trained: Trained[Settings],
    wanted: Mapping[str, tuple[str, Settings]],
    seeds: Sequence[int],
    title: str,
    episodes: int = EPISODES,
    workers: int | None = None,
) -> dict[str, list[Run]]:
    """Train everything on every seed.

    Args:
        trained: trains.
        wanted: name → task and settings.
        seeds: of the trainings.
        title: of the progress bar.
        episodes: of the evaluation.
        workers: processes side by side; None: one for each core.

    Returns:
        Name → one run for each seed.
    """
    jobs = [(task, seed, settings, episodes) for task, settings in wanted.values() for seed in seeds]
    done = iter(spread(trained, jobs, title, workers))
    return {name: [next(done) for _ in seeds] for name in wanted}


def too_few(seeds: int, episodes: int) -> str | None:
    """Why nothing is claimed of so few; None: it is."""
    few = seeds < SEEDS or episodes < EPISODES
    return f"fewer than {SEEDS} seeds or {EPISODES} episodes" if few else None


def record(experiment: Experiment, name: str, settings: Settings, unclaimed: str | None, runs: Sequence[Run]) -> None:
    """Keep settings and results, and why nothing is claimed of them, which is said, too."""
    means = mean_returns(runs)
    experiment.results[name] = {"settings": asdict(settings), "unclaimed": unclaimed, "means": means,
                                "runs": [asdict(run) for run in runs]}  # fmt: skip
    if unclaimed:
        each = ", ".join(f"{mean:.4g}" for mean in means)
        print(f"{name}: mean returns {each}; nothing is claimed ({unclaimed})")


def log(experiment: Experiment, runs: Mapping[str, Sequence[Run]]) -> None:
    """The curves' points for Weights & Biases, one after the other; each task has its own numbers of steps."""
    for point in range(POINTS):
        for name, of in runs.items():
            known = [value for run in of if (value := run.curve[point]) is not None]
            returns = {f"{name}/return": median(known)} if known else {}
            experiment.log({f"{name}/steps": of[0].steps[point], **returns}, point)


def sweep(
    trained: Trained[Settings],
    task: str,
    settings: Settings,
    swept: Mapping[str, Sequence[float]],
    seeds: Sequence[int],
    episodes: int = EPISODES,
    workers: int | None = None,
) -> Swept:
    """Train with every value of every setting.

    What the settings have anyhow is trained once for each seed, however many sweeps it is part of.

    Args:
        trained: trains.
        task: an environment.
        settings: a frozen dataclass, of which one setting at a time is changed.
        swept: setting → values.
        seeds: of the trainings.
        episodes: of the evaluation.
        workers: processes side by side; None: one for each core.
    """
    variants = {name: {value: replace(settings, **{name: value}) for value in values} for name, values in swept.items()}
    different = dict.fromkeys(one for values in variants.values() for one in values.values())
    names = {one: str(number) for number, one in enumerate(different)}
    wanted = {name: (task, one) for one, name in names.items()}
    runs = learned(trained, wanted, seeds, f"{task}, settings", episodes, workers)
    return {name: {value: runs[names[one]] for value, one in values.items()} for name, values in variants.items()}


def outcomes(found: Swept) -> dict[str, Any]:
    """Setting → value → measure → a number for each seed."""
    return {
        name: {
            f"{value:g}": {what: [measure(run) for run in runs] for what, measure in MEASURES.items()}
            for value, runs in values.items()
        }
        for name, values in found.items()
    }
