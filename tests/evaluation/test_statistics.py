"""Hand-computed statistics, and properties that hold for any numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.evaluation.statistics import (
    bootstrap_ci,
    cluster_bootstrap_ci,
    expected_calibration_error,
    longer_wins_accuracy,
    paired_wins,
    reliability_bins,
    right,
    spearman,
)

NUMBERS = st.lists(st.floats(-100, 100), min_size=2, max_size=30)
LOGIT_75 = math.log(3)  # sigmoid(ln 3) = 3/4


def test_the_interval_of_equal_values_is_that_value() -> None:
    assert bootstrap_ci([2.5] * 8) == (2.5, 2.5)


def test_one_value_has_no_interval() -> None:
    assert bootstrap_ci([3.0]) is None


@given(NUMBERS)
def test_the_interval_lies_within_the_values(values: list[float]) -> None:
    interval = bootstrap_ci(values, resamples=50)
    assert interval is not None
    assert min(values) - 1e-9 <= interval[0] <= interval[1] <= max(values) + 1e-9


def test_the_interval_is_as_wide_as_the_normal_approximation() -> None:
    values = np.random.default_rng(1).normal(5, 2, size=400)
    interval = bootstrap_ci(values, resamples=4000)
    assert interval is not None
    half = 1.96 * values.std() / math.sqrt(400)
    assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)


def test_the_seed_decides_the_interval() -> None:
    values = np.arange(20.0)
    assert bootstrap_ci(values, seed=3) == bootstrap_ci(values, seed=3) != bootstrap_ci(values, seed=4)


def test_a_large_set_is_resampled_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(10.0)
    whole = bootstrap_ci(values, resamples=200)
    monkeypatch.setattr("rlhf.evaluation.statistics.CHUNK", 30)
    assert bootstrap_ci(values, resamples=200) == whole


@given(NUMBERS)
def test_clusters_of_one_value_are_values(values: list[float]) -> None:
    found = cluster_bootstrap_ci(values, np.arange(len(values)), resamples=50)
    assert found == pytest.approx(bootstrap_ci(values, resamples=50), abs=1e-9)


def test_what_is_said_twice_is_no_news() -> None:
    """Each value nine times over: resampled one by one the interval is a third as wide; by clusters, what it was."""
    values = np.random.default_rng(1).normal(size=60)
    names = np.repeat([f"fact {number:02}" for number in range(60)], 9)
    once, clustered = bootstrap_ci(values), cluster_bootstrap_ci(np.repeat(values, 9), names)
    naive = bootstrap_ci(np.repeat(values, 9))
    assert once and naive and clustered == pytest.approx(once)
    assert naive[1] - naive[0] == pytest.approx((once[1] - once[0]) / 3, rel=0.15)


def test_large_clusters_weigh_more() -> None:
    """Two clusters, (0, 0, 0) and (4): the resamples are both of either, or one of each, whose mean is 4 / 4."""
    found = cluster_bootstrap_ci([0, 4, 0, 0], ["a", "b", "a", "a"], level=0.2)  # 40% to 60%: the one of each
    assert found == (1.0, 1.0)
    assert cluster_bootstrap_ci([0, 4, 0, 0], ["a", "b", "a", "a"]) == (0.0, 4.0)


def test_one_cluster_has_no_interval_and_each_value_needs_one() -> None:
    assert cluster_bootstrap_ci([1.0, 2.0, 3.0], [7, 7, 7]) is None
    with pytest.raises(ValueError, match="3 values, 2 clusters"):
        cluster_bootstrap_ci([1.0, 2.0, 3.0], [1, 2])


def test_wins_ties_and_losses_by_hand() -> None:
    rate = paired_wins([1, 2, 3, 4], [0, 2, 4, 1])
    assert (rate.win, rate.tie, rate.loss, rate.score, rate.n) == (0.5, 0.25, 0.25, 0.625, 4)


def test_noise_below_the_tolerance_ties() -> None:
    assert paired_wins([1.0, 1.0], [1.0 + 1e-9, 1.1]).tie == 0.5


@given(NUMBERS)
def test_swapping_the_sides_swaps_wins_and_losses(values: list[float]) -> None:
    other = values[::-1]
    ours, theirs = paired_wins(values, other, 10), paired_wins(other, values, 10)
    assert (ours.win, ours.tie, ours.loss) == (theirs.loss, theirs.tie, theirs.win)
    assert ours.win + ours.tie + ours.loss == pytest.approx(1)


def test_unequal_sides_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        paired_wins([1, 2], [1])
    with pytest.raises(ValueError, match="0 and 0"):
        paired_wins([], [])


def test_equal_scores_are_half_right() -> None:
    assert right([0.3, -0.2, 0.0]).tolist() == [1, 0, 0.5]


def test_longer_wins_counts_ties_as_one_half() -> None:
    assert longer_wins_accuracy([3, 2, 5], [1, 2, 9]) == pytest.approx((1 + 0.5 + 0) / 3)


def test_calibration_error_of_three_quarters_sure_and_half_right() -> None:
    bins = reliability_bins([LOGIT_75, -LOGIT_75])
    assert [(b.confidence, b.accuracy, b.n) for b in bins] == [(pytest.approx(0.75), 0.5, 2)]
    assert expected_calibration_error(bins) == pytest.approx(0.25)


def test_calibration_error_weighs_bins_by_their_pairs() -> None:
    # Three at confidence 0.75 and right (gap 0.25), one undecided at 0.5 and half right (gap 0).
    bins = reliability_bins([LOGIT_75, LOGIT_75, LOGIT_75, 0.0])
    assert expected_calibration_error(bins) == pytest.approx(0.75 * 0.25)


def test_a_calibrated_model_has_no_error() -> None:
    assert expected_calibration_error(reliability_bins([LOGIT_75] * 3 + [-LOGIT_75])) == pytest.approx(0)


def test_no_pairs_have_no_calibration() -> None:
    assert expected_calibration_error(reliability_bins([])) is None


def test_confidence_equals_showing_each_pair_in_both_orders() -> None:
    logits = np.random.default_rng(0).normal(0.5, 2, size=300)
    both = 1 / (1 + np.exp(-np.concatenate([logits, -logits])))
    labels = np.repeat([1.0, 0.0], 300)
    index = np.minimum((both * 20).astype(int), 19)
    gaps = [abs(labels[index == i].mean() - both[index == i].mean()) * (index == i).mean() for i in set(index)]
    assert expected_calibration_error(reliability_bins(logits)) == pytest.approx(sum(gaps))


def test_rank_correlation_by_hand() -> None:
    assert spearman([1, 2, 3], [10, 300, 20]) == pytest.approx(0.5)
    assert spearman([1, 2, 3], [5, 5, 5]) is None
    assert spearman([1, 2], [1, 2]) is None
