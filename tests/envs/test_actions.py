"""Which actions the masks allow, and where agents find them."""

import numpy as np
import pytest

from rlhf.env import ChatEnvironment, ChatVectorEnvironment, World
from rlhf.records import Message
from rlhf.tokenizer import encode_prompt
from tests.env_world import small, small_world


@pytest.fixture(scope="module")
def world() -> World:
    return small_world()


def test_masks_are_where_sb3_contrib_and_gymnasium_look_for_them(world):
    for name in ("token", "reply"):
        env = ChatEnvironment(name, world=world)
        _, info = env.reset(seed=0)
        np.testing.assert_array_equal(env.action_masks(), info["action_mask"])
        envs = ChatVectorEnvironment(2, name, world=world)
        _, infos = envs.reset(seed=0)
        np.testing.assert_array_equal(envs.action_masks(), infos["action_mask"])
    whole = ChatEnvironment("reply", world=world)
    whole.reset(seed=0)
    mask = whole.action_masks().reshape(6, -1)
    assert mask.sum(1).tolist() == [world.vocabulary - 4] * 6


def test_masks_of_whole_replies_end_where_there_is_no_more_room():
    """The second reply has room for three of six tokens."""
    asked = (Message("user", "Paris"), Message("assistant", "a"), Message("user", "So?"))
    length = len(encode_prompt(small()[1], asked)) + 3
    env = ChatEnvironment("reply", world=small_world(prompts=["Paris"], user=("So?",), context=length))
    env.reset(seed=0)
    env.step(env.encode_reply("a"))
    vocabulary = env.world.vocabulary
    assert env.action_masks().reshape(6, -1).sum(1).tolist() == [vocabulary - 4] * 3 + [1] * 3


@pytest.mark.parametrize("name", ["token", "reply"])
def test_an_agent_that_keeps_to_the_masks_can_pay_for_a_missing_end(name):
    """Random replies of six tokens; only a few have the end of sequence among them. Letters "a" are worth 1."""
    env = ChatEnvironment(name, world=small_world(missing_eos_penalty=0.5))
    rng = np.random.default_rng(0)
    ended = []
    for seed in range(20):
        _, info = env.reset(seed=seed)
        over = False
        while not over:
            rows = info["action_mask"].reshape(-1, env.world.vocabulary)
            action = np.array([rng.choice(np.flatnonzero(row)) for row in rows])
            _, reward, over, _, info = env.step(action if name == "reply" else action[0])
        assert reward == info["reply"].count("a") - 0.5 * (not info["ended"])
        ended.append(info["ended"])
    assert not all(ended)
