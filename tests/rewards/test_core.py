"""Weighted sums and composites: values by hand, None, numbers that are not finite, and what is logged of each."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.errors import UserError
from rlhf.normalisation import Normalisation
from rlhf.rewards.core import Composite, Reward, Rewards, as_column, statistics


def gives(*values):
    """A reward that returns these values, whatever it is asked."""
    return lambda prompts, completions, **columns: list(values)


def scored(*rewards):
    return Rewards(rewards)(prompts=["?"] * 3, completions=["a", "b", "c"])


def test_the_total_is_the_weighted_sum_and_the_parts_are_unweighted():
    scores = scored(Reward("one", gives(1, 2, 3), 2.0), Reward("other", gives(10, 0, -10), -0.5))
    assert scores.total.tolist() == [2 - 5, 4, 6 + 5]
    assert scores.parts.tolist() == [[1, 10], [2, 0], [3, -10]]


def test_none_adds_nothing_and_is_not_in_the_statistics():
    scores = scored(Reward("one", gives(1, None, 3)), Reward("never", gives(None, None, None), 5.0))
    assert scores.total.tolist() == [1, 0, 3]
    assert statistics(["one", "never"], scores.parts, "eval/") == {
        "eval/rewards/one/mean": 2.0, "eval/rewards/one/std": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_what_is_no_finite_number_makes_the_total_so(value, caplog):
    scores = scored(Reward("odd", gives(1, value, 3), -1.0), Reward("fine", gives(1, 1, 1)))
    assert scores.total.isfinite().tolist() == [True, False, True]
    assert "odd is no finite number for 1 of 3 replies" in caplog.text


def test_a_weight_of_0_logs_and_counts_nothing():
    scores = scored(Reward("watched", gives(1, math.nan, 3), 0.0), Reward("fine", gives(4, 5, 6)))
    assert scores.total.tolist() == [4, 5, 6]
    assert scores.parts[:, 0].tolist() == [1, math.inf, 3]


def test_a_normalisation_shifts_and_scales_before_the_weight():
    scores = scored(Reward("one", gives(1, 2, 5), 10.0, Normalisation(mean=1.0, std=2.0)))
    assert scores.total.tolist() == [0, 5, 20]
    assert scores.parts[:, 0].tolist() == [0, 0.5, 2]


def test_a_composite_is_the_mean_over_the_parts_that_apply():
    mix = Composite([Reward("a", gives(1, None, None), 3.0), Reward("b", gives(0, 0.5, None), 1.0)])
    assert mix(["?"] * 3, ["a", "b", "c"]) == [0.75, 0.5, None]
    rewards = Rewards([Reward("mix", mix, 2.0), Reward("c", gives(1, 1, 1))])
    assert rewards.names == ["mix", "mix/a", "mix/b", "c"]
    scores = rewards(prompts=["?"] * 3, completions=["a", "b", "c"])
    assert scores.total.tolist() == [2.5, 2.0, 1.0]
    torch.testing.assert_close(
        scores.parts,
        torch.tensor([[0.75, 1, 0, 1], [0.5, math.nan, 0.5, 1], [math.nan, math.nan, math.nan, 1]]),
        equal_nan=True,
    )


def test_a_composite_within_a_composite_names_its_parts_in_turn():
    inner = Composite([Reward("x", gives(2, 2, 2))])
    rewards = Rewards([Reward("outer", Composite([Reward("inner", inner), Reward("y", gives(4, 4, 4))]))])
    assert rewards.names == ["outer", "outer/inner", "outer/inner/x", "outer/y"]
    assert rewards(prompts=["?"] * 3, completions=["a"] * 3).parts[0].tolist() == [3, 2, 2, 4]


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.one_of(st.none(), st.floats(-5, 5))), min_size=1, max_size=5),
    st.floats(0, 1),
)
def test_a_composite_lies_between_its_parts(parts, share):
    mix = Composite([Reward(str(i), gives(value), share + 0.1) for i, (_, value) in enumerate(parts)])
    (value,) = mix(["?"], ["!"])
    known = [value for _, value in parts if value is not None]
    assert (value is None) == (not known)
    assert value is None or min(known) - 1e-9 <= value <= max(known) + 1e-9


def test_a_single_reward_of_weight_1_comes_through_exactly():
    values = torch.randn(50, generator=torch.Generator().manual_seed(0))
    rewards = Rewards([Reward("model", lambda **given: values.tolist())])
    assert torch.equal(rewards(prompts=["?"] * 50, completions=["!"] * 50).total, values)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1, 2], "found: 2 values"),
        (7.0, "found: 7.0"),
        (None, "found: None"),
        (["1", 2, 3], "for reply 1"),
        ([1, [2], 3], "for reply 2"),
        ([1, 2, 3j], "for reply 3"),
    ],
)
def test_anything_but_one_number_a_reply_is_refused_by_name(values, found):
    with pytest.raises(UserError, match="The reward mine did not return") as refused:
        as_column(values, 3, "mine")
    assert found in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        (1, 2.5, True),
        np.array([1, 2.5, 1]),
        torch.tensor([1, 2.5, 1]),
        [torch.tensor(1.0), np.float32(2.5), np.int64(1)],
    ],
)
def test_numbers_of_any_library_are_taken(values):
    assert as_column(values, 3, "mine").tolist() == [1, 2.5, 1]


def test_statistics_by_hand():
    parts = torch.tensor([[1.0, math.nan], [3.0, 4.0]])
    assert statistics(["a", "b"], parts) == {
        "rewards/a/mean": 2, "rewards/a/std": 1, "rewards/b/mean": 4, "rewards/b/std": 0,
    }  # fmt: skip
