"""What runs in a process of its own: its arguments, its result, its environment and its failure."""

import pytest

from benchmarks.processes import in_fresh_process


def test_arguments_go_in_and_the_result_comes_back(tmp_path):
    given = {"a": [1, None], "b": "ä"}
    assert in_fresh_process("builtins:dict", given, tmp_path / "found.json") == given


def test_variables_of_the_environment_are_added(monkeypatch, tmp_path):
    monkeypatch.setenv("ONE", "1")
    monkeypatch.setenv("TWO", "1")
    found = in_fresh_process("os:environ.copy", {}, tmp_path / "found.json", {"TWO": "2"})
    assert (found["ONE"], found["TWO"], found["TQDM_DISABLE"]) == ("1", "2", "1")


def test_a_failure_ends_this_process_too_and_leaves_no_older_result(tmp_path):
    result = tmp_path / "found.json"
    in_fresh_process("builtins:dict", {}, result)
    with pytest.raises(SystemExit, match="(?s)json:loads with .* failed:.*JSONDecodeError"):
        in_fresh_process("json:loads", {"s": "{"}, result)
    assert not result.exists() and "JSONDecodeError" in result.with_suffix(".log").read_text()
