"""How much PPO's settings matter: one at a time is changed, the others stay as the task has them.

runs = sweep("CartPole-v1", SWEPT, seeds=range(SEEDS), changes={"steps": STEPS})
runs["clip"][0.2]                                # one run for each seed
outcomes(runs)["clip"]["0.2"]                    # measure → a number for each seed, as JSON has it

At full length that is 45 trainings.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lab.parallel import spread
from lab.ppo.runs import Run, trained
from lab.ppo.settings import changed, usual

STUDIED = "CartPole-v1"
"""The task whose settings are changed."""
STEPS = 40_000
"""Of each training, fewer than the task has, so that what is slower shows."""
SEEDS = 3
SWEPT: dict[str, list[float]] = {
    "learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
    "clip": [0.02, 0.05, 0.1, 0.2, 0.5, 1.0],
    "lam": [0.0, 0.5, 0.8, 0.9, 0.95, 1.0],
}
"""Setting → what it is given in turn; each list holds what CartPole's settings have."""
Swept = dict[str, dict[float, list[Run]]]
"""Setting → value → one run for each seed."""
MEASURES: Mapping[str, Callable[[Run], float]] = {
    "Evaluation return": lambda run: float(np.mean(run.evaluation)),
    "Mean training return": lambda run: float(np.nanmean(np.array(run.curve, float))),
}
"""What is told of a run: what it reached, and how fast."""


def sweep(
    task: str,
    swept: Mapping[str, Sequence[float]],
    seeds: Sequence[int],
    changes: Mapping[str, Any] | None = None,
    episodes: int = 100,
    workers: int | None = None,
) -> Swept:
    """Train with every value of every setting.

    What the settings have anyhow is trained once for each seed, however many sweeps it is part of.

    Args:
        task: an environment.
        swept: setting → values.
        seeds: of the trainings.
        changes: settings that differ from the task's in all runs.
        episodes: of the evaluation.
        workers: processes side by side; None: one for each core.
    """
    base = changed(usual(task), changes or {})
    variants = {name: {value: changed(base, {name: value}) for value in values} for name, values in swept.items()}
    different = list(dict.fromkeys(one for values in variants.values() for one in values.values()))
    jobs = [(task, seed, settings, episodes) for settings in different for seed in seeds]
    done = iter(spread(trained, jobs, "PPO's settings", workers))
    found = {settings: [next(done) for _ in seeds] for settings in different}
    return {name: {value: found[one] for value, one in values.items()} for name, values in variants.items()}


def outcomes(found: Swept) -> dict[str, Any]:
    """Setting → value → measure → a number for each seed."""
    return {
        name: {
            f"{value:g}": {what: [measure(run) for run in runs] for what, measure in MEASURES.items()}
            for value, runs in values.items()
        }
        for name, values in found.items()
    }
