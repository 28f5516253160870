"""Every notebook, executed from beginning to end by a kernel of its own, on short settings."""

import os
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed (make dev)")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (make dev)")

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "lab" / "notebooks").glob("*.py"))


def test_there_is_one_for_each_experiment():
    assert {path.stem for path in NOTEBOOKS} == {"bandits", "tabular", "dqn", "ppo", "chat"}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_beginning_to_end(path, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_SHORT", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = jupytext.read(path)
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [out for cell in code for out in cell.outputs if out.output_type in ("display_data", "execute_result")]
    assert len(code) >= 4 and shown, "a notebook shows what it found"
