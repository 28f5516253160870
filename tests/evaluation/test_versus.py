"""A new version against the old one: differences worked out by hand, and the words for them."""

import pytest

from rlhf.evaluation.versus import Paired, duel_table, verdict


def test_means_difference_and_wins_of_scores_worked_out_by_hand():
    found = Paired.of([1.0, 0.5, 0.5, 0.0], [0.0, 0.5, 0.0, 1.0])
    assert found.new == 0.5 and found.old == 0.375 and found.difference == 0.125
    assert found.wins == (1 + 0.5 + 1 + 0) / 4
    assert -1.0 <= found.low < 0 < found.high <= 1.0


def test_the_interval_is_of_paired_differences_not_of_the_means():
    spread = [0.0, 10.0, 20.0, 30.0]
    found = Paired.of([value + 1 for value in spread], spread)
    assert found.low == found.high == found.difference == 1.0


@pytest.mark.parametrize(("new", "old"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([], [])])
def test_too_few_or_unequal_scores_are_refused(new, old):
    with pytest.raises(ValueError, match="cannot be paired"):
        Paired.of(new, old)


def test_metrics_are_named_by_what_they_are():
    metrics = Paired.of([2.0, 2.0], [1.0, 1.0]).metrics("gold")
    assert metrics == {
        "gold": 2.0, "gold/parent": 1.0, "gold/difference": 1.0, "gold/low": 1.0, "gold/high": 1.0, "gold/wins": 1.0,
    }  # fmt: skip


def test_the_table_has_a_line_for_each_measure():
    metrics = Paired.of([2.0, 2.0], [1.0, 1.0]).metrics("gold") | {
        "kl": 0.5,
        "distinct-2": 0.25,
        "distinct-2/parent": 1,
    }
    lines = duel_table(metrics, "v1", "sft").splitlines()
    assert lines[0].split() == ["v1", "sft", "difference", "v1", "wins"]
    assert lines[2].split() == ["gold", "2.000", "1.000", "+1.000", "[+1.000,", "+1.000]", "100%"]
    assert lines[3].split() == ["kl", "0.500", "–"]
    assert lines[4].split() == ["distinct-2", "0.250", "1.000"]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 0.3, "is better than"), (-0.3, -0.1, "is worse than"), (-0.1, 0.1, "cannot be told")],
)
def test_the_verdict_goes_by_the_interval(low, high, said):
    metrics = {"reward/low": 5.0, "reward/high": 6.0, "reward/difference": 5.5, "gold/low": low, "gold/high": high}
    assert said in verdict(metrics | {"gold/difference": (low + high) / 2}, "v1", "sft")
    assert "not compared" in verdict({}, "v1", "sft")


def test_without_a_judge_nothing_is_called_better_than_it_scores():
    def spread(name, low, high):
        return {f"{name}/low": low, f"{name}/high": high, f"{name}/difference": (low + high) / 2}

    found = verdict(spread("reward", 5.0, 6.0) | spread("old reward", -2.0, -1.0), "v1", "ppo")
    assert found == (
        "v1 scores higher than ppo by the reward model that v1 was trained for, on held-out prompts: "
        "+5.500 [+5.000, +6.000]. v1 scores lower than ppo by that of ppo, on held-out prompts: -1.500 "
        "[-2.000, -1.000]. Which one is better, people's judgements have to show."
    )
    assert "cannot be told apart by the reward model" in verdict(spread("reward", -1.0, 1.0), "v1", "ppo")
