"""What the policy says of actions, against torch.distributions and by hand; NumPy acts as PyTorch would."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import distributions

from lab.ppo.actor import Actor
from lab.ppo.policy import Categorical, Gaussian, Policy, StateDependentHead
from lab.ppo.settings import Settings
from rlhf.errors import UserError

SETTINGS = Settings(hidden=(8, 8), orthogonal=False)
BOX = Box(-0.5, 0.5, (3,))
RANDOM = torch.Generator().manual_seed(0)


def noisy(space, noise_every=None, log_std=-0.5):
    return Policy(5, space, replace(SETTINGS, noise_every=noise_every, log_std=log_std), seed=1)


def test_categorical_against_torch():
    logits, actions = torch.randn(6, 4, generator=RANDOM), torch.tensor([0, 3, 2, 1, 1, 0])
    ours, theirs = Categorical(logits.log_softmax(1)), distributions.Categorical(logits=logits)
    torch.testing.assert_close(ours.logprobs(actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())


@pytest.mark.parametrize("shape", [(3,), (6, 3)])
def test_gaussian_against_torch(shape):
    mean, actions = torch.randn(2, 6, 3, generator=RANDOM)
    std = torch.rand(shape, generator=RANDOM) + 0.1
    ours, theirs = Gaussian(mean, std), distributions.Independent(distributions.Normal(mean, std.expand(6, 3)), 1)
    torch.testing.assert_close(ours.logprobs(actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())


def test_variance_of_state_dependent_noise_by_hand():
    head = StateDependentHead(width=2, actions=1, log_std=0.0)
    head.log_std.data = torch.tensor([[0.5], [2.0]]).log()
    # h = (2, 3): 4·.25 + 9·4 = 37
    assert head(torch.tensor([[2.0, 3.0]])).std.item() == pytest.approx(37**0.5)


def test_state_dependent_noise_has_the_variance_it_says():
    policy = noisy(BOX, noise_every=1)
    observations = torch.randn(2, 5, generator=RANDOM)
    actor = Actor(policy, BOX, 2, replace(SETTINGS, noise_every=1), np.random.default_rng(0))
    actor.renew()
    drawn = np.array([actor.explore(observations.numpy()) for _ in range(20_000)])
    law = policy.law(observations)
    assert drawn.std(0) == pytest.approx(law.std.detach().numpy(), rel=0.03)
    assert drawn.mean(0) == pytest.approx(law.mean.detach().numpy(), abs=0.03)


@pytest.mark.parametrize(("every", "changes"), [(0, [False] * 5), (2, [False, True, False, True, False])])
def test_state_dependent_noise_stays_for_as_many_steps_as_asked_for(every, changes):
    policy, observations = noisy(BOX, noise_every=every), np.ones((1, 5), np.float32)
    actor = Actor(policy, BOX, 1, replace(SETTINGS, noise_every=every), np.random.default_rng(0))
    actor.renew()
    actions = [actor.explore(observations) for _ in range(6)]
    assert [not np.array_equal(*pair) for pair in zip(actions, actions[1:], strict=False)] == changes
    actor.renew()
    assert not np.array_equal(actor.explore(observations), actions[-1])


def test_discrete_actions_are_drawn_as_often_as_the_policy_says():
    space, observations = Discrete(3), torch.randn(1, 5, generator=RANDOM).expand(500, 5)
    policy = noisy(space)
    policy.head.out.bias.data = torch.tensor([0.0, 1.0, -1.0])
    actor = Actor(policy, space, 500, SETTINGS, np.random.default_rng(0))
    drawn = np.concatenate([actor.explore(observations.numpy()) for _ in range(100)])
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    assert shares == pytest.approx(policy.law(observations[:1]).logs.exp().detach().numpy()[0], abs=0.01)


@pytest.mark.parametrize("space", [Discrete(3), BOX])
def test_numpy_acts_as_pytorch_would_also_after_the_parameters_changed(space):
    policy, observations = noisy(space), torch.randn(7, 5, generator=RANDOM)
    actor = Actor(policy, space, 7, SETTINGS, np.random.default_rng(0))
    for _ in range(2):
        law = policy.law(observations)
        best = law.logs.argmax(1) if isinstance(law, Categorical) else law.mean
        assert actor.best(observations.numpy()) == pytest.approx(best.detach().numpy(), abs=1e-6)
        policy.flat += 0.3


def test_actions_are_cut_off_at_the_bounds():
    actor = Actor(noisy(BOX), BOX, 1, SETTINGS, np.random.default_rng(0))
    assert actor.within(np.array([[-2.0, 0.1, 2.0]])).tolist() == [[-0.5, 0.1, 0.5]]


def test_backward_fills_the_one_array_of_gradients():
    policy = noisy(Discrete(3))
    for _ in range(2):
        policy.gradient.zero_()
        (policy.values(torch.ones(2, 5)).sum() + policy.law(torch.ones(2, 5)).entropy().sum()).backward()
        separate = torch.cat([parameter.grad.flatten() for parameter in policy.parameters()])
        assert separate.equal(policy.gradient) and policy.gradient.abs().sum() > 0


def test_first_policy_is_nearly_uniform_and_the_layers_are_orthogonal():
    policy = Policy(5, Discrete(3), Settings(hidden=(64, 64)), seed=0)
    chances = policy.law(torch.randn(9, 5, generator=RANDOM)).logs.exp().detach().numpy()
    assert chances == pytest.approx(np.full((9, 3), 1 / 3), abs=0.02)
    square = policy.actor[2].weight
    torch.testing.assert_close(square @ square.T, 2 * torch.eye(64), atol=1e-4, rtol=0)


def test_a_policy_without_hidden_layers_is_linear_and_starts_from_what_it_is_given():
    policy = Policy(2, Discrete(2), Settings(hidden=(), critic_hidden=(8,)), seed=0)
    weight, bias = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0.0, 1.0])
    law = policy.start_from(weight, bias).law(torch.tensor([[3.0, 1.0]]))
    torch.testing.assert_close(law.logs, torch.tensor([[3.0, 3.0]]).log_softmax(1))  # 3·1 + 0 and 1·2 + 1
    assert [layer.out_features for layer in policy.critic if isinstance(layer, torch.nn.Linear)] == [8]
    assert policy.flat.numel() == 4 + 2 + (2 * 8 + 8) + (8 + 1) and 2.0 in policy.flat


@pytest.mark.parametrize("space", [Dict({}), Discrete(3, start=1), Box(-1, 1, (2, 2))])
def test_actions_that_are_not_known_are_refused(space):
    with pytest.raises(UserError, match="cannot act"):
        noisy(space)
