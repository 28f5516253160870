"""`--phase versions`: what people read, and what they are told where a word is wrong."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf.errors import UserError
from rlhf.evaluation.versus import Paired
from rlhf.phases import versions
from rlhf.registry import Registry, Version
from rlhf.run import Given, Run
from tests.phases.helpers import tiny_run


@pytest.fixture
def run(tmp_path, start) -> Run:
    """A run with sft, ppo and the candidate v1."""
    for name in ("sft", "ppo", "versions/v1/ppo"):
        shutil.copytree(start, tmp_path / "run" / name)
    metrics = Paired.of([0.9, 0.8], [0.5, 0.6]).metrics("gold") | {"kl": 1.25}
    data = {"pairs": {"duel": 40, "correction": 2}, "held_out": 4, "replayed": 42}
    Registry(tmp_path / "run").register(Version("v1", "versions/v1/ppo", None, "ppo", metrics=metrics, data=data))
    return tiny_run(tmp_path / "run")


def told(run: Run, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    versions.run_phase(replace(run, given=Given(words)))
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("list",)])
def test_the_list_shows_state_parent_metrics_and_judgements(run, capsys, words):
    lines = told(run, capsys, *words).splitlines()
    assert lines[0].split() == ["version", "state", "parent", "made", "gold", "reward", "kl", "length", "new", "pairs"]
    rows = {line.split()[0]: line.split() for line in lines[2:]}
    assert rows["sft"][1:3] == ["retired", "–"] and rows["ppo"][1:3] == ["live", "sft"]
    assert rows["v1"][1:3] == ["candidate", "ppo"]
    assert rows["v1"][5:8] == ["0.850", "–", "1.250"] and "42 (2 correction, 40 duel)" in lines[-1]


def test_promote_and_roll_back_say_what_is_live(run, capsys):
    assert "v1 is live, ppo is retired" in told(run, capsys, "promote", "v1")
    assert "v1 is live already" in told(run, capsys, "promote", "v1")
    assert "ppo is live again, v1 is retired" in told(run, capsys, "rollback")
    assert Registry(run.folder).live().name == "ppo"


@pytest.mark.parametrize("names", [("v1", "ppo"), ("ppo", "v1")])
def test_compare_shows_the_paired_comparison_where_one_was_made_from_the_other(run, capsys, names):
    said = told(run, capsys, "compare", *names)
    assert said.splitlines()[0].split() == list(names)
    assert "+0.300 [+0.200, +0.400]" in said and "v1 is better than ppo by the gold judge" in said


def test_compare_of_strangers_shows_their_own_numbers_only(run, capsys):
    said = told(run, capsys, "compare", "v1", "sft")
    assert "0.850" in said and "better" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("promot", "v1"), "did you mean promote"),
        (("promote",), "takes 1 name"),
        (("promote", "v1", "v2"), "takes 1 name"),
        (("compare", "v1"), "takes 2 names"),
        (("rollback", "v1"), "takes 0 names"),
        (("promote", "v9"), "no version 'v9'"),
        (("compare", "v1", "pp"), "did you mean ppo"),
        (("promote", "../v1"), "no version"),
    ],
)
def test_wrong_words_are_refused(run, words, message):
    with pytest.raises(UserError, match=message):
        versions.run_phase(replace(run, given=Given(words)))


def test_an_empty_run_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match="--phase all"):
        versions.run_phase(tiny_run(Path(tmp_path)))
