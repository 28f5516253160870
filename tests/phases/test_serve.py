"""What the phase serve does besides starting the server, which tests/chat does."""

import os

import pytest
import torch

from rlhf.phases.serve import leave_a_core


@pytest.fixture(autouse=True)
def threads():
    """As many as before, afterwards."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cores", "threads", "used"), [(4, 4, 3), (2, 2, 1), (1, 1, 1), (4, 2, 2)])
def test_a_core_is_left_to_the_server(monkeypatch, cores, threads, used):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    torch.set_num_threads(threads)
    for _ in range(2):
        leave_a_core()
        assert torch.get_num_threads() == used


def test_who_says_how_many_threads_is_heeded(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    torch.set_num_threads(4)
    leave_a_core()
    assert torch.get_num_threads() == 4
