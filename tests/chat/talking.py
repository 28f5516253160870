"""A small random model that talks in words and never ends by itself; a terminal in a process of its own."""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

import torch

from rlhf.chat.engine import Engine
from rlhf.config import Shape
from rlhf.models import from_scratch
from tests.conftest import small_config

WAIT = 60.0
"""Seconds: far more than anything here takes."""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]|\x1b[\[()]?[0-9;?]*\Z")


def save_talker(folder: Path, tokenizer, positions: int = 256) -> Path:
    """A model whose replies are words, and as long as they may be; DIR/sft of a run."""
    shape = Shape(hidden_size=32, num_layers=2, num_heads=2, window_size=8, max_position_embeddings=positions)
    torch.manual_seed(0)
    model = from_scratch(shape, tokenizer).eval()
    words = torch.tensor([bool(re.fullmatch(r" [a-z]{2,}", tokenizer.decode([i]))) for i in range(len(tokenizer))])
    with torch.no_grad():
        model.transformer.wte.weight.mul_(10)
        model.transformer.wpe.weight.mul_(10)
        model.transformer.wte.weight[:, -1] = torch.where(words, 0.0, -5.0)
        model.transformer.ln_f.weight[-1], model.transformer.ln_f.bias[-1] = 0.0, 4.0  # -20 for all but words
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def talker_engine(folder: Path, prompt_tokens: int = 200, response_tokens: int = 12, **chat) -> Engine:
    """An engine with that model as version sft."""
    data = {"demonstrations": ["classroom"], "preferences": ["classroom"]}
    data |= {"max_prompt_tokens": prompt_tokens, "max_response_tokens": response_tokens}
    return Engine.of(small_config(data=data, chat=chat), {"sft": folder})


class Session:
    """A program in a terminal: type into it, and wait for what it shows.

    Args:
        command: program and arguments.
        environment: besides this process's.
    """

    def __init__(self, command: list[str], **environment: str) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))

        def own_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        known = {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=own_terminal,
            env=os.environ | known | environment,
        )  # fmt: skip
        os.close(slave)
        self.raw = ""
        self._seen = 0

    @property
    def text(self) -> str:
        """What was shown, without colours and movements of the cursor."""
        return _CONTROL.sub("", self.raw).replace("\r", "")

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait for something behind what was waited for before."""
        until = time.monotonic() + WAIT
        while not (found := re.search(pattern, self.text[self._seen :])):
            assert time.monotonic() < until, f"no {pattern!r} in {self.text[self._seen :]!r}"
            self._read(0.5)
        self._seen += found.end()
        return found

    def leave(self) -> int:
        """Wait for its end; the exit code."""
        until = time.monotonic() + WAIT
        while self.process.poll() is None:
            assert time.monotonic() < until, self.text
            self._read(0.1)
        self._read(0.1)
        return self.process.returncode

    def _read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.raw += os.read(self.master, 65536).decode("utf-8", "replace")
            except OSError:  # the other side is closed
                time.sleep(0.05)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
