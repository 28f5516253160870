"""How good an agent is: the returns of fresh episodes without exploration.

returns = evaluate(agent, gymnasium.make_vec("CartPole-v1", 100, "sync"), seed=seeds(0, EVALUATING)(100))
"""

from typing import Protocol

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from lab.seeds import Seeds


class Acts(Protocol):
    """The lab's agents, and others that are held against them."""

    def best(self, observations: NDArray) -> NDArray: ...


def evaluate(agent: Acts, environments: VectorEnv, seed: int | Seeds) -> NDArray:
    """The undiscounted return of the first episode of each environment (N,): short ones do not count more often.

    Args:
        agent: acts on observations (N, O).
        environments: N; their observations as in training.
        seed: of their first states, or one for each.
    """
    observations, _ = environments.reset(seed=seed)  # type: ignore[arg-type]  # vectors take lists, too
    returns, running = np.zeros(environments.num_envs), np.ones(environments.num_envs, bool)
    while running.any():
        observations, rewards, terminated, truncated, _ = environments.step(agent.best(observations))
        returns += rewards * running
        running &= ~(terminated | truncated)
    return returns
