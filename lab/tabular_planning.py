"""The planning part of `lab.tabular`: dynamic programming against published values and against linear systems.

with Experiment("tabular", arguments) as experiment:
    plan(experiment)                    # claims, figures maps.png and gambler.png, results["values"]
"""

import gymnasium
import numpy as np

from lab import gridworld
from lab.dynamic_programming import (
    Array,
    Model,
    action_values,
    evaluate,
    gamblers_problem,
    model_of,
    policy_iteration,
    solve,
    uniform,
    value_iteration,
)
from lab.experiment import Experiment, at_most, within
from lab.gridworld import FOUR, GridWorld
from lab.tabular_figures import Map, gambler, maps, panel

BOOK = "Sutton and Barto 2018"
LAKE_MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))
"""Gymnasium's FrozenLake: left, down, right, up."""
WORLDS = {
    "SmallGrid": ("lab/SmallGrid-v0", 1.0), "JumpGrid": ("lab/JumpGrid-v0", 0.9),
    "WindyGrid": ("lab/WindyGrid-v0", 0.99), "GustyKing": ("lab/GustyKing-v0", 0.99),
    "SlipperyMaze": ("lab/SlipperyMaze-v0", 0.95), "CliffWalking-v1": ("CliffWalking-v1", 0.99),
    "FrozenLake-v1": ("FrozenLake-v1", 1.0), "FrozenLake8x8-v1": ("FrozenLake8x8-v1", 0.99),
    "Taxi-v4": ("Taxi-v4", 0.99),
}  # fmt: skip
"""Name → id, and the discount at which dynamic programming is compared with the linear system."""


def gap(model: Model, gamma: float) -> float:
    """The largest difference between dynamic programming and the linear system's solution.

    Taken over the uniform policy, evaluated, and over value and policy iteration, each against its own greedy policy.
    """
    pairs = [(evaluate(model, uniform(model), gamma), uniform(model))]
    for found in (value_iteration(model, gamma), policy_iteration(model, gamma)):
        pairs.append((found.values, found.policy))
    return max(float(np.abs(values - solve(model, policy, gamma)).max()) for values, policy in pairs)


def plan(experiment: Experiment) -> None:
    """Claims and figures of dynamic programming."""
    gaps = {name: gap(model_of(gymnasium.make(world)), gamma) for name, (world, gamma) in WORLDS.items()}
    experiment.results["largest difference to the linear system"] = gaps
    experiment.claim(f"dynamic programming against the linear system, largest difference in {len(gaps)} worlds",
                     max(gaps.values()), at_most(1e-8), "the Bellman equation solved by LAPACK")  # fmt: skip
    _gridworlds(experiment)
    _gambler(experiment)
    for gamma, value in ((1.0, 0.82353), (0.99, 0.54203)):
        found = value_iteration(model_of(gymnasium.make("FrozenLake-v1")), gamma)
        experiment.claim(f"FrozenLake-v1, V*(0) at γ = {gamma:g}", float(found.values[0]), within(value, 5e-6),
                         "the linear system of the optimal policy", f"{value}")  # fmt: skip
    experiment.figure("maps", maps(_panels(), 2, "Values and best moves; none where all are as good"), (1000, 980))


def _gridworlds(experiment: Experiment) -> None:
    small = GridWorld(gridworld.SMALL).model
    values = evaluate(small, uniform(small), 1.0)
    for cell, value in ((1, -14.0), (5, -18.0), (2, -20.0), (3, -22.0)):
        experiment.claim(f"4×4 grid, random policy, cell {cell}", float(values[cell]), within(value, 1e-6),
                         f"{BOOK}, figure 4.1", f"{value:g}")  # fmt: skip
    jumps = value_iteration(GridWorld(gridworld.JUMPS).model, 0.9).values
    for cell, value in enumerate((22.0, 24.4, 22.0, 19.4, 17.5)):
        experiment.claim(f"5×5 grid, optimal, top row, cell {cell}", float(jumps[cell]), within(value, 0.05),
                         f"{BOOK}, figure 3.5", f"{value:.1f}")  # fmt: skip
    windy = value_iteration(GridWorld(gridworld.WINDY).model, 1.0).values
    experiment.claim("windy grid, optimal, steps from the start", -float(windy[30]), within(15, 1e-6),
                     f"{BOOK}, example 6.5", "15")  # fmt: skip
    experiment.results["values"] = {"SmallGrid, random": values, "JumpGrid, optimal": jumps, "WindyGrid": windy}


def _gambler(experiment: Experiment, heads: float = 0.4) -> None:
    found = value_iteration(gamblers_problem(heads), 1.0)
    for capital, value in ((25, 0.16), (50, 0.4), (75, 0.64)):
        experiment.claim(f"gambler, heads {heads:g}, V({capital})", float(found.values[capital]), within(value, 1e-8),
                         f"{BOOK}, example 4.3; bold play", f"{value:g}")  # fmt: skip
    experiment.results["gambler"] = found.values
    experiment.figure("gambler", gambler(found, heads), (1000, 430))


def _panels() -> list[Map]:
    lake = model_of(gymnasium.make("FrozenLake-v1"))
    small, jumps = GridWorld(gridworld.SMALL).model, GridWorld(gridworld.JUMPS).model
    worth = evaluate(small, uniform(small), 1.0)
    return [
        panel("4×4: the random policy, arrows greedy on it", worth, action_values(small, worth, 1.0), FOUR, (4, 4),
              small.ends),
        _optimal("5×5, γ = 0.9", jumps, 0.9, FOUR, (5, 5)),
        _optimal("FrozenLake-v1, γ = 0.99", lake, 0.99, LAKE_MOVES, (4, 4)),
        _optimal("Windy grid, γ = 1", GridWorld(gridworld.WINDY).model, 1.0, FOUR, gridworld.WINDY.shape),
    ]  # fmt: skip


def _optimal(title: str, model: Model, gamma: float, moves: tuple[gridworld.Move, ...], shape: tuple[int, int]) -> Map:
    values = value_iteration(model, gamma).values
    return panel(title, values, action_values(model, values, gamma), moves, shape, model.ends)


def greedy_return(model: Model, q: Array, start: int, limit: int = 1000) -> float:
    """What the greedy policy on q (S, A) returns from a start, in a world without chance, in at most `limit` steps."""
    actions, total = q.argmax(1), 0.0
    for _ in range(limit):
        if model.ends[start]:
            break
        total += float(model.rewards[start, actions[start]])
        start = int(model.transitions[start, actions[start]].argmax())
    return total
