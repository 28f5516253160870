"""The benchmarks for a GPU, whole, at tiny shapes on the CPU; and what their tables make of rows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import dolly_gpu, gpu_memory
from benchmarks.gpu_report import goals, markdown
from benchmarks.processes import in_fresh_process

REPO = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_the_memory_benchmark_runs_whole_on_a_cpu(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu_memory", "--tiny", "--precisions", "8bit"]
    command += ["--json", str(tmp_path / "gpu.json"), "--markdown", str(tmp_path / "gpu.md")]
    done = subprocess.run(command, cwd=REPO, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {row["role"]: row for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]}
    assert set(rows) == {"ours", "decode", "stock"}
    assert all(row["fits"] and row["peak_gib"] > 0 for row in rows.values())
    assert rows["ours"]["micro_batch"] == rows["ours"]["rollout_batch"] == 4  # all of the batch: there is room
    assert rows["ours"]["episodes_per_s"] > 0 and rows["stock"]["episodes_per_s"] > 0
    text = (tmp_path / "gpu.md").read_text()
    assert "ON A CPU" in text and "| tiny | 8 | this project | 8bit | 4 | 4 |" in text


@pytest.mark.parametrize(
    "error", ["torch.OutOfMemoryError: CUDA", "rlhf.errors.UserError: Phase ppo does not fit into memory"]
)
def test_a_process_without_enough_memory_is_a_row_and_any_other_failure_the_end(monkeypatch, tmp_path, error):
    script = tmp_path / "fails.py"

    def run_script(function, given, result):
        return in_fresh_process("runpy:run_path", {"path_name": str(script)}, result)

    monkeypatch.setattr(gpu_memory, "in_fresh_process", run_script)
    job = {"role": "ours", "model": "tiny", "precision": "8bit", "card": 8.0, "folder": str(tmp_path)}
    script.write_text(f"print('{error}')\nraise RuntimeError('details above')")
    assert gpu_memory.row(job).items() >= {"model": "tiny", "fits": False, "why": error}.items()
    script.write_text("raise RuntimeError('shapes do not fit')")
    with pytest.raises(SystemExit, match="shapes do not fit"):
        gpu_memory.row(job)


OURS = {"role": "ours", "precision": "8bit", "fits": True, "peak_gib": 6.5, "episodes_per_s": 2.0, "micro_batch": 2}


def test_goals_are_told_reached_or_missed():
    rows = [
        OURS | {"model": "2.7b", "card": 8.0},
        OURS | {"model": "1.3b", "card": 5.0, "fits": False},
        {
            "role": "stock",
            "model": "2.7b",
            "card": 8.0,
            "precision": "bf16",
            "fits": True,
            "episodes_per_s": 0.5,
            "micro_batch": 1,
        },
        {"role": "decode", "model": "2.7b", "card": 8.0, "precision": "8bit", "fits": True, "ours": 30, "generate": 10},
    ]
    assert goals(rows) == [
        "- 2.7b in 8 bits within 8 GiB: reached (peak 6.50 GiB).",
        "- 1.3b in 8 bits within 5 GiB: MISSED (does not fit).",
        "- 2.7b, 8 GiB, 8bit: 4.0 times the stock trainer's episodes/s (goal 3: reached).",
        "- 2.7b, 8 bits: decoding 3.0 times as fast as `generate` (goal 5: MISSED).",
    ]
    page = markdown(
        {
            "rows": rows,
            "machine": {"gpu": "some GPU", "torch": "2"},
            "settings": {"prompt": 1, "response": 1, "batch": 1, "updates": 1},
        }
    )
    assert "| 1.3b | 5 | this project | 8bit | does not fit |" in page and "on some GPU" in page


@pytest.mark.slow
def test_dolly_runs_whole_on_a_cpu(tmp_path, capsys):
    rows = [
        {"instruction": f"What is {i} plus one?", "context": "", "response": f"It is {i + 1}.", "category": kind}
        for i in range(60)
        for kind in ("open_qa" if i % 2 else "closed_qa",)
    ]
    (tmp_path / "dolly.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "text.jsonl").write_text(
        "".join(json.dumps({"text": f"{i} is a number. " * 9}) + "\n" for i in range(40))
    )
    steps = ["max_steps=2", "gradient_accumulation_steps=2", "disable_tqdm=true"]
    settings = [f"{phase}.{step}" for phase in ("base", "sft", "reward") for step in steps] + [
        "model.shape={hidden_size: 32, num_layers: 2, num_heads: 2, max_position_embeddings: 128}",
        "model.vocab_size=300", "model.device=cpu", "base.block_tokens=32", "data.max_prompt_tokens=48",
        "data.max_response_tokens=8", "data.ood=[typos]", "data.held_out_categories=[]",
        "data.validation_fraction=0.2", "data.test_fraction=0.2", "ppo.total_episodes=8", "ppo.disable_tqdm=true",
        "ppo.gradient_accumulation_steps=8", "ppo.num_mini_batches=2", "ppo.eval_prompts=4", "test.bootstrap=100",
    ]  # fmt: skip
    dolly_gpu.main(
        ["--dolly", str(tmp_path / "dolly.jsonl"), "--text", str(tmp_path / "text.jsonl"), "--output",
         str(tmp_path / "out"), "--markdown", str(tmp_path / "page.md"), "--set", *settings]
    )  # fmt: skip
    page = (tmp_path / "page.md").read_text()
    for step in ("base", "sft", "reward", "ppo", "ppo_from_base", "report"):
        assert f"| {step} | " in page
    assert "A CPU" in page and "SPP" in page
    assert re.search("ppo: .* micro-batch 4 x 2", capsys.readouterr().out)  # the minibatch of four fits at once
