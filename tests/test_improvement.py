"""What the next version learns from: snapshots, held-out judgements, replayed pairs, a configuration of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.data.mixing import split_of
from rlhf.errors import UserError
from rlhf.improvement import ABOUT, JudgedData, Snapshot, making, update_config
from rlhf.records import Message, Preference, ask, prompt_id
from tests.phases.helpers import ListData, preference, prompt, tiny_config, tiny_run

CONFIG = tiny_config()


def judged(*questions: str, kind: str = "duel") -> list[Preference]:
    prompts = [ask(question) for question in questions]
    return [Preference(prompt_id(p), p, f"good {n}", f"bad {n}", "feedback", kind) for n, p in enumerate(prompts)]


def snapshot(*questions: str) -> Snapshot:
    return Snapshot(judged(*questions), judged("held out?"), [], "ppo", {})


def data(some: Snapshot, **sections: object) -> JudgedData:
    return JudgedData(ListData(), some, tiny_config(**sections))


TRAINED = [row for row in ListData().preferences("train") if split_of(row.id, CONFIG.data) == "train"]
MANY = judged(*(f"question {n}?" for n in range(400)))


def test_a_share_of_the_prompts_is_held_out_and_all_of_the_other_splits():
    found = Snapshot.of(MANY, MANY, CONFIG, "ppo", {})
    assert len(found.pairs) + len(found.held_out) == 400 and found.earlier == found.pairs
    assert all(split_of(pair.id, CONFIG.data) == "train" for pair in found.pairs)
    outside = [pair for pair in MANY if split_of(pair.id, CONFIG.data) != "train"]
    assert set(map(id, outside)) < set(map(id, found.held_out))
    inside = 400 - len(outside)
    assert 0.05 * inside < len(found.held_out) - len(outside) < 0.16 * inside  # improve.held_out is 0.1


@given(st.permutations(range(20)))
def test_a_prompt_is_on_one_side_in_any_order_whoever_asks(order):
    again = [Preference(MANY[n].id, MANY[n].prompt, "other", "replies", "feedback", "correction") for n in order]
    ours, theirs = (Snapshot.of(pairs, [], CONFIG, "ppo", {}) for pairs in (MANY[:20], again))
    assert {pair.id for pair in ours.pairs} == {pair.id for pair in theirs.pairs}


def test_a_snapshot_comes_back_as_it_was_saved(tmp_path):
    long = (Message("system", "Be kind."), Message("user", "Was ist „2+2“?"), Message("assistant", "4"),
            Message("user", "Sure?\nReally?"))  # fmt: skip
    pairs = [*MANY[:30], Preference(prompt_id(long), long, "Yes.", "No.", "feedback", "correction", "sums")]
    before = Snapshot.of(pairs, MANY[30:40], CONFIG, "v1", {"tie": 3})
    assert before.pairs and before.held_out and before.earlier
    before.save(tmp_path)
    assert Snapshot.load(tmp_path) == before
    assert before.counts()["left_out"] == {"tie": 3}
    assert sum(before.counts()["pairs"].values()) == len(before.pairs)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"parent": "ppo"}'])
def test_a_damaged_snapshot_is_refused(tmp_path, damage):
    whole = Snapshot.of(MANY[:3], [], CONFIG, "ppo", {})
    whole.save(tmp_path)
    assert Snapshot.load(tmp_path) == whole
    (tmp_path / ABOUT).write_text(damage)
    with pytest.raises(UserError, match="no snapshot"):
        Snapshot.load(tmp_path)
    whole.save(tmp_path)
    (tmp_path / "pairs.jsonl").write_text("not JSON")
    with pytest.raises(UserError):
        Snapshot.load(tmp_path)
    whole.save(tmp_path)
    (tmp_path / "held_out.jsonl").unlink()
    with pytest.raises(UserError, match="no snapshot"):
        Snapshot.load(tmp_path)


def test_training_sees_the_new_pairs_and_as_many_old_ones_half_of_them_judged_before():
    new = snapshot("a?", "b?", "c?", "d?")._replace(earlier=judged("e?", "f?", "g?", kind="earlier"))
    rows = data(new, seed=3).preferences("train")
    assert rows[:4] == new.pairs and len(rows) == 8
    assert sum(row.kind == "earlier" for row in rows) == 2 and sum(row.source == "lists" for row in rows[4:]) == 2
    assert rows == data(new, seed=3).preferences("train")


def test_replay_takes_what_there_is_and_none_where_none_is_wanted():
    some = snapshot("a?")._replace(earlier=judged("e?"))
    assert len(data(some, improve={"replay": 100.0, "held_out": 1e-9}).replayed()) == 1 + len(TRAINED)
    assert data(some, improve={"replay": 0.0}).replayed() == []


def test_replay_brings_nothing_back_that_is_held_out_or_that_the_snapshot_decides_on():
    """The run itself may read the store, too: its `data.preferences` may name it."""

    class WithFeedback(ListData):
        def preferences(self, split, sampler=None):
            return [*super().preferences(split, sampler), *MANY]

    some = snapshot("a?")
    for held_out in (0.1, 0.5):
        config = tiny_config(improve={"replay": 1000.0, "held_out": held_out})
        found = JudgedData(WithFeedback(), some, config).replayed()
        assert {row.source for row in found} <= {"lists"}
        assert not any(Snapshot.of([row], [], config, "ppo", {}).held_out for row in found)
        assert {row.source for row in JudgedData(WithFeedback(), some, config).preferences("validation")} == {"lists"}


def test_what_is_held_out_measures_and_is_no_validation_which_may_choose():
    some = snapshot("a?")
    for split in ("validation", "test"):
        assert data(some).preferences(split) == ListData().preferences(split)

    class Judgements(ListData):
        def preferences(self, split, sampler=None):
            return judged("e?")

    assert JudgedData(Judgements(), some, CONFIG).preferences("validation") == some.held_out  # there is nothing else


def test_ppo_replies_to_what_people_asked_too_each_conversation_once():
    known = preference("red").prompt
    pairs = [*judged("a?", "a?"), Preference(prompt_id(known), known, "x", "y", "feedback")]
    found = data(Snapshot(pairs, judged("held out?"), [], "ppo", {}))
    own = ListData().prompts("train")
    assert found.prompts("train")[: len(own)] == own
    assert [row.prompt for row in found.prompts("train")[len(own) :]] == [ask("a?")]
    assert found.prompts("test") == ListData().prompts("test")
    assert prompt("red") in own


def test_a_version_has_random_numbers_of_its_own_and_the_settings_of_an_update():
    config = tiny_config(seed=5, improve={"reward": {"learning_rate": 0.5}, "ppo": {"kl_coef": 0.7}, "episodes": 48})
    found = update_config(config, "v3")
    assert found.seed == 8
    assert found.reward.trainer_args["learning_rate"] == 0.5 and found.ppo.trainer_args["kl_coef"] == 0.7
    assert found.ppo.trainer_args["total_episodes"] == 48
    assert found.sft == config.sft and found.reward.calibration_rows == config.reward.calibration_rows
    assert update_config(tiny_config(), "v1").ppo == tiny_config().ppo


def test_a_bad_setting_of_an_update_is_refused():
    with pytest.raises(UserError, match="improve"):
        update_config(tiny_config(improve={"reward": {"calibration_rows": "many"}}), "v1")


def test_a_version_is_made_in_a_folder_of_its_own_with_the_runs_tokenizer(tmp_path):
    run = tiny_run(tmp_path, resume=True)
    job = making(run, "v2", snapshot("a?"))
    assert job.folder == tmp_path / "versions" / "v2" and job.resume
    assert job.tokenizer().get_vocab() == run.tokenizer().get_vocab()
    assert "--phase improve" in job.command("ppo")
