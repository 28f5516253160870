"""Tabular reinforcement learning: dynamic programming, temporal differences and Monte Carlo, against published values.

python -m lab.tabular --help

python -m lab.tabular --out docs/results/lab                  # everything, as published

The algorithms are in lab/dynamic_programming.py, lab/tabular_control.py and lab/tabular_prediction.py, the worlds in
lab/gridworld.py; here are the experiments on them: the figures and examples of Sutton and Barto 2018 that are named.
"""

from dataclasses import dataclass
from typing import NamedTuple

import gymnasium
import numpy as np
import plotly.graph_objects as go

from lab import gridworld
from lab.dynamic_programming import Array, action_values, greedy, model_of, solve, uniform, value_iteration
from lab.experiment import Experiment, Options, at_least, at_most, command_line, need, within
from lab.gridworld import FOUR, GridWorld
from lab.parallel import spread
from lab.schedules import constant, exponential, linear
from lab.tabular_control import METHODS, Learned, learn
from lab.tabular_figures import errors, maps, panel, returns, sensitivity
from lab.tabular_planning import BOOK, greedy_return, plan
from lab.tabular_prediction import RULES, predict
from lab.tabular_worlds import copies

CLIFF, WALK = "lab.gridworld:lab/CliffWalking-v0", "lab.gridworld:lab/RandomWalk-v0"
STOCK_CLIFF, LAKE = "CliffWalking-v1", "FrozenLake-v1"
PUBLISHED = {"SARSA": within(-26, 2), "Q-learning": within(-49, 3), "expected SARSA": within(-21, 1)}
"""Mean return of an episode of cliff walking, episodes 401 to 500, 50 runs, ε = 0.1, α = 0.5."""
STEP_SIZES = {"TD(0)": (0.05, 0.1, 0.15), "every-visit MC": (0.01, 0.02, 0.03, 0.04)}
"""Of example 6.2's figure."""
SCHEDULES = {
    "constant 0.1": constant(0.1),
    "constant 0.5": constant(0.5),
    "linear 1 to 0.01": linear(1.0, 0.01, fraction=0.8),
    "exponential 1 to 0.01": exponential(1.0, 0.01),
}
"""Of ε, compared on FrozenLake."""
ALPHAS = np.linspace(0.1, 1.0, 10)
"""Step sizes of figure 6.3."""


@dataclass(frozen=True)
class Arguments(Options):
    runs: int = 50
    """Independent runs of cliff walking and of FrozenLake."""
    episodes: int = 500
    """Of each run of cliff walking; the last fifth is what counts."""
    alpha: float = 0.5
    """Step size in cliff walking, more than 0, at most 1."""
    epsilon: float = 0.1
    """Share of random actions, from 0 to 1."""
    interim_runs: int = 300
    """Runs for each step size, of 100 episodes (figure 6.3; the book: 50,000)."""
    asymptotic_runs: int = 10
    """Runs for each step size of the long run (figure 6.3)."""
    asymptotic_episodes: int = 4000
    """Episodes of the long run; its second half counts (figure 6.3; the book: the mean of 100,000)."""
    walk_runs: int = 1000
    """Runs of the random walk for each step size (example 6.2; the book: 100)."""
    walk_episodes: int = 100
    """Episodes of each."""
    lake_episodes: int = 4000
    """Episodes of FrozenLake for each schedule of exploration."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("runs", "interim_runs", "asymptotic_runs", "walk_runs", "walk_episodes"):
            need(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("episodes", "asymptotic_episodes", "lake_episodes"):
            need(getattr(self, name) >= 5, name, "at least 5", getattr(self, name))
        need(0 < self.alpha <= 1, "alpha", "more than 0, at most 1", self.alpha)
        need(0 <= self.epsilon <= 1, "epsilon", "from 0 to 1", self.epsilon)


class Job(NamedTuple):
    """One call of `learn`, for a process of its own."""

    world: str
    method: str
    runs: int
    episodes: int
    alpha: float | Array
    epsilon: float | str
    """A share of random actions, or the name of one of `SCHEDULES`."""
    gamma: float = 1.0
    by_table: bool = True


def train(job: Job, seed: int) -> Learned:
    """Learn on copies of a registered environment."""
    worlds = copies(lambda: gymnasium.make(job.world), job.runs, seed, job.by_table)
    epsilon = SCHEDULES[job.epsilon] if isinstance(job.epsilon, str) else constant(job.epsilon)
    return learn(worlds, METHODS[job.method], job.episodes, job.alpha, epsilon, job.gamma, seed, bar=False)


def jobs(arguments: Arguments) -> dict[tuple[str, str], Job]:
    """(Experiment, method or schedule) → what is to be learned, the longest first."""
    a = arguments
    every, some = np.repeat(ALPHAS, a.asymptotic_runs), np.repeat(ALPHAS, a.interim_runs)
    found = {("asymptotic", name): Job(CLIFF, name, len(every), a.asymptotic_episodes, every, a.epsilon)
             for name in PUBLISHED}  # fmt: skip
    found |= {("interim", name): Job(CLIFF, name, len(some), 100, some, a.epsilon) for name in PUBLISHED}
    found |= {("stock", name): Job(STOCK_CLIFF, name, a.runs, a.episodes, a.alpha, a.epsilon, by_table=False)
              for name in PUBLISHED}  # fmt: skip
    found |= {("lake", name): Job(LAKE, "Q-learning", a.runs, a.lake_episodes, 0.1, name, 0.99) for name in SCHEDULES}
    found |= {("cliff", name): Job(CLIFF, name, a.runs, a.episodes, a.alpha, a.epsilon) for name in METHODS}
    return found


def main(arguments: Arguments) -> None:
    with Experiment("tabular", arguments) as experiment:
        plan(experiment)
        walk(experiment, arguments)
        wanted = jobs(arguments)
        done = spread(train, [(job, arguments.seed) for job in wanted.values()], "learning", arguments.workers)
        learned = dict(zip(wanted, done, strict=True))
        cliff(experiment, arguments, part(learned, "cliff"), part(learned, "stock"))
        step_sizes(experiment, part(learned, "interim"), part(learned, "asymptotic"))
        lake(experiment, part(learned, "lake"))


def part(learned: dict[tuple[str, str], Learned], experiment: str) -> dict[str, Learned]:
    """What belongs to one experiment, by method or schedule."""
    return {name: one for (of, name), one in learned.items() if of == experiment}


def late(one: Learned) -> Array:
    """The mean return of the last fifth of the episodes, (N,)."""
    return one.returns[:, -(one.returns.shape[1] // 5) :].mean(1)


def cliff(experiment: Experiment, arguments: Arguments, learned: dict[str, Learned], stock: dict[str, Learned]) -> None:
    """Example 6.6: on-policy methods learn the safe path, Q-learning the short one, off which it falls.

    Gymnasium's own environment, stepped one by one, is to give the very numbers of ours in arrays: both worlds are
    without chance, and the learners draw from the same stream.
    """
    which = f"episodes {arguments.episodes - arguments.episodes // 5 + 1} to {arguments.episodes}"
    differing = sum(int((learned[name].returns != stock[name].returns).sum()) for name in PUBLISHED)
    experiment.claim(f"returns that differ between our cliff and Gymnasium's {STOCK_CLIFF}", differing, at_most(0),
                     "the same world and the same seeds", "none")  # fmt: skip
    for name, wanted in PUBLISHED.items():
        experiment.claim(f"cliff walking, {name}, mean return of {which}", float(late(learned[name]).mean()), wanted,
                         f"{BOOK}, example 6.6; an independent implementation",
                         f"{(wanted.low + wanted.high) / 2:g}")  # fmt: skip
    world = GridWorld(gridworld.CLIFFS)
    paths = [greedy_return(world.model, q, world.grid.starts[0]) for q in learned["Q-learning"].q]
    experiment.claim("cliff walking, Q-learning, greedy paths that return −13", paths.count(-13.0),
                     at_least(len(paths)), "the shortest path", f"all {len(paths)}")  # fmt: skip
    for name, one in learned.items():
        experiment.results[f"cliff walking, {name}"] = {"late": late(one), "returns": one.returns.mean(0)}
    experiment.results["cliff walking, greedy returns of Q-learning"] = paths
    curves = {name: one.returns for name, one in learned.items()}
    experiment.figure("cliff", returns(curves, f"Cliff walking, mean of {arguments.runs} runs", (-120, 0)))
    experiment.figure("cliff-maps", _cliff_maps(learned, world), (760, 1120))
    for episode, values in enumerate(zip(*(one.returns.mean(0) for one in learned.values()), strict=True)):
        experiment.log({f"cliff/{name}": value for name, value in zip(learned, values, strict=True)}, episode)


def _cliff_maps(learned: dict[str, Learned], world: GridWorld) -> go.Figure:
    """Where each method's policy leads, by the mean of the runs' action values, the best possible on top."""
    best = value_iteration(world.model, 1.0).values
    tables = {"Optimal": action_values(world.model, best, 1.0)}
    tables |= {name: one.q.mean(0) for name, one in learned.items() if name in PUBLISHED}
    hide = np.array([letter in "CG" for letter in world.grid.letters])
    panels = [panel(name, table.max(1), table, FOUR, world.grid.shape, hide) for name, table in tables.items()]
    return maps(panels, 1, "Cliff walking: values and best moves", 0.04)


def step_sizes(experiment: Experiment, interim: dict[str, Learned], asymptotic: dict[str, Learned]) -> None:
    """Figure 6.3: returns against the step size, over the first 100 episodes and in the long run."""
    early = {name: one.returns.reshape(len(ALPHAS), -1).mean(1) for name, one in interim.items()}
    end = {name: one.returns[:, one.returns.shape[1] // 2 :].reshape(len(ALPHAS), -1).mean(1)
           for name, one in asymptotic.items()}  # fmt: skip
    experiment.results["step sizes"] = {"alpha": ALPHAS, "interim": early, "asymptotic": end}
    best = sum(early["expected SARSA"][at] > max(early["SARSA"][at], early["Q-learning"][at])
               for at in range(len(ALPHAS)))  # fmt: skip
    experiment.claim("cliff walking, step sizes at which expected SARSA is the best of three, 100 episodes", best,
                     at_least(len(ALPHAS)), f"{BOOK}, figure 6.3", "all")  # fmt: skip
    for name, wanted in (("expected SARSA", at_least(-2)), ("SARSA", at_most(-20))):
        experiment.claim(f"cliff walking, {name}, what α = 1 gives more than α = 0.1 in the long run",
                         float(end[name][-1] - end[name][0]), wanted, f"{BOOK}, figure 6.3",
                         "no worse" if wanted.low > -10 else "far worse")  # fmt: skip
    experiment.figure("step-sizes", sensitivity(ALPHAS, early, end), (960, 520))


def walk(experiment: Experiment, arguments: Arguments) -> None:
    """Example 6.2: on the random walk TD(0) is nearer to the true values than constant-α Monte Carlo."""
    model = GridWorld(gridworld.WALK).model
    alive, policy = ~model.ends, uniform(model)
    true, start = solve(model, policy, 1.0), np.where(alive, 0.5, 0.0)
    curves: dict[tuple[str, float], Array] = {}
    for name, alphas in STEP_SIZES.items():
        for alpha in alphas:
            worlds = copies(lambda: gymnasium.make(WALK), arguments.walk_runs, arguments.seed)
            history = predict(worlds, policy, RULES[name], arguments.walk_episodes, alpha, start, seed=arguments.seed)
            curves[name, alpha] = np.sqrt(((history - true)[:, :, alive] ** 2).mean(2)).mean(1)
    _walk_claims(experiment, curves)
    named = {f"{name}, α = {alpha:g}": curve for (name, alpha), curve in curves.items()}
    experiment.results["random walk, RMS error"] = named
    experiment.figure("walk", errors(named, f"Random walk, mean of {arguments.walk_runs} runs"))


def _walk_claims(experiment: Experiment, curves: dict[tuple[str, float], Array]) -> None:
    """What the figure of example 6.2 shows, as orders of its curves."""
    steps, means = list(STEP_SIZES["TD(0)"]), list(STEP_SIZES["every-visit MC"])
    td, mc = [curves["TD(0)", alpha] for alpha in steps], [curves["every-visit MC", alpha] for alpha in means]
    early, source = min(10, len(td[0]) - 1), f"{BOOK}, figure of example 6.2"
    pairs = sum(one.mean() < other.mean() for one in td for other in mc)
    experiment.claim("random walk, pairs of step sizes in which TD(0)'s mean error is below Monte Carlo's", pairs,
                     at_least(len(td) * len(mc)), source, "all 12")  # fmt: skip
    experiment.claim("random walk, worst error of TD(0) less the best of Monte Carlo, after all episodes",
                     max(one[-1] for one in td) - min(one[-1] for one in mc), at_most(0), source,
                     "below 0")  # fmt: skip
    orders = {
        f"TD(0), α that are faster than the one below, episode {early}": [-one[early] for one in td],
        "TD(0), α that end with a larger error than the one below": [one[-1] for one in td],
        f"Monte Carlo, α that are faster than the one below, episode {early}": [-one[early] for one in mc],
    }
    for what, errors_in_order in orders.items():
        rising = int((np.diff(errors_in_order) > 0).sum())
        experiment.claim(f"random walk, {what}", rising, at_least(len(errors_in_order) - 1), source, "all")


def lake(experiment: Experiment, learned: dict[str, Learned]) -> None:
    """FrozenLake as Gymnasium has it: Q-learning under schedules of exploration, its greedy policies judged exactly."""
    model = model_of(gymnasium.make(LAKE))
    values = {name: [float(solve(model, greedy(q), 0.99)[0]) for q in one.q] for name, one in learned.items()}
    experiment.results["FrozenLake, V(0) of the greedy policies, γ = 0.99"] = values
    for name, reached in values.items():
        experiment.claim(f"FrozenLake-v1, Q-learning, ε {name}, mean V(0) of the greedy policies",
                         float(np.mean(reached)), at_least(0.95 * 0.54203),
                         "at least 95% of the best, by value iteration", "best: 0.54203")  # fmt: skip
    curves = {name: one.returns for name, one in learned.items()}
    title = "FrozenLake: Q-learning under schedules of ε"
    experiment.figure(
        "schedules",
        returns(curves, title, (0, 0.8), 100).update_layout(legend=dict(x=0.01, y=0.98, xanchor="left", yanchor="top")),
    )


if __name__ == "__main__":
    command_line(main, Arguments, __doc__)
