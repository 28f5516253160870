"""The comparison of learning, end to end: both trainers in processes of their own, at tiny settings."""

import json
import sys
from pathlib import Path

import pytest
import yaml

import main as command_line
from benchmarks import ppo_learning

STEPS = {"max_steps": 2, "per_device_train_batch_size": 4, "disable_tqdm": True}
CONFIG = {
    "model": {
        "shape": {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 64},
        "vocab_size": 300, "device": "cpu",
    },
    "lora": {"r": 2, "alpha": 4, "dropout": 0.0, "phases": ["ppo"]},
    "data": {
        "demonstrations": [{"source": "classroom", "limit": 200}],
        "preferences": [{"source": "classroom", "limit": 100}],
        "max_prompt_tokens": 40, "max_response_tokens": 8,
    },
    "base": {"block_tokens": 32} | STEPS,
    "sft": STEPS | {"gradient_checkpointing": False},
    "reward": STEPS | {"gradient_checkpointing": False},
    "ppo": {
        "total_episodes": 24, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "learning_rate": 1e-2,
        "num_mini_batches": 2, "num_ppo_epochs": 2, "gradient_checkpointing": False, "missing_eos_penalty": 1.0,
        "eval_steps": 1, "eval_prompts": 4,
    },
    "test": {"prompts": 4},
}  # fmt: skip


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def run(monkeypatch, tmp_path, config, *more) -> Path:
    out = tmp_path / "out"
    given = ["--run", str(tmp_path / "run"), "--seeds", "3", "--out", str(out), "--config", str(config)]
    monkeypatch.setattr(sys, "argv", ["ppo_learning", *given, "--every", "2", *more])
    ppo_learning.main()
    return out


@pytest.mark.slow
def test_both_trainers_start_equal_learn_as_many_steps_and_are_measured_alike(monkeypatch, tmp_path, config):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    start = tmp_path / "run" / "seed-3"
    for phase in ("base", "sft", "reward"):
        given = ["--phase", phase, "--config", str(config), "--output", str(start), "--set", "seed=3"]
        assert command_line.main(given) == 0
    there = sorted(path.name for path in start.iterdir())

    out = run(monkeypatch, tmp_path, config)

    found = json.loads((out / "learning.json").read_text())
    ours, trl = found["runs"]
    assert (ours["side"], trl["side"], ours["seed"]) == ("ours", "trl", 3)
    first, theirs = ours["curve"][0], trl["curve"][0]
    for name in ("reward", "kl", "length", "gold"):
        assert first[name] == pytest.approx(theirs[name], abs=1e-4), name
    assert [p["update"] for p in ours["curve"]] == [p["update"] for p in trl["curve"]] == [0, 2, 3]
    assert [p["episodes"] for p in ours["curve"]] == [p["episodes"] for p in trl["curve"]] == [0, 16, 24]
    assert ours["optimizer_steps"] == trl["optimizer_steps"] == 3 * 2 * 2
    assert ours["trained_policy_weights"] == trl["trained_policy_weights"] > 0
    assert trl["kept"]["reward"] == trl["curve"][-1]["reward"]  # the stock trainer keeps its last policy
    assert ours["curve"][-1] != first and trl["curve"][-1] != theirs  # both have moved
    assert ours["left_out_seconds"].keys() == {"benchmark", "the trainer's own evaluation"}
    assert found["mean"]["target_reward"] == trl["curve"][-1]["reward"]
    assert found["mean"].keys() == found["seeds"]["3"].keys() >= {"final", "seconds", "share_of_whole_run"}
    assert (out / "learning.png").stat().st_size > 10_000
    assert sorted(path.name for path in start.iterdir()) == there  # what PPO started from is as it was

    monkeypatch.setattr(ppo_learning, "in_fresh_process", None)  # nothing is measured again
    assert json.loads((run(monkeypatch, tmp_path, config, "--keep") / "learning.json").read_text()) == found


def test_only_what_is_missing_is_made(monkeypatch, tmp_path, config):
    commands = []
    monkeypatch.setattr(ppo_learning.subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr(ppo_learning, "record_of", lambda *given: sys.exit("enough"))
    (tmp_path / "run" / "seed-3" / "base").mkdir(parents=True)
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path, config, "--set", "lora.phases=[reward, ppo]")
    assert [command[command.index("--phase") + 1] for command in commands] == ["sft", "reward"]
    assert commands[0][-2:] == ["lora.phases=[reward, ppo]", "seed=3"]


def test_a_run_with_other_settings_is_not_kept(monkeypatch, tmp_path, config):
    monkeypatch.setattr(ppo_learning, "make_start", lambda *given: None)
    (tmp_path / "out").mkdir()
    kept = {"settings": {"config": str(config), "set": [], "every": 5}}
    (tmp_path / "out" / "ours-seed-3.json").write_text(json.dumps(kept))
    with pytest.raises(SystemExit, match="'every': 5.*not.*'every': 2"):
        run(monkeypatch, tmp_path, config, "--keep")
