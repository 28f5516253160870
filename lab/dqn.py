"""Deep Q-networks on CartPole: replay, target network, double DQN, prioritised replay, each seed shown.

python -m lab.dqn                                        # five seeds, four variants, 50,000 steps each
python -m lab.dqn --variants dqn --dqn.learning-rate 1e-3 --out models/lab
python -m lab.dqn --environment Acrobot-v1 --variants double --seeds 2

One update is `lab.dqn_learner`, the loop around it `lab.dqn_training`, the memory `lab.replay`. Every variant learns
on every seed; the seeds' curves are drawn as a mean in a band from the worst to the best. CartPole's policies come and
go while they learn, so the greedy policy is checked on episodes of its own, and the one that did best is kept. What is
claimed is the mean return of the policy kept, over episodes from seeds that neither training nor checks have used;
what the policy after the last step reaches on them stands beside it in the results.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
import plotly.graph_objects as go

from lab.dqn_learner import Settings
from lab.dqn_training import Run, train
from lab.drawing import PALETTE, bands, grid
from lab.experiment import Experiment, Options, at_least, command_line, need
from lab.parallel import spread
from rlhf.errors import UserError

Variant = Literal["dqn", "double", "prioritised", "double and prioritised"]
VARIANTS: dict[Variant, dict[str, Any]] = {
    "dqn": dict(double=False, prioritised=False),
    "double": dict(double=True, prioritised=False),
    "prioritised": dict(double=False, prioritised=True),
    "double and prioritised": dict(double=True, prioritised=True),
}
GOALS = {"CartPole-v1": (475.0, "500"), "Acrobot-v1": (-100.0, "-76.6")}
"""Environment → the mean return asked for, the one published for DQN."""
SOURCE = "RL-Zoo, benchmark.md, DQN (one run)"


@dataclass(frozen=True)
class Arguments(Options):
    environment: str = "CartPole-v1"
    """Of Gymnasium, with numbers (Box) as observations and Discrete actions."""
    steps: int = 50_000
    """Of training, a seed."""
    seeds: int = 5
    """Trainings of each variant, from --seed on."""
    variants: tuple[Variant, ...] = ("double", "dqn", "prioritised", "double and prioritised")
    """What is compared. The first is the one whose returns are claimed."""
    checks: int = 20
    """How often the greedy policy is checked while it learns."""
    episodes: int = 100
    """Of the evaluation of the policy kept; a check has a tenth of it."""
    dqn: Settings = Settings()
    """Of the learning."""

    def __post_init__(self) -> None:
        super().__post_init__()
        need(self.seeds >= 1, "seeds", "at least 1", self.seeds)
        need(self.checks >= 1, "checks", "at least 1", self.checks)
        need(self.episodes >= 1, "episodes", "at least 1", self.episodes)
        need(len(self.variants) >= 1, "variants", "at least one", "none")
        least = self.checks * self.dqn.environments
        need(self.steps >= least, "steps", f"at least checks x environments, {least}", self.steps)


def run(environment: str, settings: Settings, steps: int, seed: int, checks: int, episodes: int) -> Run:
    """One training, by the name of its environment."""
    return train(partial(gymnasium.make, environment), settings, steps, seed, checks, episodes)


def runs(arguments: Arguments, settings: Sequence[Settings], title: str) -> list[list[Run]]:
    """Every one of the settings on every seed: settings → seeds → run."""
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    jobs = [
        (arguments.environment, one, arguments.steps, seed, arguments.checks, arguments.episodes)
        for one in settings
        for seed in seeds
    ]
    done = spread(run, jobs, title, arguments.workers)
    return [done[first : first + len(seeds)] for first in range(0, len(done), len(seeds))]


def curves(series: dict[str, list[Run]], title: str) -> go.Figure:
    """Checks on the way: the mean over seeds, the band from the worst seed to the best."""
    drawn = {}
    for name, several in series.items():
        means = np.array([one.curve.means for one in several])
        drawn[name] = (several[0].curve.steps, means.mean(0), means.min(0), means.max(0))
    figure = bands(drawn, "Steps", "Return of the greedy policy", title)
    return figure.update_layout(legend=dict(orientation="h", yanchor="bottom", y=1.0, xanchor="right", x=1.0))


def panels(series: dict[str, list[Run]], title: str) -> go.Figure:
    """`curves` of each variant, side by side on the same axes."""
    rows = (len(series) + 1) // 2
    figure = grid(rows, 2, list(series), shared_xaxes="all", shared_yaxes="all", vertical_spacing=0.12)
    for number, (name, several) in enumerate(series.items()):
        for trace in curves({name: several}, "").data:
            figure.add_trace(trace, row=number // 2 + 1, col=number % 2 + 1)
    figure.update_xaxes(title_text="Steps", row=rows).update_yaxes(title_text="Return", col=1)
    return figure.update_layout(title=title, showlegend=False)


def endings(series: dict[str, list[Run]], goal: float | None, title: str) -> go.Figure:
    """A dot for each seed: the mean return of the policy kept, and beside it of the last one."""
    figure = go.Figure()
    for number, (name, part) in enumerate((("kept", "kept"), ("after the last step", "last"))):
        points = [(variant, float(getattr(one, part).mean())) for variant, several in series.items() for one in several]
        figure.add_scatter(
            x=[variant for variant, _ in points], y=[mean for _, mean in points], name=name, mode="markers",
            marker=dict(color=PALETTE[number], symbol=("circle", "x-thin-open")[number], size=11, opacity=0.8),
        )  # fmt: skip
    if goal is not None:
        figure.add_hline(
            goal, line_dash="dot", annotation_text=f"asked for: {goal:g}", annotation_position="bottom left"
        )
    figure.update_layout(legend=dict(orientation="h", yanchor="bottom", y=1.0, xanchor="right", x=1.0))
    figure.update_xaxes(range=[-0.5, len(series) - 0.5])  # room for the names at both ends
    return figure.update_layout(template="lab", title=title, yaxis_title="Mean return", hovermode="closest")


def claims(experiment: Experiment, arguments: Arguments, first: list[Run]) -> None:
    """Each seed's mean return beside the published one, where one is known."""
    if arguments.environment not in GOALS:
        return
    goal, published = GOALS[arguments.environment]
    for number, one in enumerate(first, arguments.seed):
        what = f"DQN ({arguments.variants[0]}), {arguments.environment}, {arguments.steps:,} steps, seed {number}"
        experiment.claim(f"{what}: mean return", float(one.kept.mean()), at_least(goal), SOURCE, published)


def main(arguments: Arguments) -> None:
    try:
        gymnasium.spec(arguments.environment)
    except gymnasium.error.Error as error:
        raise UserError("There is no such environment.", expected="an environment of Gymnasium",
                        found=str(error), remedy="--environment CartPole-v1") from None  # fmt: skip
    with Experiment("dqn", arguments) as experiment:
        names: list[str] = list(arguments.variants)
        settings = [replace(arguments.dqn, **VARIANTS[name]) for name in arguments.variants]
        series = dict(zip(names, runs(arguments, settings, "DQN"), strict=True))
        claims(experiment, arguments, series[names[0]])
        experiment.results.update({name: [_plain(one) for one in several] for name, several in series.items()})
        _log(experiment, series)
        goal = GOALS.get(arguments.environment, (None, ""))[0]
        where = f"{arguments.environment}, {arguments.seeds} seeds"
        experiment.figure("learning", curves({names[0]: series[names[0]]}, f"{where}: learning"))
        experiment.figure("variants", panels(series, f"{where}: mean, worst and best"), (860, 640))
        experiment.figure("endings", endings(series, goal, f"{where}: a dot for each"))


def _log(experiment: Experiment, series: dict[str, list[Run]]) -> None:
    """The mean over seeds of every check."""
    steps = next(iter(series.values()))[0].curve.steps
    for number, step in enumerate(steps):
        means = {f"return/{name}": np.mean([one.curve.means[number] for one in runs]) for name, runs in series.items()}
        experiment.log({name: float(mean) for name, mean in means.items()}, step)


def _plain(one: Run) -> dict[str, Any]:
    return {"steps": one.curve.steps, "checks": one.curve.means, "kept_at": one.kept_at,
            "kept": float(one.kept.mean()), "last": float(one.last.mean()), "kept_returns": one.kept}  # fmt: skip


if __name__ == "__main__":
    command_line(main, Arguments, __doc__)
