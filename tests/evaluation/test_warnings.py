"""Each warning fires on what it is about, cites its numbers, and stays silent otherwise."""

from typing import Any

import pytest

from rlhf.evaluation.warnings import find_warnings

SYSTEM = {
    "n": 200, "reward_mean": 0.1, "gold_mean": 0.6, "bleu": 20.0, "distinct_2": 0.4, "length_mean": 30.0,
    "eos_rate": 0.95, "repetition": 0.02, "unsafe_rate": 0.0, "kl_to_sft": 0.0, "ood": {},
    "by_category": {},
}  # fmt: skip
PAIRS = {"accuracy": 0.8, "longer_wins_accuracy": 0.5, "n": 500}


def report(spp: dict[str, Any], so: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    """A report that gives no cause for warnings except by what is changed in it."""
    better = SYSTEM | {"reward_mean": 1.0, "gold_mean": 0.8, "kl_to_sft": 3.0}
    return {
        "systems": {"SO": SYSTEM | (so or {}), "SPP": better | spp},
        "reward_model": {"sets": {"held_out": PAIRS}, "kinds": {}} | model,
        "config": {},
        "results": {},
        "kept_updates": {},
    }


def codes(found: list[dict[str, Any]]) -> list[str]:
    return [warning["code"] for warning in found]


def test_a_sound_report_has_no_warnings() -> None:
    assert find_warnings(report({})) == []


@pytest.mark.parametrize(
    ("changed", "code", "cited"),
    [
        ({"gold_mean": 0.5}, "reward_hacking", ["0.10", "1.00", "0.600", "0.500"]),
        ({"bleu": 15.5}, "reward_hacking", ["20.0", "15.5"]),
        ({"distinct_2": 0.3}, "reward_hacking", ["0.400", "0.300"]),
        ({"length_mean": 60.0}, "length_drift", ["longer", "60.0", "30.0"]),
        ({"length_mean": 12.0}, "length_drift", ["shorter", "12.0", "30.0"]),
        ({"eos_rate": 0.5}, "eos_drop", ["50%", "95%"]),
        ({"repetition": 0.4}, "repetition_rise", ["40%", "2%"]),
        ({"unsafe_rate": 0.05}, "unsafe_rise", ["5.0%", "0.0%"]),
        ({"kl_to_sft": 25.0}, "kl_blow_up", ["25.0", "10"]),
        ({"kl_to_sft": -2.0}, "kl_negative", ["-2.00"]),
    ],
)  # fmt: skip
def test_a_change_for_the_worse_is_named_with_its_numbers(changed: Any, code: str, cited: list[str]) -> None:
    (warning,) = find_warnings(report(changed))
    assert warning["code"] == code
    assert all(number in warning["text"] for number in cited)
    assert warning["numbers"]


@pytest.mark.parametrize(
    "changed",
    [
        {"gold_mean": 0.595},  # less than GOLD_FALL
        {"bleu": 19.5},
        {"distinct_2": 0.37},
        {"distinct_2": 0.2, "length_mean": 40.0},  # longer replies have fewer distinct pairs by length alone
        {"reward_mean": 0.12, "gold_mean": 0.5},  # reward did not rise: bad, but no hacking
        {"length_mean": 44.0},
        {"eos_rate": 0.9},
        {"kl_to_sft": None, "gold_mean": None, "bleu": None, "distinct_2": None},
        {"reward_mean": None},
    ],
)
def test_small_or_missing_changes_are_not_warned_about(changed: Any) -> None:
    assert find_warnings(report(changed)) == []


def test_the_limit_of_kl_follows_the_target() -> None:
    made = report({"kl_to_sft": 5.0}) | {"config": {"ppo": {"target_kl": 2.0}}}
    assert codes(find_warnings(made)) == ["kl_blow_up"]
    assert find_warnings(made | {"config": {"ppo": {"target_kl": 3.0}}}) == []


def test_the_kl_of_greedy_replies_is_not_warned_about() -> None:
    made = report({"kl_to_sft": 50.0}) | {"config": {"test": {"temperature": 0.0}}}
    assert find_warnings(made) == []
    (warning,) = find_warnings(made | {"config": {"test": {"temperature": 0.7}}})
    assert "at temperature 0.7" in warning["text"]


def test_ppo_that_kept_its_start_is_named() -> None:
    fallen = {"gold_mean": 0.5, "length_mean": 90.0}  # by chance: it is the same model
    (warning,) = find_warnings(report(fallen) | {"kept_updates": {"SPP": 0, "RO": 4}})
    assert warning["code"] == "ppo_kept_nothing" and warning["text"].startswith("SPP is SO")


def test_results_of_other_settings_are_named() -> None:
    (warning,) = find_warnings(report({}) | {"results": {"sft": {}, "ppo": {"ppo.kl_coef": 0.05}}})
    assert warning["code"] == "other_settings" and warning["numbers"] == {"ppo.kl_coef": 0.05}
    assert "result ppo" in warning["text"] and "ppo.kl_coef=0.05" in warning["text"]


def test_hacking_out_of_distribution_is_one_warning_that_names_the_suites() -> None:
    made = report({"ood": {"typos": SYSTEM | {"reward_mean": 1.0, "gold_mean": 0.3}, "long": SYSTEM}},
                  so={"ood": {"typos": SYSTEM, "long": SYSTEM}})  # fmt: skip
    (warning,) = find_warnings(made)
    assert warning["code"] == "reward_hacking_ood"
    assert "typos" in warning["text"] and "long" not in warning["text"]
    assert warning["numbers"]["typos"]["gold_mean"] == [0.6, 0.3]


def test_ppo_from_the_base_is_compared_too() -> None:
    made = report({})
    made["systems"]["RO"] = SYSTEM | {"reward_mean": 2.0, "gold_mean": 0.2, "kl_to_sft": 90.0}
    (warning,) = find_warnings(made)
    assert warning["code"] == "reward_hacking" and "SO to RO" in warning["text"]


def test_a_reward_model_no_better_than_length_is_named() -> None:
    weak = {"accuracy": 0.62, "longer_wins_accuracy": 0.60, "n": 500}
    found = find_warnings(report({}, sets={"held_out": PAIRS, "hh": weak}))
    assert codes(found) == ["reward_model_near_length"]
    assert "hh" in found[0]["text"] and "62.0%" in found[0]["text"] and "60.0%" in found[0]["text"]


def test_a_reward_model_below_chance_is_named_on_sets_and_kinds() -> None:
    bad = {"accuracy": 0.4, "longer_wins_accuracy": 0.6, "n": 90}
    found = find_warnings(report({}, sets={"hh": bad}, kinds={"wrong_fact": bad}))
    assert codes(found) == ["reward_model_below_chance"] * 2
    assert "the set hh" in found[0]["text"] and "kind wrong_fact" in found[1]["text"]


def test_few_prompts_are_named() -> None:
    (warning,) = find_warnings(report({"n": 12}))
    assert warning["code"] == "few_prompts" and "in_distribution (12)" in warning["text"]


def test_few_rows_of_categories_sets_and_kinds_are_named() -> None:
    few = PAIRS | {"n": 29}
    made = report({"by_category": {"code": {"n": 3}, "qa": {"n": 30}}}, sets={"held_out": PAIRS, "hh": few},
                  kinds={"text": few})  # fmt: skip
    found = {warning["code"]: warning for warning in find_warnings(made)}
    assert {code: warning["numbers"] for code, warning in found.items()} == {
        "few_in_category": {"code": 3}, "few_pairs": {"hh": 29}, "few_pairs_of_kind": {"text": 29},
    }  # fmt: skip
    assert "code (3)" in found["few_in_category"]["text"]
