"""Acting without PyTorch: the actor's network in NumPy, on the same memory, quicker for a few observations.

actor = Actor(policy, Discrete(2), environments=8, settings, rng)
actor.renew()                             # before each rollout
actions = actor.explore(observations)     # (N, O) → (N,) or (N, A), with noise
actions = actor.best(observations)        # without
"""

import numpy as np
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray
from torch import nn

from lab.ppo.policy import CategoricalHead, GaussianHead, Policy, StateDependentHead
from lab.ppo.settings import Settings


class Network:
    """The actor's layers; they change when the policy's parameters do."""

    def __init__(self, policy: Policy) -> None:
        linear = [layer for layer in policy.actor if isinstance(layer, nn.Linear)]
        self._hidden = [_arrays(layer) for layer in linear]
        self._weight, self._bias = _arrays(policy.head.out)

    def features(self, observations: NDArray) -> NDArray:
        """(N, O) → (N, width)"""
        for weight, bias in self._hidden:
            observations = np.tanh(observations @ weight + bias)
        return observations

    def out(self, features: NDArray) -> NDArray:
        """Logits, or means of actions: (N, width) → (N, A)"""
        return features @ self._weight + self._bias


class Actor:
    """Draws actions; each kind of head has its noise.

    Args:
        policy: whose memory is read.
        actions: the space of one environment's actions.
        environments: N, side by side.
        settings: how often state-dependent noise is drawn.
        rng: of the noise.
    """

    def __init__(
        self, policy: Policy, actions: Space, environments: int, settings: Settings, rng: np.random.Generator
    ) -> None:
        self._network, self._rng = Network(policy), rng
        self._box = actions if isinstance(actions, Box) else None
        self._noise = _NOISES[type(policy.head)](policy, environments, settings, rng)

    def renew(self) -> None:
        """Begin a rollout: the policy is another one now."""
        self._noise.renew()

    def explore(self, observations: NDArray) -> NDArray:
        """Actions drawn from the policy: (N, O) → (N,) or (N, A). They may lie out of bounds (see `within`)."""
        features = self._network.features(observations)
        return self._noise.disturbed(self._network.out(features), features)

    def best(self, observations: NDArray) -> NDArray:
        """The likeliest actions: (N, O) → (N,) or (N, A)."""
        out = self._network.out(self._network.features(observations))
        return out if self._box else out.argmax(1)

    def within(self, actions: NDArray) -> NDArray:
        """Actions as the environment takes them: cut off at its bounds."""
        return actions if self._box is None else np.clip(actions, self._box.low, self._box.high)


class _Gumbel:
    """The largest of logits plus Gumbel noise is a draw from their softmax (Gumbel 1954)."""

    AHEAD = 256
    """Steps whose noise is drawn at once."""

    def __init__(self, policy: Policy, environments: int, settings: Settings, rng: np.random.Generator) -> None:
        assert isinstance(policy.head, CategoricalHead)
        self._shape, self._rng = (self.AHEAD, environments, policy.head.out.out_features), rng
        self._ready: list[NDArray] = []

    def renew(self) -> None:
        """Noise of each step is its own: nothing to renew."""

    def disturbed(self, logits: NDArray, features: NDArray) -> NDArray:
        if not self._ready:
            self._ready = list(self._rng.gumbel(size=self._shape).astype(np.float32))
        return (logits + self._ready.pop()).argmax(1)


class _Independent:
    """Normal noise, drawn anew at each step."""

    def __init__(self, policy: Policy, environments: int, settings: Settings, rng: np.random.Generator) -> None:
        assert isinstance(policy.head, GaussianHead)
        self._log_std, self._rng = policy.head.log_std.detach().numpy(), rng

    def renew(self) -> None:
        self._std = np.exp(self._log_std)

    def disturbed(self, means: NDArray, features: NDArray) -> NDArray:
        return means + self._std * self._rng.standard_normal(means.shape, np.float32)


class _StateDependent:
    """Noise E⊤h, where E stays for `settings.noise_every` steps (`lab.ppo.policy.StateDependentHead`)."""

    def __init__(self, policy: Policy, environments: int, settings: Settings, rng: np.random.Generator) -> None:
        assert isinstance(policy.head, StateDependentHead)
        self._log_std, self._rng = policy.head.log_std.detach().numpy(), rng
        self._environments, self._every, self._steps = environments, settings.noise_every, 0

    def renew(self) -> None:
        self._steps = 0
        self._draw()

    def disturbed(self, means: NDArray, features: NDArray) -> NDArray:
        if self._every and self._steps and self._steps % self._every == 0:
            self._draw()
        self._steps += 1
        return means + np.einsum("nh,nha->na", features, self._matrix)

    def _draw(self) -> None:
        normal = self._rng.standard_normal((self._environments, *self._log_std.shape), np.float32)
        self._matrix = normal * np.exp(self._log_std)


_NOISES: dict[type, type[_Gumbel] | type[_Independent] | type[_StateDependent]] = {
    CategoricalHead: _Gumbel, GaussianHead: _Independent, StateDependentHead: _StateDependent,
}  # fmt: skip


def _arrays(layer: nn.Module) -> tuple[NDArray, NDArray]:
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach().numpy().T, layer.bias.detach().numpy()
