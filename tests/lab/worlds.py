"""Environments whose best policy and values are known."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv


class Identity(gymnasium.Env):
    """Do as you are told: pays 1 for the action that is shown, 0 otherwise; ten steps an episode."""

    def __init__(self, states: int = 4) -> None:
        self.observation_space, self.action_space = Discrete(states), Discrete(states)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._steps, self._shown = 0, self._draw()
        return self._shown, {}

    def step(self, action):
        reward = self._reward(action)
        self._steps, self._shown = self._steps + 1, self._draw()
        return self._shown, reward, self._steps == 10, False, {}

    def _draw(self):
        return int(self.np_random.integers(self.observation_space.n))

    def _reward(self, action) -> float:
        return float(action == self._shown)


class ContinuousIdentity(Identity):
    """Pays minus the squared distance of the action to what is shown."""

    def __init__(self) -> None:
        self.observation_space = self.action_space = Box(-1.0, 1.0, (1,))

    def _draw(self):
        return self.np_random.uniform(-1, 1, 1).astype(np.float32)

    def _reward(self, action) -> float:
        return -float(((action - self._shown) ** 2).sum())


class Pays(gymnasium.Env):
    """Pays the same at each step and is always cut short: worth reward / (1 − γ), however short its episodes."""

    def __init__(self, reward: float, steps: int = 5) -> None:
        self.observation_space, self.action_space = Box(-1.0, 1.0, (2,)), Discrete(2)
        self._reward, self._length = reward, steps

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._steps = 0
        return self._draw(), {}

    def step(self, action):
        self._steps += 1
        return self._draw(), self._reward, False, self._steps == self._length, {}

    def _draw(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


def side_by_side(make, many: int, mode: AutoresetMode = AutoresetMode.NEXT_STEP) -> SyncVectorEnv:
    return SyncVectorEnv([make] * many, autoreset_mode=mode)
