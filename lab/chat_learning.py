"""One training of `lab.chat`: the lab's PPO, from the language model on.

done = trained(Task(seed=1), settings(200_000, 128))
done.outcome.means()                               # {"before": …, "after": …, "constant": …, "echo": …}
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from tqdm import tqdm

from lab.chat_outcome import Outcome, examples, measured
from lab.chat_worlds import Task, worlds
from lab.drawing import Points
from lab.ppo.actor import Actor
from lab.ppo.learner import Agent, Training, train
from lab.ppo.normalise import Observations
from lab.ppo.policy import Policy
from lab.ppo.settings import Settings
from lab.runs import POINTS, means
from rlhf.env import ChatVectorEnvironment, World
from rlhf.logprobs import causal_lm
from rlhf.stopwatch import now

HORIZON = 32
"""Steps of each conversation between two updates."""
TEMPERATURE = 0.5
"""At which the policy draws tokens when training starts; the likeliest token is the same at any temperature."""
IMPOSSIBLE = -100.0
"""Logit of a token that no reply may have."""


@dataclass(frozen=True)
class Trained:
    """What one training came to."""

    task: Task
    settings: Settings
    outcome: Outcome
    curve: Points
    """Environment steps so far; mean rewards of the replies to training questions, as they were drawn."""
    tokens: int
    """Environment steps that wrote a token, which are all but those that only began a conversation anew."""
    examples: list[dict[str, Any]]
    seconds: float
    """With the making of the language model, and the measuring."""


def settings(steps: int, environments: int) -> Settings:
    """Of PPO: a linear actor, as the language model's head is one; replies are short, so nothing is discounted."""
    return Settings(steps=steps, environments=environments, horizon=HORIZON, batch=256, epochs=4, gamma=1.0, lam=1.0,
                    learning_rate=1e-3, learning_rate_course="linear", hidden=(), critic_hidden=(128,))  # fmt: skip


def trained(task: Task, of: Settings) -> Trained:
    """Make or load the language model, train with PPO, measure before and after."""
    began, both = now(), worlds(task)
    start = acting(language_model(both.training, of, task.seed), of)
    training = learn(both.training, of, task.seed)
    outcome = measured(both, start, training.agent)
    return Trained(task, of, outcome, curve(training, of.taken), training.steps,
                   examples(both.held_out.prompts, outcome), now() - began)  # fmt: skip


def language_model(world: World, of: Settings, seed: int) -> Policy:
    """The policy that is the language model at `TEMPERATURE`: its head as a linear actor, and an untaught critic.

    A token that no reply may have is as good as impossible from the start.
    """
    head = causal_lm(world.model).get_output_embeddings()
    weight = head.weight[: world.vocabulary].float()
    bias = torch.zeros(len(weight)) if head.bias is None else head.bias[: len(weight)].float()
    bias = torch.where(torch.from_numpy(world.sayable), bias / TEMPERATURE, IMPOSSIBLE)
    return Policy(weight.shape[1], Discrete(len(weight)), of, seed).start_from(weight / TEMPERATURE, bias)


def learn(world: World, of: Settings, seed: int) -> Training:
    """Train on the token environment, with a progress bar."""
    environments = ChatVectorEnvironment(of.environments, "token", "features", world=world)
    with tqdm(total=of.taken, desc="PPO", unit="step", leave=False) as bar:

        def tell(steps: int, _: dict[str, float]) -> None:
            bar.update(steps - bar.n)

        return train(environments, of, seed, tell, language_model(world, of, seed))


def acting(policy: Policy, of: Settings) -> Agent:
    """A policy as it is, without training."""
    width, actions = policy.head.out.in_features, Discrete(policy.head.out.out_features)
    return Agent(policy, Observations(width, of.normalise), Actor(policy, actions, 1, of, np.random.default_rng(0)))


def curve(training: Training, steps: int) -> Points:
    """How rewards grew: environment steps so far, and the mean reward of the replies since the last point."""
    points = np.linspace(0, steps, POINTS + 1).round().astype(int)[1:]
    there = zip(points.tolist(), means(training.episodes, points), strict=True)
    known = [(step, mean) for step, mean in there if mean is not None]
    return [step for step, _ in known], [mean for _, mean in known]
