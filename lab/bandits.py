"""Bandits on the 10-armed testbed: figures 2.2 to 2.6 of Sutton and Barto (2018), and arms that change.

    python -m lab.bandits --out docs/results/lab                               # a minute and a half
    python -m lab.bandits --runs 100 --walk-steps 1000 --route-steps 1000      # a look

The bandits are those of `rlhf.bandits`. Some of them also send chats to versions (docs/ab-testing.md); what they lose
on thumbs is measured by `lab.routing`. Every bandit meets the same arms and the same noise. What a run did last is its
mean over the last tenth of its steps.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

from lab import bandit_figures, routing
from lab.experiment import Experiment, Options, at_most, command_line, need, within
from lab.parallel import spread
from lab.testbed import POINTS, RAISED, STATIONARY, WALKING, Course, Maker, Testbed, last_steps, play, summary
from rlhf.bandits import UCB, EpsilonGreedy, GaussianThompson, GradientBandit

BOOK = "Sutton and Barto 2018"
MEASURED = "an independent implementation"


@dataclass(frozen=True)
class Arguments(Options):
    """Of `python -m lab.bandits`."""

    runs: int = 2000
    """Independent runs of each bandit."""
    steps: int = 1000
    """Pulls of a run."""
    walk_steps: int = 10_000
    """Pulls of a run on arms that change."""
    route_steps: int = 5000
    """Judgements of a run that sends chats to versions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        need(self.runs >= 2, "runs", "at least 2", self.runs)
        need(self.steps >= 10, "steps", "at least 10", self.steps)
        need(self.walk_steps >= 10, "walk_steps", "at least 10", self.walk_steps)
        need(self.route_steps >= 10, "route_steps", "at least 10", self.route_steps)


class Entry(NamedTuple):
    """A bandit, and what it plays on."""

    make: Maker
    testbed: Testbed = STATIONARY


Name = TypeVar("Name", bound=Hashable)

MEANS = partial(EpsilonGreedy, initial=0.0)
"""ε-greedy on sample averages that start at 0, as the book has it."""
ENTRIES = {
    "greedy": Entry(partial(MEANS, epsilon=0.0)),
    "ε = 0.01": Entry(partial(MEANS, epsilon=0.01)),
    "ε = 0.1": Entry(partial(MEANS, epsilon=0.1)),
    "Q₁ = 0, ε = 0.1, α = 0.1": Entry(partial(EpsilonGreedy, epsilon=0.1, initial=0.0, step_size=0.1)),
    "Q₁ = 5, greedy, α = 0.1": Entry(partial(EpsilonGreedy, epsilon=0.0, initial=5.0, step_size=0.1)),
    "UCB, c = 2": Entry(partial(UCB, c=2.0)),
    "Thompson": Entry(GaussianThompson),
    "gradient, α = 0.1": Entry(partial(GradientBandit, step_size=0.1)),
    "α = 0.1": Entry(partial(GradientBandit, step_size=0.1), RAISED),
    "α = 0.4": Entry(partial(GradientBandit, step_size=0.4), RAISED),
    "α = 0.1, no baseline": Entry(partial(GradientBandit, step_size=0.1, baseline=False), RAISED),
    "α = 0.4, no baseline": Entry(partial(GradientBandit, step_size=0.4, baseline=False), RAISED),
    "sample average": Entry(partial(MEANS, epsilon=0.1), WALKING),
    "constant α = 0.1": Entry(partial(EpsilonGreedy, epsilon=0.1, initial=0.0, step_size=0.1), WALKING),
}


def _powers(low: int, high: int) -> list[float]:
    return [2.0**power for power in range(low, high + 1)]


STUDY: dict[str, dict[float, Maker]] = {
    "ε-greedy, ε": {value: partial(MEANS, epsilon=value) for value in _powers(-7, -2)},
    "gradient bandit, α": {value: partial(GradientBandit, step_size=value) for value in _powers(-5, 2)},
    "UCB, c": {value: partial(UCB, c=value) for value in _powers(-4, 2)},
    "greedy, optimistic, α = 0.1, Q₁": {
        value: partial(EpsilonGreedy, epsilon=0.0, initial=value, step_size=0.1) for value in _powers(-2, 2)
    },
    "Thompson, prior's standard deviation": {
        value: partial(GaussianThompson, prior_sd=value) for value in _powers(-4, 2)
    },
}
"""Figure 2.6: what is varied, and the bandit for each value."""


class Published(NamedTuple):
    """What a bandit reached last, as published: mean reward, and percentage of the best arm."""

    entry: str
    reward: float
    optimal: float
    source: str


PUBLISHED = (
    Published("greedy", 1.03, 36, f"{BOOK}, figure 2.2; {MEASURED}"),
    Published("ε = 0.01", 1.31, 59, f"{BOOK}, figure 2.2; {MEASURED}"),
    Published("ε = 0.1", 1.37, 80, f"{BOOK}, figure 2.2; {MEASURED}"),
    Published("Q₁ = 5, greedy, α = 0.1", 1.50, 86, f"{BOOK}, figure 2.3; {MEASURED}"),
    Published("UCB, c = 2", 1.49, 85, f"{BOOK}, figure 2.4; {MEASURED}"),
    Published("sample average", 1.06, 45, f"{BOOK}, exercise 2.5; {MEASURED}"),
    Published("constant α = 0.1", 1.31, 75, f"{BOOK}, exercise 2.5; {MEASURED}"),
)
"""The book draws curves; these are figures that an independent implementation measured on them."""
REWARD_TOLERANCE, OPTIMAL_TOLERANCE = 0.03, 3.0
SECONDS = 10.0


def main(arguments: Arguments) -> None:
    """Play all, and write what came out."""
    with Experiment("bandits", arguments) as experiment:
        courses = compete(ENTRIES, arguments)
        study = sweep(STUDY, arguments)
        size = (arguments.route_steps, arguments.runs, arguments.seed, arguments.workers)
        routed = routing.route(routing.PROBLEMS, *size)
        experiment.results |= {
            "entries": {name: summary(course) for name, course in courses.items()},
            "study": {title: {str(value): mean for value, mean in row.items()} for title, row in study.items()},
            "routing": routing.results(routing.PROBLEMS, routed),
        }
        sent = {f"{problem}, {policy}": course for problem, row in routed.items() for policy, course in row.items()}
        _log(experiment, courses | sent)
        _claims(experiment, arguments, courses)
        routing.claim(experiment, routed)
        bandit_figures.draw(experiment, courses, study)
        bandit_figures.draw_routing(experiment, routing.PROBLEMS, routed)


def compete(entries: Mapping[Name, Entry], arguments: Arguments) -> dict[Name, Course]:
    """The course of each entry."""
    length = {name: arguments.walk_steps if e.testbed.walk else arguments.steps for name, e in entries.items()}
    names = sorted(entries, key=lambda name: -length[name])  # the long ones first: no core waits for them at the end
    jobs = [(*entries[name], length[name], arguments.runs, arguments.seed) for name in names]
    courses = dict(zip(names, spread(play, jobs, "bandits", arguments.workers), strict=True))
    return {name: courses[name] for name in entries}


def sweep(study: Mapping[str, Mapping[float, Maker]], arguments: Arguments) -> dict[str, dict[float, float]]:
    """Mean reward over all steps and runs, for each bandit of a study on the stationary testbed."""
    places = [(title, value) for title, row in study.items() for value in row]
    jobs = [
        (study[title][value], STATIONARY, arguments.steps, arguments.runs, arguments.seed) for title, value in places
    ]
    found: dict[str, dict[float, float]] = {title: {} for title in study}
    for (title, value), course in zip(places, spread(play, jobs, "parameters", arguments.workers), strict=True):
        found[title][value] = float(course.rewards.mean())
    return found


def _log(experiment: Experiment, courses: Mapping[str, Course]) -> None:
    """The curves, step by step, for Weights & Biases."""
    by_step: dict[int, dict[str, float]] = {}
    for name, course in courses.items():
        for step in range(0, len(course.rewards), max(1, len(course.rewards) // POINTS)):
            curves = {"reward": course.rewards, "optimal": course.optimal, "regret": course.regret}
            by_step.setdefault(step + 1, {}).update({f"{what}/{name}": curve[step] for what, curve in curves.items()})
    for step in sorted(by_step):
        experiment.log(by_step[step], step)


def _claims(experiment: Experiment, arguments: Arguments, courses: Mapping[str, Course]) -> None:
    for entry, reward, optimal, source in PUBLISHED:
        course = courses[entry]
        steps = len(course.rewards)
        name = f"{entry}{', arms that change' if ENTRIES[entry].testbed.walk else ''}"
        last = f"the last {last_steps(steps):,} of {steps:,} steps"
        experiment.claim(f"{name}: mean reward, {last}", float(course.late.rewards.mean()),
                         within(reward, REWARD_TOLERANCE), source, f"{reward:.2f}")  # fmt: skip
        experiment.claim(f"{name}: best arm, %, {last}", 100 * float(course.late.optimal.mean()),
                         within(optimal, OPTIMAL_TOLERANCE), source, f"{optimal:.0f}")  # fmt: skip
    seconds = max(courses[name].seconds for name, entry in ENTRIES.items() if not entry.testbed.walk)
    size = f"{arguments.runs:,} runs of {arguments.steps:,} steps"
    experiment.claim(f"{size}, the slowest bandit, on one core: seconds", seconds, at_most(SECONDS),
                     "a bar of this project's own, for 2,000 runs of 1,000 steps")  # fmt: skip


if __name__ == "__main__":
    command_line(main, Arguments, __doc__)
