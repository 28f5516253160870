"""Training curves: which files, which numbers, how many points."""

import json
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rlhf.chat.http.curves import NEWEST, curves, thinned


def write(path: Path, *rows: dict[str, object], changed: float = 1000.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.utime(path, (changed, changed))


def test_reads_the_phases_and_the_versions_of_a_run(tmp_path):
    write(tmp_path / "sft" / "metrics.jsonl", {"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "grad_norm": 1.0})
    write(tmp_path / "versions" / "v1" / "ppo" / "metrics.jsonl", {"step": 0, "eval/score": 0.5})
    write(tmp_path / "versions" / "v2" / "metrics.jsonl", {"step": 4, "objective/kl": 1.5})
    assert [tuple(line) for line in curves(tmp_path)] == [
        ("sft", "sft", "loss", (1.0, 2.0), (3.0, 2.0)),
        ("versions/v1/ppo", "ppo", "eval/score", (0.0,), (0.5,)),
        ("versions/v2", "v2", "objective/kl", (4.0,), (1.5,)),
    ]


def test_a_run_that_is_training_is_read_where_it_trains(tmp_path):
    write(tmp_path / "ppo" / "metrics.jsonl", {"step": 1, "objective/kl": 1.0}, changed=1000.0)
    write(tmp_path / "training" / "ppo" / "metrics.jsonl", {"step": 1, "objective/kl": 2.0}, changed=2000.0)
    assert [line.values for line in curves(tmp_path)] == [(2.0,)]
    os.utime(tmp_path / "ppo" / "metrics.jsonl", (3000.0, 3000.0))  # published
    assert [line.values for line in curves(tmp_path)] == [(1.0,)]


def test_a_file_that_grows_is_read_again(tmp_path):
    path = tmp_path / "sft" / "metrics.jsonl"
    write(path, {"step": 1, "loss": 3.0})
    assert [line.steps for line in curves(tmp_path)] == [(1.0,)]
    with path.open("a") as file:
        file.write('{"step": 2, "loss": 2.5}\n{"step": 3, "lo')  # the last row is being written
    assert [line.values for line in curves(tmp_path)] == [(3.0, 2.5)]


def test_what_is_no_number_is_left_out(tmp_path):
    path = tmp_path / "sft" / "metrics.jsonl"
    path.parent.mkdir()
    path.write_text(
        '{"step": 1, "loss": NaN}\nnothing\n[1]\n{"loss": 1}\n{"step": 2, "loss": "x"}\n{"step": 3, "loss": 1}'
    )
    assert [(line.steps, line.values) for line in curves(tmp_path)] == [((3.0,), (1.0,))]


def test_hidden_folders_and_old_versions_are_left_out(tmp_path):
    write(tmp_path / ".sft.partial" / "metrics.jsonl", {"step": 1, "loss": 3.0})
    for number in range(NEWEST + 2):
        write(tmp_path / "versions" / f"v{number}" / "metrics.jsonl", {"step": 1, "loss": 3.0})
        os.utime(tmp_path / "versions" / f"v{number}", (1000 + number, 1000 + number))
    assert [line.run for line in curves(tmp_path)] == [f"versions/v{number}" for number in range(2, NEWEST + 2)]


@given(st.integers(1, 50), st.integers(2, 20))
def test_thinning_keeps_both_ends_and_the_order(count, most):
    points = [(float(place), 0.0) for place in range(count)]
    kept = thinned(points, most)
    assert len(kept) == min(count, most) == len(set(kept))
    assert kept == sorted(kept) and kept[0] == points[0] and kept[-1] == points[-1]
