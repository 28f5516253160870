"""Seeds and settings side by side, each in a process of its own, on one thread.

returns = spread(train, [(settings, seed) for seed in range(5)], "CartPole")      # train(settings, seed), five times
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from tqdm import tqdm

Result = TypeVar("Result")


def _alone() -> None:
    """Processes side by side gain nothing by more threads than one each, and results could depend on how many."""
    import torch

    torch.set_num_threads(1)


@contextmanager
def _for_now() -> Iterator[None]:
    """`_alone`, and after that as before."""
    import torch

    before = torch.get_num_threads()
    _alone()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _numpy_alone() -> Iterator[None]:
    """For processes that start meanwhile: NumPy's library reads how many threads to use when it is loaded."""
    name = "OMP_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def spread(
    work: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], title: str, workers: int | None = None
) -> list[Result]:
    """`work(*job)` for each job; the results in the order of the jobs, whatever order they ended in.

    Args:
        work: a function of a module; what it is given and returns can be pickled.
        jobs: arguments of each call.
        title: of the progress bar.
        workers: processes; None: one for each core. With 1, everything happens in this process, PyTorch on one thread
            there, too.

    Raises:
        Exception: what a job raised; the others that run are waited for, those that wait are dropped.
    """
    many = min(workers or os.cpu_count() or 1, len(jobs))
    if many <= 1:
        with _for_now():
            return [work(*job) for job in tqdm(jobs, title)]
    with ProcessPoolExecutor(many, mp_context=get_context("spawn"), initializer=_alone) as pool:
        with _numpy_alone():
            futures = [pool.submit(work, *job) for job in jobs]  # starts the processes
        try:
            for future in tqdm(as_completed(futures), title, total=len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [future.result() for future in futures]
