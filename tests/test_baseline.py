"""The regression that foresees returns: the textbook's, never fitted to what it foresees, kept by checkpoints."""

import pytest
import torch
from transformers import GPTNeoForSequenceClassification

from reward_model import RewardModel
from rlhf.baseline import FEATURES, Moments, ReturnBaseline, as_features, reader


def data(rows=64, tokens=3, width=4, noise=0.0, seed=0):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, tokens, width, generator=random)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 0.0])[:width] + 3 + noise * torch.randn(rows, tokens, generator=random)
    return x, y, torch.ones(rows, tokens, dtype=torch.bool)


def test_ridge_regression_by_hand():
    """x = 0, 2 and y = 1, 5 lie on a line of slope 2. Σ(x−1)² = 2 and v = 1, so a penalty of 2 halves the slope."""
    moments = Moments.of(torch.tensor([[0.0], [2.0]]).double(), torch.tensor([1.0, 5.0]).double())
    weights, intercepts = moments.ridge((0.0, 2.0, float("inf")))
    assert weights.flatten().tolist() == pytest.approx([2.0, 1.0, 0.0])
    assert intercepts.tolist() == pytest.approx([1.0, 2.0, 3.0])


def test_moments_add_up_and_subtract():
    x, y, _ = data(rows=10)
    x, y = x[:, 0].double(), y[:, 0].double()
    parts = Moments.of(x[:4], y[:4]).plus(Moments.of(x[4:], y[4:]))
    for one, other in zip(parts.plus(Moments.of(x[4:], y[4:]), -1.0), Moments.of(x[:4], y[:4]), strict=True):
        torch.testing.assert_close(one, other)


def test_linear_returns_are_foreseen():
    x, y, mask = data()
    torch.testing.assert_close(ReturnBaseline()(x, y, mask), y, atol=0.2, rtol=0)


def test_nothing_is_foreseen_in_noise():
    """Fitted to these very replies, 64 features would explain most of 96 returns."""
    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(96, 1, 64, generator=random), torch.randn(96, 1, generator=random)
    foreseen = ReturnBaseline()(x, y, torch.ones(96, 1, dtype=torch.bool))
    assert (y - foreseen).var() > 0.9 * y.var()


def test_what_is_foreseen_of_a_reply_does_not_depend_on_its_return():
    x, y, mask = data(noise=1.0)
    other = y.clone()
    other[5] += 1
    first, second = ReturnBaseline()(x, y, mask), ReturnBaseline()(x, other, mask)
    torch.testing.assert_close(first[5], second[5])
    assert not torch.equal(first[6], second[6])


def test_earlier_rollouts_help():
    learned, x, y = ReturnBaseline(), *data(noise=2.0)[:2]
    mask = torch.ones_like(y, dtype=torch.bool)
    for seed in range(1, 6):
        learned(*data(noise=2.0, seed=seed))
    truth = data()[1]
    fresh, later = ReturnBaseline()(x, y, mask), learned(x, y, mask)
    assert ((later - truth) ** 2).mean() < 0.5 * ((fresh - truth) ** 2).mean()


def test_padding_counts_for_nothing():
    x, y, mask = data()
    mask[:, 2] = False
    wild = x.clone()
    wild[:, 2] = torch.nan
    first, second = ReturnBaseline()(x, y, mask), ReturnBaseline()(wild, y, mask)
    assert torch.equal(first, second) and not first[:, 2].any()


def test_numbers_that_are_not_finite_are_not_learned():
    learned, (x, y, mask) = ReturnBaseline(), data()
    y[0, 0] = torch.nan
    assert not learned(x, y, mask).any() and learned.moments is None


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_few_replies_are_enough(rows):
    assert ReturnBaseline()(*data(rows=rows)).isfinite().all()


def test_wide_states_are_projected_alike_each_time():
    wide = torch.randn(2, 3, 2 * FEATURES, generator=torch.Generator().manual_seed(0))
    first, second = as_features(wide, 0), as_features(wide, 0)
    assert first.shape == (2, 3, FEATURES) and torch.equal(first, second)
    assert not torch.equal(first, as_features(wide, 1))
    torch.testing.assert_close(first.norm(), wide.norm() * (FEATURES / (2 * FEATURES)) ** 0.5, rtol=0.2, atol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_replies_are_read_once_for_their_rewards_and_the_states_before_their_tokens(lively, tokenizer, batch_size):
    lively.config.num_labels = 1
    network = GPTNeoForSequenceClassification(lively.config).eval()
    model, seen = RewardModel(network, tokenizer.pad_token_id), []
    network.transformer.register_forward_hook(lambda module, given, output: seen.append(len(output[0])))
    prompts, replies = [[30, 31, 32], [40], [50, 51]], [[20], [21, 22, 23], [24, 25]]
    scores, features = reader(model, batch_size)(prompts, replies)
    assert sum(seen) == 3 and features.shape == (3, 3, lively.config.hidden_size)
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        with torch.no_grad():
            alone = network.transformer(torch.tensor([prompt + reply])).last_hidden_state[0]
        torch.testing.assert_close(features[row, : len(reply)], alone[len(prompt) - 1 : -1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scores[row], network.score(alone[-1])[0], atol=1e-5, rtol=1e-5)
    assert len(network.transformer._forward_hooks) == 1  # the test's own
    assert reader(model, batch_size, features=False)(prompts, replies)[1] is None
