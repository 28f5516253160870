"""What a benchmark ran on, how fast that multiplies and reads, and so how long a PPO update takes at least.

python -m benchmarks.machine          # prints it
"""

import argparse
import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from benchmarks.processes import write_json
from rlhf.linear import linear
from rlhf.stopwatch import now

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Speed(NamedTuple):
    """What a machine can do at most."""

    flops: float
    """Floating-point operations a second in a large product of matrices; a multiplication and an addition are two."""
    bytes_per_s: float
    """Read from memory, of an array that fits in no cache."""


class Work(NamedTuple):
    """The size of a PPO update on a GPT-Neo with LoRA adapters on two square projections a layer (query and value)."""

    hidden: int
    layers: int
    vocab: int
    batch: int
    prompt: int
    response: int
    epochs: int
    rank: int


def described() -> dict[str, Any]:
    """What a result must be read with."""
    return {
        "cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "gpu_gib": torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else None,
        "torch": torch.__version__, "transformers": version("transformers"), "trl": version("trl"),
    }  # fmt: skip


def product_flops(dtype: str, size: int, repeats: int = 5) -> dict[str, float]:
    """Operations a second of a product of two square matrices, by PyTorch's default library and by `rlhf.linear`."""
    a, b = torch.randn(2, size, size, device=_device()).to(DTYPES[dtype])
    ways = {"torch": lambda: F.linear(a, b), "rlhf": lambda: linear(a, b)}
    return {name: 2 * size**3 / fastest(product, repeats) for name, product in ways.items()}


def read_bytes_per_s(megabytes: int, repeats: int = 5) -> float:
    """Bytes a second of the faster of a product with a vector and a sum, of an array of so many megabytes."""
    big = torch.ones(1024, megabytes * 2**20 // 4096, device=_device())
    vector = torch.ones(big.shape[1], device=big.device)
    seconds = min(fastest(lambda: big @ vector, repeats), fastest(big.sum, repeats))
    return big.numel() * big.element_size() / seconds


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@torch.no_grad()
def fastest(work: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest call after one that compiles kernels and wakes threads."""
    work()
    return min(timed(work, repeats))


def timed(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each call."""
    seconds = []
    for _ in range(repeats):
        started = now()
        work()
        seconds.append(now() - started)
    return seconds


def floor_seconds(work: Work, speed: Speed, bytes_a_weight: int) -> dict[str, float]:
    """How long an update takes at least where nothing but matrix products and the reading of weights takes time.

    With B sequences of P and R tokens, T = P + R, width d, L layers, V words and E epochs there are N = 12·L·d² weights
    in the layers (four square projections, and 4d × d twice), H = V·d in the vocabulary projection and A = 4·L·d·r in
    the adapters. A product with a weight costs 2 operations a token, its gradient to the input 2, to the weight 2 (of
    the adapters alone: the rest is frozen).

        rollout   2·N·B·P, then R products with H and R - 1 with N; each takes the longer of reading the weights and
                  multiplying B tokens with them
        score     2·N·B·T for the reference and for the reward model; 2·H·B·R for the reference
        update    E·((4·N + 6·A)·B·T + 4·H·B·R)

    Attention scores, norms, the adapters outside the update, and the overhead of calls count as nothing. Where all
    weights fit in a cache, reading is faster than this says.

    Returns:
        Seconds of "rollout", "score", "update", and their sum "total".
    """
    layers = 12 * work.layers * work.hidden**2
    head = work.vocab * work.hidden
    adapters = 4 * work.layers * work.hidden * work.rank
    prompts, replies = work.batch * work.prompt, work.batch * work.response

    def step(weights: int) -> float:
        return max(weights * bytes_a_weight / speed.bytes_per_s, 2 * weights * work.batch / speed.flops)

    found = {
        "rollout": 2 * layers * prompts / speed.flops
        + work.response * step(head)
        + (work.response - 1) * step(layers),
        "score": (4 * layers * (prompts + replies) + 2 * head * replies) / speed.flops,
        "update": work.epochs
        * ((4 * layers + 6 * adapters) * (prompts + replies) + 4 * head * replies)
        / speed.flops,
    }  # fmt: skip
    return found | {"total": sum(found.values())}


def measured(size: int, megabytes: int = 512) -> dict[str, Any]:
    """What it is, and how fast."""
    products = {dtype: product_flops(dtype, size) for dtype in DTYPES}
    reading = read_bytes_per_s(megabytes)
    speeds = {dtype: Speed(max(flops.values()), reading)._asdict() for dtype, flops in products.items()}
    return described() | {"speed": speeds, "flops_by_library": products}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="of the square matrices that are multiplied (2048)")
    parser.add_argument("--megabytes", type=int, default=512, help="that are read (512)")
    parser.add_argument("--json", type=Path, help="where to write the result")
    args = parser.parse_args()
    found = measured(args.size, args.megabytes)
    print(json.dumps(found, indent=2))
    if args.json:
        write_json(found, args.json)


if __name__ == "__main__":
    main()
