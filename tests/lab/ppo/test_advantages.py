"""Advantages where episodes end, are cut short and begin anew, by hand."""

import pytest
import torch

from rlhf.ppo_math import Ends, generalized_advantages, policy_loss, value_loss, whiten

REWARDS = torch.tensor([[1.0, 2.0, 0.0, 4.0]])
VALUES = torch.tensor([[1.0, 2.0, 8.0, 3.0]])
GOES_ON = torch.tensor([[True, True, True, True]])
BEHIND = torch.tensor([6.0])


def advantages(mask, continues):
    return generalized_advantages(REWARDS, VALUES, torch.tensor([mask]), 0.5, 0.5, Ends(continues, BEHIND))


def test_the_state_behind_the_last_step_counts():
    # δ = 1 + .5·2 − 1 = 1;  2 + .5·8 − 2 = 4;  0 + .5·3 − 8 = −6.5;  4 + .5·6 − 3 = 4;  A backwards with γλ = .25:
    # 4;  −6.5 + 1 = −5.5;  4 − 1.375 = 2.625;  1 + .65625 = 1.65625
    result, returns = advantages([True] * 4, GOES_ON)
    torch.testing.assert_close(result, torch.tensor([[1.65625, 2.625, -5.5, 4.0]]))
    torch.testing.assert_close(returns, torch.tensor([[2.65625, 4.625, 2.5, 7.0]]))


def test_an_episode_cut_short_is_worth_the_value_of_the_state_it_stopped_in():
    # Step 2 (of 0, 1, 2, 3) only resets; its value, 8, is that of the state in which the episode was cut short.
    # δ₁ = 2 + .5·8 − 2 = 4 and nothing runs over the reset;  δ₀ = 1 → 1 + .25·4 = 2;  δ₃ = 4
    result, returns = advantages([True, True, False, True], GOES_ON)
    torch.testing.assert_close(result, torch.tensor([[2.0, 4.0, 0.0, 4.0]]))
    torch.testing.assert_close(returns, torch.tensor([[3.0, 6.0, 0.0, 7.0]]))


def test_behind_the_end_of_an_episode_there_is_nothing():
    # As above, but the episode ended for good: δ₁ = 2 − 2 = 0;  δ₀ = 1
    result, returns = advantages([True, True, False, True], torch.tensor([[True, False, True, True]]))
    torch.testing.assert_close(result, torch.tensor([[1.0, 0.0, 0.0, 4.0]]))
    torch.testing.assert_close(returns, torch.tensor([[2.0, 2.0, 0.0, 7.0]]))


def test_an_end_at_the_last_step_needs_no_state_behind_it():
    last = torch.tensor([[True, True, True, False]])
    assert advantages([True] * 4, last)[0][0, 3] == 4 - 3


def test_with_lambda_1_returns_are_the_discounted_rewards_and_what_lies_behind():
    result = generalized_advantages(REWARDS, VALUES, GOES_ON, 0.5, 1.0, Ends(GOES_ON, BEHIND))[1]
    # 4 + 3 = 7;  0 + 3.5;  2 + 1.75;  1 + 1.875
    torch.testing.assert_close(result, torch.tensor([[2.875, 3.75, 3.5, 7.0]]))


def test_no_mask_is_a_mask_that_is_true_everywhere():
    x, y, z = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    full = torch.ones(5, 7, dtype=torch.bool)
    torch.testing.assert_close(whiten(x, None), whiten(x, full))
    for ours, masked in (
        (policy_loss(x, y, z, None, 0.2), policy_loss(x, y, z, full, 0.2)),
        (value_loss(x, y, z, None, 0.2), value_loss(x, y, z, full, 0.2)),
    ):
        torch.testing.assert_close(ours, masked)


def test_values_without_clipping_by_hand():
    loss, clipped = value_loss(
        torch.tensor([1.0, 3.0]), torch.tensor([50.0, 50.0]), torch.tensor([0.0, 0.0]), None, None
    )
    assert loss.item() == pytest.approx(0.5 * (1 + 9) / 2)
    assert clipped == 0
