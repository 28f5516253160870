"""How much PPO's settings matter: one at a time is changed, the others stay as the task has them.

runs = sweep("CartPole-v1", SWEPT, seeds=range(3), changes={"steps": 40_000})
runs["clip"][0.2]                                # one run for each seed
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lab.parallel import spread
from lab.ppo.runs import Run, trained
from lab.ppo.settings import TASKS, Settings

SWEPT: dict[str, list[float]] = {
    "learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
    "clip": [0.02, 0.05, 0.1, 0.2, 0.5, 1.0],
    "lam": [0.0, 0.5, 0.8, 0.9, 0.95, 1.0],
}
"""Setting → what it is given in turn; each list holds what CartPole's settings have."""
Swept = dict[str, dict[float, list[Run]]]
"""Setting → value → one run for each seed."""


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
        task: one of `TASKS`.
        swept: setting → values.
        seeds: of the trainings.
        changes: settings that differ from the task's in all runs.
        episodes: of the evaluation.
        workers: processes side by side; None: one for each core.
    """
    settings: Settings = TASKS[task].settings
    base = dict(changes or {})
    usual = {name: base.get(name, getattr(settings, name)) for name in swept}
    kinds = {_kind(usual, name, value): {name: value} for name, values in swept.items() for value in values}
    jobs = [(task, seed, episodes, {**base, **changed}) for changed in kinds.values() for seed in seeds]
    done = iter(spread(trained, jobs, "PPO's settings", workers))
    found = {kind: [next(done) for _ in seeds] for kind in kinds}
    return {name: {value: found[_kind(usual, name, value)] for value in values} for name, values in swept.items()}


def _kind(usual: Mapping[str, float], name: str, value: float) -> tuple[str, float]:
    """The same for all runs that have nothing unusual."""
    return ("usual", 0.0) if value == usual[name] else (name, value)
