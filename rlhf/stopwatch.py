"""Seconds spent in named parts of the work."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """`with stopwatch("rollout"): …` adds to `stopwatch.seconds["rollout"]`; on a GPU, its work is waited for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        started = now()
        yield
        self.seconds[part] += now() - started


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
