"""What the next version learns from: snapshots, held-out judgements, replayed pairs, a configuration of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.data.mixing import split_of
from rlhf.errors import UserError
from rlhf.improvement import ABOUT, PAIRS, JudgedData, Snapshot, making, update_config
from rlhf.records import Message, Preference, ask, prompt_id
from tests.phases.helpers import ListData, preference, prompt, tiny_config, tiny_run

CONFIG = tiny_config()


def judged(*questions: str, kind: str = "duel") -> list[Preference]:
    prompts = [ask(question) for question in questions]
    return [Preference(prompt_id(p), p, f"good {n}", f"bad {n}", "feedback", kind) for n, p in enumerate(prompts)]


def snapshot(*questions: str) -> Snapshot:
    return Snapshot(judged(*questions), judged("held out?"), "ppo", 0.0, 1.0, {})


MANY = judged(*(f"question {n}?" for n in range(400)))


def test_a_share_of_the_prompts_is_held_out_and_all_of_the_other_splits():
    found = Snapshot.of(MANY, CONFIG, "ppo", 0.0, 1.0, {})
    assert len(found.pairs) + len(found.held_out) == 400
    assert all(split_of(pair.id, CONFIG.data) == "train" for pair in found.pairs)
    outside = [pair for pair in MANY if split_of(pair.id, CONFIG.data) != "train"]
    assert set(map(id, outside)) < set(map(id, found.held_out))
    inside = 400 - len(outside)
    assert 0.05 * inside < len(found.held_out) - len(outside) < 0.16 * inside  # improve.held_out is 0.1


@given(st.permutations(range(20)))
def test_a_prompt_is_on_one_side_in_any_order_whoever_asks(order):
    again = [Preference(MANY[n].id, MANY[n].prompt, "other", "replies", "feedback", "correction") for n in order]
    ours, theirs = (Snapshot.of(pairs, CONFIG, "ppo", 0.0, 1.0, {}) for pairs in (MANY[:20], again))
    assert {pair.id for pair in ours.pairs} == {pair.id for pair in theirs.pairs}


def test_a_snapshot_comes_back_as_it_was_saved(tmp_path):
    long = (Message("system", "Be kind."), Message("user", "Was ist „2+2“?"), Message("assistant", "4"),
            Message("user", "Sure?\nReally?"))  # fmt: skip
    pairs = [*MANY[:30], Preference(prompt_id(long), long, "Yes.", "No.", "feedback", "correction", "sums")]
    before = Snapshot.of(pairs, CONFIG, "v1", 12.5, 99.25, {"tie": 3})
    before.save(tmp_path)
    assert Snapshot.load(tmp_path, CONFIG) == before
    assert before.counts()["left_out"] == {"tie": 3} and before.counts()["until"] == 99.25
    assert sum(before.counts()["pairs"].values()) == len(before.pairs)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"parent": "ppo"}'])
def test_a_damaged_snapshot_is_refused(tmp_path, damage):
    Snapshot.of(MANY[:3], CONFIG, "ppo", 0.0, 1.0, {}).save(tmp_path)
    (tmp_path / ABOUT).write_text(damage)
    with pytest.raises(UserError, match="no snapshot"):
        Snapshot.load(tmp_path, CONFIG)
    (tmp_path / PAIRS).write_text("not JSON")
    with pytest.raises(UserError):
        Snapshot.load(tmp_path, CONFIG)


def test_training_sees_the_new_pairs_and_as_many_old_ones_half_of_them_judged_before():
    new, earlier = snapshot("a?", "b?", "c?", "d?"), judged("e?", "f?", "g?", kind="earlier")
    data = JudgedData(ListData(), new, earlier, replay=1.0, seed=3)
    rows = data.preferences("train")
    assert rows[:4] == new.pairs and len(rows) == 8
    assert sum(row.kind == "earlier" for row in rows) == 2 and sum(row.source == "lists" for row in rows[4:]) == 2
    assert rows == JudgedData(ListData(), new, earlier, replay=1.0, seed=3).preferences("train")


def test_replay_takes_what_there_is_and_none_where_none_is_wanted():
    data = JudgedData(ListData(), snapshot("a?"), judged("e?"), replay=100.0)
    assert len(data.replayed()) == 1 + 8  # all earlier judgements, all eight rows of the run
    assert JudgedData(ListData(), snapshot("a?"), judged("e?"), replay=0.0).replayed() == []


def test_validation_has_the_held_out_judgements_and_as_many_old_pairs_and_test_is_the_runs_own():
    data = JudgedData(ListData(), snapshot("a?"))
    assert [row.source for row in data.preferences("validation")] == ["feedback", "lists"]
    assert data.preferences("test") == ListData().preferences("test")


def test_ppo_replies_to_what_people_asked_too_each_conversation_once():
    known = preference("red").prompt
    pairs = [*judged("a?", "a?"), Preference(prompt_id(known), known, "x", "y", "feedback")]
    data = JudgedData(ListData(), Snapshot(pairs, judged("held out?"), "ppo", 0.0, 1.0, {}))
    own = ListData().prompts("train")
    assert data.prompts("train")[: len(own)] == own
    assert [row.prompt for row in data.prompts("train")[len(own) :]] == [ask("a?")]
    assert data.prompts("test") == ListData().prompts("test")
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
    job = making(run, "v2", snapshot("a?"), [])
    assert job.folder == tmp_path / "versions" / "v2" and job.resume
    assert job.tokenizer().get_vocab() == run.tokenizer().get_vocab()
    assert "--phase improve" in job.command("ppo")
