"""Every training phase on two processes, as torchrun and accelerate start them: the same losses and weights as on one.

SOAK=1 python -m pytest tests/phases/test_two_processes.py        # every case with FSDP and DeepSpeed, more kills
"""

import json
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

import main
from tests.phases.helpers import SHORT, WORDS, metrics
from tests.phases.test_resume import LIMIT, SOAK, TIMING, checkpoints, write_jsonl

ROOT = Path(main.__file__).parent
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = ["accelerate.commands.launch", "--main_process_port", "0", "--config_file"]
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
    "ppo-lora": ("lora", "ppo", []),
    "ppo-value-adapter": ("lora", "ppo", ["ppo.value=adapter"]),
    "ppo-value-shared": ("lora", "ppo", ["ppo.value=shared"]),
    "ppo-supervised": ("lora", "ppo", ["ppo.sft_coef=0.3", "ppo.rewards=[model, distinct]"]),
}
"""Name → the results that it starts from, its phase, and further settings."""

LORA = {"whole": "[]", "lora": "[sft,reward,ppo]"}

SPREAD = list(CASES) if SOAK else ["sft", "reward-lora", "ppo-lora"]
"""Cases for FSDP and DeepSpeed."""


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
    """Case → its result on two processes."""
    return run_on_two(world, "two", list(CASES), TORCHRUN)[0]


def run_on_two(world: Path, run: str, cases: list[str], launcher: list[str]) -> tuple[dict[str, Path], str]:
    """Case → its result on two processes, from the start of the runs on one, all in one launch; and what it printed."""
    commands, found = [], {}
    for name in cases:
        kind, phase, settings = CASES[name]
        output = started(world, name, run)
        commands.append(command(world, kind, phase, output, *HALVED[phase], *settings))
        found[name] = output / phase
    (world / f"{run}.json").write_text(json.dumps(commands))
    return found, finish(world, launcher, "-m", "tests.phases.several", str(world / f"{run}.json"))


def command(world: Path, kind: str, phase: str, output: Path, *settings: str) -> list[str]:
    arguments = ["--phase", phase, "--config", str(world / "tiny.yaml"), "--output", str(output)]
    return [*arguments, "--set", f"lora.phases={LORA[kind]}", *settings]


def started(world: Path, name: str, run: str) -> Path:
    """A folder with what a case starts from: the results, on one process, of the phases before its own."""
    kind, phase, _ = CASES[name]
    output = world / run / name
    for before in PHASES[: PHASES.index(phase)]:
        shutil.copytree(world / "one" / kind / before, output / before)
    output.mkdir(parents=True, exist_ok=True)
    return output


def launch(world: Path, launcher: list[str], *program: str) -> subprocess.Popen[bytes]:
    log = (world / "log.txt").open("wb")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    if launcher == TORCHRUN:
        environment["ACCELERATE_USE_CPU"] = "1"
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, *program], cwd=ROOT, stdout=log, stderr=log, env=environment
    )


def finish(world: Path, launcher: list[str], *program: str) -> str:
    """What a program on two processes prints."""
    process = launch(world, launcher, *program)
    try:
        code = process.wait(LIMIT)
    finally:
        kill(process)
    log = (world / "log.txt").read_text()
    assert code == 0, log[-4000:]
    return log


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the launcher and to all that it has started."""
    try:
        workers = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        workers = []
    process.kill()
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers)
    process.wait()


def numbers(result: Path) -> list[dict[str, Any]]:
    """What was logged, without times, the estimate of operations (it counts padding) and the mean since the start."""
    left_out = (*TIMING, "flos", "train_loss")
    return [{k: v for k, v in row.items() if not any(t in k for t in left_out)} for row in metrics(result)]


def weights(result: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.stem}.{name}": weight
        for file in sorted(result.glob("*.safetensors"))
        for name, weight in load_file(file).items()
    }


def assert_alike(ours: Path, theirs: Path) -> None:
    """The same log, each step once, and the same weights."""
    rows, expected = numbers(ours), numbers(theirs)
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    assert len(expected) > 3
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, abs=1e-4, rel=1e-4)
    trained = weights(theirs)
    assert set(weights(ours)) == set(trained) and trained
    for name, weight in weights(ours).items():
        torch.testing.assert_close(weight, trained[name], atol=1e-3, rtol=0, msg=name)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_log_and_learn_what_one_does(one, two, name):
    assert_alike(two[name], one[name])


def test_fsdp_logs_and_learns_what_one_process_does(world, one):
    results, log = run_on_two(world, "fsdp", SPREAD, [*ACCELERATE, "configs/accelerate/fsdp.yaml"])
    assert log.count("weights are spread by FSDP") == len(SPREAD)
    for name, result in results.items():
        assert_alike(result, one[name])


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
def test_deepspeed_logs_and_learns_what_one_process_does(world, one):
    results, log = run_on_two(world, "zero", SPREAD, [*ACCELERATE, "configs/accelerate/deepspeed-zero2.yaml"])
    assert log.count("optimizer state is spread by ZeRO, stage 2") == len(SPREAD)
    for name, result in results.items():
        assert_alike(result, one[name])


@pytest.mark.parametrize("spread", [False, pytest.param(True, marks=pytest.mark.skipif(not SOAK, reason="SOAK=1"))])
@pytest.mark.parametrize(
    "name",
    ["ppo-lora", *(pytest.param(n, marks=pytest.mark.skipif(not SOAK, reason="SOAK=1")) for n in ("sft", "ppo"))],
)
def test_a_killed_and_resumed_run_ends_like_one_process(world, one, name, spread):
    kind, phase, settings = CASES[name]
    output = started(world, name, f"broken-{spread}")
    more = [f"{phase}.save_strategy=steps", f"{phase}.save_steps=1"]
    line = command(world, kind, phase, output, *HALVED[phase], *settings, *more)
    (world / "broken.json").write_text(json.dumps([line]))
    (world / "again.json").write_text(json.dumps([[*line, "--resume"]]))
    launcher, broken, again = TORCHRUN, ["main.py", *line], ["main.py", *line, "--resume"]
    if spread:
        launcher = [*ACCELERATE, "configs/accelerate/fsdp.yaml"]
        broken, again = (["-m", "tests.phases.several", str(world / f"{name}.json")] for name in ("broken", "again"))
    process = launch(world, launcher, *broken)
    deadline = time.monotonic() + LIMIT
    while not any(checkpoints(output, phase).values()):
        assert process.poll() is None and time.monotonic() < deadline, (world / "log.txt").read_text()[-4000:]
        time.sleep(0.005)
    kill(process)
    assert not (output / phase).exists(), "it ended before it could be killed"
    log = finish(world, launcher, *again)
    assert f"resuming {phase} from checkpoint-" in log
    assert_alike(output / phase, one[name])
