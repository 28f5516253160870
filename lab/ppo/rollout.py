"""What environments do while the policy stands still.

collector = Collector(environments, actor, observations, settings, seed=0)
rollout = collector.collect()            # the same arrays each time: use them before the next

Environments reset themselves on the step after the last of an episode (Gymnasium's AutoresetMode.NEXT_STEP). That step
takes no action and pays nothing; it is there in the arrays with mask False, and its observation is the one in which the
episode ended, whose value stands for what an episode that was cut short would still have brought.
"""

from typing import NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from lab.ppo.actor import Actor
from lab.ppo.normalise import Observations
from lab.ppo.settings import Settings
from lab.runs import Counter
from lab.seeds import Seeds


class Rollout(NamedTuple):
    """T steps of N environments."""

    raw: NDArray
    """Observations (T, N, O), as the environments gave them."""
    observations: NDArray
    """(T + 1, N, O), as the policy saw them; the last ones are those behind the last step."""
    actions: NDArray
    """(T, N) or (T, N, A), as they were drawn, not cut off at any bounds."""
    rewards: NDArray
    """(T, N)"""
    continues: NDArray
    """(T, N), False where the step ended its episode for good."""
    mask: NDArray
    """(T, N), False where the step only reset the environment."""


class Collector:
    """Steps environments.

    Args:
        environments: as `prepared`.
        actor: draws actions.
        observations: what the policy sees of them.
        settings: the horizon.
        seed: of the environments, or one for each.

    Attributes:
        counter: of steps and episodes so far.
        resets: among the steps.
    """

    def __init__(
        self,
        environments: VectorEnv,
        actor: Actor,
        observations: Observations,
        settings: Settings,
        seed: int | Seeds,
    ) -> None:
        self._environments, self._actor, self._observations = environments, actor, observations
        self._now, _ = environments.reset(seed=seed)  # type: ignore[arg-type]  # vectors take lists, too
        self._over = np.zeros(environments.num_envs, bool)
        self.counter = Counter(environments.num_envs)
        self._rollout = _empty(environments, settings.horizon)
        self.resets = 0

    def collect(self) -> Rollout:
        """As many steps of each environment as the horizon has."""
        kept, actor, seen = self._rollout, self._actor, self._observations.seen
        actor.renew()
        for t in range(len(kept.rewards)):
            kept.raw[t], kept.mask[t] = self._now, ~self._over
            kept.observations[t] = seen(self._now)
            kept.actions[t] = actor.explore(kept.observations[t])
            self._now, rewards, terminated, truncated, _ = self._environments.step(actor.within(kept.actions[t]))
            kept.rewards[t] = rewards
            np.logical_not(terminated, out=kept.continues[t])
            self._over = terminated | truncated
            self.counter.count(rewards, self._over)
        kept.observations[-1] = seen(self._now)
        self.resets += int((~kept.mask).sum())
        return kept


def _empty(environments: VectorEnv, horizon: int) -> Rollout:
    steps = (horizon, environments.num_envs)
    size = environments.single_observation_space.shape
    space = environments.single_action_space
    assert size is not None and space.shape is not None
    return Rollout(
        raw=np.empty((*steps, *size), environments.single_observation_space.dtype),
        observations=np.empty((horizon + 1, environments.num_envs, *size), np.float32),
        actions=np.empty((*steps, *space.shape), np.float32 if space.shape else np.int64),
        rewards=np.empty(steps, np.float32), continues=np.empty(steps, bool), mask=np.empty(steps, bool),
    )  # fmt: skip
