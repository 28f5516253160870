"""What is read from learning curves, by hand."""

import pytest

from benchmarks.learning_summary import FIGURES, draw, mean_until, seconds_to, summarise, value_at


def point(seconds, reward, gold=0.5, update=0):
    rest = dict.fromkeys(FIGURES, 0.0)
    return rest | {"seconds": seconds, "reward": reward, "gold": gold, "update": update, "episodes": 8 * update}


def record(side, seed, curve, kept=None):
    kept = kept or curve[-1]
    return {"side": side, "seed": seed, "curve": curve, "kept": kept, "test_last": curve[-1], "test_kept": kept}


CURVE = [point(0, 0.0), point(10, 1.0, 0.7), point(20, 0.5, 0.9)]


def test_seconds_to_a_reward_are_linear_between_points():
    assert seconds_to(CURVE, 0.25) == 2.5
    assert seconds_to(CURVE, 1.0) == 10
    assert seconds_to(CURVE, -1.0) == 0
    assert seconds_to(CURVE, 1.1) is None


def test_a_value_at_a_time_is_linear_between_points():
    assert value_at(CURVE, "gold", 15) == pytest.approx(0.8)
    assert value_at([*CURVE, point(30, 0.5, None)], "gold", 15) is None


def test_mean_until_a_time_is_the_area_below_the_curve():
    assert mean_until(CURVE, "reward", 10) == 0.5
    assert mean_until(CURVE, "reward", 15) == pytest.approx((5 + 5 * (1 + 0.75) / 2) / 15)
    assert mean_until(CURVE, "reward", 20) == pytest.approx((5 + 7.5) / 20)


def test_a_summary_by_hand():
    slow = [point(0, 0.0), point(40, 0.4), point(80, 0.8)]
    records = [
        record("ours", 0, CURVE, kept=CURVE[1]),
        record("trl", 0, slow),
        record("ours", 1, [point(0, 0.0), point(20, 0.4)]),
        record("trl", 1, [point(0, 0.0), point(40, 0.2)]),
    ]
    found = summarise(records, ("ours", "trl"))
    first, second = found["seeds"]["0"], found["seeds"]["1"]
    assert first["target_reward"] == 0.8 and first["seconds_to_target"] == {"ours": 8.0, "trl": 80.0}
    assert first["share_of_whole_run"] == 0.1
    assert second["share_of_whole_run"] == 0.25
    assert found["mean"]["share_of_whole_run"] == pytest.approx(0.175)
    assert first["final"]["ours"]["last"]["reward"] == 0.5 and first["final"]["ours"]["kept"]["reward"] == 1.0
    assert found["mean"]["final"]["ours"]["kept"]["reward"] == pytest.approx(0.7)
    assert first["equal_seconds"] == 20 and first["at_equal_seconds"]["trl"]["reward"] == pytest.approx(0.2)


def test_a_reward_never_reached_is_no_number_in_the_mean_either():
    records = [record("ours", 0, CURVE), record("trl", 0, [point(0, 0.0), point(40, 2.0)])]
    found = summarise(records, ("ours", "trl"))
    assert found["seeds"]["0"]["share_of_whole_run"] is None and found["mean"]["share_of_whole_run"] is None


@pytest.mark.parametrize("gold, titles", [(0.5, ["reward", "reward", "gold"]), (None, ["reward", "reward"])])
def test_the_picture_has_seeds_means_and_the_final_reward_of_the_other_side(gold, titles):
    curves = {"ours": [point(0, 0.0, gold), point(60, 2.0, gold)], "trl": [point(0, 0.0, gold), point(120, 1.0, gold)]}
    records = [record(side, seed, curve) for seed in range(2) for side, curve in curves.items()]
    axes = draw(records, ("ours", "trl")).axes
    assert [title for one, title in zip(axes, titles, strict=True) if title in one.get_title("left")] == titles
    lines = axes[0].get_lines()
    assert [list(line.get_xdata()) for line in lines[:6]] == [[0, 1]] * 3 + [[0, 2]] * 3  # minutes
    assert list(lines[6].get_ydata()) == [1.0, 1.0]
