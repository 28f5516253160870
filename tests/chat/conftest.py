"""A run folder with two tiny versions, and a service on it."""

import sqlite3
from pathlib import Path

import pytest

from rlhf.chat.store import database
from tests.chat.world import chat_config, save_version, service_on


@pytest.fixture
def steps(monkeypatch) -> list[int]:
    """Its length is the number of steps that SQLite's virtual machine has taken; a row read takes one or more."""
    counted: list[int] = []
    connect = database.connect

    def counting(path: Path, mode: str = "rw") -> sqlite3.Connection:
        connection = connect(path, mode)
        connection.set_progress_handler(lambda: counted.append(1), 1)  # append gives None: go on
        return connection

    monkeypatch.setattr(database, "connect", counting)
    return counted


@pytest.fixture
def folder(tmp_path, tokenizer):
    """DIR with sft, and ppo, which is live."""
    save_version(tmp_path / "sft", tokenizer, seed=1)
    save_version(tmp_path / "ppo", tokenizer, seed=2)
    return tmp_path


@pytest.fixture
def service(folder):
    with service_on(folder, chat_config()) as service:
        yield service
