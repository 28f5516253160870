"""Every training phase on two processes, as torchrun starts them: the same losses and weights as on one.

SOAK=1 python -m pytest tests/phases/test_two_processes.py        # kills SFT and the reward model, too
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import main
from tests.phases.helpers import SHORT, WORDS, metrics
from tests.phases.test_resume import LIMIT, TIMING, write_jsonl

ROOT = Path(main.__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
PHASES = ("base", "sft", "reward", "ppo")

pytestmark = pytest.mark.slow

HALVED = {name: [f"{name}.per_device_train_batch_size=2"] for name in PHASES}
"""Half a batch for each of two processes."""

CASES: dict[str, tuple[str, str, list[str]]] = {
    "base": ("whole", "base", []),
    "sft": ("whole", "sft", []),
    "reward": ("whole", "reward", []),
    "sft-lora": ("lora", "sft", []),
    "reward-lora": ("lora", "reward", []),
    "ppo": ("whole", "ppo", []),
    "ppo-lora": ("lora", "ppo", ["ppo.save_steps=1"]),
    "ppo-value-adapter": ("lora", "ppo", ["ppo.value=adapter"]),
    "ppo-supervised": ("lora", "ppo", ["ppo.sft_coef=0.3"]),
}
"""Name → the results that it starts from, its phase, and further settings."""

LORA = {"whole": "[]", "lora": "[sft,reward,ppo]"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A configuration whose rows fill no whole number of batches; no dropout, which draws in each process apart."""
    folder = tmp_path_factory.mktemp("two")
    rows = [(f"What is a {a} {b}?", f"A {a} is with a {b}." if a < b else f"A {b}.") for a in WORDS for b in WORDS[:4]]
    write_jsonl(folder / "demonstrations.jsonl", [{"prompt": p, "completion": c} for p, c in rows])
    write_jsonl(folder / "pairs.jsonl", [{"prompt": p, "chosen": c, "rejected": f"{c} No."} for p, c in rows])
    batch = SHORT | {"gradient_accumulation_steps": 2, "per_device_eval_batch_size": 3, "learning_rate": 1e-3}
    training = batch | {"num_train_epochs": 2, "eval_strategy": "epoch", "save_strategy": "no"}
    values: dict[str, Any] = {
        "model": {
            "shape": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 64},
            "vocab_size": 300,
            "device": "cpu",
        },
        "lora": {"r": 4, "alpha": 8, "dropout": 0.0},
        "data": {
            "demonstrations": str(folder / "demonstrations.jsonl"),
            "preferences": str(folder / "pairs.jsonl"),
            "validation_fraction": 0.2,
            "max_prompt_tokens": 32,
            "max_response_tokens": 12,
        },
        "base": batch | {"num_train_epochs": 1, "block_tokens": 16, "save_strategy": "no"},
        "sft": training | {"train_sampling_strategy": "group_by_length"},
        "reward": training,
        "ppo": batch
        | {"total_episodes": 24, "num_mini_batches": 2, "num_ppo_epochs": 2, "eval_steps": 2, "eval_prompts": 5}
        | {"num_sample_generations": 0, "save_strategy": "steps", "save_steps": 100},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture(scope="module")
def one(world):
    """Case → its result on one process; "whole" and "lora" are runs in which SFT and reward follow one another."""
    for kind in LORA:
        for phase in PHASES[:3]:
            assert main.main(command(world, kind, phase, world / "one" / kind)) == 0
    found = {}
    for name, (kind, phase, settings) in CASES.items():
        found[name] = world / "one" / kind / phase
        if phase == "ppo":
            output = started(world, name, "one")
            assert main.main(command(world, kind, phase, output, *settings)) == 0
            found[name] = output / phase
    return found


@pytest.fixture(scope="module")
def two(world, one):
    """Case → its result on two processes, from the same start; all in one launch."""
    commands, found = [], {}
    for name, (kind, phase, settings) in CASES.items():
        output = started(world, name, "two")
        commands.append(command(world, kind, phase, output, *HALVED[phase], *settings))
        found[name] = output / phase
    (world / "commands.json").write_text(json.dumps(commands))
    found["log"] = finish(world, "-m", "tests.phases.several", str(world / "commands.json"))
    return found


def command(world: Path, kind: str, phase: str, output: Path, *settings: str, resume: bool = False) -> list[str]:
    arguments = ["--phase", phase, "--config", str(world / "tiny.yaml"), "--output", str(output)]
    return [*arguments, "--set", f"lora.phases={LORA[kind]}", *settings, *(["--resume"] if resume else [])]


def started(world: Path, name: str, processes: str) -> Path:
    """A folder with what a case starts from: the results, on one process, of the phases before its own."""
    kind, phase, _ = CASES[name]
    output = world / processes / name
    for before in PHASES[: PHASES.index(phase)]:
        shutil.copytree(world / "one" / kind / before, output / before)
    output.mkdir(parents=True, exist_ok=True)
    return output


def launch(world: Path, *program: str) -> subprocess.Popen[bytes]:
    """Start a program on two processes, in a process group of their own."""
    log = (world / "log.txt").open("wb")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    return subprocess.Popen(
        [*TORCHRUN, *program], cwd=ROOT, stdout=log, stderr=log, env=environment, start_new_session=True
    )


def finish(world: Path, *program: str) -> str:
    """What a program on two processes prints."""
    process = launch(world, *program)
    try:
        code = process.wait(LIMIT)
    finally:
        kill(process)
    log = (world / "log.txt").read_text()
    assert code == 0, log[-4000:]
    return log


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the launcher and all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # all of them have ended
        pass


def numbers(result: Path) -> list[dict[str, Any]]:
    """What was logged, without times, and without the estimate of operations, which counts padding."""
    return [{k: v for k, v in row.items() if not any(t in k for t in (*TIMING, "flos"))} for row in metrics(result)]


def weights(result: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.stem}.{name}": weight
        for file in sorted(result.glob("*.safetensors"))
        for name, weight in load_file(file).items()
    }


@pytest.mark.parametrize("name", CASES)
def test_two_processes_log_and_learn_what_one_does(one, two, name):
    ours, theirs = numbers(two[name]), numbers(one[name])
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]  # each once, not by each process
    assert len(theirs) > 3
    for row, other in zip(ours, theirs, strict=True):
        assert row == pytest.approx(other, abs=1e-4, rel=1e-4)
    found, expected = weights(two[name]), weights(one[name])
    assert set(found) == set(expected) and found
    for key, weight in expected.items():
        torch.testing.assert_close(found[key], weight, atol=1e-3, rtol=0)
