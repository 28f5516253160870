"""Deep Q-learning without the world: a network, the target it is pulled to, one update (Mnih et al. 2015).

learner = Learner(observation_size=4, actions=2, settings=Settings(), seed=0)
actions = learner.best(observations)                         # greedy
errors = learner.update(memory.sample(64, generator), learning_rate=1e-3)

`lab.dqn_training` adds the world, `lab.dqn` the command line.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tyro.conf import Suppress

from lab.experiment import need
from lab.replay import Floats, Sample


@dataclass(frozen=True)
class Settings:
    """What is learned and how. The defaults are RL-Zoo's for CartPole-v1, but for what says otherwise."""

    steps: int = 50_000
    """Of training, of all environments together."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the network's hidden layers. RL-Zoo: 256, 256."""
    discount: float = 0.995
    """γ: what a reward is worth one step later. RL-Zoo: 0.99."""
    learning_rate: float = 2.3e-3
    """Of Adam, at the first step."""
    final_learning_rate: float = 0.0
    """Of Adam, at the last step; it falls in a straight line. RL-Zoo: as at the first."""
    huber: float = 100.0
    """Errors beyond this count linearly, no longer by their square. RL-Zoo: 1."""
    gradient_norm: float = 10.0
    """A longer gradient is shortened to this."""
    batch: int = 128
    """Transitions an update learns from. RL-Zoo: 64."""
    capacity: int = 100_000
    """Transitions the replay memory holds."""
    warmup: int = 1000
    """Steps at random before the first update."""
    environments: int = 8
    """Environments side by side; their steps count together. RL-Zoo: 1."""
    train_every: int = 8
    """Steps between two rounds of updates. RL-Zoo: 256."""
    replay_ratio: float = 0.5
    """Updates for each step, in rounds of at least one."""
    target_every: int = 1
    """Updates after which the target network moves towards the network. RL-Zoo: once a round."""
    target_rate: float = 0.01
    """τ: which part of the way it moves; 1 makes it a copy (Lillicrap et al. 2016). RL-Zoo: 1."""
    exploration_fraction: float = 0.16
    """Part of the steps over which ε falls from 1 to its end."""
    final_exploration: float = 0.04
    """The end of ε, the part of actions at random."""
    double: Suppress[bool] = True
    """The network chooses the next action, the target network values it (van Hasselt et al. 2016). RL-Zoo: no."""
    prioritised: Suppress[bool] = False
    """Replay what was estimated wrongly more often (Schaul et al. 2016)."""
    alpha: float = 0.6
    """How much priority counts: 0 not at all."""
    beta: float = 0.4
    """How much importance weights undo of it at the first step; at the last step all."""

    def __post_init__(self) -> None:
        need(all(width > 0 for width in self.hidden), "dqn.hidden", "positive widths", self.hidden)
        need(0 <= self.discount < 1, "dqn.discount", "at least 0, less than 1", self.discount)
        need(self.learning_rate > 0, "dqn.learning_rate", "more than 0", self.learning_rate)
        need(self.final_learning_rate >= 0, "dqn.final_learning_rate", "at least 0", self.final_learning_rate)
        need(self.huber > 0, "dqn.huber", "more than 0", self.huber)
        need(self.gradient_norm > 0, "dqn.gradient_norm", "more than 0", self.gradient_norm)
        for name in ("steps", "batch", "environments", "train_every", "target_every"):
            need(getattr(self, name) >= 1, f"dqn.{name}", "at least 1", getattr(self, name))
        need(self.replay_ratio > 0, "dqn.replay_ratio", "more than 0", self.replay_ratio)
        need(0 < self.target_rate <= 1, "dqn.target_rate", "more than 0, at most 1", self.target_rate)
        need(0 <= self.warmup < self.steps, "dqn.warmup", f"at least 0, fewer than the {self.steps} steps", self.warmup)
        need(self.steps >= self.environments, "dqn.steps", "a step of every environment", self.steps)
        need(self.capacity >= self.environments, "dqn.capacity", "a step of every environment", self.capacity)
        need(0 < self.exploration_fraction <= 1, "dqn.exploration_fraction", "more than 0, at most 1",
             self.exploration_fraction)  # fmt: skip
        need(0 <= self.final_exploration <= 1, "dqn.final_exploration", "0 to 1", self.final_exploration)
        need(self.alpha >= 0, "dqn.alpha", "at least 0", self.alpha)
        need(0 <= self.beta <= 1, "dqn.beta", "0 to 1", self.beta)


def targets(rewards: Tensor, terminated: Tensor, next_values: Tensor, next_choosers: Tensor, discount: float) -> Tensor:
    """What the values of the actions taken should be: y = r + γ (1 − terminated) Q⁻(s', argmax_a Q'(s', a)).

    With Q' = Q⁻ this is the maximum of Q⁻ (Mnih et al. 2015, algorithm 1); with Q' = Q, the network that learns, double
    DQN (van Hasselt et al. 2016, equation 4). After a truncation, `terminated` is False: the task would have gone on.

    Args:
        rewards: (B,).
        terminated: (B,), True: nothing is to come.
        next_values: (B, A), Q⁻(s', ·), of the target network.
        next_choosers: (B, A), Q'(s', ·), of the network that chooses.
        discount: γ.

    Returns:
        (B,).
    """
    best = next_choosers.argmax(1, keepdim=True)
    return rewards + discount * ~terminated * next_values.gather(1, best).squeeze(1)


class Learner:
    """A network of action values, its target network and Adam.

    Args:
        observation_size: numbers in an observation.
        actions: A, how many there are.
        settings: of the learning.
        seed: of the first weights.
    """

    def __init__(self, observation_size: int, actions: int, settings: Settings, seed: int) -> None:
        self.settings = settings
        self.network = _network(observation_size, actions, settings.hidden, seed)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self._optimizer = torch.optim.Adam(self.network.parameters(), settings.learning_rate, fused=True)
        self._updates = 0

    @torch.no_grad()
    def best(self, observations: NDArray) -> NDArray[np.int64]:
        """The actions (B,) that are valued most after observations (B, O)."""
        return self.network(torch.from_numpy(observations.astype(np.float32))).argmax(1).numpy()

    def update(self, sample: Sample, learning_rate: float) -> Floats:
        """Pull the network towards the targets of a sample: Huber loss, importance weights, gradient clipped.

        Args:
            sample: B transitions.
            learning_rate: of this update.

        Returns:
            (B,): target minus estimate, before the update.
        """
        observations = torch.from_numpy(sample.transitions.observations)
        actions = torch.from_numpy(sample.transitions.actions)[:, None]
        wanted = self._targets(sample)
        values = self.network(observations).gather(1, actions).squeeze(1)
        losses = nn.functional.huber_loss(values, wanted, reduction="none", delta=self.settings.huber)
        loss = (losses * torch.from_numpy(sample.weights)).mean()
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_norm)
        self._optimizer.param_groups[0]["lr"] = learning_rate
        self._optimizer.step()
        self._updates += 1
        if self._updates % self.settings.target_every == 0:
            self._move_target()
        return (wanted - values.detach()).numpy()

    @torch.no_grad()
    def _move_target(self) -> None:
        for behind, ahead in zip(self.target.parameters(), self.network.parameters(), strict=True):
            behind.lerp_(ahead, self.settings.target_rate)

    @torch.no_grad()
    def _targets(self, sample: Sample) -> Tensor:
        following = torch.from_numpy(sample.transitions.next_observations)
        values = self.target(following)
        choosers = self.network(following) if self.settings.double else values
        rewards, terminated = map(torch.from_numpy, (sample.transitions.rewards, sample.transitions.terminated))
        return targets(rewards, terminated, values, choosers, self.settings.discount)


def _network(inputs: int, outputs: int, hidden: tuple[int, ...], seed: int) -> nn.Sequential:
    """Linear layers with ReLU between them; the same seed gives the same weights and moves no other random number."""
    widths = (inputs, *hidden)
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
