"""Freed memory is kept in a phase and given back after it."""

import subprocess
import sys

import pytest

from rlhf.allocator import return_freed_memory

PROGRAM = """
import sys
import psutil
import torch
from rlhf.allocator import keep_freed_memory, return_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
size = lambda: psutil.Process().memory_info().rss
before = size()
pieces = [torch.ones(5 << 20) for _ in range(8)]  # of 20 MiB
del pieces
held = size() - before
return_freed_memory()
print(held >> 20, (size() - before) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has glibc")
def test_freed_memory_is_kept_until_it_is_returned():
    found = {}
    for what in ("keep", "default"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=True)
        found[what] = [int(number) for number in done.stdout.split()]
    assert found["keep"][0] >= 160 > 20 > found["default"][0]  # MiB
    assert found["keep"][1] < 20


def test_memory_can_be_returned_without_glibc(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    return_freed_memory()
