"""Training curves for the monitor: a few numbers of each run's metrics.jsonl, thinned.

curves(Path("models/tiny"))        # of the phases of the run, of those that train now, and of its versions
"""

import json
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

FILE = "metrics.jsonl"
TRAINING = "training"
VERSIONS = "versions"
POINTS = 200
"""Of a curve at most; a page has no more pixels to spare for one."""
NEWEST = 8
"""Versions whose training is shown, the newest ones."""
METRICS = (
    "loss",
    "eval_loss",
    "accuracy",
    "eval_accuracy",
    "objective/scores",
    "eval/score",
    "objective/kl",
    "eval/kl",
    "objective/length",
    "objective/entropy",
)
"""What is shown; a phase has some of them."""


class Line(NamedTuple):
    """One number over the steps of one run."""

    run: str
    phase: str
    metric: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


def curves(run_folder: Path) -> list[Line]:
    """All lines with a point or more, in the order of the runs' names. An unchanged file is not read again."""
    found: list[Line] = []
    for run, path in sorted(_files(run_folder).items()):
        try:
            entry = path.stat()
        except OSError:  # published or deleted in between
            continue
        lines = _lines(path, entry.st_mtime_ns, entry.st_size)
        found += [Line(run, run.rpartition("/")[2], *line) for line in lines]
    return found


def _files(run_folder: Path) -> dict[str, Path]:
    """Run → its file: that of the result, or of its training where that is newer."""
    versions = sorted((run_folder / VERSIONS).glob("[!.]*/"), key=_changed)[-NEWEST:]
    found: dict[str, Path] = {}
    for home in (run_folder, *versions):
        for path in (*home.glob(FILE), *home.glob(f"[!.]*/{FILE}"), *home.glob(f"{TRAINING}/[!.]*/{FILE}")):
            folder = path.parent
            result = home / folder.name if folder.parent == home / TRAINING else folder
            run = result.relative_to(run_folder).as_posix()
            if run not in found or _changed(path) > _changed(found[run]):
                found[run] = path
    return found


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=256)
def _lines(path: Path, changed: int, size: int) -> tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]:
    """Metric, steps and values of a file as it was when it had changed last."""
    try:
        rows = list(_rows(path))
    except OSError:
        return ()
    lines = []
    for metric in METRICS:
        points = [(float(row["step"]), float(row[metric])) for row in rows if _number(row.get(metric))]
        if points:
            steps, values = zip(*thinned(points), strict=True)
            lines.append((metric, steps, values))
    return tuple(lines)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows with a step; one that is being written is left out."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and _number(row.get("step")):
                yield row


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def thinned(points: list[tuple[float, float]], most: int = POINTS) -> list[tuple[float, float]]:
    """At most so many of the points, evenly spaced, the first and the last among them."""
    if len(points) <= most:
        return points
    last = len(points) - 1
    return [points[round(place * last / (most - 1))] for place in range(most)]
