"""Versions: what is live after promotions, rollbacks, two at a time, kills, and with a file that is not ours."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.errors import UserError
from rlhf.models import load_causal_lm
from rlhf.registry import NAME, Registry, Version
from rlhf.run import Run
from tests.conftest import small_config
from tests.phases.helpers import ListData

SOAK = bool(os.environ.get("SOAK"))
KILLS = 40 if SOAK else 5
CPU = torch.device("cpu")
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["rlhf.run", "tests.test_registry"])


@pytest.fixture
def folder(tmp_path, start) -> Path:
    """A run folder with sft and ppo; both hold the same small model."""
    for name in ("sft", "ppo"):
        shutil.copytree(start, tmp_path / "run" / name)
    return tmp_path / "run"


def make(folder: Path, name: str) -> Version:
    """The files of a version, in place but not registered."""
    shutil.copytree(folder / "sft", folder / "versions" / name / "ppo")
    return Version(name, f"versions/{name}/ppo", parent="sft", metrics={"gold": 0.5}, data={"pairs": 3})


def states(registry: Registry) -> dict[str, str]:
    return {version.name: version.state for version in registry.versions()}


def test_before_the_first_change_the_versions_are_what_the_phases_left(folder):
    registry = Registry(folder)
    assert states(registry) == {"sft": "retired", "ppo": "live"}
    assert registry.live().parent == "sft" and registry.live().reward is None
    assert registry.path(registry.fallback()) == folder / "sft"
    shutil.rmtree(folder / "ppo")
    (folder / "reward").mkdir()
    assert states(registry) == {"sft": "live"}
    assert registry.reward_path(registry.live()) == folder / "reward"
    assert not registry.file.exists()


def test_an_empty_run_has_no_live_version_and_says_what_makes_one(tmp_path):
    assert Registry(tmp_path).versions() == []
    with pytest.raises(UserError, match="--phase all"):
        Registry(tmp_path).live()


def test_register_promote_and_roll_back(folder):
    registry = Registry(folder)
    registry.register(make(folder, "v1"))
    assert states(registry) == {"sft": "retired", "ppo": "live", "v1": "candidate"}
    assert registry.get("v1").metrics == {"gold": 0.5} and registry.get("v1").created.endswith("+00:00")
    assert registry.promote("v1").name == "v1"
    registry.register(make(folder, "v2"))
    registry.promote("v2")
    assert states(registry) == {"sft": "retired", "ppo": "retired", "v1": "retired", "v2": "live"}
    assert registry.rollback().name == "v1"
    assert registry.rollback().name == "ppo"
    with pytest.raises(UserError, match="No version was live before"):
        registry.rollback()
    assert Registry(folder).live().name == "ppo"


def test_after_a_rollback_the_next_promotion_rolls_back_to_what_was_live_then(folder):
    registry = Registry(folder)
    registry.register(make(folder, "v1"))
    registry.promote("v1")
    registry.rollback()
    registry.promote("sft")
    assert registry.rollback().name == "ppo"


def test_a_rollback_of_a_version_that_is_not_live_any_more_changes_nothing(folder):
    registry = Registry(folder)
    registry.register(make(folder, "v1"))
    registry.promote("v1")
    assert registry.rollback(of="v1").name == "ppo"
    with pytest.raises(UserError, match="v1 is not live any more"):
        registry.rollback(of="v1")
    assert registry.live().name == "ppo"


def test_a_new_candidate_is_the_challenger_of_what_is_live_then(folder):
    registry = Registry(folder)
    assert registry.register(make(folder, "v1")).name == "ppo"
    registry.promote("v1")
    assert registry.register(make(folder, "v2")).name == "v1"


def test_promoting_what_is_live_changes_nothing(folder):
    registry = Registry(folder)
    assert registry.promote("ppo").name == "ppo"
    assert not registry.file.exists()


def test_a_new_challenger_alone_retires_the_former_one_in_the_same_step(folder):
    registry = Registry(folder)
    registry.register(make(folder, "v1"))
    registry.register(make(folder, "v2"), alone=True)
    assert [version.name for version in registry.candidates()] == ["v2"]
    assert states(registry)["v1"] == "retired"
    registry.register(make(folder, "v3"))
    assert [version.name for version in registry.candidates()] == ["v2", "v3"]
    registry.retire("v3")
    assert states(registry)["v3"] == "retired"
    with pytest.raises(UserError, match="ppo is live"):
        registry.retire("ppo")


def test_what_a_phase_leaves_later_is_listed_as_retired_and_can_be_promoted(folder):
    shutil.move(folder / "ppo", folder / "later")
    registry = Registry(folder)
    registry.register(make(folder, "v1"))
    shutil.move(folder / "later", folder / "ppo")
    assert states(registry) == {"ppo": "retired", "sft": "live", "v1": "candidate"}
    registry.promote("ppo")
    assert registry.live().name == "ppo"


def test_a_reward_model_made_later_belongs_to_sft_and_ppo(folder):
    registry = Registry(folder)
    registry.promote("sft")
    registry.register(make(folder, "v1"))
    assert registry.live().reward is None
    before = registry.stamp()
    (folder / "reward").mkdir()
    assert registry.stamp() != before
    assert registry.reward_path(registry.live()) == folder / "reward" == registry.reward_path(registry.get("ppo"))
    assert registry.get("v1").reward is None


def test_one_version_is_made_at_a_time(folder):
    with Registry(folder).alone():
        with pytest.raises(UserError, match="Another process is making a version"), Registry(folder).alone():
            pass
        Registry(folder).promote("sft")  # all else goes on
    with Registry(folder).alone():
        pass


def test_the_stamp_differs_after_each_change_only(folder):
    registry = Registry(folder)
    seen = [registry.stamp()]
    for change in (lambda: registry.register(make(folder, "v1")), lambda: registry.promote("v1"), registry.rollback):
        assert registry.stamp() == seen[-1]
        change()
        seen.append(registry.stamp())
    assert len(set(seen)) == 4


def test_names_go_on_after_all_that_are_there(folder):
    registry = Registry(folder)
    assert registry.next_name() == "v1"
    registry.register(make(folder, "v1"))
    make(folder, "v7")  # not registered: somebody may resume it
    assert registry.last_name() == "v7" and registry.next_name() == "v8"


@pytest.mark.parametrize("name", ["", "V1", "../x", "a/b", ".hidden", "-x", "a" * 65, "a\n", "ä", "a\0"])
def test_bad_names_are_refused(folder, name):
    with pytest.raises(UserError, match="no name for a version"):
        Registry(folder).register(Version(name, "sft"))
    assert not (folder / "versions").exists()


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True))
def test_good_names_are_taken(name):
    assert NAME.fullmatch(name)
    assert not NAME.fullmatch(name + "\n")


@pytest.mark.parametrize("where", ["/etc", "..", "versions/../../x", "../run2/sft", "", ".", "a\0b"])
def test_folders_outside_of_the_run_are_refused(folder, where):
    with pytest.raises(UserError, match="outside of the run folder"):
        Registry(folder).register(Version("v1", where))


def test_a_link_that_leads_out_of_the_run_is_refused(folder, start):
    (folder / "versions").mkdir()
    (folder / "versions" / "v1").symlink_to(start)
    with pytest.raises(UserError, match="outside of the run folder"):
        Registry(folder).register(Version("v1", "versions/v1"))


def test_what_cannot_be_registered(folder):
    registry = Registry(folder)
    version = make(folder, "v1")
    registry.register(version)
    with pytest.raises(UserError, match="already"):
        registry.register(version)
    with pytest.raises(UserError, match="already"):
        registry.register(Version("sft", "sft"))
    with pytest.raises(UserError, match="did you mean ppo"):
        registry.register(Version("v2", "versions/v1/ppo", parent="pppo"))
    with pytest.raises(UserError, match="not there"):
        registry.register(Version("v2", "versions/v2/ppo"))


def test_a_version_whose_weights_are_cut_short_is_not_promoted(folder):
    registry = Registry(folder)
    registry.register(make(folder, "v1"))
    weights = folder / "versions" / "v1" / "ppo" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="no whole model"):
        registry.promote("v1")
    assert registry.live().name == "ppo"


def whole_file(folder: Path) -> dict:
    registry = Registry(folder)
    registry.register(make(folder, "v1"))
    return json.loads(registry.file.read_text())


def with_version(values: dict, **changes: object) -> dict:
    return values | {"versions": [*values["versions"][:-1], values["versions"][-1] | changes]}


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda v: "", "not JSON"),
        (lambda v: json.dumps(v)[:-20], "not JSON"),
        (lambda v: "[1, 2]", "another kind"),
        (lambda v: json.dumps({"versions": []}), "another kind"),
        (lambda v: json.dumps(v | {"schema_number": 2}), "another release"),
        (lambda v: json.dumps(with_version(v, state="dead")), "state"),
        (lambda v: json.dumps(with_version(v, state="live")), "2 live versions"),
        (lambda v: json.dumps(with_version(v, name="../v1")), "the name"),
        (lambda v: json.dumps(with_version(v, name="sft")), "two versions of one name"),
        (lambda v: json.dumps(with_version(v, colour="red")), "colour"),
        (lambda v: json.dumps(with_version(v, folder="../../etc")), "outside of the run folder"),
        (lambda v: json.dumps(with_version(v, reward="/etc")), "outside of the run folder"),
        (lambda v: json.dumps(v | {"history": []}), "history"),
        (lambda v: json.dumps(v | {"history": ["sft"]}), "history"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_and_left_alone(folder, damage, found):
    text = damage(whole_file(folder))
    registry = Registry(folder)
    registry.file.write_text(text)
    for ask in (registry.versions, registry.live, lambda: registry.promote("sft"), registry.rollback):
        with pytest.raises(UserError, match=found):
            ask()
    assert registry.file.read_text() == text


def test_bytes_that_are_no_text_are_refused(folder):
    whole_file(folder)
    Registry(folder).file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="damaged"):
        Registry(folder).versions()


# --- two at a time, and kills ---------------------------------------------------------------------------------


def register_many(folder: Path, letter: str, count: int) -> None:
    registry = Registry(folder)
    for number in range(count):
        registry.register(Version(f"{letter}{number}", "sft"))
        registry.promote(f"{letter}{number}")


def test_two_processes_that_change_it_at_once_lose_nothing(folder):
    both = [_server.Process(target=register_many, args=(folder, letter, 25)) for letter in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    registry = Registry(folder)
    assert set(states(registry)) == {"sft", "ppo"} | {f"{letter}{n}" for letter in "ab" for n in range(25)}
    assert list(states(registry).values()).count("live") == 1
    names = [registry.live().name, *(registry.rollback().name for _ in range(50))]
    assert sorted(names) == sorted(["ppo", *(f"{letter}{n}" for letter in "ab" for n in range(25))])
    assert names[-1] == "ppo"


def churn(folder: Path) -> None:
    """Save a version, register it, promote it, again and again; writes the name of what was promoted."""
    registry = Registry(folder)
    while True:
        name = registry.next_name()
        run = Run(small_config(), folder / "versions" / name, ListData())
        run.publish("ppo", lambda aside: shutil.copytree(folder / "sft", aside, dirs_exist_ok=True))
        registry.register(Version(name, f"versions/{name}/ppo", parent="sft"), alone=True)
        registry.promote(name)
        with (folder / "promoted.txt").open("a") as file:
            file.write(name + "\n")


def left_by(folder: Path, name: str) -> str:
    """How far the version of this name has come."""
    if (folder / "versions" / name / ".ppo.partial").exists():
        return "while it was saved"
    state = states(Registry(folder)).get(name, "saved")
    return {"saved": "before it was registered", "candidate": "before it was promoted"}.get(state, "after that")


def test_killed_at_any_time_a_version_is_live_and_loads(folder, tokenizer):
    registry, dice, hits = Registry(folder), random.Random(), Counter[str]()
    said = folder / "promoted.txt"
    said.write_text("v0\n")
    for _ in range(KILLS):
        process = _server.Process(target=churn, args=(folder,))
        process.start()
        begun = said.stat().st_size
        while said.stat().st_size == begun:
            time.sleep(0.001)
            assert process.is_alive()
        time.sleep(dice.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        hits[left_by(folder, f"v{max(int(path.name[1:]) for path in (folder / 'versions').glob('v*'))}")] += 1
        live = registry.live()
        assert int(live.name[1:]) >= int(said.read_text().split()[-1][1:])  # no promotion that was told is lost
        for version in [live, *registry.candidates()]:
            load_causal_lm(str(registry.path(version)), tokenizer, "fp32", CPU)
    print(f"\n{KILLS} kills: {dict(hits)}")
    registry.promote("sft")  # the lock of the killed is gone
    assert registry.live().name == "sft"
