"""The page of what the lab reached."""

import json
import sys

import pytest

from lab import report
from rlhf.evaluation.marked import BEGIN, END


def result(measured: float, met: bool) -> dict:
    claim = {"what": "ε = 0.1 | reward", "measured": measured, "wanted": "1.34 to 1.4", "met": met, "published": "1.37",
             "source": "a book"}  # fmt: skip
    return {
        "experiment": "bandits",
        "command": "python -m lab.bandits",
        "seconds": 120.0,
        "claims": [claim],
        "results": {"plain": {"unclaimed": "for comparison", "means": [1.25, 500.0]}, "study": {"task": "x"}},
    }


def run(monkeypatch, folder, page) -> int:
    monkeypatch.setattr(sys, "argv", ["report", "--results", str(folder), "--page", str(page)])
    with pytest.raises(SystemExit) as end:
        report.main()
    return end.value.code


@pytest.mark.parametrize(("measured", "met", "code"), [(1.3678, True, 0), (1.2, False, 1)])
def test_every_claim_is_a_row_and_a_missed_one_is_said(monkeypatch, tmp_path, capsys, measured, met, code):
    (tmp_path / "bandits.json").write_text(json.dumps(result(measured, met)))
    page = tmp_path / "lab.md"
    page.write_text(f"# The lab\n\nbefore\n{BEGIN}old{END}\nafter\n")
    assert run(monkeypatch, tmp_path, page) == code
    text = page.read_text()
    assert text.startswith("# The lab\n\nbefore\n") and text.endswith("after\n") and "old" not in text
    cells = f"| ε = 0.1 \\| reward | {measured:.4g} | 1.37 | 1.34 to 1.4 | {'yes' if met else '**no**'} | a book |"
    assert cells in text and "python -m lab.bandits" in text and "took 2 minutes" in text
    assert "Not claimed: plain, mean returns 1.25, 500 (for comparison)." in text
    assert ("ε = 0.1 | reward" in capsys.readouterr().out) == (not met)


def test_without_results_it_says_what_to_do(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, tmp_path, tmp_path / "lab.md") == 2
    assert "make lab" in capsys.readouterr().err
