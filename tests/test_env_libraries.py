"""The environments as Stable-Baselines3 and sb3-contrib take hold of them."""

import gymnasium
import numpy as np
import pytest

from rlhf.env import IDS, ChatEnvironment, World
from tests.env_world import END, small_world


@pytest.fixture(scope="module")
def world() -> World:
    return small_world()


def test_several_environments_of_stable_baselines_share_a_world(world):
    """`make_vec_env` asks for pictures first, and does without."""
    from stable_baselines3.common.env_util import make_vec_env

    envs = make_vec_env(IDS["token"], n_envs=3, env_kwargs={"world": world, "observation": "features"})
    assert [env.unwrapped.world is world for env in envs.envs] == [True] * 3
    assert envs.reset().shape == (3, 32)
    _, rewards, done, _ = envs.step([END] * 3)
    assert rewards.tolist() == [0, 0, 0] and done.all()


@pytest.mark.parametrize(("name", "width"), [("token", 1), ("reply", 6)])
def test_masks_and_replies_are_reached_through_wrappers(world, name, width):
    """As MaskablePPO asks for masks, `env_method("action_masks")`, and as a single environment is asked."""
    from stable_baselines3.common.env_util import make_vec_env

    env = gymnasium.make(IDS[name], world=world)
    assert not isinstance(env, ChatEnvironment)  # wrapped
    _, info = env.reset(seed=0)
    envs = make_vec_env(IDS[name], n_envs=2, env_kwargs={"world": world})
    envs.reset()
    for mask in (
        env.unwrapped.action_masks(),
        env.get_wrapper_attr("action_masks")(),
        *envs.env_method("action_masks"),
    ):
        assert mask.shape == (width * world.vocabulary,)
        np.testing.assert_array_equal(mask, info["action_mask"])


def test_whole_replies_are_sampled_by_a_mask_for_each_place(world):
    env = gymnasium.make(IDS["reply"], world=world)
    _, info = env.reset(seed=0)
    env.action_space.seed(0)
    masks = tuple(info["action_mask"].reshape(-1, world.vocabulary).astype("int8"))
    for _ in range(20):
        assert world.sayable[env.action_space.sample(masks)].all()


def test_stable_baselines_refuses_the_vectorised_environment(world):
    """It is of another kind than its own, as docs/env.md says."""
    from stable_baselines3 import PPO

    with pytest.raises(ValueError, match="not a Gymnasium environment"):
        PPO("MlpPolicy", gymnasium.make_vec(IDS["token"], 2, world=world, observation="features"))
