"""Each row format becomes the records that it stands for; what does not fit is refused with its line."""

import pytest

from rlhf.data import jsonl
from rlhf.errors import UserError
from rlhf.records import Message, ask, prompt_id
from tests.data.helpers import write

SOURCE = jsonl.SOURCE
USER, REPLY = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
WRONG = {"role": "assistant", "content": "5"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?", "completion": "4"},
        {"prompt": [USER], "completion": [REPLY]},
        {"messages": [USER, REPLY], "quality": 0.5},
        {"messages": [{"content": "2+2?"}, {"content": "4"}], "quality": 0.5},
        {"text": "User: 2+2?\nAssistant: 4", "quality": 0.5},
        {"text": "### Human: 2+2?### Assistant: 4"},
        {"instruction": "2+2?", "context": "", "response": "4", "category": "sums"},
        {"prompt": "2+2?", "completion": " 4<|endoftext|>"},
    ],
)
def test_one_demonstration_in_every_format(tmp_path, row):
    [found] = SOURCE.demonstrations(write(tmp_path / "a.jsonl", [row]))
    assert (found.prompt, found.completion) == (ask("2+2?"), "4")
    assert found.id == prompt_id(ask("2+2?"))
    assert found.quality == row.get("quality")
    assert found.category == row.get("category", "")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
        {"prompt": [USER], "chosen": [REPLY], "rejected": [WRONG]},
        {"chosen": [USER, REPLY], "rejected": [USER, WRONG]},
        {"chosen": "\n\nHuman: 2+2?\n\nAssistant: 4", "rejected": "\n\nHuman: 2+2?\n\nAssistant: 5"},
    ],
)
def test_one_pair_in_every_format(tmp_path, row):
    [pair] = SOURCE.preferences(write(tmp_path / "a.jsonl", [row]))
    assert (pair.prompt, pair.chosen, pair.rejected, pair.kind) == (ask("2+2?"), "4", "5", "human")
    [prompt] = SOURCE.prompts(write(tmp_path / "a.jsonl", [row]))
    assert (prompt.prompt, prompt.reference) == (ask("2+2?"), "4")


@pytest.mark.parametrize(
    ("row", "reference"),
    [
        ({"prompt": "2+2?"}, None),
        ({"prompt": [USER]}, None),
        ({"turns": ["2+2?", "and doubled?"], "category": "math"}, None),
        ({"instruction": "2+2?", "instances": [{"input": "", "output": "4"}]}, "4"),
        ({"prompt": "2+2?", "completion": "4"}, "4"),
    ],
)
def test_one_prompt_in_every_format(tmp_path, row, reference):
    [prompt] = SOURCE.prompts(write(tmp_path / "a.jsonl", [row]))
    assert (prompt.prompt, prompt.reference, prompt.origin) == (ask("2+2?"), reference, prompt.id)


def test_missing_roles_take_turns(tmp_path):
    rows = [{"messages": [{"content": c} for c in "abcd"]}]
    [found] = SOURCE.demonstrations(write(tmp_path / "a.jsonl", rows))
    assert found.prompt == (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    assert found.completion == "d"


def test_chats_that_differ_in_quality_make_pairs(tmp_path):
    chats = [
        {"messages": [{"content": "2+2?"}, {"content": text}], "quality": q} for text, q in (("5", 0.25), ("4", 1))
    ]
    chats.append({"messages": [{"content": "else?"}, {"content": "alone"}], "quality": 1})
    [pair] = SOURCE.preferences(write(tmp_path / "a.jsonl", chats))
    assert (pair.chosen, pair.rejected, pair.margin) == ("4", "5", 0.75)


def test_context_and_instruction_share_one_message(tmp_path):
    row = {"instruction": "Who?", "context": "Ann came.", "response": "Ann.", "category": "closed_qa"}
    [found] = SOURCE.demonstrations(write(tmp_path / "a.jsonl", [row]))
    assert found.prompt == ask("Who?\n\nContext:\nAnn came.")


def test_plain_text_is_text_only(tmp_path):
    spec = write(tmp_path / "a.jsonl", [{"text": "Once upon a time."}])
    assert SOURCE.texts(spec) == ["Once upon a time."]
    with pytest.raises(UserError, match=r"holds no demonstrations.\n  expected: .* keys prompt and completion"):
        SOURCE.demonstrations(spec)


def test_texts_of_demonstrations_obey_keep(tmp_path):
    rows = [{"prompt": p, "completion": "x", "category": p} for p in "ab"]
    spec = write(tmp_path / "a.jsonl", rows)
    assert SOURCE.texts(spec, lambda id, category: category == "b") == ["b\n\nx"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "2+2?", "chosen": "4", "rejected": " 4 "}, "are equal"),
        ({"prompt": "2+2?", "chosen": "4"}, "no 'rejected'"),
        ({"prompt": "2+2?", "chosen": "4", "rejected": ""}, "'rejected' is empty"),
        ({"prompt": "2+2?", "chosen": "4", "rejected": "5", "margin": "big"}, "bad 'margin'"),
        ({"prompt": [{"role": "robot", "content": "hi"}], "chosen": "4", "rejected": "5"}, "bad message"),
        ({"prompt": [], "chosen": "4", "rejected": "5"}, "bad 'prompt'"),
        ({"prompt": "2+2?", "chosen": [USER], "rejected": "5"}, "one assistant's message"),
    ],
)
def test_a_bad_pair_is_refused_with_its_line(tmp_path, row, words):
    good = {"prompt": "1+1?", "chosen": "2", "rejected": "3"}
    with pytest.raises(UserError) as error:
        SOURCE.preferences(write(tmp_path / "a.jsonl", [good, row]))
    assert "a.jsonl, line 2" in str(error.value) and words in str(error.value)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen": [USER, REPLY], "rejected": [{"role": "user", "content": "3+3?"}, REPLY]}, "not two replies"),
        ({"messages": [USER]}, "does not end with a reply"),
        ({"messages": [USER, REPLY], "quality": 2}, "bad 'quality'"),
        ({"messages": [USER, REPLY], "quality": True}, "bad 'quality'"),
        ({"chosen": "no transcript", "rejected": "neither"}, "is no transcript"),
        ({"something": "else"}, "unknown row format"),
        ({"message_tree_id": "1", "prompt": {"role": "prompter"}}, "bad message"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, row, words):
    with pytest.raises(UserError) as error:
        SOURCE.preferences(write(tmp_path / "a.jsonl", [row]))
    assert "a.jsonl, line 1" in str(error.value) and words in str(error.value)


def test_asked_for_what_a_publisher_lacks_it_names_who_has_it(tmp_path):
    row = {"instruction": "2+2?", "context": "", "response": "4", "category": "sums"}
    with pytest.raises(UserError, match="hh_rlhf"):
        SOURCE.preferences(write(tmp_path / "a.jsonl", [row]))
