"""The arithmetic of a machine's speed and of the least time that an update takes."""

import json
import sys

import pytest

from benchmarks import machine
from benchmarks.machine import Speed, Work, floor_seconds, product_flops, read_bytes_per_s

SMALL = Work(hidden=2, layers=1, vocab=10, batch=3, prompt=5, response=2, epochs=2, rank=1)
"""12·1·2² = 48 weights in the layer, 10·2 = 20 in the vocabulary projection, 4·1·2·1 = 8 in the adapters."""


def test_floor_by_hand_where_reading_weights_takes_longer():
    found = floor_seconds(SMALL, Speed(flops=1000, bytes_per_s=400), bytes_a_weight=4)
    # prefill 2·48·15 operations; head twice, 80 bytes each; layers once, 192 bytes
    assert found["rollout"] == pytest.approx(1.44 + 2 * 0.2 + 0.48)
    # 21 tokens through two networks, 6 reply tokens through one projection
    assert found["score"] == pytest.approx((2 * 48 * 21 * 2 + 2 * 20 * 6) / 1000)
    # twice: layers forward and back to the input, adapters to their weights as well, the projection both ways
    assert found["update"] == pytest.approx(2 * ((4 * 48 + 6 * 8) * 21 + 4 * 20 * 6) / 1000)
    assert found["total"] == pytest.approx(sum(found[name] for name in ("rollout", "score", "update")))


def test_floor_by_hand_where_multiplying_takes_longer():
    found = floor_seconds(SMALL, Speed(flops=1000, bytes_per_s=1e9), bytes_a_weight=4)
    assert found["rollout"] == pytest.approx(1.44 + 2 * (2 * 20 * 3 / 1000) + 2 * 48 * 3 / 1000)


def test_half_the_bytes_halve_only_the_reading():
    slow = Speed(flops=1e12, bytes_per_s=400)
    fp32, bf16 = (floor_seconds(SMALL, slow, size) for size in (4, 2))
    assert bf16["rollout"] == pytest.approx(fp32["rollout"] / 2)
    assert bf16["update"] == fp32["update"]


def test_speed_is_operations_and_bytes_over_the_least_seconds(monkeypatch):
    seconds = iter([0.5, 0.25, 2.0, 4.0])  # two libraries multiply, two ways to read
    monkeypatch.setattr(machine, "fastest", lambda work, repeats: (work(), next(seconds))[1])
    assert product_flops("bf16", size=8) == {"torch": 2 * 8**3 / 0.5, "rlhf": 2 * 8**3 / 0.25}
    assert read_bytes_per_s(megabytes=1) == 2**20 / 2


def test_the_fastest_repeat_counts_and_the_first_call_does_not(monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0, 29.0])
    monkeypatch.setattr(machine, "now", lambda: next(clock))
    calls = []
    assert machine.fastest(lambda: calls.append(1), repeats=3) == 2.0
    assert len(calls) == 4


def test_the_command_measures_this_machine_and_says_on_what(monkeypatch, tmp_path):
    result = tmp_path / "machine.json"
    monkeypatch.setattr(sys, "argv", ["machine", "--size=64", "--megabytes=1", "--json", str(result)])
    machine.main()
    found = json.loads(result.read_text())
    assert all(found["speed"][dtype]["flops"] > 1e6 for dtype in ("fp32", "bf16"))
    assert found["speed"]["fp32"]["bytes_per_s"] > 1e6
    assert found["speed"]["fp32"]["flops"] == max(found["flops_by_library"]["fp32"].values())
    assert found.keys() >= {"cpu", "threads", "gpu", "torch", "transformers", "trl"}
