"""Figures of `lab.bandits`: what bandits earn, lose and how often they choose the best arm, over time and parameters.

figure = curves({"greedy": course, "ε = 0.1": other}, "Figure 2.2")
experiment.figure("greedy", figure, TALL)
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import plotly.graph_objects as go

from lab.drawing import PALETTE, grid, lines
from lab.experiment import Experiment
from lab.routing import Played, Problem, lai_robbins
from lab.testbed import Course, in_blocks

TALL = (860, 680)
STUDY = (860, 520)
WIDE = (1100, 500)
REWARD, OPTIMAL = "Mean reward", "Best arm chosen, %"
FIGURES: dict[str, tuple[str, Sequence[str]]] = {
    "greedy": ("Figure 2.2: exploring pays", ("greedy", "ε = 0.01", "ε = 0.1")),
    "optimistic": ("Figure 2.3: an optimistic start", ("Q₁ = 5, greedy, α = 0.1", "Q₁ = 0, ε = 0.1, α = 0.1")),
    "ucb": ("Figure 2.4: upper confidence bounds", ("UCB, c = 2", "ε = 0.1")),
    "gradient": (
        "Figure 2.5: gradient bandits where arms pay 4 on average",
        ("α = 0.1", "α = 0.4", "α = 0.1, no baseline", "α = 0.4, no baseline"),
    ),
    "all": (
        "The ways to explore, Thompson sampling among them",
        ("Thompson", "UCB, c = 2", "Q₁ = 5, greedy, α = 0.1", "gradient, α = 0.1", "ε = 0.1"),
    ),
    "walking": ("Exercise 2.5: arms that change, ε = 0.1", ("sample average", "constant α = 0.1")),
}
"""Name of the file → title, and the entries that are drawn."""


def draw(experiment: Experiment, courses: Mapping[str, Course], study: Mapping[str, Mapping[float, float]]) -> None:
    """All figures."""
    for name, (title, entries) in FIGURES.items():
        experiment.figure(name, curves({entry: courses[entry] for entry in entries}, title), TALL)
    experiment.figure("study", parameters(study, "Figure 2.6: the parameter study"), STUDY)


def curves(courses: Mapping[str, Course], title: str) -> go.Figure:
    """Mean reward above, share of the best arm below, over the steps.

    Args:
        courses: name → course; long ones are drawn in means of blocks.
        title: of the whole.
    """
    figure = grid(2, 1, ["", ""], shared_xaxes=True, vertical_spacing=0.07)
    for color, (name, course) in zip(PALETTE, courses.items(), strict=False):
        block = max(1, len(course.rewards) // 1000)
        steps = (np.arange(len(course.rewards) // block) * block + (block + 1) / 2).tolist()
        for row, curve in ((1, course.rewards), (2, 100 * course.optimal)):
            figure.add_scatter(x=steps, y=in_blocks(curve, block).tolist(), name=name, legendgroup=name, mode="lines",
                               showlegend=row == 1, line=dict(color=color, width=1.6), row=row, col=1)  # fmt: skip
    figure.update_xaxes(range=[0, max(len(course.rewards) for course in courses.values())])
    figure.update_xaxes(title_text="Steps", row=2, col=1)
    figure.update_yaxes(title_text=REWARD, row=1, col=1)
    figure.update_yaxes(title_text=OPTIMAL, range=[0, 100], row=2, col=1)
    legend = dict(orientation="h", x=0, y=-0.12, yanchor="top")
    return figure.update_layout(title=title, legend=legend, margin=dict(t=60, b=90))


def parameters(study: Mapping[str, Mapping[float, float]], title: str) -> go.Figure:
    """Mean reward over all steps by the parameter of each bandit, on a scale of powers of two."""
    series = {name: (list(row), list(row.values())) for name, row in study.items()}
    figure = lines(series, "Parameter", "Mean reward over all steps", title).update_traces(mode="lines+markers")
    ticks = sorted({value for row in study.values() for value in row})
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[str(Fraction(value)) for value in ticks])
    return figure.update_layout(legend=dict(orientation="h", x=0, y=-0.22, yanchor="top"), margin=dict(b=140))


def draw_routing(experiment: Experiment, problems: Mapping[str, Problem], played: Played) -> None:
    """Regret where versions stay as they are, and who follows those that change places."""
    steady = {name: problem for name, problem in problems.items() if not problem.versions.swaps}
    experiment.figure("regret", regrets(steady, played), WIDE)
    for name, problem in problems.items():
        if name not in steady:
            experiment.figure(name, shares(played[name], problem.title), STUDY)


def regrets(problems: Mapping[str, Problem], played: Played) -> go.Figure:
    """A panel for each problem: regret over the steps on a scale of logarithms, and the slope of Lai and Robbins.

    An even split leaves the picture at the top: the others would be lines at the bottom beside it.
    """
    figure = grid(1, len(problems), [problem.title for problem in problems.values()], horizontal_spacing=0.09)
    for column, (name, problem) in enumerate(problems.items(), start=1):
        courses = played[name]
        steps = len(next(iter(courses.values())).regret)
        at = np.unique(np.geomspace(1, steps, 200).astype(int))
        for color, (policy, course) in zip(PALETTE, courses.items(), strict=False):
            figure.add_scatter(x=at.tolist(), y=course.regret[at - 1].tolist(), name=policy, legendgroup=policy,
                               mode="lines", showlegend=column == 1, line=dict(color=color, width=1.8),
                               row=1, col=column)  # fmt: skip
        least = lai_robbins(problem.versions.rates) * np.log(at)
        figure.add_scatter(x=at.tolist(), y=least.tolist(), name="ln t · Σ Δ / KL (slope of Lai and Robbins)",
                           legendgroup="least", mode="lines", showlegend=column == 1,
                           line=dict(color="#333333", width=1.4, dash="dash"), row=1, col=column)  # fmt: skip
        shown = [course.regret[-1] for policy, course in courses.items() if policy != "even split"]
        figure.update_yaxes(range=[0, 1.15 * max(*shown, least[-1])], row=1, col=column)
    figure.update_xaxes(type="log", title_text="Judgements, t", dtick=1)
    figure.update_yaxes(title_text="Regret, thumbs lost", row=1, col=1)
    legend = dict(orientation="h", x=0, y=-0.2, yanchor="top")
    return figure.update_layout(title="What routing loses", legend=legend, margin=dict(t=90, b=100))


def shares(courses: Mapping[str, Course], title: str) -> go.Figure:
    """Share of the better version over the steps, with a mark in the middle, where the versions change places."""
    steps = len(next(iter(courses.values())).optimal)
    block = max(1, steps // 200)
    middles = (np.arange(steps // block) * block + (block + 1) / 2).tolist()
    series = {name: (middles, (100 * in_blocks(course.optimal, block)).tolist()) for name, course in courses.items()}
    figure = lines(series, "Judgements", "Better version chosen, %", title)
    figure.add_vline(x=steps // 2 + 0.5, line=dict(color="#333333", width=1.2, dash="dot"))
    figure.update_yaxes(range=[0, 100]).update_xaxes(range=[0, steps])
    return figure.update_layout(legend=dict(orientation="h", x=0, y=-0.2, yanchor="top"), margin=dict(b=110))
