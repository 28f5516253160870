"""`--phase improve` on real judgements in a real database: what it leaves, what it refuses, and under `kill -9`.

SOAK=1 python -m pytest -s tests/phases/test_improve.py        # killed before each change on disk, 40 times at least
"""

import json
import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlhf.chat.feedback import FILE, FeedbackStore, Rating, StoredMessage
from rlhf.chat.settings import ChatSection
from rlhf.errors import UserError
from rlhf.improvement import Snapshot, making
from rlhf.models import base_of, load_causal_lm
from rlhf.phases import improve, ppo, reward, sft
from rlhf.phases.base import run_phase as pretrain
from rlhf.phases.head_to_head import Side, head_to_head
from rlhf.records import ask, prompt_id
from rlhf.registry import Registry, Version
from rlhf.run import Run
from tests.phases.helpers import WORDS, tiny_run
from tests.phases.killing import Killable, changes
from tests.phases.test_phases import judge
from tests.phases.test_resume import arguments, make_world

SOAK = bool(os.environ.get("SOAK"))
CPU = torch.device("cpu")
FEW = {"min_pairs": 5, "prompts": 4}


def ask_people(folder: Path, round_: int, count: int = 30, kind: str = "duel") -> None:
    """Duels on which a reply of capital letters always wins; two ties among them."""
    store = FeedbackStore(folder / FILE)
    for number in range(count):
        talk = store.new_conversation("ann", kind=kind)
        name = f"{round_}-{number}"
        text = f"What about {WORDS[number % 10]} {WORDS[number // 10]} {round_}?"
        store.add_message(StoredMessage(f"q{name}", talk.id, None, "user", text))
        for side, reply in (("a", f"GOOD {number}"), ("b", f"bad {number}")):
            row = StoredMessage(
                f"{side}{name}", talk.id, f"q{name}", "assistant", reply, version="sft", finish_reason="stop"
            )
            store.add_message(row)
        left, right = random.Random(number).sample([f"a{name}", f"b{name}"], 2)
        duel = store.open_duel("ann", f"q{name}", left, right, "random")
        choice = "tie" if number < 2 else "left" if left.startswith("a") else "right"
        store.vote("ann", duel.id, choice, 4000)
    store.rate("ann", f"b{round_}-3", Rating(correction="Better than both."))
    store.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Phases with LoRA → a run with base, sft, reward and ppo, trained once."""
    made: dict[tuple[str, ...], Run] = {}

    def of(*lora: str) -> Run:
        if lora not in made:
            folder = tmp_path_factory.mktemp("loop") / "tiny"
            made[lora] = tiny_run(folder, gold=judge, lora={"phases": list(lora)}, improve=FEW)
            for phase in (pretrain, sft.run_phase, reward.run_phase, ppo.run_phase):
                phase(made[lora])
        return made[lora]

    return of


def copied(run: Run, folder: Path) -> Run:
    """A copy to write into; adapters name their base by path."""
    shutil.copytree(run.folder, folder)
    for adapter in folder.glob("*/adapter_config.json"):
        adapter.write_text(adapter.read_text().replace(str(run.folder), str(folder)))
    return replace(run, folder=folder)


@pytest.fixture
def run(trained, tmp_path) -> Run:
    return copied(trained("ppo"), tmp_path / "tiny")


@pytest.mark.slow
@pytest.mark.parametrize("lora", [["ppo"], [], ["sft", "reward", "ppo"]], ids=["ppo", "whole", "adapters"])
def test_two_rounds_leave_two_challengers_each_made_from_the_one_before(trained, tmp_path, capsys, lora):
    run = copied(trained(*lora), tmp_path / "tiny")
    registry = Registry(run.folder)
    ask_people(run.folder, 1)
    metrics = improve.run_phase(run)
    first = registry.get("v1")
    assert [v.name for v in registry.candidates()] == ["v1"] and registry.live().name == "ppo"
    assert first.parent == "ppo" and first.metrics == metrics
    counted = first.data["pairs"]
    assert sum(counted.values()) + first.data["held_out"] == 29 and first.data["left_out"] == {"tie": 2}
    assert first.data["replayed"] == 6  # all that the run has on prompts that are not held out
    assert {"reward", "reward/low", "gold", "gold/wins", "kl", "length", "distinct-2"} < set(metrics)
    assert metrics["old reward/parent"] != metrics["reward/parent"]  # two reward models on the same replies
    assert {"accuracy on old pairs", "accuracy on new pairs/parent"} < set(metrics)
    said = capsys.readouterr().out
    assert "[1/3] reward" in said and "[3/3] evaluation" in said and "promote v1" in said
    load_causal_lm(str(registry.path(first)), run.tokenizer(), "fp32", CPU)

    registry.promote("v1")
    with pytest.raises(UserError, match="Too few new judgements"):
        improve.run_phase(run)
    ask_people(run.folder, 2)
    improve.run_phase(run)
    second = registry.get("v2")
    assert second.parent == "v1" and second.data["left_out"]["known to an earlier version"] == 29
    assert sum(second.data["pairs"].values()) + second.data["held_out"] == 29
    earlier = Snapshot.load(run.folder / "versions" / "v1" / "feedback").pairs
    assert second.data["replayed"] == sum(second.data["pairs"].values()) // 2 + 6 <= len(earlier) + 6
    if "ppo" in run.config.lora.phases:  # both on one base: an A/B of the two costs one copy of it
        assert base_of(registry.path(second)) == base_of(registry.path(first)) == base_of(run.folder / "ppo")


def test_a_new_challenger_takes_the_former_ones_place(run):
    registry = Registry(run.folder)
    ask_people(run.folder, 1)
    improve.run_phase(run)
    improve.run_phase(run)  # nothing was promoted: the same judgements are still new
    assert [v.name for v in registry.candidates()] == ["v2"]
    assert registry.get("v1").state == "retired" and registry.get("v2").parent == "ppo"


def test_what_has_become_live_while_a_version_was_made_is_said(run, capsys, monkeypatch):
    registry, evaluate = Registry(run.folder), improve._evaluate
    ask_people(run.folder, 1)
    improve.run_phase(run)
    assert "ATTENTION" not in capsys.readouterr().out

    def meanwhile(*given):
        registry.promote("v1")
        return evaluate(*given)

    monkeypatch.setattr(improve, "_evaluate", meanwhile)
    metrics = improve.run_phase(run)
    said = capsys.readouterr().out
    assert "while v2 was made from ppo, v1 has become live" in said and "the comparison above is with ppo" in said
    assert "v2 is the challenger of v1" in said and "challenger of ppo" not in said
    assert registry.live().name == "v1" and [version.name for version in registry.candidates()] == ["v2"]
    assert registry.get("v2").parent == "ppo" and registry.get("v2").metrics == metrics


def test_replies_meet_under_the_system_turn_of_the_chat_and_greedy_ones_have_no_kl(run):
    side = Side(run.folder / "ppo", run.folder / "reward")

    def meet(**chat) -> tuple[dict[str, float], list]:
        found = replace(run, config=run.config.model_copy(update={"chat": ChatSection(**chat)}))
        return head_to_head(found, side, side, [])

    greedy, samples = meet(temperature=0)
    assert "kl" not in greedy and greedy["reward/difference"] == 0
    other, under = meet(temperature=0, system="The cat and the dog are here.")
    assert other["reward"] != greedy["reward"]  # the reward model has read it, too
    assert [row["prompt"] for row in under] == [row["prompt"] for row in samples]
    assert "kl" in meet(temperature=0.5)[0]


def test_people_are_taken_at_their_word_only_where_it_is_not_held_out(run):
    ask_people(run.folder, 1)
    improve.run_phase(run)
    snapshot = Snapshot.load(run.folder / "versions" / "v1" / "feedback")
    asked = {prompt_id(ask(f"What about {WORDS[n % 10]} {WORDS[n // 10]} 1?")) for n in range(30)}
    assert {pair.id for pair in [*snapshot.pairs, *snapshot.held_out]} <= asked
    assert not {pair.id for pair in snapshot.pairs} & {pair.id for pair in snapshot.held_out}
    samples = (run.folder / "versions" / "v1" / "evaluation" / "samples.jsonl").read_text().splitlines()
    assert len(samples) == 4 and {"prompt", "new", "old", "reward", "gold"} == set(json.loads(samples[0]))


def test_what_it_refuses(run):
    with pytest.raises(UserError, match="no judgements.*does not exist"):
        improve.run_phase(run)
    ask_people(run.folder, 1, count=4)
    with pytest.raises(UserError, match="Too few new judgements") as refused:
        improve.run_phase(run)
    assert "2 tie" in str(refused.value)
    assert not list((run.folder / "versions").glob("v*"))
    shutil.rmtree(run.folder / "reward")
    with pytest.raises(UserError, match="no reward model"):
        improve.run_phase(run)


def test_resume_goes_on_with_what_was_begun_and_is_refused_where_another_version_is_live(run, capsys, monkeypatch):
    ask_people(run.folder, 1)

    def interrupted(*args: object) -> dict[str, float]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(improve, "train_policy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            improve.run_phase(run)
    registry = Registry(run.folder)
    assert registry.candidates() == [] and registry.live().name == "ppo"
    made = (run.folder / "versions" / "v1" / "reward" / "config.yaml").stat().st_mtime_ns
    registry.promote("sft")
    with pytest.raises(UserError, match="begun from version ppo, and now sft is live"):
        improve.run_phase(replace(run, resume=True))
    registry.rollback()
    improve.run_phase(replace(run, resume=True))
    assert "reward: finished before, kept" in capsys.readouterr().out
    assert (run.folder / "versions" / "v1" / "reward" / "config.yaml").stat().st_mtime_ns == made
    assert [v.name for v in registry.candidates()] == ["v1"]


# --- judgements, without any training -------------------------------------------------------------------------------


@pytest.fixture
def untrained(tmp_path, start) -> Run:
    """A run whose results are there, which nobody has trained, and judgements."""
    run = tiny_run(tmp_path / "tiny", improve=FEW)
    shutil.copytree(start, run.folder / "sft")
    (run.folder / "reward").mkdir()
    ask_people(run.folder, 1)
    return run


def begun(run: Run, name: str, live: Version) -> Snapshot:
    """A version as `improve` begins it, from the judgements that there are."""
    snapshot = improve.take_snapshot(run, Registry(run.folder), live)
    making(run, name, snapshot).publish("feedback", snapshot.save)
    return snapshot


def after_v1(run: Run) -> Snapshot:
    """The judgements of the round in which v1 is live."""
    return improve.take_snapshot(run, Registry(run.folder), Version("v1", "sft", parent="sft"))


def judge_texts(store: FeedbackStore, user: str, turns: list[str], choice: str | Rating, id: str) -> None:
    """A duel between "A" and "B", or a rating of the reply that the choice names ("A" for a thumb up)."""
    talk, last = store.new_conversation(user), None
    for number, text in enumerate(turns):
        role = "assistant" if number % 2 else "user"
        last = store.add_message(StoredMessage(f"{id}-{number}", talk.id, last, role, text)).id
    assert last is not None
    for text in "AB":
        row = StoredMessage(f"{id}-{text}", talk.id, last, "assistant", text, version="sft", finish_reason="stop")
        store.add_message(row)
    if isinstance(choice, Rating):
        store.rate(user, f"{id}-{'A' if choice.thumb == 1 else 'B'}", choice)
    else:
        store.vote(user, store.open_duel(user, last, f"{id}-A", f"{id}-B", "random").id, choice, 4000)


def test_what_is_settled_late_is_learned_late(untrained):
    with FeedbackStore(untrained.folder / FILE) as store:
        judge_texts(store, "ann", ["x?"], "left", "1")
        judge_texts(store, "bob", ["x?"], "right", "2")
        judge_texts(store, "ann", ["y?"], Rating(thumb=1), "3")
        first = begun(untrained, "v1", Registry(untrained.folder).live())
        assert not {ask("x?"), ask("y?")} & {pair.prompt for pair in [*first.pairs, *first.held_out]}
        judge_texts(store, "cleo", ["x?"], "left", "4")  # now two of three say so
        judge_texts(store, "ann", ["y?"], Rating(thumb=-1), "5")  # now there is something to hold the other against
    second = after_v1(untrained)
    assert {pair.prompt for pair in [*second.pairs, *second.held_out]} == {ask("x?"), ask("y?")}
    assert second.left_out["known to an earlier version"] == len(first.pairs) + len(first.held_out)


def test_what_was_taken_back_or_hidden_or_outvoted_is_replayed_no_more(untrained):
    first = begun(untrained, "v1", Registry(untrained.folder).live())
    assert after_v1(untrained).earlier == first.pairs
    numbers = [pair.chosen.split()[1] for pair in first.pairs if pair.chosen.startswith("GOOD")]
    numbers = [number for number in numbers if number != "3"][:3]  # that one has a correction, too
    with FeedbackStore(untrained.folder / FILE) as store:
        duels = {store.message(duel.left).content.split()[1]: duel for duel in store.duels(voted=True)}
        store.unvote("ann", duels[numbers[0]].id)
        store.hide(store.message(duels[numbers[1]].left).conversation)
        other = {"left": "right", "right": "left"}[duels[numbers[2]].choice]
        store.vote("ann", duels[numbers[2]].id, other, 4000)
    second = after_v1(untrained)
    assert second.earlier == [pair for pair in first.pairs if pair.chosen.split()[1] not in numbers]
    assert [*second.pairs, *second.held_out] == []  # who changes a vote knows the names by then
    assert second.left_out["given when the names were known"] == 1


def test_the_same_answers_to_another_conversation_are_new(untrained):
    with FeedbackStore(untrained.folder / FILE) as store:
        judge_texts(store, "ann", ["x?"], "left", "1")
        begun(untrained, "v1", Registry(untrained.folder).live())
        judge_texts(store, "ann", ["x?", "What do you mean?", "Again!"], "left", "2")
    second = after_v1(untrained)
    assert [len(pair.prompt) for pair in [*second.pairs, *second.held_out]] == [3]


@pytest.mark.parametrize(("key", "value"), [("held_out", 0.4), ("replay", 3.0)])
def test_resume_is_refused_where_the_judgements_would_be_divided_otherwise(untrained, key, value):
    before = begun(untrained, "v1", Registry(untrained.folder).live())
    changed = tiny_run(untrained.folder, resume=True, improve=FEW | {key: value})
    with pytest.raises(UserError, match=rf"improve.{key}: (0\.1|1\.0) then, {value} now"):
        improve.run_phase(changed)
    assert Snapshot.load(untrained.folder / "versions" / "v1" / "feedback") == before


def test_resume_goes_on_with_the_last_version_only(untrained, capsys):
    registry = Registry(untrained.folder)
    for name in ("v1", "v2"):
        begun(untrained, name, registry.live())
    assert improve._begun(untrained, registry, registry.live())[0] == "v2"
    shutil.copytree(untrained.folder / "sft", untrained.folder / "versions" / "v2" / "ppo")
    registry.register(Version("v2", "versions/v2/ppo", parent="sft"))
    assert improve._begun(untrained, registry, registry.live())[0] == "v3"  # v1 was left behind
    registry.promote("v2")
    shutil.rmtree(untrained.folder / "versions" / "v3")
    with pytest.raises(UserError, match="Too few"):  # begins anew: v1 is in nobody's way
        improve._begun(untrained, registry, registry.live())


def test_a_second_process_is_refused(untrained):
    with Registry(untrained.folder).alone(), pytest.raises(UserError, match="Another process"):
        improve.run_phase(untrained)


# --- kill -9 --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A run made by `main`, as a user would, with judgements."""
    folder = make_world(tmp_path_factory.mktemp("kills"))
    ask_people(folder / "before-ppo", 1)
    return folder


def start(world: Path, output: Path, before: int | str | None = None, *more: str) -> Killable:
    settings = ["lora.phases=[reward,ppo]", "improve.min_pairs=5", "improve.prompts=4", "improve.episodes=16"]
    settings += ["improve.reward={max_steps: 4}", "test.pairs=10"]
    return Killable(arguments(world, "improve", output, "--set", *settings, *more), output, before)


def fresh(world: Path, output: Path) -> Path:
    shutil.copytree(world / "before-ppo", output)
    adapter = output / "reward" / "adapter_config.json"
    adapter.write_text(adapter.read_text().replace(str(world / "before-ppo"), str(output)))
    return output


@pytest.mark.slow
def test_killed_at_any_change_the_live_version_stays_and_resume_ends_in_one_challenger(world, tmp_path):
    unbroken = fresh(world, tmp_path / "unbroken")
    start(world, unbroken).finish()
    points = [point for point in dict.fromkeys(changes(unbroken)) if "versions" in point]
    assert any("registry.json" in point for point in points)
    if not SOAK:
        points = [point for point in points if point.startswith("os.rename")]
    output, kills = fresh(world, tmp_path / "broken"), 0
    for point in points:
        kills += start(world, output, point, "--resume").wait() == -signal.SIGKILL
        registry = Registry(output)
        assert registry.live().name == "sft"
        load_causal_lm(str(registry.path(registry.live())), tokenizer_of(output), "fp32", CPU)
    start(world, output, None, "--resume").finish()
    print(f"\n{kills} kills")
    registry = Registry(output)
    assert [version.name for version in registry.candidates()] == ["v1"]
    assert registry.get("v1").metrics == Registry(unbroken).get("v1").metrics
    weights = "versions/v1/ppo/adapter_model.safetensors"
    assert (output / weights).read_bytes() == (unbroken / weights).read_bytes()
    assert sorted(path.name for path in (output / "versions" / "v1").iterdir()) == [
        "evaluation", "feedback", "ppo", "reward", "training",
    ]  # fmt: skip


def tokenizer_of(output: Path):
    from rlhf.tokenizer import load_tokenizer

    return load_tokenizer(str(output / "base"), vocab_size=300, texts=list, max_length=48)
