"""Phase chat as people start it: typed into a real terminal, fed by a pipe, and on a file."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlhf.chat.feedback import FeedbackStore
from rlhf.chat.terminal.journal import user_name
from rlhf.config import save_config
from rlhf.errors import UserError
from rlhf.phases.chat import run_phase
from rlhf.run import Given, Run
from tests.chat.talking import Session, save_talker
from tests.conftest import small_config
from tests.phases.helpers import ListData

REPO = Path(__file__).parents[2]
PROMPT = r"[\s\S]*?\n+>"
"""Up to the next prompt: what is typed before it may be lost, and Ctrl-C and Ctrl-D mean something else there."""
LONG = 3000
"""Tokens of a reply that nobody waits for: some seconds."""


@pytest.fixture(scope="module")
def world(tmp_path_factory, tokenizer):
    """A run whose version sft talks until it is stopped, and its configuration."""
    folder = tmp_path_factory.mktemp("world")
    data = {"demonstrations": ["classroom"], "preferences": ["classroom"]}
    config = small_config(
        model={"name": str(folder / "run" / "sft"), "device": "cpu"},
        data=data | {"max_prompt_tokens": 200, "max_response_tokens": LONG},
    )
    save_talker(folder / "run" / "sft", tokenizer, positions=4096)
    save_config(config, folder / "run" / "sft")
    (folder / "config.yaml").write_text((folder / "run" / "sft" / "config.yaml").read_text())
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"]["max_response_tokens"] == LONG
    return folder


def command(world, *more):
    return [sys.executable, str(REPO / "main.py"), "--phase", "chat", "--config", str(world / "config.yaml"),
            "--output", str(world / "run"), *more]  # fmt: skip


def run(world, *more, lines=""):
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    return subprocess.run(
        command(world, *more), input=lines, capture_output=True, text=True, timeout=300, cwd=world, env=environment
    )


@pytest.fixture
def session(world):
    opened = []

    def start(*more, **environment):
        opened.append(Session(command(world, *more), XDG_STATE_HOME=str(world / "state"), **environment))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.mark.slow
def test_a_conversation_in_a_terminal(world, session):
    talk = session()
    talk.expect("You are talking to version sft")
    talk.expect(">")

    talk.type("Who are yoo\x7fu?\r")  # a letter is taken back
    talk.expect(r"(?: [a-z]{2,}){5}")  # it streams: the reply is far from its end
    talk.type("\x03")
    talk.expect(r"\[stopped\]" + PROMPT)

    talk.type("/good\r")
    talk.expect("noted: that reply was good" + PROMPT)
    talk.type("save rome\r")
    talk.expect("saved: " + PROMPT)
    talk.type("save rome\r")
    talk.expect(r"Overwrite it\? \[y/N\]")
    talk.type("n\r")
    talk.expect("error: There is a conversation rome.json already" + PROMPT)
    talk.type("save rome\r")
    talk.expect(r"Overwrite it\? \[y/N\]")
    talk.type("y\r")
    talk.expect("saved: " + PROMPT)
    talk.type("save ../x\r")
    talk.expect("no name for a conversation" + PROMPT)

    talk.type("helq\x1b[D\x1b[3~p\r")  # the arrow key, and what it stands on is deleted
    talk.expect("begin a new conversation" + PROMPT)
    talk.type("half a line\x03")  # Ctrl-C gives up the line, not the chat
    talk.expect("half a line" + PROMPT)
    talk.type("\x1b[A\r")  # the line before: help
    talk.expect("begin a new conversation" + PROMPT)
    talk.type("\x03")
    talk.expect("Ctrl-C again, or Ctrl-D, leaves" + PROMPT)
    talk.type("\x03")
    assert talk.leave() == 0

    saved = json.loads((world / "run" / "conversations" / "rome.json").read_text())
    [exchange] = saved["exchanges"]
    assert exchange["said"] == "Who are you?" and exchange["finish_reason"] == "cancelled"
    assert 5 <= len(exchange["reply"].split()) < LONG
    with FeedbackStore(world / "run" / "feedback.sqlite") as store:
        [conversation] = store.conversations(user_name())
        _, reply = store.messages(conversation.id)
        assert (reply.content, reply.finish_reason) == (exchange["reply"], "cancelled")
        assert store.rating(user_name(), reply.id).thumb == 1
    assert sorted(path.name for path in world.iterdir()) == ["config.yaml", "run", "state"]


@pytest.mark.slow
def test_history_lasts_and_ctrl_c_after_a_stopped_reply_leaves(world, session):
    first = session()
    first.expect(">")
    first.type("/system Be brief.\r")
    first.expect(r"system: Be brief\." + PROMPT)
    first.type("\x04")  # Ctrl-D
    assert first.leave() == 0
    history = world / "state" / "rlhf" / "chat_history"
    assert "/system Be brief." in history.read_text() and stat.S_IMODE(history.stat().st_mode) == 0o600

    second = session(NO_COLOR="1")
    second.expect(">")
    second.type("\x1b[A\r")  # of the session before
    second.expect(r"system: Be brief\." + PROMPT)
    second.type("Hello\r")
    second.expect(r"(?: [a-z]{2,}){5}")
    second.type("\x03")
    second.expect(r"\[stopped\]" + PROMPT)
    assert not re.search(r"\x1b\[(2|31|32)m", second.raw)
    second.type("\x03")
    assert second.leave() == 0


@pytest.mark.slow
def test_lines_from_a_pipe(world):
    done = run(world, lines="/system Be brief.\n/foo\nload none\nbye\nnot said\n")
    assert done.returncode == 0 and done.stdout == ""
    assert "talking to version sft" in done.stderr and done.stderr.count("error: ") == 2
    assert "Traceback" not in done.stderr and "\x1b" not in done.stderr


@pytest.mark.slow
def test_an_interrupt_while_a_pipe_is_read_leaves(world):
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    process = subprocess.Popen(
        command(world), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=world, env=environment
    )
    assert process.stderr and "talking to" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    for stream in (process.stdin, process.stderr):
        if stream:
            stream.close()


@pytest.mark.slow
def test_replies_to_a_file(tmp_path, tokenizer):
    config = small_config(
        model={"name": str(tmp_path / "run" / "sft"), "device": "cpu"},
        data={"demonstrations": ["classroom"], "preferences": ["classroom"]}
        | {"max_prompt_tokens": 60, "max_response_tokens": 9},
    )
    save_talker(tmp_path / "run" / "sft", tokenizer)
    save_config(config, tmp_path / "run" / "sft")
    save_config(config, tmp_path)
    (tmp_path / "prompts.txt").write_text("Who?\nWhat is a cat?\n" * 20)
    done = run(tmp_path, "--prompts", "prompts.txt", "--out", "replies.jsonl")
    assert done.returncode == 0 and "replies.jsonl: 40 replies of version sft (length 40)" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "replies.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["Who?", "What is a cat?"] * 20
    assert all(row.keys() == {"prompt", "completion", "finish_reason", "version", "seed", "tokens"} for row in rows)
    assert all(row["tokens"] == 9 and len(row["completion"].split()) > 1 for row in rows)


@pytest.mark.parametrize(
    ("changes", "given", "problem"),
    [
        ({}, Given(prompts="prompts.txt"), "only --prompts"),
        ({}, Given(out="replies.jsonl"), "only --out"),
        ({}, Given(prompts="none.txt", out="replies.jsonl"), "No file of prompts"),
        ({}, Given(prompts="config.yaml", out="config.yaml"), "is there already"),
        ({"version": "stf"}, Given(), r"did you mean sft\?"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_model_is_loaded(world, monkeypatch, changes, given, problem):
    monkeypatch.chdir(world)
    (world / "run" / "sft" / "model.safetensors").rename(world / "aside")
    try:
        with pytest.raises(UserError, match=problem):
            run_phase(Run(small_config(chat=changes), world / "run", ListData(), given=given))
    finally:
        (world / "aside").rename(world / "run" / "sft" / "model.safetensors")
