"""Functions by dotted path: what they are given, and what is said where one is missing, wrong or fails."""

import sys

import pytest

import main
from rlhf.errors import UserError
from rlhf.rewards.function import FunctionReward, refuse_missing, resolve
from rlhf.rewards.tokens import GIVEN

MODULE = """
def long(completions, **kwargs):
    return [float(len(completion)) for completion in completions]

def exact(completions, reference):
    return [None if r is None else float(r in c) for c, r in zip(completions, reference)]

def count(prompts, completions, word, bonus=0):
    return [c.split().count(word) + bonus for c in completions]

def seen(**kwargs):
    return [kwargs]

def fails(completions, **kwargs):
    return [1 / len(completion) for completion in completions]

def only_together(completions, **kwargs):
    if len(completions) > 1:
        raise OSError("too many")
    return [1.0]

async def later(completions, **kwargs):
    return [1.0] * len(completions)

class Counter:
    made = 0
    def __init__(self, word):
        Counter.made += 1
        self.word = word
    def __call__(self, completions, **kwargs):
        return [c.count(self.word) for c in completions]

class Silent:
    pass

a_number = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with the module my_rewards, which nobody has imported before."""
    (tmp_path / "my_rewards.py").write_text(MODULE)
    (tmp_path / "broken_rewards.py").write_text("import no_such_library\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part not in ("", str(tmp_path))])
    for name in ("my_rewards", "broken_rewards"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    sys.modules.pop("my_rewards", None)


def refusal(call, *parts):
    with pytest.raises(UserError) as refused:
        call()
    for part in parts:
        assert part in str(refused.value)
    return refused.value


def test_a_function_gets_all_columns_or_those_that_it_names(here):
    columns = {"reference": ["b", None], "category": ["x", "y"]}
    assert FunctionReward("my_rewards.long")(["p", "q"], ["abc", ""], **columns) == [3, 0]
    assert FunctionReward("my_rewards.exact")(["p", "q"], ["abc", ""], **columns) == [1, None]
    (seen,) = FunctionReward("my_rewards.seen")(["p"], ["c"], id=["7"])
    assert seen == {"prompts": ["p"], "completions": ["c"], "id": ["7"]}


def test_args_are_handed_over_and_come_before_columns(here):
    reward = FunctionReward("my_rewards.count", {"word": "a", "bonus": 10})
    assert reward(["p", "q"], ["a b a", "c"], bonus=[1, 2], id=["1", "2"]) == [12, 10]


def test_a_class_is_made_once(here):
    reward = FunctionReward("my_rewards.Counter", {"word": "a"})
    assert [reward(["p"], ["banana"]), reward(["p"], ["x"])] == [[3], [0]]
    assert sys.modules["my_rewards"].Counter.made == 1


def test_a_conversation_has_the_form_of_trl(here):
    (alone,) = FunctionReward("my_rewards.seen", conversational=True)(["p"], ["c"])
    assert alone["prompts"] == [[{"role": "user", "content": "p"}]]
    assert alone["completions"] == [[{"role": "assistant", "content": "c"}]]
    turns = [[{"role": "system", "content": "s"}, {"role": "user", "content": "p"}]]
    (told,) = FunctionReward("my_rewards.seen", conversational=True)(["x"], ["c"], messages=turns)
    assert told["prompts"] == turns


def test_functions_of_trl_work():
    """As its documentation calls them: on conversations, and on token ids."""
    think = FunctionReward("trl.rewards.think_format_reward", conversational=True)
    assert think(["p", "q"], ["<think>why</think>so", "so"]) == [1.0, 0.0]


def test_names_that_are_not_there_are_answered_with_the_nearest(here):
    refusal(lambda: resolve("my_reward.long"), "no module my_reward", str(here), "did you mean my_rewards?")
    refusal(lambda: resolve("my_rewards.lng"), "my_rewards.py", "no such name", "did you mean long?")
    refusal(lambda: resolve("my_rewards.a_number"), "int, which cannot be called")
    refusal(lambda: resolve("rlhf.rewads.text.Length"), "no module rlhf.rewads", "did you mean rlhf.rewards?")
    refusal(lambda: resolve("broken_rewards.f"), "cannot be imported", "no_such_library", "import broken_rewards")


def test_what_cannot_be_called_as_a_reward_is_refused_at_once(here):
    refusal(lambda: FunctionReward("my_rewards.later"), "asynchronous")
    refusal(lambda: FunctionReward("my_rewards.Silent"), "cannot be called", "__call__")
    refusal(lambda: FunctionReward("my_rewards.Counter"), "cannot be made", "word")
    refusal(lambda: FunctionReward("my_rewards.count", {"wrd": 1}), "argument wrd", "did you mean word?")
    refusal(lambda: FunctionReward("my_rewards.count")(["p"], ["c"]), "needs word", "args:")
    refusal(lambda: refuse_missing(resolve("my_rewards.count"), "my_rewards.count", GIVEN), "needs word", "reference")


def test_a_failure_names_the_function_the_line_and_the_reply(here):
    reward = FunctionReward("my_rewards.fails")
    assert reward(["p", "q"], ["ab", "c"]) == [0.5, 1.0]
    error = refusal(
        lambda: reward(["p", "q", "r"], ["a", "", ""]), "my_rewards.fails failed on reply 2 of 3",
        "ZeroDivisionError: division by zero", "my_rewards.py, line 15", "prompt 'q', reply ''", "--debug",
    )  # fmt: skip
    assert isinstance(error.__cause__, ZeroDivisionError)  # whose traceback --debug shows
    refusal(
        lambda: FunctionReward("my_rewards.only_together")(["p", "q"], ["a", "b"]), "failed on all 2 replies at once"
    )


def test_a_wrong_path_is_refused_before_any_phase_starts(here, capsys):
    config = here / "tiny.yaml"
    config.write_text(
        "model: {name: " + str(here) + "}\ndata: {demonstrations: [classroom], preferences: [classroom]}\n"
        "ppo: {rewards: [model, my_rewards.lng]}\n"
    )
    assert main.main(["--phase", "sft", "--config", str(config), "--output", str(here / "out")]) == 2
    assert "did you mean long?" in capsys.readouterr().err
    assert not (here / "out").exists()
