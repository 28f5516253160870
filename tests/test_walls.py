"""The arrows of ARCHITECTURE.md: who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def imported(path: Path) -> set[str]:
    """Top-level names of what a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("rlhf", {"lab", "main", "dataloader", "benchmarks", "tests", "stable_baselines3"}),
        ("lab", {"main", "benchmarks", "tests", "stable_baselines3"}),
    ],
)
def test_arrows_point_one_way(room, forbidden):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    wrong = {str(path): found for path in files if (found := imported(path) & forbidden)}
    assert not wrong


@pytest.mark.parametrize("name", ["ppo_math", "records"])
def test_the_arithmetic_and_the_records_stand_alone(name):
    assert not imported(ROOT / "rlhf" / f"{name}.py") & {"rlhf", "reward_model", "main", "dataloader", "lab"}
