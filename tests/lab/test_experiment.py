"""What the experiments share, as a user of the command line meets it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import drawing
from lab.experiment import Experiment, Options, Range, at_least, at_most, command_line, need, within
from rlhf.errors import UserError


@dataclass(frozen=True)
class Arguments(Options):
    beside = ("study",)

    runs: int = 3
    """Independent runs."""
    study: bool = True
    """Afterwards, another one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        need(self.runs > 0, "runs", "at least 1", self.runs)


def call(monkeypatch, main, *words: object) -> int:
    """The exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["lab", *map(str, words)])
    try:
        command_line(main, Arguments, "An experiment.")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_results_claims_and_the_command_are_kept(monkeypatch, tmp_path, capsys):
    def main(arguments: Arguments) -> None:
        with Experiment("demo", arguments) as experiment:
            assert experiment.claim("a mean", 1.36, within(1.37, 0.03), "a book, figure 1", "1.37")
            assert not experiment.claim("a return", 10, at_least(475), "a page")
            experiment.results["runs"] = [arguments.runs]

    assert call(monkeypatch, main, "--out", tmp_path, "--runs", 5, "--seed", 7) == 0
    found = json.loads((tmp_path / "demo.json").read_text())
    assert found["command"] == f"python -m lab.demo --out {tmp_path} --runs 5 --seed 7"
    assert found["results"] == {"runs": [5]} and found["arguments"]["seed"] == 7
    assert [(claim["met"], claim["published"], claim["wanted"]) for claim in found["claims"]] == [
        (True, "1.37", "1.34 to 1.4"), (False, "—", "at least 475"),
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert "met     a mean: 1.36" in printed and "NOT MET a return: 10 (asked for: at least 475)" in printed


def test_a_benchmark_names_its_own_module(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["bench", "--runs", "2"])
    with Experiment("demo", Arguments(out=tmp_path), "benchmarks.demo"):
        pass
    assert json.loads((tmp_path / "demo.json").read_text())["command"] == "python -m benchmarks.demo --runs 2"


def test_an_experiment_that_fails_leaves_no_results(tmp_path):
    with pytest.raises(ZeroDivisionError), Experiment("demo", Arguments(out=tmp_path)) as experiment:
        experiment.results["x"] = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_a_range_includes_its_ends():
    assert within(1.0, 0.25) == Range(0.75, 1.25)
    assert str(at_most(60)) == "at most 60" and str(at_least(475)) == "at least 475"


@pytest.mark.parametrize(("error", "code"), [(UserError("No such map."), 2), (KeyboardInterrupt(), 130),
                                             (RuntimeError("?"), 1)])  # fmt: skip
def test_what_ends_an_experiment_is_one_message(monkeypatch, capsys, error, code):
    def main(arguments: Arguments) -> None:
        raise error

    assert call(monkeypatch, main) == code
    told = capsys.readouterr().err
    assert told.count("error: ") == 1 and "Traceback" not in told


def test_an_argument_out_of_range_is_named(monkeypatch, capsys):
    assert call(monkeypatch, lambda arguments: None, "--runs", 0) == 2
    told = capsys.readouterr().err
    assert "--runs" in told and "at least 1" in told and "Traceback" not in told


@pytest.mark.parametrize(("argument", "value"), [("--seed", -1), ("--workers", 0), ("--workers", -1)])
def test_what_every_experiment_takes_is_checked(monkeypatch, capsys, argument, value):
    assert call(monkeypatch, lambda arguments: None, argument, value) == 2
    assert f"{argument} is out of range" in capsys.readouterr().err


def test_debug_shows_where(monkeypatch):
    def main(arguments: Arguments) -> None:
        raise RuntimeError("here")

    with pytest.raises(RuntimeError, match="here"):
        call(monkeypatch, main, "--debug")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --out"):
        Experiment("demo", Arguments(out=tmp_path / "file" / "folder"))


def test_a_figure_is_saved_as_html_that_needs_no_network_and_as_png(tmp_path):
    figure = drawing.lines({"one": ([1, 2], [3, 4])}, "steps", "reward", "A title")
    drawing.save(figure, tmp_path / "figure")
    page = (tmp_path / "figure.html").read_text()
    assert "A title" in page and 'src="plotly.min.js"' in page and "cdn" not in page
    assert (tmp_path / "plotly.min.js").stat().st_size > 1e6
    if any(map(drawing.shutil.which, drawing.BROWSERS)):
        assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_browser_there_is_the_html_alone(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    drawing.save(drawing.lines({}, "", "", ""), tmp_path / "figure")
    assert not (tmp_path / "figure.png").exists() and "no browser" in caplog.text
    monkeypatch.undo()
    drawing.save(drawing.lines({}, "", "", ""), tmp_path / "figure")
    assert (tmp_path / "figure.png").exists() == any(map(drawing.shutil.which, drawing.BROWSERS)), "looks again"


def test_weights_and_biases_get_the_figures(monkeypatch, tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed (make dev)")
    script = (
        "from pathlib import Path\nfrom lab.experiment import Experiment, Options\n"
        f"with Experiment('demo', Options(out=Path({str(tmp_path)!r}), wandb='lab')) as experiment:\n"
        "    experiment.log({'reward': 1.5}, step=3)\n"
    )
    environment = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, env=drawing.os.environ | environment)
    logged = list(Path(tmp_path).rglob("*.wandb"))
    assert logged and b"reward" in logged[0].read_bytes()


@pytest.mark.parametrize("words", [["--help"], ["--no-such"]])
def test_the_command_is_named_as_it_is_typed(words):
    done = subprocess.run([sys.executable, "-m", "lab.bandits", *words], capture_output=True, text=True, timeout=120)
    assert "python -m lab.bandits" in done.stdout + done.stderr and "bandits.py" not in done.stdout + done.stderr


def test_a_reader_who_has_seen_enough_is_no_fault():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "lab.bandits", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert done.returncode == 141 and done.stderr == ""


def test_claims_on_other_settings_are_said_to_be_of_other_settings(tmp_path, capsys):
    for runs, said in ((3, False), (4, True)):
        with Experiment("demo", Arguments(out=tmp_path, seed=5, study=False, runs=runs)) as experiment:
            experiment.claim("a mean", 1.0, at_least(2), "a page")
        assert ("what is asked for belongs to other settings: here runs = 4" in capsys.readouterr().out) == said
