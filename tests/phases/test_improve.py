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
from rlhf.errors import UserError
from rlhf.improvement import Snapshot
from rlhf.models import base_of, load_causal_lm
from rlhf.phases import improve, ppo, reward, sft
from rlhf.phases.base import run_phase as pretrain
from rlhf.records import ask, prompt_id
from rlhf.registry import Registry
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
    assert first.data["replayed"] == 8  # all that the run has
    assert {"reward", "reward/low", "gold", "gold/wins", "kl", "length", "distinct-2"} < set(metrics)
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
    assert second.parent == "v1" and second.data["since"] == first.data["until"]
    assert sum(second.data["pairs"].values()) + second.data["held_out"] == 29
    earlier = Snapshot.load(run.folder / "versions" / "v1" / "feedback", run.config).pairs
    assert second.data["replayed"] == sum(second.data["pairs"].values()) // 2 + 8 <= len(earlier) + 8
    if "ppo" in run.config.lora.phases:  # both on one base: an A/B of the two costs one copy of it
        assert base_of(registry.path(second)) == base_of(registry.path(first)) == base_of(run.folder / "ppo")


def test_a_new_challenger_takes_the_former_ones_place(run):
    registry = Registry(run.folder)
    ask_people(run.folder, 1)
    improve.run_phase(run)
    improve.run_phase(run)  # nothing was promoted: the same judgements are still new
    assert [v.name for v in registry.candidates()] == ["v2"]
    assert registry.get("v1").state == "retired" and registry.get("v2").parent == "ppo"


def test_people_are_taken_at_their_word_only_where_it_is_not_held_out(run):
    ask_people(run.folder, 1)
    improve.run_phase(run)
    snapshot = Snapshot.load(run.folder / "versions" / "v1" / "feedback", run.config)
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
    assert not (run.folder / "versions").exists()
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
