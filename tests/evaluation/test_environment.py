"""The environment names what decides the numbers."""

from importlib.metadata import version
from pathlib import Path

import pytest

from rlhf.evaluation.environment import command, environment, hardware, publishable, versions


def test_the_environment_is_described() -> None:
    assert versions()["sacrebleu"] == version("sacrebleu")
    assert "executable" not in environment() and environment()["python"].startswith("3.")
    machine = hardware(["NVIDIA T4"])
    assert machine["gpus"] == ["NVIDIA T4"] and machine["cpu_cores"] >= 1 and machine["memory_gib"] > 0


def test_the_command_can_be_pasted_into_a_shell() -> None:
    typed = ["main.py", "--set", "data.demonstrations=[a.jsonl, b.jsonl]", "--output", "models/mine"]
    assert command(typed) == ("python main.py --set 'data.demonstrations=[a.jsonl, b.jsonl]' --output models/mine")


def test_the_token_is_not_published() -> None:
    assert command(["main.py", "--set", "serve.token=a secret"]) == "python main.py --set serve.token=TOKEN"


def test_no_absolute_path_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed = [f"{tmp_path}/main.py", "--output", f"{tmp_path}/models/x", "--set", "data.text=[/home/me/a.txt,/etc/b]"]
    assert command(typed) == "python main.py --output models/x --set 'data.text=[a.txt,b]'"
    values = {"path": "/home/me/data/a.jsonl", "n": 3, "list": [{"name": "owner/model"}, "and/or", "https://x.org/y"]}
    assert publishable(values) == values | {"path": "a.jsonl"}
    assert publishable("run: python main.py --output ../up/there") == "run: python main.py --output ../up/there"
