"""The benchmark of ways to sample in 8 bits runs, and says what it found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import main

ROOT = Path(main.__file__).parent

pytestmark = pytest.mark.slow


def test_every_way_is_measured_against_the_exact_one(tmp_path):
    sizes = ["--hidden", "64", "--layers", "2", "--heads", "2", "--batch", "2", "--prompt", "8", "--response", "4"]
    command = [sys.executable, "-m", "benchmarks.int8_decode", *sizes, "--rounds", "1", "--json", tmp_path / "ways"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    ways = json.loads((tmp_path / "ways").read_text())["ways"]
    assert all(way["tokens_per_s"] > 0 for way in ways.values())
    exact, ours = ways["dequantised to fp32"], ways["weight-only (ours)"]
    assert exact["error_max"] < 1e-4 < ours["error_max"] < 0.1
