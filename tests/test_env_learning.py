"""Stable-Baselines3's PPO learns on the environments as they are."""

import gymnasium
import pytest

from rlhf.env import IDS
from tests.env_world import letters, small_world


def tokens(completion_ids, **columns):
    """How many a reply has."""
    return [float(len(ids)) for ids in completion_ids]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["token", "parameters"])
def test_stable_baselines_learns_on_it_without_an_adapter(name):
    """Each letter "a" pays 1, and the agent starts without knowing which token it is; of replies that the language
    model writes, each token pays 1, and the agent has to find out which of three numbers makes them longer.
    """
    from stable_baselines3 import PPO
    from stable_baselines3.common.evaluation import evaluate_policy

    reward = letters if name == "token" else tokens
    env = gymnasium.make(IDS[name], world=small_world(reward=reward), observation="features")
    agent = PPO("MlpPolicy", env, n_steps=512, batch_size=128, learning_rate=3e-3, seed=0, device="cpu")
    before, _ = evaluate_policy(agent, env, 50, deterministic=False, warn=False)
    agent.learn(4_096 if name == "token" else 1_024)
    after, _ = evaluate_policy(agent, env, 50, deterministic=False, warn=False)
    assert after > before + 0.5


def early(completion_ids, **columns):
    """How many tokens of a reply are of the first half of the vocabulary."""
    return [float(sum(token < 150 for token in ids)) for ids in completion_ids]


@pytest.mark.slow
def test_stable_baselines_learns_whole_replies():
    """Six tokens in one action, half of them rewarded by chance; the agent learns it for each place."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.evaluation import evaluate_policy

    env = gymnasium.make(IDS["reply"], world=small_world(reward=early), observation="features")
    agent = PPO("MlpPolicy", env, n_steps=256, batch_size=64, learning_rate=3e-3, seed=0, device="cpu")
    before, _ = evaluate_policy(agent, env, 100, deterministic=False, warn=False)
    agent.learn(2_048)
    after, _ = evaluate_policy(agent, env, 100, deterministic=False, warn=False)
    assert before < 3.5 and after > 5


def test_stable_baselines_takes_token_ids():
    """That it takes them, not that it learns: token numbers mean nothing as numbers (docs/env.md)."""
    from stable_baselines3 import PPO

    agent = PPO("MultiInputPolicy", gymnasium.make(IDS["reply"], world=small_world()), n_steps=64, device="cpu")
    assert agent.learn(64).num_timesteps == 64
