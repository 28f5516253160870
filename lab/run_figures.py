"""Figures of trainings: how returns grew, what each seed ended with, how much settings matter.

A panel for each task or variant.

curves({"CartPole-v1": runs}, {"CartPole-v1": 475.0}, "PPO while it learns")
"""

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
import plotly.graph_objects as go

from lab.drawing import PALETTE, grid
from lab.runs import Run
from lab.trainings import MEASURES, Swept

SIZE = (960, 680)
"""Of four panels, in pixels."""
STUDY_SIZE = (960, 560)
"""Of a study."""
Runs = Mapping[str, Sequence[Run]]
"""Panel → one run for each seed."""


def curves(runs: Runs, asked: Mapping[str, float], title: str) -> go.Figure:
    """Training returns: the median of the seeds, and from the worst to the best of them.

    Args:
        runs: one panel for each.
        asked: panel → what had to be reached, drawn as a line; panels that are not named have none.
        title: of the whole.
    """
    figure = _panels(runs, "Steps", "Training return")
    for place, of in zip(_places(runs), runs.values(), strict=True):
        every = np.array([run.curve for run in of], float)
        there = ~np.isnan(every).any(0)
        xs, every, first = np.array(of[0].steps)[there], every[:, there], place == (1, 1)
        around = dict(x=[*xs, *xs[::-1]], y=[*every.max(0), *every.min(0)[::-1]], mode="lines", line_width=0)
        figure.add_scatter(
            **around, fill="toself", fillcolor=PALETTE[0], opacity=0.2, name="worst to best seed", hoverinfo="skip",
            legendgroup="band", showlegend=first, row=place[0], col=place[1],
        )  # fmt: skip
        figure.add_scatter(
            x=xs, y=np.median(every, 0), mode="lines", line_color=PALETTE[0], name="median of the seeds",
            legendgroup="median", showlegend=first, row=place[0], col=place[1],
        )  # fmt: skip
    return _with_bars(figure, runs, asked, title)


def evaluations(runs: Runs, asked: Mapping[str, float], title: str) -> go.Figure:
    """Evaluation returns of each seed: mean, and one standard deviation of the episodes to both sides.

    Args: as `curves`.
    """
    figure = _panels(runs, "Seed", "Evaluation return")
    for place, of in zip(_places(runs), runs.values(), strict=True):
        returns = [np.array(run.evaluation) for run in of]
        figure.add_scatter(
            x=[str(run.seed) for run in of], y=[each.mean() for each in returns], mode="markers", marker_size=9,
            error_y=dict(type="data", array=[each.std() for each in returns]), marker_color=PALETTE[0],
            name="mean ± deviation of episodes", showlegend=place == (1, 1), row=place[0], col=place[1],
        )  # fmt: skip
        figure.update_xaxes(type="category", row=place[0], col=place[1])
    return _with_bars(figure, runs, asked, title)


def _places(runs: Runs) -> list[tuple[int, int]]:
    """Row and column of each task's panel."""
    return [(number // 2 + 1, number % 2 + 1) for number in range(len(runs))]


def _panels(runs: Runs, x: str, y: str) -> go.Figure:
    columns = min(2, len(runs))
    figure = grid(-(-len(runs) // columns), columns, list(runs), vertical_spacing=0.14, horizontal_spacing=0.12)
    for row, column in _places(runs)[-columns:]:
        figure.update_xaxes(title_text=x, row=row, col=column)
    return figure.update_yaxes(title_text=y, col=1)


def _with_bars(figure: go.Figure, runs: Runs, asked: Mapping[str, float], title: str) -> go.Figure:
    """What had to be reached, where something had to, as dashed lines; a legend below all."""
    for (row, column), name in zip(_places(runs), runs, strict=True):
        if name in asked:
            figure.add_hline(asked[name], line_dash="dash", line_color=PALETTE[1], row=row, col=column)
    if any(name in asked for name in runs):
        figure.add_scatter(x=[None], y=[None], mode="lines", line=dict(dash="dash", color=PALETTE[1]), name="asked for")
    return figure.update_layout(
        title=title,
        legend=dict(orientation="h", yref="container", y=0.01, yanchor="bottom", x=0.5, xanchor="center"),
        margin_b=90,
    )


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
        title=f"{task}: one setting changed at a time", height=STUDY_SIZE[1],
        legend=dict(orientation="h", yref="container", y=0.01, yanchor="bottom", x=0.5, xanchor="center"), margin_b=80,
    )  # fmt: skip


def _panel(figure: go.Figure, results: Mapping[str, Sequence[float | None]], row: int, column: int) -> None:
    """Value of a setting → a result for each seed."""
    points = [(value, result) for value, each in results.items() for result in each]
    first, place = (row, column) == (1, 1), dict(row=row, col=column)
    figure.add_scatter(
        x=[value for value, _ in points], y=[result for _, result in points], mode="markers", name="one seed",
        marker=dict(color=PALETTE[5], size=7), showlegend=first, **place,
    )  # fmt: skip
    figure.add_scatter(
        x=list(results), y=[_middle(each) for each in results.values()], mode="lines", name="median of the seeds",
        line_color=PALETTE[0], showlegend=first, **place,
    )  # fmt: skip


def _middle(results: Sequence[float | None]) -> float | None:
    """Their median, without those that are not known."""
    known = [result for result in results if result is not None]
    return median(known) if known else None
