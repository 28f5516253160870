"""How much settings matter: one at a time is changed, the others stay as they are.

found = sweep(trained, "CartPole-v1", settings, {"clip": [0.1, 0.2, 0.5]}, seeds=range(3))
found["clip"][0.2]                               # one run for each seed
outcomes(found)["clip"]["0.2"]                   # measure → a number for each seed, as JSON has it
sensitivity(found, "CartPole-v1")                # a figure
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import plotly.graph_objects as go

from lab.drawing import PALETTE, grid
from lab.parallel import spread
from lab.runs import Run

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Settings = TypeVar("Settings", bound=DataclassInstance)
else:
    Settings = TypeVar("Settings")

Swept = dict[str, dict[float, list[Run]]]
"""Setting → value → one run for each seed."""
MEASURES: Mapping[str, Callable[[Run], float]] = {
    "Evaluation return": lambda run: float(np.mean(run.evaluation)),
    "Mean training return": lambda run: float(np.nanmean(np.array(run.curve, float))),
}
"""What is told of a run: what it reached, and how fast."""
SIZE = (960, 560)
"""Of the figure, in pixels."""


def sweep(
    trained: Callable[[str, int, Settings, int], Run],
    task: str,
    settings: Settings,
    swept: Mapping[str, Sequence[float]],
    seeds: Sequence[int],
    episodes: int = 100,
    workers: int | None = None,
) -> Swept:
    """Train with every value of every setting.

    What the settings have anyhow is trained once for each seed, however many sweeps it is part of.

    Args:
        trained: trains on a task with a seed and settings, and evaluates on so many episodes.
        task: an environment.
        settings: a frozen dataclass, of which one setting at a time is changed.
        swept: setting → values.
        seeds: of the trainings.
        episodes: of the evaluation.
        workers: processes side by side; None: one for each core.
    """
    variants = {name: {value: replace(settings, **{name: value}) for value in values} for name, values in swept.items()}
    different = list(dict.fromkeys(one for values in variants.values() for one in values.values()))
    jobs = [(task, seed, one, episodes) for one in different for seed in seeds]
    done = iter(spread(trained, jobs, f"{task}, settings", workers))
    found = {one: [next(done) for _ in seeds] for one in different}
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


def sensitivity(found: Swept, task: str) -> go.Figure:
    """Every seed and their median, for each value of each setting: above what was reached, below how fast."""
    titles = [name.replace("_", " ").capitalize() for name in found] + [""] * len(found)
    figure = grid(2, len(found), titles, shared_yaxes=True, shared_xaxes=True, horizontal_spacing=0.04,
                  vertical_spacing=0.06)  # fmt: skip
    for column, values in enumerate(found.values(), 1):
        for row, measure in enumerate(MEASURES.values(), 1):
            _panel(figure, {f"{value:g}": [measure(run) for run in of] for value, of in values.items()}, row, column)
    figure.update_xaxes(type="category")
    for row, name in enumerate(MEASURES, 1):
        figure.update_yaxes(title_text=name, row=row, col=1)
    return figure.update_layout(
        title=f"{task}: one setting changed at a time", height=SIZE[1],
        legend=dict(orientation="h", y=-0.08, x=0.5, xanchor="center"),
    )  # fmt: skip


def _panel(figure: go.Figure, results: Mapping[str, Sequence[float]], row: int, column: int) -> None:
    """Value of a setting → a result for each seed."""
    points = [(value, result) for value, each in results.items() for result in each]
    first, place = (row, column) == (1, 1), dict(row=row, col=column)
    figure.add_scatter(
        x=[value for value, _ in points], y=[result for _, result in points], mode="markers", name="one seed",
        marker=dict(color=PALETTE[5], size=7), showlegend=first, **place,
    )  # fmt: skip
    figure.add_scatter(
        x=list(results), y=[np.median(each) for each in results.values()], mode="lines", name="median of the seeds",
        line_color=PALETTE[0], showlegend=first, **place,
    )  # fmt: skip
