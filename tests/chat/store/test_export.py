"""Judgements become rows that TRL and this project read; what is left out is counted; what is exported comes back."""

import json
import tempfile
import threading
from pathlib import Path

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from main import main
from rlhf.chat.feedback import FILE, FeedbackStore, Rating, StoredMessage
from rlhf.chat.store.export import PAIRS, UNPAIRED, export, import_feedback
from rlhf.chat.store.judgements import RUN, collect, least_ms
from rlhf.config import SourceSpec
from rlhf.data import jsonl
from rlhf.errors import UserError
from rlhf.records import Message, ask
from tests.chat.stored import duel, opened, talk, turn

SLOW_ENOUGH = 5000


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path) as opened_store:
        yield opened_store


def voted(store, user, prompt, chosen, rejected, side="left", latency_ms=SLOW_ENOUGH, **rejected_fields):
    """A duel that `chosen` has won, on a side."""
    texts = (chosen, rejected) if side == "left" else (rejected, chosen)
    one = duel(store, user, prompt, *texts, **rejected_fields)
    return store.vote(user, one.id, side, latency_ms)


def rated(store, user, prompt, reply, rating, **fields):
    store.rate(user, talk(store, user, prompt, reply, **fields)[-1].id, rating)


def rows(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def spec(file):
    return SourceSpec(source="jsonl", path=str(file))


def found(store):
    """The pairs as texts, the thumbs as labels, and what was left out."""
    some = collect(store)
    return [(p.chosen, p.rejected) for p in some.pairs], [t.label for t in some.thumbs], dict(some.left_out)


def test_a_duel_about_a_later_turn_keeps_the_turns_before_it(store, tmp_path):
    _, reply = talk(store, "ann", "2+2?", "4")
    asked = turn(store, reply.conversation, reply.id, "and doubled?")
    better = turn(store, reply.conversation, asked.id, " 8 ", version="ppo-2")
    worse = turn(store, reply.conversation, asked.id, "9", version="ppo")
    one = store.open_duel("ann", asked.id, worse.id, better.id, "active")
    time = store.vote("ann", one.id, "right", 1500).voted
    summary = export(store, tmp_path / "out")
    assert rows(tmp_path / "out" / PAIRS) == [
        {
            "prompt": [
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "4"},
                {"role": "user", "content": "and doubled?"},
            ],
            "chosen": [{"role": "assistant", "content": "8"}],
            "rejected": [{"role": "assistant", "content": "9"}],
            "kind": "duel",
            "id": one.id,
            "chosen_version": "ppo-2",
            "rejected_version": "ppo",
            "chosen_side": "right",
            "latency_ms": 1500,
            "time": time,
        }
    ]
    assert (summary.pairs, summary.unpaired, summary.left_out) == (1, 0, {})
    assert "nothing was left out" in str(summary)


def test_what_is_exported_is_read_by_this_project_and_by_datasets(store, tmp_path):
    voted(store, "ann", "2+2?", "4", "5")
    rated(store, "ann", "3+3?", "7 \u2028 \N{SLICE OF PIZZA}", Rating(thumb=-1, correction="6"))
    rated(store, "ann", "4+4?", "8", Rating(thumb=1))
    export(store, tmp_path / "out")
    pairs = jsonl.SOURCE.preferences(spec(tmp_path / "out" / PAIRS))
    assert [(p.prompt, p.chosen, p.rejected, p.kind) for p in pairs] == [
        (ask("2+2?"), "4", "5", "duel"),
        (ask("3+3?"), "6", "7 \u2028 \N{SLICE OF PIZZA}", "correction"),
    ]
    [liked] = jsonl.SOURCE.demonstrations(spec(tmp_path / "out" / UNPAIRED))
    assert (liked.prompt, liked.completion) == (ask("4+4?"), "8")

    def table(name):
        file, cache = str(tmp_path / "out" / name), str(tmp_path / "cache")
        return datasets.load_dataset("json", data_files=file, split="train", cache_dir=cache)

    assert table(PAIRS)[0]["prompt"] == [{"role": "user", "content": "2+2?"}]
    assert table(PAIRS)[1]["chosen"] == [{"role": "assistant", "content": "6"}]
    assert table(UNPAIRED)["label"] == [False, True] and table(UNPAIRED).features["label"].dtype == "bool"
    assert table(UNPAIRED)[1]["completion"] == [{"role": "assistant", "content": "8"}]


def test_no_row_names_a_person(store, tmp_path):
    voted(store, "ann.with.a.name", "2+2?", "4", "5")
    rated(store, "ann.with.a.name", "3+3?", "6", Rating(thumb=1, comment="a remark"))
    export(store, tmp_path / "out")
    text = (tmp_path / "out" / PAIRS).read_text() + (tmp_path / "out" / UNPAIRED).read_text()
    assert len(text.splitlines()) == 2 and "ann" not in text and "remark" not in text


def test_ties_and_ratings_without_a_side_stay_in_the_store(store, tmp_path):
    for choice in ("tie", "tie", "both_bad"):
        store.vote("ann", duel(store, "ann", "2+2?", "4", "5").id, choice, SLOW_ENOUGH)
    rated(store, "ann", "2+2?", "4", Rating(helpful=5, comment="well"))
    rated(store, "ann", "2+2?", "4", Rating(correction="  "))
    duel(store, "ann", "2+2?", "4", "5")  # open: nobody has said anything
    summary = export(store, tmp_path / "out")
    assert summary.left_out == {"tie": 2, "both bad": 1, "neither thumb nor correction": 2}
    assert str(summary).splitlines()[2:] == [
        "5 judgements were left out; they stay in the store:",
        "       2  tie",
        "       2  neither thumb nor correction",
        "       1  both bad",
    ]
    assert store.counts()["ties"] == 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"blocked": True}, "blocked turn"),
        ({"finish_reason": "cancelled"}, "cut-off reply"),
        ({"finish_reason": "error"}, "cut-off reply"),
        ({"content": " \n"}, "empty turn"),
    ],
)
def test_a_blocked_or_cut_off_reply_never_trains(store, fields, reason):
    text = fields.pop("content", "5")
    voted(store, "ann", "2+2?", "4", text, **fields)  # rejected
    voted(store, "ann", "2+2?", text, "4", side="right", **fields)
    rated(store, "ann", "3+3?", text, Rating(thumb=1, correction="6"), **fields)
    assert found(store)[2].pop(reason) in (
        3,
        4,
    )  # the second duel's fields are the right reply's, which is the chosen one
    assert found(store)[:2] == ([], [])


@pytest.mark.parametrize(("fields", "reason"), [({"blocked": True}, "blocked turn"), ({"content": " "}, "empty turn")])
def test_what_comes_after_a_blocked_or_empty_turn_never_trains(store, fields, reason):
    _, reply = talk(store, "ann", "4+4?", fields.pop("content", "8"), **fields)
    more = turn(store, reply.conversation, reply.id, "and doubled?")
    store.rate("ann", turn(store, reply.conversation, more.id, "16").id, Rating(thumb=1))
    assert found(store) == ([], [], {reason: 1})


def test_a_blocked_question_never_trains(store):
    conversation = store.new_conversation("ann")
    asked = turn(store, conversation.id, None, "something bad", blocked=True)
    store.rate("ann", turn(store, conversation.id, asked.id, "a reply").id, Rating(thumb=1))
    assert found(store) == ([], [], {"blocked turn": 1})


def test_a_hidden_conversation_trains_no_more(store):
    one = voted(store, "ann", "2+2?", "4", "5")
    assert found(store)[0] == [("4", "5")]
    store.hide(store.message(one.left).conversation)
    assert found(store) == ([], [], {"hidden conversation": 1})


def test_equal_replies_prefer_nothing(store):
    voted(store, "ann", "2+2?", "4", "4 ")
    rated(store, "ann", "2+2?", "4", Rating(correction=" 4"))
    assert found(store) == ([], [], {"equal replies": 2})


def test_the_shortest_time_in_which_anybody_reads():
    assert least_ms("4", "5") == 304  # 300 and 2 for each of 2 characters
    assert least_ms("a" * 100, "b" * 400) == 1300
    assert least_ms("a" * 5000, "b") == 3000


@pytest.mark.parametrize(("latency", "kept"), [(0, False), (303, False), (304, True), (60_000, True), (None, True)])
def test_votes_faster_than_anybody_reads_are_spam(store, latency, kept):
    voted(store, "ann", "2+2?", "4", "5", latency_ms=latency)
    assert found(store) == (([("4", "5")], [], {}) if kept else ([], [], {"faster than anybody reads": 1}))


@pytest.mark.parametrize("undone", [False, True])
def test_votes_that_were_given_when_the_names_were_known_do_not_train(store, undone):
    duel = voted(store, "ann", "2+2?", "4", "5")
    if undone:
        store.unvote("ann", duel.id)
    store.vote("ann", duel.id, "right", SLOW_ENOUGH)
    assert found(store) == ([], [], {"given when the names were known": 1})


@pytest.mark.parametrize(("breaks", "kept"), [(None, 0), ("right", RUN), ("tie", RUN - 1)])
def test_the_same_side_again_and_again_is_spam(store, breaks, kept):
    for number in range(RUN):
        one = duel(store, "ann", f"{number}+{number}?", "4", "5")
        store.vote("ann", one.id, breaks if breaks and number == RUN // 2 else "left", SLOW_ENOUGH)
        voted(store, "bob", f"{number}-{number}?", "4", "5", side=("left", "right")[number % 2])  # in between
    pairs, _, left_out = found(store)
    assert len(pairs) == kept + RUN
    assert left_out.get(f"{RUN} votes or more in a row for the same side", 0) == (0 if breaks else RUN)


def test_of_several_people_the_majority_counts(store):
    for user, chosen, rejected in (("ann", "4", "5"), ("bob", "5", "4"), ("cleo", "4", "5")):
        voted(store, user, "2+2?", chosen, rejected)
    assert found(store) == ([("4", "5")], [], {"contradictory": 1, "duplicate": 1})


def test_where_as_many_say_the_opposite_nothing_counts(store):
    voted(store, "ann", "2+2?", "4", "5")
    voted(store, "bob", "2+2?", "5", "4")
    rated(store, "ann", "3+3?", "6", Rating(thumb=1))
    rated(store, "bob", "3+3?", "6", Rating(thumb=-1))
    assert found(store) == ([], [], {"contradictory": 4})


def test_who_says_both_of_the_same_texts_says_nothing(store):
    voted(store, "ann", "2+2?", "4", "5")
    voted(store, "ann", "2+2?", "5", "4", side="right")
    assert found(store) == ([], [], {"contradictory": 2})
    voted(store, "bob", "2+2?", "5", "4")
    assert found(store) == ([("5", "4")], [], {"contradictory": 2})


def test_the_same_again_counts_once(store):
    for _ in range(3):
        voted(store, "ann", "2+2?", "4", "5")
        rated(store, "ann", "2+2?", "4", Rating(thumb=1))
    rated(store, "bob", "2+2?", "5", Rating(correction="4"))  # the same pair, in another way
    assert found(store) == ([("4", "5")], [True], {"duplicate": 5})


def test_a_vote_that_was_taken_back_is_no_judgement(store):
    one = voted(store, "ann", "2+2?", "4", "5")
    store.unvote("ann", one.id)
    assert found(store) == ([], [], {})


def test_replies_are_judged_under_the_system_turn_that_they_were_made_under(store):
    brief = {"settings": {"system": "Be brief. "}}
    *_, asked = talk(store, "ann", "2+2?")
    replies = [turn(store, asked.conversation, asked.id, text, **brief) for text in ("4", "5")]
    one = store.open_duel("ann", asked.id, replies[0].id, replies[1].id, "random")
    store.vote("ann", one.id, "left", SLOW_ENOUGH)
    store.rate("ann", replies[1].id, Rating(thumb=-1, correction="four"))
    shown = (Message("system", "Be brief."), Message("user", "2+2?"))
    some = collect(store)
    assert {row.prompt for row in [*some.pairs, *some.thumbs]} == {shown}
    talk_ = store.new_conversation("bot", kind="api")  # a program's own system turn stays
    own = store.add_message(StoredMessage("s", talk_.id, None, "system", "Be long."))
    asked = store.add_message(StoredMessage("u", talk_.id, own.id, "user", "2+2?"))
    store.rate("bot", turn(store, talk_.id, asked.id, "6", **brief).id, Rating(thumb=-1))
    assert collect(store).thumbs[-1].prompt == (Message("system", "Be long."), Message("user", "2+2?"))


def test_a_reply_that_its_length_limit_cut_may_lose_but_not_win(store):
    cut = {"finish_reason": "length"}  # of the right reply
    voted(store, "ann", "2+2?", "4", "5 and", **cut)
    voted(store, "ann", "3+3?", "6 and", "5", side="right", **cut)
    rated(store, "ann", "4+4?", "8 and", Rating(thumb=1, correction="8"), **cut)
    rated(store, "ann", "5+5?", "11 and", Rating(thumb=-1), **cut)
    reason = "preferred reply cut at its length limit"
    assert found(store) == ([("4", "5 and"), ("8", "8 and")], [False], {reason: 2})


def test_an_earlier_reply_that_was_cut_off_spoils_no_later_judgement(store):
    _, reply = talk(store, "ann", "4+4?", "it is", finish_reason="cancelled")
    more = turn(store, reply.conversation, reply.id, "and doubled?")
    store.rate("ann", turn(store, reply.conversation, more.id, "16").id, Rating(thumb=1))
    assert found(store) == ([], [True], {})


def test_imports_are_no_spam_and_no_single_persons(store, tmp_path):
    file = tmp_path / "pairs.jsonl"
    rest = {"rejected": "many", "chosen_side": None}
    lines = [{"prompt": f"{n}+{n}?", "chosen": str(2 * n), **rest} for n in range(RUN + 1)]
    lines += [dict(line, chosen="x", rejected=line["chosen"]) for line in lines[:1]]
    two = [{"prompt": "who?", "chosen": "a", "rejected": "b"}, {"prompt": "who?", "chosen": "b", "rejected": "a"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *two]))
    import_feedback(store, file)
    voted(store, "ann", "who?", "a", "b")
    pairs, _, left_out = found(store)
    assert len(pairs) == RUN + 3 and left_out == {"contradictory": 1, "duplicate": 1}
    counts = store.counts()
    assert abs(counts["left_wins"] - counts["right_wins"]) <= 2  # without a side they take turns


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip)
JUDGED = st.tuples(
    st.sampled_from(["ann", "bob"]),
    st.lists(TEXTS, min_size=1, max_size=3).filter(lambda turns: len(turns) % 2),
    st.sampled_from(["4", "5", "six"]),
    st.sampled_from(["7", "5", "eight"]),
    st.sampled_from(["left", "right", "tie", "up", "down", "correct"]),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(JUDGED, max_size=6))
def test_nothing_is_lost_on_the_way_out_and_back(judged):
    with tempfile.TemporaryDirectory() as name, opened(Path(name)) as store, opened(Path(name) / "new") as other:
        folder = Path(name)
        for user, prompt, first, second, what in judged:
            *_, asked = talk(store, user, *prompt)
            replies = [turn(store, asked.conversation, asked.id, text) for text in (first, second)]
            if what in ("left", "right", "tie"):
                one = store.open_duel(user, asked.id, replies[0].id, replies[1].id, "random")
                store.vote(user, one.id, what, SLOW_ENOUGH)
            else:
                thumb = {"up": 1, "down": -1}.get(what)
                store.rate(user, replies[0].id, Rating(thumb, correction="done" if thumb is None else None))
        summary = export(store, folder / "out")
        assert summary.pairs + summary.unpaired + sum(summary.left_out.values()) == len(judged)
        for file in (PAIRS, UNPAIRED):
            if (folder / "out" / file).stat().st_size:
                import_feedback(other, folder / "out" / file)
        again = export(other, folder / "again")
        assert again.left_out == {}
        for file in (PAIRS, UNPAIRED):
            # Ids and times are new; so is the latency, which nobody measured there.
            kept = [{k: v for k, v in row.items() if k not in ("id", "time", "latency_ms")}
                    for row in rows(folder / "again" / file)]  # fmt: skip
            wanted = [{k: v for k, v in row.items() if k not in ("id", "time", "latency_ms")}
                      for row in rows(folder / "out" / file)]  # fmt: skip
            assert kept == wanted


def test_an_import_twice_is_an_import_once(store, tmp_path):
    file = tmp_path / "pairs.jsonl"
    lines = [{"prompt": f"{n}+{n}?", "chosen": str(2 * n), "rejected": "many"} for n in range(RUN + 1)]
    file.write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[0]]))
    first = import_feedback(store, file)
    assert (first.pairs, first.known) == (RUN + 1, 1)
    second = import_feedback(store, file)
    assert (second.pairs, second.known) == (0, RUN + 2)
    assert "were known" in str(second)
    assert len(found(store)[0]) == RUN + 1  # not taken for spam: the sides take turns


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": "3+3?", "chosen": "6"}', "no 'rejected'"),
        ('{"prompt": "3+3?", "chosen": "6", "rejected": "6"}', "are equal"),
        ("no JSON", "not JSON"),
        ('{"prompt": "3+3?", "chosen": "6", "rejected": "\\ud800"}', "cannot be stored"),
    ],
)
def test_of_a_file_with_a_bad_line_nothing_is_imported(store, tmp_path, line, words):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "2+2?", "chosen": "4", "rejected": "5"}\n' + line + "\n")
    with pytest.raises(UserError, match=words):
        import_feedback(store, file)
    assert set(store.counts().values()) == {0}


def pairs_file(folder, count):
    file = folder / "pairs.jsonl"
    lines = [{"prompt": f"{n}+{n}?", "chosen": str(2 * n), "rejected": "many"} for n in range(count)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_others_write_while_a_file_is_imported(store, tmp_path, monkeypatch):
    monkeypatch.setattr("rlhf.chat.store.export.BATCH", 5)
    over, between = threading.Event(), set()

    def write() -> None:  # as a running server: its own connection, and its own hold on the lock file
        with FeedbackStore(store.file) as other:
            while not over.wait(0.005):
                with other.together():
                    other.log("written")
                    between.add(other.counts()["duels"])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert import_feedback(store, pairs_file(tmp_path, 60)).pairs == 60
    finally:
        over.set()
        writer.join()
    assert between & set(range(5, 60, 5)) and between <= set(range(0, 61, 5))


def test_an_import_that_ended_on_the_way_is_completed_by_another(store, tmp_path, monkeypatch):
    monkeypatch.setattr("rlhf.chat.store.export.BATCH", 5)
    file, vote, given = pairs_file(tmp_path, 17), store.vote, []

    def interrupted(*judgement):
        given.append(judgement)
        if len(given) == 13:
            raise KeyboardInterrupt
        return vote(*judgement)

    with monkeypatch.context() as patched:
        patched.setattr(store, "vote", interrupted)
        with pytest.raises(KeyboardInterrupt):
            import_feedback(store, file)
    assert store.counts()["duels"] == store.counts()["conversations"] == 10  # two batches, and nothing of the third
    again = import_feedback(store, file)
    assert (again.pairs, again.known) == (7, 10)
    assert len(found(store)[0]) == 17


def test_a_bad_line_far_behind_is_found_before_anything_is_stored(store, tmp_path, monkeypatch):
    monkeypatch.setattr("rlhf.chat.store.export.BATCH", 5)
    file = pairs_file(tmp_path, 17)
    line = {"prompt": "3+3?", "chosen": "6", "rejected": "7", "rejected_version": "\ud800"}
    file.write_text(file.read_text() + json.dumps(line))
    with pytest.raises(UserError, match="line 18: a text cannot be stored"):
        import_feedback(store, file)
    assert set(store.counts().values()) == {0}


@pytest.mark.parametrize("row", [{"prompt": "2+2?", "completion": "4"}, {"prompt": "2+2?"}, {"text": "plain"}])
def test_what_is_no_judgement_is_not_imported(store, tmp_path, row):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match="line 1: no judgement"):
        import_feedback(store, file)
    assert set(store.counts().values()) == {0}


def test_the_phase_counts_exports_and_imports(tmp_path, capsys):
    def run(output, *words):
        code = main(["--phase", "feedback", "--output", str(tmp_path / output), *words])
        return code, "".join(capsys.readouterr())

    code, said = run("a")
    assert code == 2 and "There is no feedback store" in said and not (tmp_path / "a").exists()
    with FeedbackStore(tmp_path / "a" / FILE) as store:
        voted(store, "ann", "2+2?", "4", "5")
        store.vote("ann", duel(store, "ann", "3+3?", "6", "7").id, "tie", SLOW_ENOUGH)
    code, said = run("a")
    assert code == 0 and "       2  duels\n" in said and "for training: 1 pairs, 0 thumbs" in said and "1  tie" in said
    code, said = run("a", "export", str(tmp_path / "out"))
    assert code == 0 and f"{tmp_path / 'out' / PAIRS}: 1 pairs" in said and "1  tie" in said
    code, said = run("b", "import", str(tmp_path / "out" / PAIRS))
    assert code == 0 and "1 pairs, 0 thumbs" in said
    with FeedbackStore(tmp_path / "b" / FILE) as store:
        [pair] = collect(store).pairs
    assert (pair.prompt, pair.chosen, pair.rejected) == ((Message("user", "2+2?"),), "4", "5")
    code, said = run("a", "export", str(tmp_path / "out" / PAIRS))
    assert code == 2 and "a file" in said
    code, said = run("a", "exprot", "x")
    assert code == 2 and "export FOLDER" in said
