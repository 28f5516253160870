"""What a policy is worth, learned from episodes alone: TD(0), first-visit and every-visit Monte Carlo.

worlds = copies(lambda: gymnasium.make("lab.gridworld:lab/RandomWalk-v0"), 100, seed=0)
policy = np.full((worlds.states, worlds.actions), 1 / worlds.actions)
history = predict(worlds, policy, td, episodes=100, alpha=0.1, initial=start)      # (101, N, S)

The policy does not change while it is judged, so that episodes are played whole and learned from afterwards; TD(0)
then goes through them step by step, as it would have while they were played.

N rows (independent runs), S states, A actions, T steps of the longest episode.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from lab.dynamic_programming import Array
from lab.tabular_worlds import Bools, Ints, Worlds
from rlhf.errors import UserError


class Episodes(NamedTuple):
    """One episode of each row, (T, N) each; rows that ended earlier are not going.

    Attributes:
        states: before each step.
        rewards: of each step.
        following: states after it.
        going: whether the row's episode still went on at this step.
        terminated: whether it ended with this step.
    """

    states: Ints
    rewards: Array
    following: Ints
    going: Bools
    terminated: Bools


Rule = Callable[[Array, Ints, Episodes, float | None, float], None]
"""Changes values (N, S) and counts of visits (N, S) in place by one episode of each row, a step size (None: the mean of
all visits) and γ."""


def play(worlds: Worlds, policy: Array, random: np.random.Generator, limit: int) -> Episodes:
    """One episode of each row under a policy (S, A).

    Raises:
        UserError: one is not over after `limit` steps.
    """
    upto = policy.cumsum(1)
    upto[:, -1] = 1.0
    rows = np.arange(worlds.rows)
    states = worlds.reset(rows)
    steps: list[Episodes] = []
    while len(rows):
        if len(steps) == limit:
            raise UserError("Under this policy an episode does not end.", expected=f"at most {limit:,} steps",
                            remedy="another policy, or an environment with a limit of steps")  # fmt: skip
        actions = (random.random(len(rows))[:, None] >= upto[states]).sum(1)
        step = worlds.step(rows, actions)
        steps.append(_spread(worlds.rows, rows, states, step.rewards, step.states, step.terminated))
        left = ~(step.terminated | step.truncated)
        rows, states = rows[left], step.states[left]
    return Episodes(*(np.stack(parts) for parts in zip(*steps, strict=True)))


def td(values: Array, visits: Ints, played: Episodes, alpha: float | None, gamma: float) -> None:
    """TD(0): v(s) ← v(s) + α (r + γ v(s′) − v(s)), after every step (equation 6.2)."""
    for time in range(len(played.states)):
        rows = np.flatnonzero(played.going[time])
        following = values[rows, played.following[time, rows]] * ~played.terminated[time, rows]
        target = played.rewards[time, rows] + gamma * following
        _towards(values, visits, rows, played.states[time, rows], target, alpha)


def every_visit(values: Array, visits: Ints, played: Episodes, alpha: float | None, gamma: float) -> None:
    """Monte Carlo: v(s) ← v(s) + α (G − v(s)) for each time s was visited (equation 6.1)."""
    _monte_carlo(values, visits, played, alpha, gamma, played.going)


def first_visit(values: Array, visits: Ints, played: Episodes, alpha: float | None, gamma: float) -> None:
    """Monte Carlo, from the first time in an episode that a state was visited (section 5.1)."""
    seen = np.zeros(values.shape, bool)
    first = np.zeros_like(played.going)
    every = np.arange(len(values))
    for time, states in enumerate(played.states):
        first[time] = played.going[time] & ~seen[every, states]
        seen[every[played.going[time]], states[played.going[time]]] = True
    _monte_carlo(values, visits, played, alpha, gamma, first)


RULES: dict[str, Rule] = {"TD(0)": td, "every-visit MC": every_visit, "first-visit MC": first_visit}


def predict(
    worlds: Worlds,
    policy: Array,
    rule: Rule,
    episodes: int,
    alpha: float | None,
    initial: Array,
    gamma: float = 1.0,
    seed: int = 0,
    limit: int = 100_000,
    bar: bool = True,
) -> Array:
    """Values before and after each episode, (episodes + 1, N, S).

    Args:
        worlds: N copies of an environment.
        policy: (S, A), probabilities.
        rule: one of `RULES`.
        episodes: of each row.
        alpha: step size; None: 1 / (visits of the state), the mean of what was seen.
        initial: (S,), values at first.
        gamma: discount.
        seed: of the actions.
        limit: steps of one episode.
        bar: show progress.

    Raises:
        UserError: an episode does not end.
    """
    random = np.random.default_rng([seed, 2])
    values = np.tile(np.asarray(initial, float), (worlds.rows, 1))
    visits = np.zeros(values.shape, np.int64)
    history = [values.copy()]
    for _ in tqdm(range(episodes), unit=" episodes", leave=False, disable=not bar):
        rule(values, visits, play(worlds, policy, random, limit), alpha, gamma)
        history.append(values.copy())
    return np.stack(history)


def _monte_carlo(
    values: Array, visits: Ints, played: Episodes, alpha: float | None, gamma: float, chosen: Bools
) -> None:
    """Learn from the returns at the chosen visits (T, N). An episode cut off has no known return: it is left out."""
    whole = played.terminated.any(0)
    returns, after = np.zeros(played.rewards.shape), np.zeros(len(values))
    for time in reversed(range(len(returns))):
        after = played.rewards[time] + gamma * after  # zero where the episode is over
        returns[time] = after
    for time in range(len(returns)):
        rows = np.flatnonzero(chosen[time] & whole)
        _towards(values, visits, rows, played.states[time, rows], returns[time, rows], alpha)


def _towards(values: Array, visits: Ints, rows: Ints, states: Ints, target: Array, alpha: float | None) -> None:
    visits[rows, states] += 1
    size = 1 / visits[rows, states] if alpha is None else alpha
    values[rows, states] += size * (target - values[rows, states])


def _spread(count: int, rows: Ints, states: Ints, rewards: Array, following: Ints, terminated: Bools) -> Episodes:
    """A step of some rows as one of all `count`; zeros for those that are over."""

    def wide(part: np.ndarray) -> np.ndarray:
        whole = np.zeros(count, part.dtype)
        whole[rows] = part
        return whole

    return Episodes(wide(states), wide(rewards), wide(following), wide(np.ones(len(rows), bool)), wide(terminated))
