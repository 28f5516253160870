"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), on the arithmetic of `rlhf.ppo_math`.

environments = gymnasium.make_vec("CartPole-v1", 8, "sync")
training = train(environments, settings, seed=0)
training.agent.best(observations)                # (N, O) → (N,)
training.episodes                                # what each brought, and when it ended
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from lab.ppo.actor import Actor
from lab.ppo.adam import Adam
from lab.ppo.normalise import Observations, Rewards
from lab.ppo.policy import Policy
from lab.ppo.rollout import Collector, Rollout
from lab.ppo.settings import COURSES, Settings
from lab.runs import Episode, prepared
from lab.seeds import TRAINING, seeds
from rlhf.ppo_math import ClippedLoss, Ends, generalized_advantages, policy_loss, value_loss, whiten


class Batch(NamedTuple):
    """B steps to learn from."""

    observations: Tensor
    """(B, O)"""
    actions: Tensor
    """(B,) or (B, A)"""
    logprobs: Tensor
    """(B,), before the update; nats."""
    advantages: Tensor
    """(B,)"""
    returns: Tensor
    """(B,)"""

    def minibatches(self, size: int, generator: torch.Generator) -> Iterator["Batch"]:
        """All steps once, in random order; the last minibatch may be smaller."""
        many = len(self.advantages)
        if many <= size:
            yield self
            return
        order = torch.randperm(many, generator=generator)
        yield from (Batch(*parts) for parts in zip(*(kept[order].split(size) for kept in self), strict=True))


class Learner:
    """Improves a policy by what it did.

    Args:
        policy: changed in place.
        settings: of PPO.
        seed: of the order of the minibatches.

    Attributes:
        figures: of the last minibatch: losses, and the share of steps on which the ratio was clipped.
    """

    def __init__(self, policy: Policy, settings: Settings, seed: int) -> None:
        self._policy, self._settings = policy, settings
        self._generator = torch.Generator().manual_seed(seed)
        self._adam = Adam(policy.flat, policy.gradient)
        self._learning_rate = COURSES[settings.learning_rate_course](settings.learning_rate)
        self._clip = COURSES[settings.clip_course](settings.clip)
        self.figures: dict[str, float] = {}

    def update(self, rollout: Rollout, rewards: NDArray, progress: float) -> None:
        """Several passes over a rollout. One in which environments were only reset teaches nothing.

        Args:
            rollout: T steps of N environments.
            rewards: (T, N), its rewards, scaled perhaps.
            progress: of training, 0 to 1.
        """
        learning_rate, clip, batch = self._learning_rate(progress), self._clip(progress), self.batch(rollout, rewards)
        if not len(batch.returns):
            return
        for _ in range(self._settings.epochs):
            for part in batch.minibatches(self._settings.batch, self._generator):
                actor, critic = self._step(part, learning_rate, clip)
        self.figures = {"policy_loss": actor.loss.item(), "value_loss": critic.loss.item(),
                        "clip_fraction": actor.clip_fraction.item()}  # fmt: skip

    @torch.no_grad()
    def batch(self, rollout: Rollout, rewards: NDArray) -> Batch:
        """What is learned from a rollout: advantages, returns; steps that only reset an environment are left out."""
        horizon, environments = rewards.shape
        observations = torch.from_numpy(rollout.observations).flatten(0, 1)
        actions = torch.from_numpy(rollout.actions).flatten(0, 1)
        taken = observations[: len(actions)]
        logprobs = self._policy.law(taken).logprobs(actions)
        values = self._policy.values(observations).view(horizon + 1, environments).T
        mask = torch.from_numpy(rollout.mask)
        ends = Ends(torch.from_numpy(rollout.continues).T, values[:, -1])
        advantages, returns = generalized_advantages(
            torch.from_numpy(rewards).float().T, values[:, :-1], mask.T, self._settings.gamma, self._settings.lam, ends
        )
        whole = Batch(taken, actions, logprobs, advantages.T.flatten(), returns.T.flatten())
        return whole if mask.all() else Batch(*(kept[mask.flatten()] for kept in whole))

    def _step(self, part: Batch, learning_rate: float, clip: float) -> tuple[ClippedLoss, ClippedLoss]:
        """One step of Adam on a minibatch; the losses of policy and values before it."""
        settings, policy = self._settings, self._policy
        law, values = policy.law(part.observations), policy.values(part.observations)
        actor = policy_loss(law.logprobs(part.actions), part.logprobs, whiten(part.advantages, None), None, clip)
        critic = value_loss(values, values, part.returns, None, clip=None)
        loss = actor.loss + settings.value_weight * critic.loss
        if settings.entropy_weight:
            loss = loss - settings.entropy_weight * law.entropy().mean()
        policy.gradient.zero_()
        loss.backward()
        policy.gradient.mul_((settings.max_norm / (policy.gradient.norm() + 1e-6)).clamp(max=1.0))
        self._adam.step(learning_rate)
        return actor, critic


class Agent:
    """What was learned, ready to act.

    Args:
        policy: actor and critic.
        observations: what it sees of them.
        actor: NumPy's side of it.
    """

    def __init__(self, policy: Policy, observations: Observations, actor: Actor) -> None:
        self.policy, self.observations, self._actor = policy, observations, actor

    def best(self, observations: NDArray) -> NDArray:
        """The likeliest actions, within bounds, for observations (N, O) as the environments give them."""
        return self._actor.within(self._actor.best(self.observations.seen(observations)))

    @torch.no_grad()
    def values(self, observations: NDArray) -> NDArray:
        """What is expected of states (N, O); of rewards as they were scaled, where they were."""
        return self.policy.values(torch.from_numpy(self.observations.seen(observations))).numpy()


@dataclass(frozen=True)
class Training:
    """How it went."""

    agent: Agent
    episodes: list[Episode]
    steps: int
    """That were taken, those that only reset an environment left out."""


def train(
    environments: VectorEnv,
    settings: Settings,
    seed: int,
    tell: Callable[[int, dict[str, float]], None] | None = None,
    policy: Policy | None = None,
) -> Training:
    """Learn to act.

    Args:
        environments: `settings.environments` of them; they reset themselves on the step after an episode's last.
        settings: of PPO.
        seed: of everything random.
        tell: called after each update with the steps so far and figures of training.
        policy: to start from, changed in place; default: a new one.

    Raises:
        UserError: actions of a kind that is not known, or environments that reset themselves in another way.
    """
    environments = prepared(environments)
    actions, size = environments.single_action_space, environments.single_observation_space.shape
    assert size is not None
    policy = policy or Policy(size[0], actions, settings, seed)
    observations = Observations(size[0], settings.normalise)
    rewards = Rewards(environments.num_envs, settings.gamma) if settings.normalise else None
    actor = Actor(policy, actions, environments.num_envs, settings, np.random.default_rng(seed))
    start = seeds(seed, TRAINING)(environments.num_envs)
    collector = Collector(environments, actor, observations, settings, start)
    learner = Learner(policy, settings, seed)
    for done in range(settings.updates):
        rollout = collector.collect()
        observations.learn(rollout.raw.reshape(-1, *size))
        paid = rewards.scaled(rollout.rewards, rollout.mask) if rewards else rollout.rewards
        learner.update(rollout, paid, done / settings.updates)
        if tell:
            tell(collector.counter.steps, learner.figures)
    counted = collector.counter
    return Training(Agent(policy, observations, actor), counted.episodes, counted.steps - collector.resets)
