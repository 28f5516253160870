"""The store of the chat is a source of pairs, corrections and prompts; a reply that nobody liked is not imitated."""

import pytest

from dataloader import DataRoom, check_sources
from rlhf.chat.feedback import FILE, Rating
from rlhf.config import SourceSpec, parse_config
from rlhf.data import feedback, jsonl
from rlhf.errors import UserError
from rlhf.records import Message, ask, prompt_id
from tests.chat.stored import duel, opened, talk, turn
from tests.data.helpers import write

SOURCE = feedback.SOURCE


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path) as opened_store:
        yield opened_store


@pytest.fixture
def spec(store):
    return SourceSpec(source="feedback", path=str(store.file))


def vote(store, prompt, left, right, choice="left"):
    store.vote("ann", duel(store, "ann", prompt, left, right).id, choice, 5000)


def rate(store, prompt, reply, **rating):
    store.rate("ann", talk(store, "ann", prompt, reply)[-1].id, Rating(**rating))


def sides(pairs):
    return [(pair.prompt[-1].content, pair.chosen, pair.rejected, pair.kind) for pair in pairs]


def test_duels_corrections_and_thumbs_are_pairs(store, spec):
    vote(store, "2+2?", "5", "4", "right")
    vote(store, "2+2?", "5", "4", "tie")
    rate(store, "3+3?", "7", thumb=-1, correction="6")
    rate(store, "4+4?", "8", thumb=1)
    rate(store, "4+4?", "9", thumb=-1)
    rate(store, "4+4?", "10", thumb=-1)
    rate(store, "5+5?", "10", thumb=1)  # nothing to hold it against
    pairs = SOURCE.preferences(spec)
    assert sides(pairs) == [
        ("2+2?", "4", "5", "duel"),
        ("3+3?", "6", "7", "correction"),
        ("4+4?", "8", "9", "thumbs"),
        ("4+4?", "8", "10", "thumbs"),
    ]
    assert {(pair.source, pair.category) for pair in pairs} == {("feedback", "chat")}
    assert pairs[0].id == prompt_id(ask("2+2?"))


def test_who_saw_both_side_by_side_knows_better_than_thumbs(store, spec):
    vote(store, "2+2?", "4", "5")
    rate(store, "2+2?", "4", thumb=-1)
    rate(store, "2+2?", "5", thumb=1)
    assert sides(SOURCE.preferences(spec)) == [("2+2?", "4", "5", "duel")]


def test_corrections_are_demonstrations(store, spec):
    rate(store, "2+2?", "5", correction="4")
    _, first = talk(store, "ann", "3+3?", "6")
    asked = turn(store, first.conversation, first.id, "doubled?")
    store.rate("ann", turn(store, first.conversation, asked.id, "13").id, Rating(correction="12"))
    found = SOURCE.demonstrations(spec)
    later = (Message("user", "3+3?"), Message("assistant", "6"), Message("user", "doubled?"))
    assert [(row.prompt, row.completion) for row in found] == [(ask("2+2?"), "4"), (later, "12")]


def test_without_corrections_there_are_no_demonstrations(store, spec):
    vote(store, "2+2?", "4", "5")
    with pytest.raises(UserError, match="no corrections"):
        SOURCE.demonstrations(spec)


def test_prompts_are_what_was_judged(store, spec):
    vote(store, "2+2?", "4", "5")
    rate(store, "2+2?", "5", thumb=-1)
    rate(store, "3+3?", "7", thumb=-1)
    talk(store, "ann", "4+4?", "8")  # nobody has judged it: it is nobody's business
    assert [(p.prompt, p.reference) for p in SOURCE.prompts(spec)] == [(ask("2+2?"), "4"), (ask("3+3?"), None)]


def test_a_configuration_takes_it_as_a_source(store, tmp_path):
    for number in range(40):
        right = str(2 * number)
        if number % 2:
            vote(store, f"{number}+{number}?", right, "many", "left")
        else:
            vote(store, f"{number}+{number}?", "many", right, "right")
    text = write(tmp_path / "rows.jsonl", [{"prompt": f"{n}?", "completion": str(n)} for n in range(60)]).path
    for named in ({"source": "feedback", "path": str(store.file)}, str(tmp_path / FILE)):
        values = {"demonstrations": [text], "preferences": [named], "validation_fraction": 0.2, "test_fraction": 0.2}
        config = parse_config({"model": {"name": "x"}, "data": values})
        check_sources(config)
        room = DataRoom(config)
        splits = [room.preferences(split) for split in ("train", "validation", "test")]
        assert sum(map(len, splits)) == 40
        assert all(pair.chosen != "many" for split in splits for pair in split)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "needs a file"),
        ({"path": "missing.sqlite"}, "missing.sqlite"),
        ({"path": "FILE", "split": "train"}, "split would have no effect"),
        ({"name": "somebody/something"}, "name would have no effect"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_runs(store, given, words):
    given = {key: str(store.file) if value == "FILE" else value for key, value in given.items()}
    values = {"demonstrations": ["classroom"], "preferences": [{"source": "feedback", **given}]}
    with pytest.raises(UserError, match=words):
        check_sources(parse_config({"model": {"name": "x"}, "data": values}))


def test_a_file_that_is_no_store_is_refused_and_not_changed(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "x"}\n')
    with pytest.raises(UserError, match="no feedback store"):
        SOURCE.preferences(SourceSpec(source="feedback", path=str(file)))
    assert file.read_text() == '{"prompt": "x"}\n' and len(list(tmp_path.iterdir())) == 1


def test_a_disliked_reply_is_not_imitated_but_makes_a_pair(tmp_path):
    rows = [
        {"prompt": "2+2?", "completion": "5", "label": False},
        {"prompt": [{"role": "user", "content": "2+2?"}], "completion": "4", "label": True},
        {"prompt": "3+3?", "completion": "7", "label": False},
    ]
    file = write(tmp_path / "unpaired.jsonl", rows)
    [liked] = jsonl.SOURCE.demonstrations(file)
    assert (liked.prompt, liked.completion) == (ask("2+2?"), "4")
    [pair] = jsonl.SOURCE.preferences(file)
    assert (pair.chosen, pair.rejected, pair.margin) == ("4", "5", None)  # a thumb does not say how much worse
    assert [(p.prompt, p.reference) for p in jsonl.SOURCE.prompts(file)] == [(ask("2+2?"), "4"), (ask("3+3?"), None)]
    assert jsonl.SOURCE.texts(file) == ["2+2?\n\n4"]


@pytest.mark.parametrize("label", [1, "yes", None])
def test_a_label_is_true_or_false(tmp_path, label):
    file = write(tmp_path / "a.jsonl", [{"prompt": "2+2?", "completion": "4", "label": label}])
    with pytest.raises(UserError, match=r"line 1: bad 'label'"):
        jsonl.SOURCE.demonstrations(file)
