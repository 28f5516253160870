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


@pytest.mark.slow
def test_stable_baselines_reads_token_ids_too():
    from stable_baselines3 import PPO

    PPO("MultiInputPolicy", gymnasium.make(IDS["reply"], world=small_world()), n_steps=64, device="cpu").learn(64)
