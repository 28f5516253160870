"""Many copies of one discrete environment, stepped side by side: one numpy call for all, where its table is known.

worlds = copies(lambda: gymnasium.make("FrozenLake-v1"), 50, seed=0)
states = worlds.reset(np.arange(50))
step = worlds.step(np.arange(50), actions)           # states, rewards, terminated, truncated: (50,) each

N rows are stepped of those there are; a row is an independent copy. What ended is begun again by `reset`, not before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from numpy.typing import NDArray

from lab.dynamic_programming import Array, Table
from rlhf.errors import UserError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
HARMLESS = (TimeLimit, OrderEnforcing, PassiveEnvChecker)
"""Wrappers that leave the table of transitions true."""


class Step(NamedTuple):
    """What one step of N rows gave, (N,) each.

    Attributes:
        states: after the step.
        rewards: of the step.
        terminated: the episode came to its end; nothing follows.
        truncated: it was cut off by a limit; the state still has a value.
    """

    states: Ints
    rewards: Array
    terminated: Bools
    truncated: Bools


class Worlds(Protocol):
    """Copies of an environment with `states` states and `actions` actions."""

    rows: int
    states: int
    actions: int

    def reset(self, rows: Ints) -> Ints:
        """Begin an episode in these rows (N,); the first states (N,)."""

    def step(self, rows: Ints, actions: Ints) -> Step:
        """Take an action (N,) in each of these rows (N,)."""


def copies(make: Callable[[], gymnasium.Env[Any, Any]], rows: int, seed: int, by_table: bool = True) -> Worlds:
    """Copies of an environment: from its table of transitions, `.P`, where it has one, else as they are.

    Args:
        make: gives a new environment.
        rows: how many.
        seed: of everything random in them.
        by_table: False: step the environments one by one all the same.

    Raises:
        UserError: states or actions are not numbers from 0 up.
    """
    environment = make()
    for space in (environment.observation_space, environment.action_space):
        if not isinstance(space, Discrete) or space.start != 0:
            raise UserError(f"{environment} is no tabular environment.", expected="Discrete states and actions, from 0",
                            found=str(space))  # fmt: skip
    bare = environment.unwrapped
    if by_table and hasattr(bare, "P") and hasattr(bare, "initial_state_distrib") and _is_plain(environment):
        limit = environment.spec.max_episode_steps if environment.spec and environment is not bare else None
        return ByTable(bare.P, np.asarray(bare.initial_state_distrib, float), rows, seed, limit)
    return OneByOne([environment, *(make() for _ in range(rows - 1))], seed)


def _is_plain(environment: gymnasium.Env[Any, Any]) -> bool:
    while isinstance(environment, gymnasium.Wrapper):
        if not isinstance(environment, HARMLESS):
            return False
        environment = environment.env
    return True


class OneByOne:
    """Environments stepped in turn.

    Args:
        environments: of one kind.
        seed: the first one's; the others count up.
    """

    def __init__(self, environments: list[gymnasium.Env[Any, Any]], seed: int) -> None:
        self._environments = environments
        self._seeds: list[int | None] = [seed + row for row in range(len(environments))]
        self.rows = len(environments)
        self.states, self.actions = (int(space.n) for space in _spaces(environments[0]))

    def reset(self, rows: Ints) -> Ints:
        return np.array([self._begin(row) for row in rows], np.int64)

    def step(self, rows: Ints, actions: Ints) -> Step:
        taken = [self._environments[row].step(int(action))[:4] for row, action in zip(rows, actions, strict=True)]
        states, rewards, terminated, truncated = zip(*taken, strict=True)
        return Step(np.array(states, np.int64), np.array(rewards, float), np.array(terminated), np.array(truncated))

    def _begin(self, row: int) -> int:
        seed, self._seeds[row] = self._seeds[row], None  # a seed at every reset would repeat the same episode
        return int(self._environments[row].reset(seed=seed)[0])


def _spaces(environment: gymnasium.Env[Any, Any]) -> tuple[Discrete, Discrete]:
    return environment.observation_space, environment.action_space  # type: ignore[return-value]


class ByTable:
    """Copies that live in arrays.

    Args:
        table: state → action → outcomes, as Gymnasium's `.P`.
        starts: (S,), probability that an episode begins there.
        rows: how many.
        seed: of starts and outcomes.
        limit: steps after which an episode is cut off; None: never.
    """

    def __init__(self, table: Table, starts: Array, rows: int, seed: int, limit: int | None = None) -> None:
        self.rows, self.states, self.actions = rows, len(table), len(table[0])
        many = max(len(outcomes) for actions in table.values() for outcomes in actions.values())
        shape = (self.states, self.actions, many)
        self._upto, self._rewards = np.ones(shape), np.zeros(shape)
        self._following, self._ends = np.zeros(shape, np.int64), np.zeros(shape, bool)
        for state, actions in table.items():
            for action, outcomes in actions.items():
                probabilities, following, rewards, ends = zip(*outcomes, strict=True)
                cell = (state, action, slice(len(outcomes)))
                self._upto[cell] = np.cumsum(probabilities)
                self._following[cell], self._rewards[cell], self._ends[cell] = following, rewards, ends
                self._upto[state, action, len(outcomes) - 1 :] = 1.0  # whatever a sum of thirds rounds to
        self._starts, self._limit = np.cumsum(starts), limit
        self._starts[np.flatnonzero(starts)[-1] :] = 1.0  # here too
        self._random = np.random.default_rng(seed)
        self._now, self._steps = np.zeros(rows, np.int64), np.zeros(rows, np.int64)

    def reset(self, rows: Ints) -> Ints:
        self._steps[rows] = 0
        self._now[rows] = np.searchsorted(self._starts, self._random.random(len(rows)), side="right")
        return self._now[rows]

    def step(self, rows: Ints, actions: Ints) -> Step:
        states = self._now[rows]
        which = 0
        if self._upto.shape[2] > 1:
            which = (self._random.random(len(rows))[:, None] >= self._upto[states, actions]).sum(1)
        following, ends = self._following[states, actions, which], self._ends[states, actions, which]
        self._now[rows] = following
        self._steps[rows] += 1
        late = self._steps[rows] >= self._limit if self._limit else np.zeros(len(rows), bool)
        return Step(following, self._rewards[states, actions, which], ends, late & ~ends)
