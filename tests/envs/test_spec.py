"""What Gymnasium notes of how an environment was made: JSON where that can be, and never a copy of a model."""

import copy
import json

import gymnasium
import pytest
from gymnasium.envs.registration import EnvSpec

from rlhf.env import IDS, ChatEnvironment, World
from tests.env_world import PROMPTS, letters, made_run, small, small_world

MADE = {"prompts": PROMPTS, "reward": letters, "max_reply_tokens": 6}


def test_an_environment_of_a_run_is_made_again_from_json(tmp_path):
    made_run(tmp_path)
    env = gymnasium.make(IDS["reply"], run=tmp_path, prompts=["The cat"], device="cpu", max_reply_tokens=5)
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again.unwrapped, ChatEnvironment)
    assert again.action_space == env.action_space and again.action_space.shape == (5,)
    assert again.unwrapped.world is not env.unwrapped.world


@pytest.mark.parametrize("name", IDS.values())
def test_the_registered_names_can_be_written_as_json(name):
    assert json.loads(gymnasium.spec(name).to_json())["entry_point"] == "rlhf.envs.single:ChatEnvironment"


class NotCopied:
    """Stands for what is costly to copy."""

    def __call__(self, completions, **columns):
        return letters(completions)

    def __deepcopy__(self, memo):
        raise AssertionError("copied")


@pytest.mark.parametrize("make", [gymnasium.make, lambda name, **made: gymnasium.make_vec(name, 2, **made)])
def test_what_is_in_memory_is_not_copied_with_the_spec(make):
    model, tokenizer = copy.copy(small()[0]), small()[1]
    model.__dict__["watched"] = reward = NotCopied()
    env = make(IDS["token"], model=model, tokenizer=tokenizer, **MADE | {"reward": reward})
    for spec in (env.spec, copy.deepcopy(env.unwrapped.spec)):
        assert spec.kwargs["world"] is env.unwrapped.world and "model" not in spec.kwargs
    assert env.unwrapped.world.model is model


def test_a_spec_of_what_is_in_memory_makes_another_of_the_same_world():
    model, tokenizer = small()
    env = gymnasium.make(IDS["token"], model=model, tokenizer=tokenizer, observation="features", **MADE)
    again = gymnasium.make(env.spec)
    assert again.unwrapped.world is env.unwrapped.world
    assert again.observation_space == env.observation_space and again.action_space == env.action_space


def test_a_spec_with_a_world_is_left_as_it_is():
    world = small_world()
    env = gymnasium.make(IDS["token"], world=world, max_episode_steps=7)
    assert isinstance(world, World) and env.spec.kwargs == {"action": "token", "world": world}
    assert ChatEnvironment(world=world).spec is None
    assert gymnasium.spec(IDS["token"]).kwargs == {"action": "token"}
