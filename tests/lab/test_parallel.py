"""Jobs side by side."""

import os

import pytest
import torch

from lab.parallel import spread


def numbered(number: int) -> tuple[int, int]:
    return number, os.getpid()


def fail(number: int) -> int:
    raise ValueError(f"job {number}")


def test_results_come_in_the_order_of_the_jobs_from_other_processes():
    found = spread(numbered, [(n,) for n in range(3)], "jobs", workers=2)
    assert [number for number, _ in found] == [0, 1, 2]
    assert os.getpid() not in {process for _, process in found}


def test_one_worker_is_this_process():
    assert spread(numbered, [(1,), (2,)], "jobs", workers=1) == [(1, os.getpid()), (2, os.getpid())]


def threads(_: int) -> int:
    return torch.get_num_threads()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_has_one_thread_and_afterwards_there_are_as_many_as_before(workers):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert spread(threads, [(1,), (2,)], "jobs", workers=workers) == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def numpy_threads(_: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


@pytest.mark.parametrize("before", [None, "7"])
def test_numpy_has_one_thread_in_each_process_and_this_one_stays_as_it_is(before, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    assert spread(numpy_threads, [(1,), (2,)], "jobs", workers=2) == ["1", "1"]
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_job_raises_is_raised(workers):
    with pytest.raises(ValueError, match="job"):
        spread(fail, [(1,), (2,)], "jobs", workers=workers)
