"""What two sets of learning curves say: final figures, time to a given reward, and both as one picture."""

from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from rlhf.evaluation.style import COLORS, STYLE, canvas

Record = dict[str, Any]
FIGURES = ("reward", "gold", "kl", "objective", "length", "distinct_2")
NAMES = {
    "ours": "this engine", "trl": "stock trainer",
    "shared": "head trains the trunk", "detached": "head reads the trunk", "adapter": "critic adapter",
}  # fmt: skip


def summarise(records: list[Record], sides: tuple[str, str]) -> dict[str, Any]:
    """Each seed by itself, and means over the seeds (None where a seed has no figure).

    Args:
        records: one a side and seed, as `learning_sides.measure` returns them.
        sides: the one that is judged, then the one that it is compared with.
    """
    seeds = {
        str(seed): _one_seed({record["side"]: record for record in records if record["seed"] == seed}, sides)
        for seed in sorted({record["seed"] for record in records})
    }
    return {"seeds": seeds, "mean": _mean(list(seeds.values()))}


def _one_seed(found: dict[str, Record], sides: tuple[str, str]) -> dict[str, Any]:
    judged, other = (found[side]["curve"] for side in sides)
    target, whole = other[-1]["reward"], other[-1]["seconds"]
    reached = seconds_to(judged, target)
    equal_time = min(judged[-1]["seconds"], whole)
    return {
        "final": {side: _final(found[side]) for side in sides},
        "target_reward": target,
        "seconds": {side: found[side]["curve"][-1]["seconds"] for side in sides},
        "seconds_to_target": {sides[0]: reached, sides[1]: seconds_to(other, target)},
        "share_of_whole_run": reached / whole if reached is not None else None,
        "equal_seconds": equal_time,
        "at_equal_seconds": {
            side: {name: value_at(found[side]["curve"], name, equal_time) for name in ("reward", "objective", "gold")}
            for side in sides
        },
        "mean_until_equal_seconds": {
            side: {name: mean_until(found[side]["curve"], name, equal_time) for name in ("reward", "objective", "gold")}
            for side in sides
        },
    }


def _final(record: Record) -> dict[str, Any]:
    points = {"last": record["curve"][-1], **{name: record[name] for name in ("kept", "test_last", "test_kept")}}
    return {name: {figure: point[figure] for figure in FIGURES} for name, point in points.items()}


def seconds_to(curve: list[Record], reward: float) -> float | None:
    """When a curve first reaches a reward, linear between its points; None if it never does."""
    before: Record | None = None
    for point in curve:
        if point["reward"] >= reward:
            if before is None:
                return float(point["seconds"])
            share = (reward - before["reward"]) / (point["reward"] - before["reward"])
            return float(before["seconds"] + share * (point["seconds"] - before["seconds"]))
        before = point
    return None


def value_at(curve: list[Record], name: str, seconds: float) -> float | None:
    """A figure of the curve at a time, linear between its points."""
    if any(point[name] is None for point in curve):
        return None
    return float(np.interp(seconds, [p["seconds"] for p in curve], [p[name] for p in curve]))


def mean_until(curve: list[Record], name: str, seconds: float) -> float | None:
    """Mean of a figure over the time from 0 to `seconds`: how good the policy was meanwhile."""
    end = value_at(curve, name, seconds)
    if end is None or seconds <= 0:
        return end
    points = [(p["seconds"], p[name]) for p in curve if p["seconds"] < seconds] + [(seconds, end)]
    x, y = zip(*points, strict=True)
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def _mean(rows: list[Any]) -> Any:
    """Means of nested figures of one form."""
    if isinstance(rows[0], dict):
        return {name: _mean([row[name] for row in rows]) for name in rows[0]}
    return None if any(row is None for row in rows) else fmean(rows)


# --- the picture ------------------------------------------------------------------------------------------------------


class Panel(NamedTuple):
    """One set of axes: a figure of the curve's points over another."""

    title: str
    x: str
    xlabel: str
    y: str
    ylabel: str


PANELS = [
    Panel("Held-out reward over time", "minutes", "minutes of training", "reward", "standard deviations"),
    Panel("Held-out reward over episodes", "episodes", "episodes", "reward", "standard deviations"),
    Panel("Held-out gold over time", "minutes", "minutes of training", "gold", "judge's score, 0 to 1"),
]


def draw(records: list[Record], sides: tuple[str, str]) -> Canvas:
    """Reward over time and over episodes, gold over time: thin lines are seeds, thick ones their means."""
    curves = {side: [_in_minutes(r["curve"]) for r in records if r["side"] == side] for side in sides}
    panels = [panel for panel in PANELS if all(record["curve"][-1][panel.y] is not None for record in records)]
    with plt.rc_context(STYLE):
        figure, grid = canvas(1, len(panels), (4.1 * len(panels), 3.9))
        for axes, panel in zip(grid[0], panels, strict=True):
            for side, color in zip(sides, (COLORS["SPP"], COLORS["RO"]), strict=True):
                _draw_side(axes, curves[side], panel, color, NAMES[side])
            final = fmean(curve[-1][panel.y] for curve in curves[sides[1]])
            axes.axhline(
                final, color=COLORS["RO"], linestyle=":", linewidth=1.3, label=f"{NAMES[sides[1]]}, at its end"
            )
            axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
            axes.set_xlim(left=0)
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _in_minutes(curve: list[Record]) -> list[Record]:
    return [point | {"minutes": point["seconds"] / 60} for point in curve]


def _draw_side(axes: Axes, curves: list[list[Record]], panel: Panel, color: str, label: str) -> None:
    for curve in curves:
        axes.plot([p[panel.x] for p in curve], [p[panel.y] for p in curve], color=color, linewidth=0.8, alpha=0.45)
    points = list(zip(*curves, strict=True))  # the same updates of all seeds
    x, y = ([fmean(p[key] for p in some) for some in points] for key in (panel.x, panel.y))
    axes.plot(x, y, color=color, linewidth=2.2, marker="o", markersize=3.5, label=label)
