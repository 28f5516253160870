"""Actor and critic: two small networks in PyTorch, and what the actor says of actions.

policy = Policy(observation=4, actions=Discrete(2), settings, seed=0)
law, values = policy.law(observations), policy.values(observations)          # of (B, 4)
law.logprobs(actions), law.entropy()                # (B,), (B,)

All parameters lie side by side in one array, their gradients in another, so that the optimiser and the clipping of the
gradient take one call each; NumPy acts from the same memory (`lab.ppo.actor`).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, Space
from torch import Tensor, nn

from lab.ppo.settings import Settings
from rlhf.errors import UserError


class Categorical(NamedTuple):
    """One of some actions."""

    logs: Tensor
    """(B, A), the logarithms of the probabilities."""

    def logprobs(self, actions: Tensor) -> Tensor:
        return self.logs.gather(1, actions.unsqueeze(1)).squeeze(1)

    def entropy(self) -> Tensor:
        return -(self.logs.exp() * self.logs).sum(1)


class Gaussian(NamedTuple):
    """A number for each of A axes, independent of each other."""

    mean: Tensor
    """(B, A)"""
    std: Tensor
    """(B, A) or (A,)"""

    def logprobs(self, actions: Tensor) -> Tensor:
        off = ((actions - self.mean) / self.std).square()
        return -(0.5 * off + self.std.log()).sum(1) - 0.5 * math.log(2 * math.pi) * actions.shape[1]

    def entropy(self) -> Tensor:
        return (self.std.log() + 0.5 * math.log(2 * math.pi * math.e)).expand_as(self.mean).sum(1)


Law = Categorical | Gaussian


class CategoricalHead(nn.Module):
    def __init__(self, width: int, actions: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, actions)

    def forward(self, features: Tensor) -> Categorical:
        return Categorical(torch.log_softmax(self.out(features), 1))


class GaussianHead(nn.Module):
    """The deviation of the noise is learned, and the same in all states."""

    def __init__(self, width: int, actions: int, log_std: float) -> None:
        super().__init__()
        self.out = nn.Linear(width, actions)
        self.log_std = nn.Parameter(torch.full((actions,), log_std))

    def forward(self, features: Tensor) -> Gaussian:
        return Gaussian(self.out(features), self.log_std.exp())


class StateDependentHead(nn.Module):
    """Generalised state-dependent exploration (Raffin et al. 2021, arXiv 2005.05719, section 3).

    The noise of an action is E⊤h: h (width,) are the features of the state, E (width, A) is drawn once for many steps
    from normal distributions of deviation σ (width, A). So a state gets the same noise whenever it is met meanwhile;
    over all draws, that of action j has variance Σᵢ hᵢ²·σᵢⱼ².
    """

    def __init__(self, width: int, actions: int, log_std: float) -> None:
        super().__init__()
        self.out = nn.Linear(width, actions)
        self.log_std = nn.Parameter(torch.full((width, actions), log_std))

    def forward(self, features: Tensor) -> Gaussian:
        # The features serve the mean alone: no gradient asks them for more or less noise.
        variance = features.detach().square() @ self.log_std.mul(2).exp()
        return Gaussian(self.out(features), (variance + 1e-6).sqrt())


class Policy(nn.Module):
    """Actor and critic.

    Args:
        observation: numbers in an observation.
        actions: the space of an action: Discrete, or a Box of one axis.
        settings: widths, exploration, and how weights start.
        seed: of the weights.

    Attributes:
        flat: all parameters (n,); the parameters are views of it.
        gradient: theirs (n,); `backward` adds to it, so it has to be zeroed, not dropped.

    Raises:
        UserError: PPO here knows no such actions.
    """

    def __init__(self, observation: int, actions: Space, settings: Settings, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = _layers(observation, settings.hidden)
            critic = settings.hidden if settings.critic_hidden is None else settings.critic_hidden
            self.critic = _layers(observation, critic)
            self.head = _head((observation, *settings.hidden)[-1], actions, settings)
            self.value = nn.Linear((observation, *critic)[-1], 1)
            if settings.orthogonal:
                self._start_orthogonal()
        self.flat, self.gradient = _side_by_side(self)

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor) -> "Policy":
        """Itself, its actor's last layer now that of another model: weight (A, width), bias (A,)."""
        self.head.out.weight.copy_(weight)
        self.head.out.bias.copy_(bias)
        return self

    def law(self, observations: Tensor) -> Law:
        """Of the actions, for observations (B, O)."""
        return self.head(self.actor(observations))

    def values(self, observations: Tensor) -> Tensor:
        """(B,), of observations (B, O)."""
        return self.value(self.critic(observations)).squeeze(1)

    def _start_orthogonal(self) -> None:
        """As Engstrom et al. 2020 (arXiv 2005.12729) found to matter."""
        gains = {self.head.out: 0.01, self.value: 1.0}
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight, gains.get(module, math.sqrt(2)))
                nn.init.zeros_(module.bias)


def _layers(inputs: int, hidden: tuple[int, ...]) -> nn.Sequential:
    widths = (inputs, *hidden)
    return nn.Sequential(
        *(layer for pair in zip(widths, hidden, strict=False) for layer in (nn.Linear(*pair), nn.Tanh()))
    )


def _head(width: int, actions: Space, settings: Settings) -> CategoricalHead | GaussianHead | StateDependentHead:
    if isinstance(actions, Discrete) and actions.start == 0:
        return CategoricalHead(width, int(actions.n))
    if isinstance(actions, Box) and len(actions.shape) == 1 and np.issubdtype(actions.dtype, np.floating):
        kind = GaussianHead if settings.noise_every is None else StateDependentHead
        return kind(width, actions.shape[0], settings.log_std)
    raise UserError("PPO cannot act in this environment.", found=str(actions),
                    expected="actions Discrete(n) from 0, or a Box of one axis of floats")  # fmt: skip


def _side_by_side(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Move all parameters into one array and their gradients into another; returns both."""
    parameters = list(module.parameters())
    flat = torch.cat([parameter.detach().flatten() for parameter in parameters])
    gradient = torch.zeros_like(flat)
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, values, slopes in zip(parameters, flat.split(sizes), gradient.split(sizes), strict=True):
        parameter.data, parameter.grad = values.view_as(parameter), slopes.view_as(parameter)
    return flat, gradient
