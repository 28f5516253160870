"""Dynamic programming on a known model: policy evaluation, policy iteration, value iteration.

model = model_of(gymnasium.make("FrozenLake-v1"))     # any environment with `.P`, as Gymnasium's toy texts have it
found = value_iteration(model, gamma=0.99)
found.values[0]                                       # 0.54203
found.policy                                          # (S, A), one where the action is taken

S states, A actions. Formulas are those of Sutton and Barto, Reinforcement Learning, 2nd edition (2018), chapter 4.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlhf.errors import UserError

Array = NDArray[np.float64]
Outcome = tuple[float, int, float, bool]
"""Probability, next state, reward, whether the episode ends there."""
Table = Mapping[int, Mapping[int, Sequence[Outcome]]]
"""State → action → what can happen; Gymnasium's `.P`."""
SWEEPS = 1_000_000
"""After so many, values that still change are held to grow without end."""


class Model(NamedTuple):
    """What an environment does, exactly. A state that ends leads to itself and gives nothing.

    Attributes:
        transitions: (S, A, S), probability of the next state.
        rewards: (S, A), expected.
        ends: (S,), whether the episode ends in this state.
    """

    transitions: Array
    rewards: Array
    ends: NDArray[np.bool_]


class Found(NamedTuple):
    """Values (S,), the greedy policy on them (S, A), and the values after each sweep or improvement."""

    values: Array
    policy: Array
    history: list[Array]


def model_of(world: gymnasium.Env[Any, Any] | Table) -> Model:
    """The arrays of an environment with `.P`, or of such a table. A state that is entered to end ends.

    Raises:
        UserError: the environment does not tell what it does.
    """
    table: Table | None = getattr(world.unwrapped, "P", None) if isinstance(world, gymnasium.Env) else world
    if table is None:
        raise UserError(f"{world} does not tell its transitions.", expected="an environment with `.P`")
    states, actions = len(table), len(table[0])
    transitions, rewards = np.zeros((states, actions, states)), np.zeros((states, actions))
    ends = np.zeros(states, bool)
    for state in range(states):
        for action in range(actions):
            for probability, following, reward, end in table[state][action]:
                transitions[state, action, following] += probability
                rewards[state, action] += probability * reward
                ends[following] |= end
    transitions[ends], rewards[ends] = np.eye(states)[ends][:, None], 0.0
    return Model(transitions, rewards, ends)


def uniform(model: Model) -> Array:
    """The policy (S, A) that takes every action as often."""
    return np.full(model.rewards.shape, 1 / model.rewards.shape[1])


def action_values(model: Model, values: Array, gamma: float) -> Array:
    """(S, A): q(s, a) = r(s, a) + γ Σ p(s′ | s, a) v(s′)."""
    return model.rewards + gamma * model.transitions @ values


def greedy(action_values: Array) -> Array:
    """The policy (S, A) of the best action; of equals (to 1e-9), the first."""
    best = action_values >= action_values.max(1, keepdims=True) - 1e-9
    return np.eye(action_values.shape[1])[best.argmax(1)]


def evaluate(model: Model, policy: Array, gamma: float, tolerance: float = 1e-14) -> Array:
    """Iterative policy evaluation (section 4.1): the values (S,) of a policy (S, A), swept until none changes more.

    Args:
        gamma: discount, from 0 to 1.
        tolerance: of the change in one sweep; relative where values exceed 1.

    Raises:
        UserError: the values grow without end: γ = 1 and the policy never ends.
    """
    transitions, rewards = _under(model, policy)
    return deque(
        _sweeps(lambda values: rewards + gamma * transitions @ values, len(rewards), tolerance), maxlen=1
    ).pop()


def solve(model: Model, policy: Array, gamma: float) -> Array:
    """The values (S,) of a policy as the solution of the linear system (I − γ P) v = r, states that end left out.

    Raises:
        UserError: there is no single solution: γ = 1 and the policy never ends.
    """
    transitions, rewards = _under(model, policy)
    alive = ~model.ends
    values = np.zeros(len(rewards))
    try:
        values[alive] = np.linalg.solve(np.eye(alive.sum()) - gamma * transitions[np.ix_(alive, alive)], rewards[alive])
    except np.linalg.LinAlgError:
        raise UserError("This policy has no values.", expected="γ < 1, or a policy that ends",
                        found=f"γ = {gamma:g}") from None  # fmt: skip
    return values


def value_iteration(model: Model, gamma: float, tolerance: float = 1e-14) -> Found:
    """Value iteration (section 4.4): v(s) ← max over a of q(s, a), until no value changes more than the tolerance.

    Raises:
        UserError: the values grow without end.
    """
    history = list(_sweeps(lambda values: action_values(model, values, gamma).max(1), len(model.ends), tolerance))
    return Found(history[-1], greedy(action_values(model, history[-1], gamma)), history)


def policy_iteration(model: Model, gamma: float, tolerance: float = 1e-14) -> Found:
    """Policy iteration (section 4.3) from the policy that takes every action as often.

    An action is changed only for one that is better by more than 1e-9, else equals would follow one another for ever.

    Raises:
        UserError: a policy's values grow without end.
    """
    policy, history = uniform(model), []
    while True:
        history.append(evaluate(model, policy, gamma, tolerance))
        better = action_values(model, history[-1], gamma)
        taken = (policy * better).sum(1)
        improved = np.where((better.max(1) > taken + 1e-9)[:, None], greedy(better), policy)
        if np.array_equal(improved, policy):
            return Found(history[-1], greedy(better), history)
        policy = improved


def gamblers_problem(heads: float = 0.4, goal: int = 100) -> Model:
    """Example 4.3: states are capital from 0 to the goal, action a stakes a + 1, at most what there is or is missing.

    Args:
        heads: probability that the stake is won.
        goal: capital that gives reward 1 and ends.

    Raises:
        UserError: there is no such coin, or nothing to stake.
    """
    if not 0 <= heads <= 1 or goal < 2:
        raise UserError("There is no such gambler's problem.", expected="heads from 0 to 1, a goal of 2 or more",
                        found=f"heads {heads:g}, goal {goal}")  # fmt: skip
    table: dict[int, dict[int, list[Outcome]]] = {}
    for capital in range(goal + 1):
        table[capital] = {}
        for action in range(goal // 2):
            stake = min(action + 1, capital, goal - capital)
            won, lost = capital + stake, capital - stake
            table[capital][action] = [
                (heads, won, float(won == goal and stake > 0), won == goal),
                (1 - heads, lost, 0.0, lost == 0),
            ]
    return model_of(table)


def _under(model: Model, policy: Array) -> tuple[Array, Array]:
    """Transitions (S, S) and rewards (S,) with the actions averaged over a policy."""
    return np.einsum("sa,sat->st", policy, model.transitions), (policy * model.rewards).sum(1)


def _sweeps(step: Callable[[Array], Array], states: int, tolerance: float) -> Iterator[Array]:
    values = np.zeros(states)
    yield values
    for _ in range(SWEEPS):
        values, before = step(values), values
        yield values
        if np.abs(values - before).max() <= tolerance * max(1.0, np.abs(values).max()):
            return
    raise UserError("The values do not settle.", expected="γ < 1, or episodes that end",
                    found=f"changes after {SWEEPS:,} sweeps")  # fmt: skip
