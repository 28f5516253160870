"""The figures of `lab.chat`: how PPO learns, what was reached on held-out questions, what the settings change.

learning({0: done, 1: other})                      # seed → what its training came to
sensitivity({"Learning rate": {"0.001": [done, other]}})
"""

from collections.abc import Mapping, Sequence
from statistics import median

import plotly.graph_objects as go

from lab.chat_learning import Trained
from lab.chat_outcome import Who
from lab.drawing import PALETTE, grid

SIZE = (960, 480)
"""Of the figures, in pixels."""
Study = Mapping[str, Mapping[str, Sequence[Trained]]]
"""What is changed → its values → one training for each seed."""
HELD_OUT = "Mean reward (F1), held-out"
POLICIES: dict[Who, tuple[str, str]] = {
    "before": ("before: the language model", PALETTE[1]),
    "after": ("after PPO", PALETTE[2]),
}
SYMBOLS: dict[Who, str] = {"before": "circle-open-dot", "after": "circle"}
UNLEARNED: dict[Who, tuple[str, str]] = {
    "constant": ("best reply to everything", PALETTE[3]),
    "echo": ("the question itself", PALETTE[4]),
}
"""Whose replies → their name and colour in the figures."""


def learning(done: Mapping[int, Trained]) -> go.Figure:
    """Left: rewards while it learns, a line for each seed. Right: what each seed reached on held-out questions."""
    titles = ["Training questions, tokens drawn", "Held-out questions, likeliest tokens"]
    figure = grid(1, 2, titles, shared_yaxes=True, horizontal_spacing=0.06)
    for number, of in enumerate(done.values()):
        steps, rewards = of.curve
        figure.add_scatter(
            x=list(steps), y=list(rewards), mode="lines", name="while it learns, a seed each", line_color=PALETTE[0],
            legendgroup="curve", showlegend=number == 0, row=1, col=1,
        )  # fmt: skip
    _reached(figure, {str(seed): [of] for seed, of in done.items()}, column=2)
    seeds, last = [str(seed) for seed in done], next(iter(done.values()))
    for who, (name, color) in UNLEARNED.items():
        figure.add_scatter(x=seeds, y=[last.outcome.means()[who]] * len(seeds), mode="lines+markers", name=name,
                           line=dict(color=color, dash="dash"), marker_symbol="line-ew", row=1, col=2)  # fmt: skip
    figure.update_xaxes(title_text="Environment steps", row=1, col=1).update_xaxes(title_text="Seed", row=1, col=2)
    return _finished(figure, "PPO from the language model on").update_yaxes(
        title_text="Mean reward of a reply (F1)", row=1, col=1
    )


def sensitivity(study: Study) -> go.Figure:
    """A panel for each setting: held-out rewards before and after PPO, of every seed, and their medians."""
    figure = grid(1, len(study), list(study), shared_yaxes=True, horizontal_spacing=0.06)
    for column, values in enumerate(study.values(), start=1):
        _reached(figure, values, column, first=column == 1)
    steps = next(of.settings.taken for values in study.values() for each in values.values() for of in each)
    figure.update_yaxes(title_text=HELD_OUT, row=1, col=1)
    return _finished(figure, f"One setting changed at a time; PPO for {steps:,} environment steps")


def _reached(figure: go.Figure, values: Mapping[str, Sequence[Trained]], column: int, first: bool = True) -> None:
    """Before and after, by value: a mark for each seed, a line through the medians where there are several seeds."""
    for who, (name, color) in POLICIES.items():
        means = {value: [of.outcome.means()[who] for of in each] for value, each in values.items()}
        points = [(value, mean) for value, each in means.items() for mean in each]
        shared = dict(legendgroup=who, name=name, row=1, col=column)
        figure.add_scatter(
            x=[value for value, _ in points], y=[mean for _, mean in points], mode="markers", showlegend=first,
            marker=dict(color=color, size=9, symbol=SYMBOLS[who]), **shared,
        )  # fmt: skip
        if any(len(each) > 1 for each in means.values()):
            figure.add_scatter(x=list(means), y=[median(each) for each in means.values()], mode="lines",
                               line_color=color, showlegend=False, **shared)  # fmt: skip
    figure.update_xaxes(type="category", row=1, col=column)


def _finished(figure: go.Figure, title: str) -> go.Figure:
    legend = dict(orientation="h", y=-0.24, x=0.5, xanchor="center")
    return figure.update_layout(title=title, legend=legend, margin=dict(t=80, b=120)).update_yaxes(rangemode="tozero")
