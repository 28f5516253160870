"""Splits, mixing, held-out categories, and what each phase gets."""

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader import SOURCES, DataRoom, check_sources
from rlhf.config import DataSection, SourceSpec, load_config, parse_config
from rlhf.data.mixing import split_of
from rlhf.data.source import Source
from rlhf.errors import UserError
from tests.data.helpers import real, write

DATA = DataSection(demonstrations=["dolly"], preferences=["made"])
WORDS = ["tree", "house", "river", "cloud"]


def config(**data):
    values = {"preferences": ["made"], "validation_fraction": 0.2, "test_fraction": 0.2} | data
    return parse_config({"model": {"name": "any"}, "data": values})


def rows(count, prefix="item", category="ab"):
    return [
        {
            "instruction": f"What is {prefix} {i}?",
            "context": "",
            "response": f"The {prefix} {i} is a {WORDS[i % 4]} in the garden.",
            "category": category[i % len(category)],
        }
        for i in range(count)
    ]


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "rows.jsonl", rows(300)).path


SPLITS = ("train", "validation", "test")


@given(st.text())
def test_a_split_depends_on_the_id_alone(id):
    assert split_of(id, DATA) == split_of(id, DATA)
    assert split_of(id, DATA) in SPLITS


def test_splits_are_the_same_everywhere():
    thirds = DATA.model_copy(update={"validation_fraction": 0.3, "test_fraction": 0.3})
    found = [split_of(id, thirds) for id in "345678"]
    assert found == ["test", "validation", "train", "validation", "train", "test"]


def test_splits_have_the_configured_shares():
    found = [split_of(str(i), DATA) for i in range(20_000)]
    assert found.count("test") / 20_000 == pytest.approx(0.05, abs=0.005)
    assert found.count("validation") / 20_000 == pytest.approx(0.05, abs=0.005)


@given(st.text(max_size=8), st.floats(0.01, 0.2), st.floats(0.01, 0.2))
def test_a_larger_test_fraction_only_adds_to_the_test_split(id, small, more):
    before, after = (
        DataSection(demonstrations=["x"], preferences=["x"], test_fraction=f) for f in (small, small + more)
    )
    if split_of(id, before) == "test":
        assert split_of(id, after) == "test"


def test_no_prompt_is_in_two_splits_and_none_is_lost(file):
    room = DataRoom(config(demonstrations=[file]))
    parts = [{row.id for row in room.demonstrations(split)} for split in SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 300


def test_sources_that_share_a_prompt_put_it_into_the_same_split(tmp_path, file):
    pairs = [{"prompt": row["instruction"].upper(), "chosen": "a", "rejected": "b"} for row in rows(300)]
    room = DataRoom(config(demonstrations=[file], preferences=[write(tmp_path / "pairs.jsonl", pairs).path]))
    for split in SPLITS:
        assert {row.id for row in room.demonstrations(split)} == {pair.id for pair in room.preferences(split)}


def test_the_order_of_the_rows_in_the_file_does_not_matter(tmp_path, file):
    shuffled = rows(300)
    random.Random(0).shuffle(shuffled)
    (tmp_path / "b").mkdir()
    other = write(tmp_path / "b" / "rows.jsonl", shuffled).path
    for limit in (None, 50):
        a, b = (
            DataRoom(config(demonstrations=[{"source": "dolly", "path": path, "limit": limit}]))
            for path in (file, other)
        )
        assert a.demonstrations("train") == b.demonstrations("train")
        assert a.preferences("train") == b.preferences("train")


def test_a_limit_keeps_all_splits_filled(file):
    room = DataRoom(config(demonstrations=[{"source": "dolly", "path": file, "limit": 100}]))
    counts = [len(room.demonstrations(split)) for split in SPLITS]
    assert sum(counts) == 100 and min(counts) > 5


@pytest.mark.parametrize(("weights", "share"), [((1, 1), 0.5), ((3, 1), 0.75), ((1, 4), 0.2)])
def test_weights_are_shares_of_the_mixture(tmp_path, weights, share):
    specs = []
    for name, count, weight in zip(("small", "large"), (200, 1000), weights, strict=True):
        path = write(tmp_path / f"{name}.jsonl", [{"prompt": f"{name} {i}", "completion": "x"} for i in range(count)])
        specs.append({"source": "jsonl", "path": path.path, "weight": weight})
    mixed = DataRoom(config(demonstrations=specs)).demonstrations("train")
    small = sum(row.source == "small" for row in mixed)
    assert small / len(mixed) == pytest.approx(share, abs=0.01)
    assert len({row.id for row in mixed}) == len(mixed), "no row is repeated"
    assert [row.source for row in mixed[: small // 4]] != ["small"] * (small // 4), "the sources are shuffled together"


def test_held_out_categories_are_nowhere_but_in_their_suite(file):
    room = DataRoom(config(demonstrations=[file], held_out_categories=["b"], ood=["held_out"]))
    for split in SPLITS:
        assert {row.category for row in room.demonstrations(split)} == {"a"}
        assert {row.category for row in room.preferences(split)} == {"a"}
        assert {row.category for row in room.prompts(split)} == {"a"}
    assert not any("What is item 1?" in text for text in room.text())
    suite = room.ood(1000)["held_out"]
    assert len(suite) == 150 and {row.category for row in suite} == {"b"}
    assert {row.suite for row in suite} == {"held_out"}


def test_a_held_out_prompt_that_is_also_trained_on_is_not_tested(tmp_path):
    both = [*rows(50, category="a"), *rows(50, category="b")]
    path = write(tmp_path / "rows.jsonl", both).path
    room = DataRoom(config(demonstrations=[path], held_out_categories=["b"], ood=["held_out"]))
    tested = {row.id for row in room.ood(1000)["held_out"]}
    trained = {row.id for split in ("train", "validation") for row in room.demonstrations(split)}
    assert tested and not tested & trained


def test_perturbed_suites_are_variants_of_the_test_prompts(file):
    room = DataRoom(config(demonstrations=[file], ood=["typos", "paraphrase", "long_context"]))
    tested = [row.id for row in room.prompts("test")][:10]
    suites = room.ood(10)
    assert list(suites) == ["typos", "paraphrase", "long_context"]
    assert all([row.origin for row in suite] == tested for suite in suites.values())


def test_the_notes_of_few_long_contexts_come_from_the_whole_test_split():
    room = DataRoom(load_config("configs/tiny.yaml", []))
    notes = {row.prompt[0].content.split("\n\n")[1] for row in room.ood(30)["long_context"]}
    assert len(notes) > 20


def test_a_prompt_file_is_a_suite_without_what_is_trained_on(tmp_path, file):
    prompts = [{"prompt": row["instruction"]} for row in rows(300)] + [{"prompt": "New?"}]
    bench = write(tmp_path / "bench.jsonl", prompts).path
    room = DataRoom(config(demonstrations=[file], ood=[bench]))
    suite = room.ood(1000)["bench"]
    unseen = {row.id for row in room.prompts("test")}
    assert len(suite) == len(unseen) + 1
    assert len(room.ood(5)["bench"]) == 5


@pytest.mark.parametrize("use", ["text", "made"])
def test_a_suite_leaves_out_what_only_plain_text_or_made_pairs_train_on(tmp_path, file, use):
    other = write(tmp_path / "other.jsonl", rows(100, "thing")).path
    extra = {"text": [other]} if use == "text" else {"preferences": [{"source": "made", "path": other}]}
    values = config(demonstrations=[file], ood=[{"source": "dolly", "path": other, "suite": "things"}], **extra)
    tested = {row.id for row in DataRoom(values).ood(1000)["things"]}
    assert tested == {row.id for row in SOURCES["jsonl"].prompts(SourceSpec(source="jsonl", path=other))
                      if split_of(row.id, values.data) == "test"}  # fmt: skip


def test_the_sources_are_read_once_for_all_suites(tmp_path, file, monkeypatch):
    paths = [write(tmp_path / f"{name}.jsonl", [{"prompt": f"New {name}?"}]).path for name in "abc"]
    room = DataRoom(config(demonstrations=[{"source": "dolly", "path": file}], ood=[*paths, "typos", "paraphrase"]))
    read, calls = SOURCES["dolly"].demonstrations, []
    monkeypatch.setattr(SOURCES["dolly"], "demonstrations", lambda spec: (calls.append(spec), read(spec))[1])
    assert len(room.ood(5)) == 5
    assert len(calls) == 2, "once for what is seen, once for the test prompts"


def test_two_suites_of_one_name_are_refused(file):
    room = DataRoom(config(demonstrations=[file], ood=["typos", "typos"]))
    with pytest.raises(UserError, match="suite:"):
        room.ood(5)


def test_an_empty_suite_is_refused(file):
    room = DataRoom(config(demonstrations=[file], ood=["held_out"], held_out_categories=["unheard of"]))
    with pytest.raises(UserError, match="held_out_categories") as refused:
        room.ood(5)
    assert "unheard of" in str(refused.value) and "found: the categories a, b" in str(refused.value)


def test_held_out_without_categories_says_how_to_do_without_it(tmp_path):
    plain = write(tmp_path / "plain.jsonl", [{"prompt": f"Why {i}?", "completion": "So."} for i in range(300)])
    suites = {"ood": ["held_out", "typos"], "held_out_categories": ["brainstorming"]}
    with pytest.raises(UserError) as refused:
        DataRoom(config(demonstrations=[plain.path], **suites)).ood(5)
    assert "found: rows without a category" in str(refused.value)
    assert "take held_out out of data.ood" in str(refused.value)


def test_extra_preferences_leave_out_what_is_trained_on(tmp_path, file):
    known = [{"prompt": row["instruction"], "chosen": "a", "rejected": "b"} for row in rows(300)]
    trained = write(tmp_path / "trained.jsonl", known).path
    other = write(tmp_path / "other.jsonl", [{"prompt": "New?", "chosen": "a", "rejected": "b"}]).path
    room = DataRoom(config(demonstrations=[file], preferences=[trained], extra_preferences=[trained, other]))
    sets = room.extra_preferences()
    assert sets["trained"] == room.preferences("test")
    assert len(sets["other"]) == 1


def test_made_pairs_use_their_own_split_only(file):
    room = DataRoom(config(demonstrations=[file]))
    own = {row.completion for row in room.demonstrations("test")}
    foreign = {row.completion for row in room.demonstrations("train")}
    rejected = {pair.rejected for pair in room.preferences("test") if pair.kind == "off_topic"}
    assert rejected and rejected <= own and not rejected & foreign


def test_the_sampler_reaches_the_made_pairs(file):
    room = DataRoom(config(demonstrations=[file]))
    assert not any(pair.kind == "sampled" for pair in room.preferences("train"))
    pairs = room.preferences("train", lambda prompts: ["a sampled reply"] * len(prompts))
    assert "a sampled reply" in {pair.rejected for pair in pairs if pair.kind == "sampled"}


def test_prompts_hold_each_conversation_once(tmp_path):
    twice = [*rows(60), *({**row, "response": "Another answer."} for row in rows(60))]
    room = DataRoom(config(demonstrations=[write(tmp_path / "rows.jsonl", twice).path]))
    assert sum(len(room.prompts(split)) for split in SPLITS) == 60


def test_text_comes_from_the_training_split(file):
    room = DataRoom(config(demonstrations=[file]))
    expected = {f"{row.prompt[0].content}\n\n{row.completion}" for row in room.demonstrations("train")}
    assert set(room.text()) == expected


def test_the_embedded_source_has_a_judge_and_files_have_none(file):
    assert DataRoom(config(demonstrations=[file])).judge() is None
    assert DataRoom(config(demonstrations=["classroom"])).judge() is not None


def test_an_unknown_source_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="classroom, dolly, oasst2, hh_rlhf, jsonl"):
        DataRoom(config(demonstrations=["doly"])).demonstrations("train")


@pytest.mark.parametrize(
    ("key", "source", "option"),
    [
        ("ood", {"source": "jsonl", "path": "FILE", "weight": 1}, "weight"),
        ("extra_preferences", {"source": "jsonl", "path": "FILE", "weight": 1}, "weight"),
        *(("ood", {"source": name, "path": "FILE"}, "path")
          for name in ("typos", "paraphrase", "long_context", "held_out")),
        ("ood", {"source": "typos", "name": "some/set"}, "name"),
        ("text", {"source": "classroom", "path": "FILE"}, "path"),
        ("demonstrations", {"source": "dolly", "path": "FILE", "split": "test"}, "split"),
        ("demonstrations", {"source": "jsonl", "name": "FILE", "split": "test"}, "split"),  # a local path as name:
        ("preferences", {"source": "made", "split": "test"}, "split"),
    ],
)  # fmt: skip
def test_an_option_without_effect_is_refused(file, key, source, option):
    spec = {name: file if value == "FILE" else value for name, value in source.items()}
    values = {"demonstrations": [file]} | {key: [spec]}
    with pytest.raises(UserError, match=rf"data\.{key}: {option} would have no effect") as refused:
        check_sources(config(**values))
    assert f"remove {option}" in str(refused.value)


def test_options_with_an_effect_are_taken(tmp_path, file):
    folder = tmp_path / "folder"
    folder.mkdir()
    check_sources(config(
        demonstrations=[{"source": "jsonl", "path": file, "weight": 1, "limit": 9},
                        {"source": "jsonl", "path": str(folder), "weight": 2, "split": "test"}],
        ood=[{"source": "typos", "limit": 3, "suite": "mistyped"}, {"source": "jsonl", "path": file, "suite": "mine"}],
        preferences=[{"source": "made", "path": file, "limit": 9}],
    ))  # fmt: skip


def test_a_source_that_lacks_something_names_those_that_have_it():
    with pytest.raises(UserError) as refused:
        SOURCES["dolly"].preferences(SourceSpec(source="dolly"))
    assert "have preferences: classroom, feedback, hh_rlhf, jsonl, made, oasst2" in str(refused.value)
    with pytest.raises(UserError) as refused:
        SOURCES["hh_rlhf"].demonstrations(SourceSpec(source="hh_rlhf"))
    assert "have demonstrations: classroom, dolly, feedback, jsonl, oasst2" in str(refused.value)


def test_an_empty_split_is_refused(tmp_path):
    path = write(tmp_path / "rows.jsonl", rows(1)).path
    room = DataRoom(config(demonstrations=[path]))
    with pytest.raises(UserError, match="No rows"):
        for split in SPLITS:
            room.demonstrations(split)


def test_every_source_is_a_source_under_its_own_name():
    assert all(isinstance(source, Source) and source.name == name for name, source in SOURCES.items())


def test_without_weights_every_row_is_used(tmp_path):
    rows = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(90)]
    paths = [tmp_path / "long.jsonl", tmp_path / "short.jsonl"]
    for path, some in zip(paths, (rows[:80], rows[80:]), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    room = DataRoom(config(demonstrations=[str(path) for path in paths]))
    assert sum(len(room.demonstrations(split)) for split in ("train", "validation", "test")) == 90


def test_real_data_together():
    names = ["databricks-dolly-15k.jsonl.gz", "oasst_en_100_tree.jsonl.gz", "hh-rlhf.helpful-online.test.jsonl.gz"]
    dolly, oasst, hh = (real(name).path for name in names)
    bench = real("vicuna_bench_80.jsonl").path
    equal = [{"source": "jsonl", "path": path, "weight": 1} for path in (oasst, hh)]
    values = config(demonstrations=[dolly], preferences=equal, ood=[bench], extra_preferences=[hh])
    room = DataRoom(values)
    assert len(room.ood(200)["vicuna_bench_80"]) == 80
    pairs = room.preferences("train")
    counts = Counter(pair.source for pair in pairs)
    assert abs(counts["oasst2"] - counts["hh_rlhf"]) <= 1, "equal weights, equal shares"
    trained = {pair.id for pair in pairs} | {row.id for row in room.demonstrations("train")}
    assert not trained & {pair.id for pair in room.extra_preferences()["hh-rlhf.helpful-online.test"]}
