"""Runs and purposes share no seed, whatever they are counted from."""

from lab.seeds import EVALUATING, TRAINING, seeds


def test_seeds_of_other_runs_and_purposes_differ() -> None:
    drawn = [seed for run in range(5) for purpose in range(4) for seed in seeds(run, purpose)(100)]
    assert len(set(drawn)) == len(drawn)


def test_no_run_trains_on_seeds_that_another_is_evaluated_on() -> None:
    trained = {seed for run in range(200) for seed in seeds(run, TRAINING)(16)}
    evaluated = {seed for run in range(200) for seed in seeds(run, EVALUATING)(100)}
    assert len(trained) == 200 * 16 and not trained & evaluated


def test_the_same_run_is_given_the_same() -> None:
    assert seeds(3, TRAINING)(2) == seeds(3, TRAINING)(8)[:2]
