"""`--resume` after SIGKILL: real processes are killed, go on, and must end with the weights of an unbroken run.

SOAK=1 python -m pytest tests/phases/test_resume.py        # many more kills

PPO is killed in `test_kills.py`, more often and in more places.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import main
from tests.phases.helpers import SHORT, WORDS, metrics

ROOT = Path(main.__file__).parent
SOAK = bool(os.environ.get("SOAK"))
LIMIT = 240.0
"""Seconds until a process that should have done something is given up."""
ROUNDS = 8 if SOAK else 1
TIMING = ("runtime", "per_second", "time", "eps")
"""What of metrics.jsonl may differ."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with data, tiny.yaml and what each phase starts from; made by `main`, as a user would."""
    return make_world(tmp_path_factory.mktemp("resume"))


def make_world(folder: Path) -> Path:
    rows = [(f"What is a {a} {b}?", f"A {a} is with a {b}." if a < b else f"A {b}.") for a in WORDS for b in WORDS]
    write_jsonl(folder / "demonstrations.jsonl", [{"prompt": p, "completion": c} for p, c in rows])
    write_jsonl(folder / "pairs.jsonl", [{"prompt": p, "chosen": c, "rejected": "No no no."} for p, c in rows])
    training = SHORT | {"max_steps": 40, "save_steps": 2, "learning_rate": 1e-3, "per_device_train_batch_size": 6}
    values: dict[str, Any] = {
        "model": {
            "shape": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 64},
            "vocab_size": 300,
            "device": "cpu",
        },
        "lora": {"phases": ["reward"], "r": 4, "alpha": 8, "dropout": 0.1},  # dropout: random numbers matter
        "data": {
            "demonstrations": str(folder / "demonstrations.jsonl"),
            "preferences": str(folder / "pairs.jsonl"),
            "validation_fraction": 0.2,
            "max_prompt_tokens": 32,
            "max_response_tokens": 16,
        },
        "base": {"max_steps": 2, "block_tokens": 16, "per_device_train_batch_size": 4, "save_strategy": "no"},
        "sft": training | {"train_sampling_strategy": "group_by_length"},
        "reward": training | {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2},
        "ppo": SHORT
        | {
            "total_episodes": 40 * 8,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "num_mini_batches": 2,
            "num_ppo_epochs": 2,
            "learning_rate": 1e-3,
            "save_steps": 2,
            "eval_steps": 4,
            "eval_prompts": 8,
            "target_kl": 1.0,
            "sft_coef": 0.2,
            "num_sample_generations": 0,
        },
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values))
    assert main.main(arguments(folder, "base", folder / "before-sft")) == 0
    shutil.copytree(folder / "before-sft", folder / "before-reward")
    shutil.copytree(folder / "before-sft", folder / "before-ppo")
    assert main.main(arguments(folder, "sft", folder / "before-reward", "--set", "sft.max_steps=4")) == 0
    for phase in ("sft", "reward"):
        shorter = [f"{phase}.max_steps=4", "lora.phases=[reward,ppo]"]
        assert main.main(arguments(folder, phase, folder / "before-ppo", "--set", *shorter)) == 0
    return folder


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def arguments(world: Path, phase: str, output: Path, *more: str) -> list[str]:
    return ["--phase", phase, "--config", str(world / "tiny.yaml"), "--output", str(output), *more]


def start(world: Path, phase: str, output: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "main.py", *arguments(world, phase, output, *more)]
    log = (output / "log.txt").open("ab")
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})


def finish(world: Path, phase: str, output: Path, *more: str) -> None:
    code = start(world, phase, output, *more).wait(LIMIT)
    assert code == 0, (output / "log.txt").read_text()[-2000:]


def checkpoints(output: Path, phase: str) -> dict[str, bool]:
    """Name → whether its trainer state, the last file of a checkpoint, is whole."""
    try:
        return {folder.name: is_whole(folder) for folder in (output / "training" / phase).glob("checkpoint-*")}
    except FileNotFoundError:  # a fresh run clears the folder, which `glob` may have found a moment before
        return {}


def is_whole(checkpoint: Path) -> bool:
    try:
        return bool(json.loads((checkpoint / "trainer_state.json").read_text()))
    except (OSError, ValueError):
        return False


def kill_when(process: subprocess.Popen[bytes], due: Callable[[], bool]) -> None:
    """SIGKILL as soon as `due`; the process must not end before."""
    deadline = time.monotonic() + LIMIT
    while not due():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(LIMIT) == -signal.SIGKILL


def kill_after_a_checkpoint(world: Path, phase: str, output: Path, *more: str) -> None:
    before = checkpoints(output, phase)
    process = start(world, phase, output, *more)
    kill_when(process, lambda: any(whole and name not in before for name, whole in checkpoints(output, phase).items()))
    assert any(checkpoints(output, phase).values())


def kill_while_a_checkpoint_is_written(world: Path, phase: str, output: Path, *more: str) -> None:
    for _ in range(10):  # a kill may come a moment too late: then the next checkpoint is due
        process = start(world, phase, output, *more)
        kill_when(process, lambda: not all(checkpoints(output, phase).values()))
        if not all(checkpoints(output, phase).values()):
            return
    raise AssertionError("no kill hit the writing of a checkpoint")


def kill_at_any_time(world: Path, phase: str, output: Path, *more: str) -> None:
    """It may also have ended by then, and its result may be there or half-published."""
    process = start(world, phase, output, *more)
    deadline = time.monotonic() + random.uniform(4, 14)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait(LIMIT)


def numbers(result: Path) -> list[dict[str, Any]]:
    """What was logged, without times, and without the summary, whose means are over one process's life."""
    rows = [row for row in metrics(result) if "train_runtime" not in row]
    return [{k: v for k, v in row.items() if not any(t in k for t in TIMING)} for row in rows]


@pytest.mark.parametrize("_round", range(ROUNDS))
@pytest.mark.parametrize(
    ("phase", "lora"),
    [("sft", []), ("sft", ["sft"]), ("reward", ["reward"])],
    ids=["sft", "sft-lora", "reward-lora"],
)
def test_a_killed_and_resumed_run_ends_like_an_unbroken_one(world, phase, lora, tmp_path, _round):
    options = ["--set", f"lora.phases=[{','.join(lora)}]"]
    weights = "adapter_model" if phase in lora else "model"
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    for output in (unbroken, broken):
        shutil.copytree(world / f"before-{phase}", output)
    finish(world, phase, unbroken, *options)
    kill_after_a_checkpoint(world, phase, broken, *options)
    kill_while_a_checkpoint_is_written(world, phase, broken, *options, "--resume")
    for _ in range(2 * SOAK):
        kill_at_any_time(world, phase, broken, *options, "--resume")
    finish(world, phase, broken, *options, "--resume")
    assert "resuming" in (broken / "log.txt").read_text()
    files = [path / phase / f"{weights}.safetensors" for path in (unbroken, broken)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert numbers(broken / phase) == numbers(unbroken / phase)
    assert [row["step"] for row in metrics(broken / phase) if "loss" in row] == list(range(1, 41))
    if phase == "reward":
        merged = [path / "rlhf_reward_model" for path in (unbroken, broken)]
        for name in ("model.safetensors", "reward_normalisation.json"):
            assert (merged[0] / name).read_bytes() == (merged[1] / name).read_bytes()


def test_resume_with_another_configuration_is_refused(world, tmp_path, capsys):
    output = tmp_path / "changed"
    shutil.copytree(world / "before-sft", output)
    few = ["--set", "sft.max_steps=4"]
    assert main.main(arguments(world, "sft", output, *few)) == 0
    saved = (output / "sft" / "model.safetensors").read_bytes()
    assert main.main(arguments(world, "sft", output, *few, "--set", "sft.learning_rate=0.5", "--resume")) == 2
    message = capsys.readouterr().err
    assert "Cannot resume" in message and "sft" in message and "Traceback" not in message
    assert (output / "sft" / "model.safetensors").read_bytes() == saved
    assert main.main(arguments(world, "sft", output, *few, "--resume")) == 0


@pytest.mark.parametrize(
    ("change", "named"), [("model.shape.hidden_size=64", "model.shape"), ("data.max_prompt_tokens=8", "max_prompt")]
)
def test_results_of_another_configuration_are_refused(world, capsys, change, named):
    assert main.main(arguments(world, "sft", world / "before-sft", "--set", change)) == 2
    message = capsys.readouterr().err
    assert "another configuration" in message and named in message and str(world / "before-sft" / "base") in message
