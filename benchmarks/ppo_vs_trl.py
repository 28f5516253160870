"""PPO here and by TRL's stock trainer, side by side: speed and memory on the same random weights and prompts.

    python -m benchmarks.ppo_vs_trl --hidden 768 --layers 12 --vocab 50257 --batch 8 --prompt 64 --response 64 \
        --updates 2 --json FILE
    python -m benchmarks.ppo_vs_trl … --best                           and each side as fast as it can be
    python -m benchmarks.ppo_vs_trl … --sweep response 64 128 256 512  how time and memory of ours grow
    python -m benchmarks.ppo_vs_trl … --sweep batch 4 8 16 32

Each side runs in fresh processes, in turns, so that neither gains by what the other left or by a quiet hour. Replies
never end early, so that the work is equal. The first update warms up and is not counted. docs/benchmarks.md says more.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import DTYPES, Speed, Work, floor_seconds
from benchmarks.ppo_sides import Job, make_models
from benchmarks.processes import in_fresh_process, say, write_json
from rlhf.threads import choose_wait_policy
from rlhf.training import computes_in_bf16

SIDES = ("ours", "trl")
SWEPT = ("response", "prompt", "batch")
GROWING = ("seconds_per_update", "working_mb", "peak_rss_mb")
Run = dict[str, Any]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for size in dataclasses.fields(Job):
        if size.metadata:
            name = f"--{size.name.replace('_', '-')}"
            parser.add_argument(name, type=int, default=size.default, help=size.metadata["help"])
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="fp32", help="of the base weights, both sides")
    parser.add_argument("--rounds", type=int, default=1, help="processes a side; the one of median speed counts (1)")
    parser.add_argument("--sides", nargs="+", choices=SIDES, help="of a sweep (ours)")
    parser.add_argument("--sweep", nargs="+", metavar=("WHAT", "VALUE"), help=f"WHAT is one of {', '.join(SWEPT)}")
    parser.add_argument(
        "--best",
        type=int,
        nargs="*",
        metavar="MICRO_BATCH",
        help="also each side at its fastest: dtypes and these micro-batches (all powers of two)",
    )
    parser.add_argument("--machine-size", type=int, default=2048, help="of the matrices that measure its speed (2048)")
    parser.add_argument("--json", type=Path, help="where to write the result")
    args = parser.parse_args()
    if args.sweep and (args.sweep[0] not in SWEPT or len(args.sweep) < 3):
        parser.error(f"--sweep wants one of {', '.join(SWEPT)} and at least two values")
    return args


def main() -> None:
    args = parse()
    choose_wait_policy()  # once, so that all processes wait alike
    job = Job(**{size.name: getattr(args, size.name) for size in dataclasses.fields(Job)})
    with tempfile.TemporaryDirectory() as folder:
        result = (sweep if args.sweep else compare)(job, args, Path(folder))
    result |= {"settings": dataclasses.asdict(job) | {"rounds": args.rounds}}
    print(json.dumps(result, indent=2))
    if args.json:
        write_json(result, args.json)


def compare(job: Job, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both sides at the same settings, and how far each is from the machine's floor."""
    make_models(job, folder)
    found = in_turns({side: (side, job) for side in SIDES}, args.rounds, folder)
    machine = machine_speed(args, folder)
    speed = Speed(**machine["speed"][job.dtype])
    result = found | ratios(found["ours"], found["trl"]) | {"floor": against_floor(found, job, speed)}
    if args.best is not None:
        result |= {"best_vs_best": best(job, args, folder)}
    return result | {"machine": machine}


def machine_speed(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    say("speed of the machine")
    return in_fresh_process("benchmarks.machine:measured", {"size": args.machine_size}, folder / "machine.json")


def in_turns(jobs: dict[str, tuple[str, Job]], rounds: int, folder: Path) -> dict[str, Run]:
    """Each job in fresh processes, all of them once a round; of each, the run of median speed.

    Args:
        jobs: label → side and job.
        rounds: processes a job.
        folder: with the models.
    """
    runs: dict[str, list[Run]] = {label: [] for label in jobs}
    for number in range(rounds):
        for label, (side, job) in jobs.items():
            say(f"round {number + 1}/{rounds}: {label}")
            given = {"side": side, "job": dataclasses.asdict(job), "folder": str(folder)}
            run = in_fresh_process("benchmarks.ppo_sides:run_side", given, folder / "run.json")
            say(f"  {run}")
            runs[label].append(run)
    return {label: sorted(some, key=_speed)[(len(some) - 1) // 2] for label, some in runs.items()}


def _speed(run: Run) -> float:
    return float(run["episodes_per_s"])


def ratios(ours: Run, trl: Run) -> dict[str, float]:
    """How many times faster ours is, and what share of the memory it takes (the GPU's where there is one)."""
    peak = "peak_gpu_mb" if "peak_gpu_mb" in ours else "peak_rss_mb"
    return {"speedup": ours["episodes_per_s"] / trl["episodes_per_s"], "memory_ratio": ours[peak] / trl[peak]}


def against_floor(found: dict[str, Run], job: Job, speed: Speed) -> dict[str, Any]:
    """The least seconds of an update, and how many times longer each side, and each part of ours, took."""
    least = floor_seconds(work_of(job), speed, DTYPES[job.dtype].itemsize)
    return {
        "seconds": least,
        "times": {side: run["seconds_per_update"] / least["total"] for side, run in found.items()},
        "times_by_part": {name: taken / least[name] for name, taken in found["ours"]["phases"].items()},
    }


def work_of(job: Job) -> Work:
    return Work(**{name: getattr(job, name) for name in Work._fields})


# --- each side at its best --------------------------------------------------------------------------------------------


def best(job: Job, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both sides in each dtype that the processor multiplies in and in several micro-batches; of each the fastest."""
    native = computes_in_bf16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    jobs = {
        f"{side} {dtype} {micro}": (side, dataclasses.replace(job, dtype=dtype, **{key: micro}))
        for side, key in (("ours", "micro_batch"), ("trl", "trl_micro_batch"))
        for dtype in ("fp32", *(["bf16"] if native else []))
        for micro in micro_batches(job, side, args.best)
    }
    found = in_turns(jobs, args.rounds, folder)
    fastest = {}
    for side in SIDES:
        label = max((label for label in found if label.startswith(side)), key=lambda label: _speed(found[label]))
        fastest[side] = {"variant": label} | found[label]
    tried = {label: run["episodes_per_s"] for label, run in found.items()}
    return fastest | ratios(fastest["ours"], fastest["trl"]) | {"tried": tried}


def micro_batches(job: Job, side: str, wanted: list[int]) -> list[int]:
    """Those wanted, or all powers of two, that divide a minibatch. With several minibatches the stock trainer takes a
    step in each only if the batch is in one piece."""
    if side == "trl" and job.minibatches > 1:
        return [job.batch]
    largest = job.batch // job.minibatches
    return [n for n in wanted or [2**n for n in range(largest.bit_length())] if largest % n == 0]


# --- how time and memory grow -----------------------------------------------------------------------------------------


def sweep(job: Job, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Runs at several sizes, and the exponents with which time and memory grow: 1 is linear, 2 quadratic."""
    name, values = args.sweep[0], sorted(int(value) for value in args.sweep[1:])
    make_models(dataclasses.replace(job, **{name: values[-1]}), folder)  # with positions for the longest
    sides = args.sides or ["ours"]
    jobs = {f"{s} {name} {v}": (s, dataclasses.replace(job, **{name: v})) for v in values for s in sides}
    found = in_turns(jobs, args.rounds, folder)
    rows = {side: [{name: value} | found[f"{side} {name} {value}"] for value in values] for side in sides}
    growth = {
        side: {key: growth_exponents(values, [row[key] for row in some]) for key in GROWING}
        for side, some in rows.items()
    }
    return {"sweep": name, "rows": rows, "growth": growth, "machine": machine_speed(args, folder)}


def growth_exponents(sizes: list[int], found: list[float]) -> dict[str, Any]:
    """p in y ~ xᵖ: from each size to the next, and of the straight line of least squares through all (log x, log y)."""
    x, y = np.log(sizes), np.log(found)
    return {"steps": (np.diff(y) / np.diff(x)).tolist(), "all": float(np.polyfit(x, y, 1)[0])}


if __name__ == "__main__":
    main()
