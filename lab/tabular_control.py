"""SARSA, expected SARSA, Q-learning and double Q-learning on any discrete environment, many runs side by side.

worlds = copies(lambda: gymnasium.make("CliffWalking-v1"), 50, seed=0)
learned = learn(worlds, METHODS["Q-learning"], episodes=500, alpha=0.5, epsilon=constant(0.1))
learned.returns.mean(0)                               # of each episode, over the runs
learned.q.argmax(2)                                   # (N, S): each run's greedy policy

All methods are one update, q(s, a) ← q(s, a) + α (r + γ target − q(s, a)); they differ in the target, in whether the
next action is chosen before the update, and in the number of tables (Sutton and Barto 2018, chapter 6).

N rows (independent runs), S states, A actions, K tables.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from lab.dynamic_programming import Array
from lab.schedules import Schedule, constant
from lab.tabular_worlds import Bools, Ints, Worlds

Target = Callable[[Array, Array, Ints, Array], Array]
"""From the next state's values in the table that is updated (N, A) and in the other one (N, A; the same where there is
one), the next action (N,) and ε (N,), to the value of the next state (N,)."""


def sarsa(own: Array, other: Array, action: Ints, epsilon: Array) -> Array:
    """The value of the action that is taken next (equation 6.7)."""
    return other[np.arange(len(other)), action]


def expected_sarsa(own: Array, other: Array, action: Ints, epsilon: Array) -> Array:
    """The mean value under the ε-greedy policy (equation 6.9)."""
    return (1 - epsilon) * q_learning(own, other, action, epsilon) + epsilon * other.mean(1)


def q_learning(own: Array, other: Array, action: Ints, epsilon: Array) -> Array:
    """The value of the best action (equation 6.8); with two tables one says which, the other its value (6.10)."""
    return other[np.arange(len(other)), own.argmax(1)]


class Method(NamedTuple):
    """An algorithm.

    Attributes:
        target: the value of the next state.
        ahead: the next action is chosen before the update, as the target needs it.
        tables: 2: each update is of one of two, by the toss of a coin; actions follow their sum (section 6.7).
    """

    target: Target
    ahead: bool = False
    tables: int = 1


METHODS = {
    "SARSA": Method(sarsa, ahead=True),
    "expected SARSA": Method(expected_sarsa),
    "Q-learning": Method(q_learning),
    "double Q-learning": Method(q_learning, tables=2),
}


class Transitions(NamedTuple):
    """A step of N rows, (N,) each: where (`rows` of the tables), what, and what came of it."""

    rows: Ints
    states: Ints
    actions: Ints
    rewards: Array
    following: Ints
    terminated: Bools


class Learned(NamedTuple):
    """What the runs came to.

    Attributes:
        q: (N, S, A), action values; the mean of the tables where there are two.
        returns: (N, episodes), undiscounted.
        lengths: (N, episodes), steps.
    """

    q: Array
    returns: Array
    lengths: Ints


def update(
    q: Array,
    method: Method,
    step: Transitions,
    next_actions: Ints,
    alpha: Array,
    epsilon: Array,
    gamma: float,
    which: Ints,
) -> None:
    """One update of each row, in place.

    Args:
        q: (K, N, S, A), the tables.
        method: whose target is taken.
        step: what happened. Nothing follows where it terminated.
        next_actions: (N,), used by SARSA.
        alpha: (N,), step sizes.
        epsilon: (N,), exploration of the policy, used by expected SARSA.
        gamma: discount.
        which: (N,), the table that is updated.
    """
    own = q[which, step.rows, step.following]
    other = q[(which + 1) % len(q), step.rows, step.following]
    following = np.where(step.terminated, 0.0, method.target(own, other, next_actions, epsilon))
    cell = (which, step.rows, step.states, step.actions)
    q[cell] += alpha * (step.rewards + gamma * following - q[cell])


def choose(values: Array, epsilon: Array, random: np.random.Generator) -> Ints:
    """ε-greedy actions (N,) on values (N, A); of equals, any."""
    best = values == values.max(1, keepdims=True)
    actions = np.where(best, random.random(values.shape), -1.0).argmax(1)
    explore = random.random(len(values)) < epsilon
    actions[explore] = random.integers(values.shape[1], size=explore.sum())
    return actions


def learn(
    worlds: Worlds,
    method: Method,
    episodes: int,
    alpha: float | Array,
    epsilon: Schedule,
    gamma: float = 1.0,
    seed: int = 0,
    initial: float = 0.0,
    decay: Schedule = constant(1.0),  # noqa: B008 (a schedule holds no state)
    bar: bool = True,
) -> Learned:
    """Learn by acting, for the same number of episodes in every row.

    Args:
        worlds: N copies of an environment.
        method: one of `METHODS`.
        episodes: of each row.
        alpha: step size, or one for each row (N,).
        epsilon: share of random actions, over the episodes' progress.
        gamma: discount.
        seed: of actions and coins.
        initial: value of everything at first.
        decay: factor of the step size, over the episodes' progress.
        bar: show progress.
    """
    learner = _Learner(worlds, method, episodes, np.broadcast_to(alpha, worlds.rows), gamma, seed, initial)
    progress = [episode / max(episodes - 1, 1) for episode in range(episodes)]
    return learner.run(np.array([epsilon(at) for at in progress]), np.array([decay(at) for at in progress]), bar)


class _Learner:
    def __init__(
        self, worlds: Worlds, method: Method, episodes: int, alpha: Array, gamma: float, seed: int, initial: float
    ) -> None:
        self.worlds, self.method, self.alpha, self.gamma = worlds, method, alpha, gamma
        self.random = np.random.default_rng([seed, 1])  # another stream than the worlds'
        self.q = np.full((method.tables, worlds.rows, worlds.states, worlds.actions), initial)
        self.returns = np.zeros((worlds.rows, episodes))
        self.lengths = np.zeros((worlds.rows, episodes), np.int64)
        self.episode = np.zeros(worlds.rows, np.int64)  # that each row is in

    def run(self, epsilon: Array, decay: Array, show: bool) -> Learned:
        """With ε and the step size's factor in each episode."""
        episodes = len(epsilon)
        rows = np.arange(self.worlds.rows)  # those that have episodes left
        states = self.worlds.reset(rows)
        actions = self._act(rows, states, epsilon[self.episode[rows]])
        with tqdm(total=len(rows) * episodes, unit=" episodes", leave=False, disable=not show) as bar:
            while len(rows):
                now = self.episode[rows]
                states, actions, over = self._step(rows, states, actions, epsilon[now], decay[now])
                if over.any():
                    bar.update(int(over.sum()))
                    self.episode[rows[over]] += 1
                    left = self.episode[rows] < episodes
                    rows, states, actions, over = rows[left], states[left], actions[left], over[left]
                    again = rows[over]
                    states[over] = self.worlds.reset(again)
                    actions[over] = self._act(again, states[over], epsilon[self.episode[again]])
        return Learned(self.q.mean(0), self.returns, self.lengths)

    def _step(self, rows: Ints, states: Ints, actions: Ints, epsilon: Array, decay: Array) -> tuple[Ints, Ints, Bools]:
        """Act and learn once; the next states and actions, and which episodes are over."""
        step = self.worlds.step(rows, actions)
        now = self.episode[rows]
        self.returns[rows, now] += step.rewards
        self.lengths[rows, now] += 1
        following = self._act(rows, step.states, epsilon) if self.method.ahead else actions
        transitions = Transitions(rows, states, actions, step.rewards, step.states, step.terminated)
        which = self.random.integers(len(self.q), size=len(rows)) if len(self.q) > 1 else np.zeros_like(rows)
        update(self.q, self.method, transitions, following, self.alpha[rows] * decay, epsilon, self.gamma, which)
        if not self.method.ahead:
            following = self._act(rows, step.states, epsilon)
        return step.states, following, step.terminated | step.truncated

    def _act(self, rows: Ints, states: Ints, epsilon: Array) -> Ints:
        return choose(self.q[:, rows, states].sum(0), epsilon, self.random)
