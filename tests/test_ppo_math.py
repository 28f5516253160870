"""Hand-computed values and properties of the PPO arithmetic."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.ppo_math import (
    KLController,
    explained_variance,
    generalized_advantages,
    kl_per_token,
    masked_mean,
    policy_loss,
    shaped_rewards,
    value_loss,
    whiten,
)

FULL = torch.tensor([[True, True, True]])


def test_masked_mean_leaves_padding_out():
    x = torch.tensor([[1.0, 3.0, 100.0]])
    assert masked_mean(x, torch.tensor([[True, True, False]])) == 2.0
    assert masked_mean(x, torch.zeros(1, 3, dtype=torch.bool)) == 0.0


def test_whiten_by_hand():
    x = torch.tensor([[1.0, 3.0, 50.0]])
    white = whiten(x, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(white, torch.tensor([[-1.0, 1.0, 0.0]]))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12).filter(lambda v: max(v) - min(v) > 0.1))
def test_whitened_values_have_mean_0_and_variance_1(values):
    mask = torch.ones(1, len(values), dtype=torch.bool)
    white = whiten(torch.tensor([values], dtype=torch.float64), mask)
    assert abs(white.mean().item()) < 1e-6
    assert abs((white**2).mean().item() - 1) < 1e-4


def test_kl_estimators_by_hand():
    p, q = torch.log(torch.tensor([[0.5, 0.2, 0.9]])), torch.log(torch.tensor([[0.25, 0.4, 0.1]]))
    mask = torch.tensor([[True, True, False]])
    k1 = kl_per_token(p, q, mask)
    torch.testing.assert_close(k1, torch.tensor([[math.log(2), -math.log(2), 0.0]]))
    k3 = kl_per_token(p, q, mask, "k3")
    torch.testing.assert_close(k3, torch.tensor([[0.5 - 1 + math.log(2), 2 - 1 - math.log(2), 0.0]]))


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_both_kl_estimators_have_the_exact_kl_as_expectation(p, q):
    p, q = (torch.tensor([v], dtype=torch.float64) / sum(v) for v in (p, q))
    exact = (p * (p / q).log()).sum().item()
    for estimator in ("k1", "k3"):
        estimate = (p * kl_per_token(p.log(), q.log(), FULL, estimator)).sum().item()
        assert estimate == pytest.approx(exact, abs=1e-9)
    assert (kl_per_token(p.log(), q.log(), FULL, "k3") >= -1e-12).all()


def test_score_lands_on_the_last_real_token():
    mask = torch.tensor([[True, True, False], [True, True, True]])
    kl = torch.tensor([[0.5, 1.0, 9.0], [0.0, 0.0, 2.0]])
    rewards = shaped_rewards(torch.tensor([3.0, -1.0]), kl, mask, kl_coef=0.1)
    torch.testing.assert_close(rewards, torch.tensor([[-0.05, 2.9, 0.0], [0.0, 0.0, -1.2]]))


def test_gae_by_hand():
    # gamma 0.5, lambda 0.5, rewards 1, 0, 2, values 1, 2, 3:
    # delta = 1 + .5·2 - 1 = 1;  0 + .5·3 - 2 = -.5;  2 - 3 = -1
    # A3 = -1;  A2 = -.5 + .25·(-1) = -.75;  A1 = 1 + .25·(-.75) = .8125
    advantages, returns = generalized_advantages(
        torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[1.0, 2.0, 3.0]]), FULL, gamma=0.5, lam=0.5
    )
    torch.testing.assert_close(advantages, torch.tensor([[0.8125, -0.75, -1.0]]))
    torch.testing.assert_close(returns, torch.tensor([[1.8125, 1.25, 2.0]]))


def test_gae_ignores_whatever_stands_on_padding():
    mask = torch.tensor([[True, True, False]])
    clean = generalized_advantages(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.1]]), mask[:, :2], 0.9, 0.8)
    dirty = generalized_advantages(torch.tensor([[1.0, 2.0, 77.0]]), torch.tensor([[0.5, 0.1, -50.0]]), mask, 0.9, 0.8)
    for short, long in zip(clean, dirty, strict=True):
        torch.testing.assert_close(long[:, :2], short)
        assert long[0, 2] == 0


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0.5, 1))
def test_with_lambda_1_returns_are_discounted_sums(rewards, gamma):
    count = len(rewards)
    values = torch.linspace(-1, 1, count, dtype=torch.float64).unsqueeze(0)
    mask = torch.ones(1, count, dtype=torch.bool)
    _, returns = generalized_advantages(torch.tensor([rewards], dtype=torch.float64), values, mask, gamma, 1.0)
    wanted = [sum(r * gamma**i for i, r in enumerate(rewards[t:])) for t in range(count)]
    assert returns[0].tolist() == pytest.approx(wanted)


def test_policy_loss_by_hand():
    old = torch.zeros(1, 3)
    new = torch.log(torch.tensor([[1.5, 0.5, 1.1]]))
    advantages = torch.tensor([[1.0, -1.0, 2.0]])
    # 1.5 is clipped to 1.2: -1.2;  0.5 with a negative advantage to 0.8: 0.8;  1.1 stays: -2.2
    loss, fraction = policy_loss(new, old, advantages, FULL, clip=0.2)
    assert loss.item() == pytest.approx((-1.2 + 0.8 - 2.2) / 3)
    assert fraction.item() == pytest.approx(2 / 3)


def test_policy_loss_has_no_gradient_where_it_is_clipped():
    new = torch.log(torch.tensor([[1.5, 1.0, 1.0]])).requires_grad_()
    loss, _ = policy_loss(new, torch.zeros(1, 3), torch.tensor([[1.0, 1.0, 1.0]]), FULL, clip=0.2)
    loss.backward()
    assert new.grad is not None and new.grad[0, 0] == 0 and new.grad[0, 1] < 0


def test_value_loss_by_hand():
    # old 0, clip .2. prediction 1 against return 1: plain 0, kept at .2 → .64;  .1 against 0: .01 both ways
    loss, fraction = value_loss(
        torch.tensor([[1.0, 0.1, 9.0]]),
        torch.zeros(1, 3),
        torch.tensor([[1.0, 0.0, 0.0]]),
        torch.tensor([[True, True, False]]),
        clip=0.2,
    )
    assert loss.item() == pytest.approx(0.5 * (0.64 + 0.01) / 2)
    assert fraction.item() == pytest.approx(0.5)


def test_kl_controller_moves_towards_its_target():
    controller = KLController(0.1, target=4.0, horizon=100)
    controller.update(kl=4.4, episodes=50)  # error .1 · 50/100
    assert controller.coef == pytest.approx(0.105)
    controller.update(kl=40.0, episodes=50)  # error clipped to .2
    assert controller.coef == pytest.approx(0.105 * 1.1)
    controller.update(kl=0.0, episodes=50)
    assert controller.coef == pytest.approx(0.105 * 1.1 * 0.9)


def test_kl_controller_without_target_is_fixed():
    controller = KLController(0.1)
    controller.update(kl=50.0, episodes=1000)
    assert controller.coef == 0.1


def test_explained_variance_by_hand():
    returns, mask = torch.tensor([[1.0, 2.0, 3.0, 99.0]]), torch.tensor([[True, True, True, False]])
    assert explained_variance(returns, returns, mask) == pytest.approx(1)
    assert explained_variance(torch.zeros(1, 4), returns, mask) == pytest.approx(0)
    assert explained_variance(torch.tensor([[1.0, 1.0, 3.0, 0.0]]), returns, mask) == pytest.approx(
        1 - (2 / 9) / (2 / 3)
    )
