"""Figures of training (from each phase's metrics.jsonl) and of the reward model's quality."""

import math
import re
import textwrap
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from rlhf.evaluation.records import HELD_OUT, PHASES, PPO_PHASES, Row, kept_update
from rlhf.evaluation.style import COLORS, INK, SOFT, canvas, errors

Values = dict[str, Any]
Curves = dict[str, list[Row]]

TRAIN, HELD = "training", "held out"
STANDARD = "standard deviations"


class Line(NamedTuple):
    """One curve: a key of one phase's metrics rows. Without a label it is not in the legend."""

    phase: str
    key: str
    label: str
    color: str
    dashed: bool = False


class Panel(NamedTuple):
    """One set of axes."""

    title: str
    ylabel: str
    lines: list[Line]


def _supervised(phase: str, title: str, ylabel: str, key: str) -> Panel:
    lines = [Line(phase, key, TRAIN, INK), Line(phase, f"eval_{key}", HELD, "#d55e00", True)]
    return Panel(title, ylabel, lines)


def _ppo(title: str, ylabel: str, key: str, held_out: str = "") -> Panel:
    lines = [Line(p, key, PHASES[p], COLORS[system]) for p, system in PPO_PHASES.items()]
    if held_out:
        lines += [Line(p, held_out, "", COLORS[s], True) for p, s in PPO_PHASES.items()]
    return Panel(title, ylabel, lines)


PANELS = [
    _supervised("base", "Base: loss", "nats a token", "loss"),
    _supervised("sft", "SFT: loss", "nats a token", "loss"),
    _supervised("reward", "Reward model: loss", "nats a pair", "loss"),
    _supervised("reward", "Reward model: accuracy", "share of pairs", "accuracy"),
    _ppo("PPO: reward", STANDARD, "objective/scores", "eval/score"),
    _ppo("PPO: KL to the reference", "nats a response", "objective/kl", "eval/kl"),
    _ppo("PPO: length of replies", "tokens", "objective/length"),
    _ppo("PPO: replies that end", "share", "objective/eos_rate"),
    _ppo("PPO: entropy", "nats a response", "objective/entropy"),
]


def reward_names(curves: Curves) -> list[str]:
    """PPO's rewards, where there are others than the learned reward model alone."""
    keys = dict.fromkeys(key for phase in PPO_PHASES for row in curves.get(phase, []) for key in row)
    found = (re.fullmatch("rewards/(.+)/mean", key) for key in keys)
    names = [match[1] for match in found if match]
    return [] if names == ["model"] else names


def _panels(curves: Curves) -> list[Panel]:
    """All panels; with several rewards their sum has no one unit, and each has its own panel."""
    names = reward_names(curves)
    fixed = [p._replace(ylabel="weighted sum") if names and p.ylabel == STANDARD else p for p in PANELS]
    keys = ((name, f"rewards/{name}/mean") for name in names)
    return fixed + [_ppo(f"PPO: {name}", "reward", key, f"eval/{key}") for name, key in keys]


def series(rows: list[Row], *keys: str) -> list[tuple[float, ...]]:
    """Tuples of the values under `keys`, from the rows that hold a finite number under each of them."""
    found = []
    for row in rows:
        values = tuple(row.get(key) for key in keys)
        if all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            found.append(tuple(float(v) for v in values if v is not None))
    return found


def training_curves(curves: Curves) -> Canvas | None:
    """A panel for each loss, reward, KL … that some phase logged."""
    panels = []
    for panel in _panels(curves):
        drawn = [(line, series(curves.get(line.phase, []), "step", line.key)) for line in panel.lines]
        drawn = [(line, points) for line, points in drawn if points]
        if drawn:
            panels.append((panel, drawn))
    if not panels:
        return None
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, grid = canvas(rows, columns, (3.5 * columns, 2.6 * rows))
    for axes, (panel, drawn) in zip(grid.flat, panels, strict=False):
        for line, points in drawn:
            _draw(axes, line, points)
        _mark_kept(axes, curves, {line.phase for line, _ in drawn})
        axes.set(title=panel.title, xlabel="step", ylabel=panel.ylabel)
        if sum(bool(line.label) for line, _ in drawn) > 1:
            axes.legend(fontsize=8)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    return figure


def _draw(axes: Axes, line: Line, points: list[tuple[float, ...]]) -> None:
    x, y = zip(*points, strict=True)
    axes.plot(x, y, color=line.color, linestyle="--" if line.dashed else "-", label=line.label or None,
              marker="o" if len(points) < 8 else None, markersize=4, linewidth=1.4)  # fmt: skip


def _mark_kept(axes: Axes, curves: Curves, phases: set[str]) -> None:
    """A dotted line at the update whose policy was kept."""
    for phase in sorted(phases & PPO_PHASES.keys()):
        kept = kept_update(curves[phase])
        if kept is not None:
            axes.axvline(kept, color=COLORS[PPO_PHASES[phase]], linestyle=":", linewidth=1.3)


def reward_against_kl(curves: Curves) -> Canvas | None:
    """The path of PPO: what each nat of KL bought in reward, on training and on held-out prompts."""
    label = f"reward ({'weighted sum' if reward_names(curves) else STANDARD})"
    keys = [("objective/kl", "objective/scores", "Training reward"), ("eval/kl", "eval/score", "Held-out reward")]
    panels = []
    for kl, value, title in keys:
        paths = {phase: series(curves.get(phase, []), "step", kl, value) for phase in PPO_PHASES}
        if any(paths.values()):
            panels.append((title, {phase: path for phase, path in paths.items() if path}))
    if not panels:
        return None
    figure, grid = canvas(1, len(panels), (3.9 * len(panels) + 0.8, 3.7))
    for axes, (title, paths) in zip(grid[0], panels, strict=True):
        for phase, path in paths.items():
            _draw_path(axes, phase, sorted(path))
        axes.set(title=f"{title} against KL", xlabel="KL to the reference (nats a response)", ylabel=label)
        axes.margins(y=0.12)
        axes.legend(loc="best")
    return figure


def _draw_path(axes: Axes, phase: str, path: list[tuple[float, ...]]) -> None:
    steps, kl, values = zip(*path, strict=True)
    color = COLORS[PPO_PHASES[phase]]
    axes.plot(kl, values, color=color, linewidth=0.9, alpha=0.5)
    axes.scatter(kl, values, s=[14 + 26 * i / max(len(kl) - 1, 1) for i in range(len(kl))], color=color, alpha=0.75,
                 linewidths=0, label=PHASES[phase])  # fmt: skip
    axes.annotate(f"step {steps[-1]:.0f}", (kl[-1], values[-1]), (0, 7), fontsize=8, textcoords="offset points",
                  ha="center", color=color)  # fmt: skip


def reliability(model: Values) -> Canvas | None:
    """Confidence against accuracy of the reward model's pairwise decisions, and how many decisions each bin has."""
    bins = model["reliability"]
    if not bins:
        return None
    figure, grid = canvas(2, 1, (4.9, 4.6), sharex=True, height_ratios=[3.2, 1])
    upper, lower = grid[:, 0]
    upper.plot([0.5, 1], [0.5, 1], color="#888888", linestyle="--", linewidth=1.2, label="perfectly calibrated")
    upper.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], color=INK, marker="o", markersize=5,
               label="reward model")  # fmt: skip
    ece = "" if model["ece"] is None else f": ECE {model['ece']:.3f}"
    upper.set(title=f"Calibration{ece}", ylabel="accuracy (share right)", ylim=(min(0.45, *_floor(bins)), 1.03))
    upper.legend(loc="upper left")
    total = sum(b["n"] for b in bins)
    lower.bar([(b["lower"] + b["upper"]) / 2 for b in bins], [100 * b["n"] / total for b in bins],
              width=[0.9 * (b["upper"] - b["lower"]) for b in bins], color=SOFT)  # fmt: skip
    lower.set(xlabel="confidence in the preferred reply", ylabel="% of pairs", xlim=(0.49, 1.01))
    return figure


def _floor(bins: list[Values]) -> tuple[float, float]:
    lowest = min(b["accuracy"] for b in bins)
    return lowest - 0.05, 0.45


def accuracy_by_kind(model: Values) -> Canvas | None:
    """Accuracy on each pair set and each kind of pair, beside "the longer reply wins"."""
    rows = [("all held-out pairs" if name == HELD_OUT else name, values) for name, values in model["sets"].items()]
    if len(model["kinds"]) > 1:
        rows += [(f"kind: {name}", values) for name, values in model["kinds"].items()]
    if not rows:
        return None
    rows.reverse()
    figure, grid = canvas(1, 1, (6.2, 1.5 + 0.34 * len(rows)))
    axes = grid[0, 0]
    for y, (_, values) in enumerate(rows):
        accuracy = values["accuracy"]
        axes.barh(y, accuracy, 0.62, color=INK, label="reward model" if y == 0 else None)
        axes.errorbar(accuracy, y, xerr=errors(accuracy, values["accuracy_ci95"]), color="#222222", capsize=3,
                      linewidth=1.1)  # fmt: skip
        axes.plot(values["longer_wins_accuracy"], y, marker="D", color="#e69f00", markeredgecolor="white",
                  markersize=8, linestyle="none", label='"longer wins"' if y == 0 else None)  # fmt: skip
    axes.axvline(0.5, color="#555555", linestyle=":", linewidth=1.3, label="chance")
    labels = [f"{textwrap.shorten(name.replace('_', ' '), 34)} (n={v['n']})" for name, v in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_xlim(0, 1.02)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set(title="Accuracy on held-out pairs", xlabel="share of pairs right")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
