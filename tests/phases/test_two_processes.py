"""The training phases on two processes, as `accelerate launch` starts them: one writes, both train."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

import main
from tests.phases.helpers import metrics as rows_of
from tests.phases.helpers import tiny_config

ROOT = Path(main.__file__).parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A configuration with LoRA in reward and PPO, and what those phases start from."""
    folder = tmp_path_factory.mktemp("two")
    source = [{"source": "classroom", "limit": 300}]
    config = tiny_config(lora={"phases": ["reward", "ppo"]}, data={"demonstrations": source, "preferences": source})
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    for phase in ("base", "sft"):
        assert main.main(arguments(folder, phase)) == 0
    launch(folder, "reward")
    return folder


def arguments(world, phase):
    return ["--phase", phase, "--config", str(world / "tiny.yaml"), "--output", str(world / "run")]


def launch(world, phase, *options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "main.py"]
    done = subprocess.run(
        [*command, *arguments(world, phase), *options], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_reward_trains_on_two_processes(world):
    assert (world / "run" / "reward" / "adapter_model.safetensors").is_file()
    assert (world / "run" / "rlhf_reward_model" / "model.safetensors").is_file()
    steps = [row["step"] for row in rows_of(world / "run" / "reward") if "loss" in row]
    assert steps == [1, 2, 3]  # written once, not by each process


@pytest.mark.parametrize("sft_coef", [0.0, 0.3])  # the supervised term has no use for the value head
def test_ppo_trains_on_two_processes(world, sft_coef):
    launch(world, "ppo", "--set", f"ppo.sft_coef={sft_coef}",
                     "ppo.total_episodes=32", "ppo.eval_prompts=0")  # fmt: skip
    assert (world / "run" / "ppo" / "adapter_model.safetensors").is_file()
    assert (world / "run" / "rlhf_gpt_neo_model" / "model.safetensors").is_file()
    updates = [row for row in rows_of(world / "run" / "ppo") if "objective/kl" in row]
    assert [row["step"] for row in updates] == list(range(1, len(updates) + 1))
    assert updates[-1]["episode"] == 32
    assert updates[0]["objective/kl"] == pytest.approx(0, abs=1e-5)
    adapter = load_file(world / "run" / "ppo" / "adapter_model.safetensors")
    assert all(weight.any() for name, weight in adapter.items() if "lora_B" in name)  # which start at zero
    assert ("loss/sft_avg" in updates[0]) == (sft_coef > 0)
    assert not list((world / "run").glob(".*"))
