"""PPO learns what can be learned, and not from steps that are none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete, MultiBinary
from gymnasium.vector import AutoresetMode

from lab.ppo.learner import Batch, train
from lab.ppo.policy import Policy
from lab.ppo.settings import Settings
from lab.runs import evaluate, prepared
from rlhf.errors import UserError
from tests.lab.worlds import ContinuousIdentity, Identity, Pays, side_by_side

QUICK = Settings(steps=6_000, environments=4, horizon=64, batch=64, epochs=4, gamma=0.0, learning_rate=3e-3,
                 hidden=(32,))  # fmt: skip


def mean_return(make, settings):
    training = train(side_by_side(make, settings.environments), settings, seed=0)
    return evaluate(training.agent, prepared(side_by_side(make, 50)), seed=1).mean()


def test_actions_that_are_shown_are_learned():
    assert mean_return(Identity, QUICK) == 10.0


@pytest.mark.parametrize("noise_every", [None, 0, 8])
def test_numbers_that_are_shown_are_learned(noise_every):
    settings = replace(QUICK, steps=20_000, noise_every=noise_every, log_std=-1.0, normalise=True)
    assert mean_return(ContinuousIdentity, settings) > -0.2  # an action of always 0 gets −10/3


def test_what_is_cut_short_is_worth_what_it_would_have_brought():
    settings = Settings(steps=20_000, environments=4, horizon=32, batch=128, epochs=10, gamma=0.8, lam=0.9,
                        learning_rate=1e-2, learning_rate_course="linear", hidden=(16,))  # fmt: skip
    training = train(side_by_side(lambda: Pays(2.0), 4), settings, seed=0)
    values = training.agent.values(np.random.default_rng(0).uniform(-1, 1, (100, 2)))
    assert values == pytest.approx(2.0 / (1 - 0.8), rel=0.02)  # if resets counted as steps, 10/6 / (1 − 0.8) = 8.3
    assert {episode.reward for episode in training.episodes} == {10.0}


def test_the_same_seed_gives_the_same_agent_and_another_one_another():
    settings = replace(QUICK, steps=1_000)
    agents = [train(side_by_side(ContinuousIdentity, 4), settings, seed).agent for seed in (0, 0, 1)]
    first, again, other = (agent.policy.flat for agent in agents)
    assert first.equal(again) and not first.equal(other)


def test_a_rollout_that_only_resets_changes_nothing():
    settings = replace(QUICK, environments=1, horizon=1, steps=12)  # one step, one reset, and so on
    agent = train(side_by_side(lambda: Pays(1.0, steps=1), 1), settings, seed=0).agent
    assert agent.policy.flat.isfinite().all()


def test_every_step_is_in_one_minibatch():
    numbers = torch.arange(10.0)
    batch = Batch(*[numbers] * 5)
    parts = list(batch.minibatches(4, torch.Generator().manual_seed(0)))
    assert [len(part.returns) for part in parts] == [4, 4, 2]
    assert torch.cat([part.returns for part in parts]).sort().values.equal(numbers)
    assert all(part.observations.equal(part.advantages) for part in parts)


def test_environments_that_reset_themselves_at_once_are_refused():
    with pytest.raises(UserError, match="NEXT_STEP"):
        train(side_by_side(Identity, 4, AutoresetMode.SAME_STEP), QUICK, seed=0)


def test_actions_of_another_kind_are_refused():
    class Switches(Identity):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = MultiBinary(3)

    with pytest.raises(UserError, match="MultiBinary"):
        train(side_by_side(Switches, 4), QUICK, seed=0)


def test_training_starts_from_the_policy_that_is_given():
    settings = replace(QUICK, steps=256, hidden=(), critic_hidden=(8,), learning_rate=1e-9)
    known = Policy(4, Discrete(4), settings, seed=0).start_from(5 * torch.eye(4), torch.zeros(4))
    agent = train(side_by_side(Identity, 4), settings, seed=1, policy=known).agent
    assert agent.policy is known and evaluate(agent, prepared(side_by_side(Identity, 5)), seed=1).tolist() == [10.0] * 5


def test_figures_are_told_after_each_update():
    told = []
    train(side_by_side(Identity, 4), replace(QUICK, steps=512), 0, lambda step, figures: told.append((step, figures)))
    assert [step for step, _ in told] == [256, 512]
    assert {"policy_loss", "value_loss", "clip_fraction"} == set(told[0][1])
