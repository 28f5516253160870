"""How conversations begin: with which prompt, by which random numbers."""

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from rlhf.env import ChatEnvironment, ChatVectorEnvironment, World
from rlhf.errors import UserError
from tests.env_world import small_world


@pytest.fixture(scope="module")
def world() -> World:
    return small_world()


@pytest.mark.parametrize("number", [3, -1, "Hi", True, False, 1.0, np.bool_(True)])
@pytest.mark.parametrize("kind", [ChatEnvironment, ChatVectorEnvironment])
def test_a_prompt_that_is_not_there_is_refused(world, kind, number):
    with pytest.raises(UserError, match="no such prompt"):
        kind(world=world).reset(options={"prompt": number})


@pytest.mark.parametrize("kind", [ChatEnvironment, ChatVectorEnvironment])
def test_a_misspelt_option_is_refused(world, kind):
    with pytest.raises(UserError, match="(?s)no such options.*prompt.*found: 'promt'"):
        kind(world=world).reset(options={"promt": 1, "prompt": 1})


def test_a_single_environment_knows_no_mask_of_resets(world):
    with pytest.raises(UserError, match="no such options"):
        ChatEnvironment(world=world).reset(options={"reset_mask": np.array([True])})


def test_a_prompt_may_be_chosen_by_a_number_of_numpy(world):
    assert ChatEnvironment(world=world).reset(options={"prompt": np.int64(2)})[1]["prompt"] == world.prompts[2].id


def test_seeds_are_told_as_gymnasiums_own_vector_environment_tells_them(world):
    together = ChatVectorEnvironment(3, world=world)
    apart = SyncVectorEnv([lambda: ChatEnvironment(world=world)] * 3)
    assert len(set(together.np_random_seed)) == 3
    for seed in (11, [5, None, 7], None):
        together.reset(seed=seed)
        apart.reset(seed=seed)
        assert together.np_random_seed == apart.np_random_seed
        ours, theirs = ([luck.random() for luck in envs.np_random] for envs in (together, apart))
        assert ours == theirs


@pytest.mark.parametrize("mask", [[True, False], np.array([1, 0]), np.array([True]), np.zeros(2, bool), None])
def test_a_mask_that_says_not_which_begin_anew_is_refused(world, mask):
    envs = ChatVectorEnvironment(2, world=world)
    envs.reset(seed=0)
    with pytest.raises(UserError, match="reset_mask"):
        envs.reset(options={"reset_mask": mask})


def test_all_begin_before_some_begin_anew(world):
    with pytest.raises(UserError, match=r"call reset\(\) first"):
        ChatVectorEnvironment(2, world=world).reset(options={"reset_mask": np.array([True, False])})
