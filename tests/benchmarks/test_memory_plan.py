"""The plan beside what real processes take: the phases themselves, on a model large enough to be seen."""

import pytest

from benchmarks.memory_plan import CASES, DEFAULT, measure, table

SMALLER = {
    "shape": {"hidden_size": 192, "num_layers": 4, "num_heads": 4, "max_position_embeddings": 256}, "vocabulary": 4096,
    "prompt": 64, "response": 64, "rows": 16, "rollout_rows": 16,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "phases"), [("lora", ("sft", "reward", "ppo")), ("full, checkpointing", ("sft",))])
def test_a_predicted_peak_is_within_15_percent_of_the_resident_memory(name, phases):
    rows = measure(DEFAULT | CASES[name] | SMALLER | {"phases": phases})
    print(table([row | {"case": name} for row in rows]))
    for phase in phases:
        steps = [row for row in rows if row["phase"] == phase]
        measured = max(row["measured"] for row in steps)
        assert measured > 50e6  # enough that what the libraries take more or less does not count
        assert max(row["predicted"] for row in steps) == pytest.approx(measured, rel=0.15)
