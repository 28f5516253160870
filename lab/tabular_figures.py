"""Figures of the tabular experiments: maps with values and arrows, returns, errors, sensitivity.

maps([Map("FrozenLake", values.reshape(4, 4), arrows(action_values, moves).reshape(4, 4))], columns=1, title="…")
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from lab.drawing import PALETTE, grid, lines
from lab.dynamic_programming import Array, Found
from lab.gridworld import Move

ARROWS = {(-1, 0): "↑", (-1, 1): "↗", (0, 1): "→", (1, 1): "↘", (1, 0): "↓", (1, -1): "↙", (0, -1): "←",
          (-1, -1): "↖"}  # fmt: skip
COLOURS = "Blues_r"


class Map(NamedTuple):
    """A panel: values (rows, columns), not-a-number where nothing is to be shown, and a text for each cell."""

    title: str
    values: Array
    texts: NDArray[np.str_]


def arrows(action_values: Array, moves: Sequence[Move], tolerance: float = 1e-6) -> NDArray[np.str_]:
    """The best actions (S,) of action values (S, A), equals side by side; nothing where all are equal."""
    best = action_values >= action_values.max(1, keepdims=True) - tolerance
    best[best.all(1)] = False
    return np.array(["".join(ARROWS[move] for move, is_best in zip(moves, row, strict=True) if is_best)
                     for row in best])  # fmt: skip


def panel(
    title: str,
    values: Array,
    action_values: Array,
    moves: Sequence[Move],
    shape: tuple[int, int],
    hide: Sequence[bool] | NDArray[np.bool_],
) -> Map:
    """A map of values (S,) over arrows of the best actions, on `shape` rows and columns; `hide` (S,) are left empty."""
    pointing = arrows(action_values, moves)
    digits = 0 if np.allclose(values, values.round()) else 2 if np.abs(values).max() < 1 else 1
    texts = np.array(["" if hidden else f"{value:.{digits}f}<br>{arrow}".replace("-", "−")
                      for value, arrow, hidden in zip(values, pointing, hide, strict=True)])  # fmt: skip
    return Map(title, np.where(hide, np.nan, values).reshape(shape), texts.reshape(shape))


def maps(panels: Sequence[Map], columns: int, title: str, gap: float = 0.08) -> go.Figure:
    """Heatmaps side by side, each on a scale of its own; `gap` is the share of the height between two rows."""
    rows = -(-len(panels) // columns)
    figure = grid(rows, columns, [one.title for one in panels], horizontal_spacing=0.06, vertical_spacing=gap)
    for number, one in enumerate(panels):
        where = dict(row=number // columns + 1, col=number % columns + 1)
        figure.add_heatmap(
            z=one.values, text=one.texts, texttemplate="%{text}", showscale=False, colorscale=COLOURS, xgap=1, ygap=1,
            textfont_size=11, hoverinfo="z", **_lighter(one.values), **where,
        )  # fmt: skip
        axis = "" if number == 0 else str(number + 1)
        figure.update_yaxes(autorange="reversed", scaleanchor=f"x{axis}", constrain="domain", visible=False, **where)
        figure.update_xaxes(constrain="domain", visible=False, **where)
    return figure.update_layout(title=title, plot_bgcolor="#666666", margin=dict(l=20, r=20, t=90, b=20))


def _lighter(values: Array) -> dict[str, float]:
    """The range of the colours, begun lower, so that the darkest are not too dark to read on."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return dict(zmin=low - (high - low or 1), zmax=high)


def returns(series: Mapping[str, Array], title: str, shown: tuple[float, float], window: int = 10) -> go.Figure:
    """The mean over runs of returns (N, episodes), averaged over `window` episodes; `shown` is the range."""
    figure = lines({name: smoothed(values, window) for name, values in series.items()}, "Episode",
                   f"Return, mean of {window} episodes", title)  # fmt: skip
    return figure.update_yaxes(range=shown).update_layout(
        legend=dict(x=0.99, y=0.02, xanchor="right", yanchor="bottom")
    )


def smoothed(values: Array, window: int) -> tuple[Sequence[float], Sequence[float]]:
    """Episodes, and the mean over runs (N, episodes) of the `window` episodes that end there."""
    window = min(window, values.shape[1])
    means = np.convolve(values.mean(0), np.full(window, 1 / window), "valid")
    return list(range(window, values.shape[1] + 1)), means.tolist()


def errors(series: Mapping[str, Array], title: str) -> go.Figure:
    """Root mean squared error after each episode (episodes + 1,); Monte Carlo dashed."""
    figure = lines({name: (range(len(values)), values.tolist()) for name, values in series.items()}, "Episodes",
                   "RMS error, mean over states and runs", title)  # fmt: skip
    for number, trace in enumerate(figure.data):
        trace.update(line_dash="dash" if "MC" in trace.name else "solid", line_color=PALETTE[number % len(PALETTE)])
    return figure.update_yaxes(rangemode="tozero").update_layout(legend=dict(x=0.99, y=0.99, xanchor="right"))


def sensitivity(alphas: Array, interim: Mapping[str, Array], asymptotic: Mapping[str, Array]) -> go.Figure:
    """Returns (alphas,) against the step size: dashed over the first episodes, solid in the long run."""
    figure = lines({}, "Step size α", "Return of an episode", "Cliff walking: interim and asymptotic performance")
    for number, name in enumerate(interim):
        look = dict(mode="lines+markers", line_color=PALETTE[number], x=alphas.tolist())
        figure.add_scatter(y=asymptotic[name].tolist(), name=f"{name}, asymptotic", **look)
        figure.add_scatter(y=interim[name].tolist(), name=f"{name}, interim", line_dash="dash",
                           marker_symbol="circle-open", **look)  # fmt: skip
    return figure.update_yaxes(range=[-160, 0])


def gambler(found: Found, heads: float) -> go.Figure:
    """Example 4.3: values after some sweeps, and the smallest of the best stakes."""
    figure = grid(1, 2, ["Values", "Stake, the smallest of the best"], horizontal_spacing=0.12)
    capital = list(range(1, len(found.values) - 1))
    shown = (1, 2, 3, 4, len(found.history) - 1)
    for number, sweep in enumerate(shown):
        name = f"after sweep {sweep}"
        figure.add_scatter(x=capital, y=found.history[sweep][1:-1].tolist(), name=name, line_color=PALETTE[number],
                           row=1, col=1)  # fmt: skip
    stakes = found.policy.argmax(1)[1:-1] + 1
    figure.add_bar(x=capital, y=stakes.tolist(), marker_color=PALETTE[4], showlegend=False, row=1, col=2)
    figure.update_xaxes(title="Capital")
    figure.update_yaxes(title="Probability of reaching the goal", row=1, col=1)
    return figure.update_layout(title=f"The gambler's problem, heads {heads:g}",
                                legend=dict(x=0.01, y=0.98), hovermode="closest")  # fmt: skip
