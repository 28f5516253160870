"""The plan of memory beside what is measured: the real phases on random weights, each in a fresh process, on a CPU.

    python -m benchmarks.memory_plan                       all cases, as a markdown table
    python -m benchmarks.memory_plan lora full --json FILE

Measured is the peak of resident memory less what the process held once the same phase had run on a tiny model, which
is what the libraries take. The allocator is told to hand freed blocks back, so that resident is what is in use, and
oneDNN to keep few kernels: it would keep a thousand, some 100 MB in bf16, whatever the model. Linux only.
"""

import argparse
import gc
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.memory import forget_peak, held_mb, peak_mb
from benchmarks.processes import in_fresh_process, say, write_json

SHAPE = {"hidden_size": 256, "num_layers": 6, "num_heads": 4, "max_position_embeddings": 512}
ALL = ("sft", "reward", "ppo")
DEFAULT: dict[str, Any] = {
    "shape": SHAPE, "vocabulary": 8192, "prompt": 128, "response": 128, "rows": 8, "rollout_rows": 8, "lora": True,
    "dropout": 0.0, "checkpointing": False, "precision": "fp32", "phases": ALL, "name": "measured",
}  # fmt: skip
TINY: dict[str, Any] = {
    "shape": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 32}, "vocabulary": 300,
    "prompt": 16, "response": 4, "rows": 1, "rollout_rows": 1, "name": "tiny",
}  # fmt: skip
"""Stands in for a case, so that all that libraries load and keep is there before it is measured."""
CASES: dict[str, dict[str, Any]] = {
    "full": {"lora": False},
    "full, checkpointing": {"lora": False, "checkpointing": True},
    "lora": {},
    "lora, checkpointing": {"checkpointing": True},
    "lora, dropout": {"dropout": 0.05, "phases": ("sft", "reward")},
    "lora, 384 tokens": {"prompt": 192, "response": 192, "rows": 4, "phases": ("sft",)},
    "lora, bf16": {"precision": "bf16"},
    "lora, 8 bits": {"precision": "8bit"},
    "lora, 8 bits, checkpointing": {"precision": "8bit", "checkpointing": True},
    "lora, 4 bits": {"precision": "4bit"},
    "base": {"lora": False, "phases": ("base",), "response": 128},
}
"""Name → what differs from `DEFAULT`."""
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8",
    "LRU_CACHE_CAPACITY": "8",  # PyTorch keeps them as well
}
"""One thread, no GPU; freed blocks go back to the system; few of the kernels that oneDNN compiles for each shape are
kept."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of: {'; '.join(CASES)}")
    parser.add_argument("--json", type=Path, help="where to write the result")
    args = parser.parse_args()
    rows = [row | {"case": name} for name in args.cases or CASES for row in measure(DEFAULT | CASES[name])]
    print(table(rows))
    if args.json:
        write_json(rows, args.json)


def measure(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Each step of each phase of a case: bytes predicted and measured. Phases run in order, on what came before."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for phase in case["phases"]:
            given = {"case": case | {"phase": phase, "folder": folder}}
            found = in_fresh_process("benchmarks.memory_plan:child", given, Path(folder) / "found.json", ENVIRONMENT)
            say(f"{phase} {json.dumps(found)}")
            rows += [{"phase": phase, "step": step, **numbers} for step, numbers in found.items()]
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| case | phase | step | predicted, MB | measured, MB | off by |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        predicted, measured = row["predicted"], row["measured"]
        lines.append(
            f"| {row['case']} | {row['phase']} | {row['step']} | {predicted / 1e6:.0f} | {measured / 1e6:.0f} "
            f"| {predicted / measured - 1:+.0%} |"
        )
    return "\n".join(lines)


# --- one phase, in a process of its own -------------------------------------------------------------------------------


def child(case: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Run a phase, the base made where there is none; returns step → bytes predicted and measured."""
    import importlib

    from benchmarks.random_world import FullRows, make_base
    from rlhf import memory, planning
    from rlhf.config import Shape, parse_config
    from rlhf.phases.plan import PHASES
    from rlhf.run import Run

    folder = Path(case["folder"])
    for size in (case, case | TINY):
        base = folder / size["name"] / "base"
        if not base.is_dir():
            make_base(base, Shape(**size["shape"]), size["vocabulary"])
    tiny, run = (
        Run(config, folder / size["name"] / "out", FullRows(config, rows=2 * size["rows"]))
        for size in (case | TINY, case)
        for config in [parse_config(settings(size, folder / size["name"]))]
    )
    phase = importlib.import_module(f"rlhf.phases.{case['phase']}")
    phase.run_phase(tiny)
    plan = planning.plan_phase(run, case["phase"], PHASES[case["phase"]](run))
    watch = Watch(plan.steps)
    with watch.installed():
        phase.run_phase(run)
    overhead = memory.OVERHEAD["cpu"]
    return {
        step: {"predicted": plan.peaks[step] - overhead, "measured": measured}
        for step, measured in watch.peaks.items()
        if measured
    }


def settings(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration of a case: two optimizer steps a phase, nothing kept."""
    rows, tokens = case["rows"], case["prompt"] + case["response"]
    steps = {
        "per_device_train_batch_size": rows, "per_device_eval_batch_size": rows, "gradient_accumulation_steps": 1,
        "gradient_checkpointing": case["checkpointing"], "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip
    scratch = case["phases"] == ["base"]
    model = {"shape": case["shape"]} if scratch else {"name": str(folder / "base"), "precision": case["precision"]}
    return {
        "model": model | {"device": "cpu", "tokenizer": str(folder / "base")},
        "lora": {"phases": list(ALL) if case["lora"] else [], "dropout": case["dropout"]},
        "data": {"demonstrations": ["classroom"], "preferences": ["classroom"], "max_prompt_tokens": case["prompt"],
                 "max_response_tokens": case["response"]},
        "base": steps | {"block_tokens": tokens, "max_steps": 2},
        "sft": steps | {"max_steps": 2},
        "reward": steps | {"max_steps": 2},
        "ppo": steps | {"total_episodes": 2 * rows, "num_mini_batches": 1, "num_ppo_epochs": 1, "eval_prompts": 0,
                        "local_rollout_forward_batch_size": case["rollout_rows"]},
    }  # fmt: skip


class Watch:
    """The peak of resident memory in each step of a phase.

    Args:
        steps: which there are.
    """

    def __init__(self, steps: Any) -> None:
        self.peaks = dict.fromkeys(steps, 0.0)
        trim()
        self.before = held_mb()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Watches the trainers' steps by name."""
        from transformers import Trainer

        from rlhf.ppo_update import Updater
        from rlhf.rollout import Sampler

        watched = [
            (Trainer, "train", "update"), (Trainer, "evaluate", "evaluate"), (Sampler, "sample", "rollout"),
            (Sampler, "_judge", "score"), (Updater, "run", "update"),
        ]  # fmt: skip
        originals = [getattr(kind, name) for kind, name, _ in watched]
        for (kind, name, step), original in zip(watched, originals, strict=True):
            setattr(kind, name, self.around(step, original))
        try:
            yield
        finally:
            for (kind, name, _), original in zip(watched, originals, strict=True):
                setattr(kind, name, original)

    def around(self, step: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **named: Any) -> Any:
            trim()
            forget_peak()
            found = work(*args, **named)
            self.peaks[step] = max(self.peaks.get(step, 0), (peak_mb() - self.before) * 2**20)
            return found

        return watched


def trim() -> None:
    """Hand what is free back to the system."""
    import ctypes

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    main()
