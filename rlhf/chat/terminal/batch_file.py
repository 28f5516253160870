"""Replies to all prompts of a file, in batches: `--phase chat --prompts FILE --out FILE`.

    prompts = read_prompts(Path("prompts.jsonl"))
    check_out(Path("replies.jsonl"), overwrite=False)
    write_replies(engine, "ppo", ReplySettings(), prompts, Path("replies.jsonl"), seed=0)

Prompts are plain lines, or JSON lines in any format that `rlhf/data/jsonl.py` finds prompts in. A row of the replies:

    {"prompt": "2+2?", "completion": "4", "finish_reason": "stop", "version": "ppo", "seed": 7, "tokens": 2}

Rows stand in the order of the prompts, one each. A prompt that cannot be answered has a row, too, with `error`.
"""

import json
import os
import random
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from tqdm import tqdm

from rlhf.chat.engine import Engine, QueueFull
from rlhf.chat.guardrails import Guardrails
from rlhf.chat.inference.context import with_system
from rlhf.chat.inference.generation import Generation, GenerationFailed
from rlhf.chat.records import ReplySettings
from rlhf.config import SourceSpec
from rlhf.data.jsonl import SOURCE
from rlhf.errors import UserError
from rlhf.records import Conversation, ask

ROWS = (".jsonl", ".json", ".gz")
PLAIN = (".txt", ".text")


def read_prompts(path: Path) -> list[Conversation]:
    """The prompts of a file, in order. Raises `UserError` where there are none, or a row cannot be read."""
    if not path.is_file():
        raise UserError(f"No file of prompts {path}.", expected="plain lines, or JSON lines", remedy="check --prompts")
    if _is_rows(path):
        return [row.prompt for row in SOURCE.each_prompt(SourceSpec(source="jsonl", path=str(path)))]
    prompts = [ask(line.strip()) for line in _text(path).splitlines() if line.strip()]
    if not prompts:
        raise UserError(f"{path} is empty.", expected="a prompt a line")
    return prompts


def _is_rows(path: Path) -> bool:
    """Whether a file holds JSON lines: by its ending, else by what it begins with."""
    endings = [suffix.lower() for suffix in path.suffixes[-1:]]
    if any(ending in ROWS for ending in endings):
        return True
    return not any(ending in PLAIN for ending in endings) and _text(path).lstrip().startswith("{")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8.",
            expected="UTF-8 text",
            found=f"byte {error.object[error.start]:#04x} at byte {error.start}",
            remedy="convert the file: iconv -f ENCODING -t utf-8 (often latin1 or utf-16)",
        ) from None
    except OSError as error:
        raise UserError(f"Cannot read {path}.", found=error.strerror or str(error)) from None


def check_out(out: Path, overwrite: bool) -> None:
    """Refuse a place where the replies cannot go, before any is made. Raises `UserError`."""
    if not out.parent.is_dir():
        raise UserError(f"There is no folder {out.parent} for the replies.", remedy="make it, or choose another --out")
    if out.exists() and not out.is_file():
        raise UserError(f"{out} is no file.", expected="a file to write replies to", remedy="choose another --out")
    if out.exists() and not overwrite:
        raise UserError(f"{out} is there already.",
                        remedy="choose another --out, or replace it: --set chat.overwrite=true")  # fmt: skip


def write_replies(
    engine: Engine,
    version: str,
    settings: ReplySettings,
    prompts: Sequence[Conversation],
    out: Path,
    *,
    seed: int,
    system: str = "",
    guardrails: Guardrails | None = None,
    overwrite: bool = False,
) -> dict[str, int]:
    """Reply to all prompts; the file appears when it is whole.

    Args:
        engine: holds the version.
        version: that replies.
        settings: how; the seed of each reply comes from `seed` and its place.
        prompts: in order.
        out: JSON lines, one for each prompt.
        seed: equal ones give equal replies.
        system: system turn before each prompt that has none.
        guardrails: blocked prompts and replies have the polite reply, and the finish reason "blocked".
        overwrite: replace a file that is there.

    Returns:
        How many rows there are, and how many by finish reason.
    """
    writer = _Writer(engine, version, settings, seed, system, guardrails)
    aside = out.with_name(f".{out.name}.partial")
    counts = {"rows": 0}
    try:
        with aside.open("w", encoding="utf-8") as file:
            for row in tqdm(writer.rows(prompts), desc=f"replies of {version}", total=len(prompts), disable=None):
                _write(file, row)
                counts["rows"] += 1
                counts[row["finish_reason"]] = counts.get(row["finish_reason"], 0) + 1
            file.flush()
            os.fsync(file.fileno())
        check_out(out, overwrite)
        aside.replace(out)
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()
    return counts


def _write(file: TextIO, row: dict[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False) + "\n")


class _Asked(NamedTuple):
    """A prompt on its way: a generation, or the row of one that cannot be answered."""

    prompt: Conversation
    generation: Generation | None
    row: dict[str, Any]


class _Writer:
    """Keeps the engine's queue full, and gives the rows in order."""

    def __init__(
        self,
        engine: Engine,
        version: str,
        settings: ReplySettings,
        seed: int,
        system: str,
        guardrails: Guardrails | None,
    ) -> None:
        self.engine, self.version, self.settings = engine, version, settings
        self.seed, self.system, self.guardrails = seed, system, guardrails

    def rows(self, prompts: Sequence[Conversation]) -> Iterator[dict[str, Any]]:
        """A row for each prompt."""
        asked: deque[_Asked] = deque()
        try:
            for place, prompt in enumerate(prompts):
                while (next_one := self._ask(place, prompt)) is None:
                    yield self._row(asked.popleft())
                asked.append(next_one)
            while asked:
                yield self._row(asked.popleft())
        finally:
            for left in asked:
                if left.generation:
                    left.generation.cancel()

    def _ask(self, place: int, prompt: Conversation) -> _Asked | None:
        """None where the engine's queue is full."""
        own_luck = random.Random(f"{self.seed} {place}").getrandbits(31)
        block = self.guardrails.check_message(prompt[-1].content) if self.guardrails else None
        if block:
            return _Asked(prompt, None, _row(prompt, block.reply, "blocked", self.version, own_luck, 0))
        try:
            messages = with_system(prompt, self.system)
            generation = self.engine.submit(messages, self.version, replace(self.settings, seed=own_luck))
        except QueueFull:
            return None
        except UserError as error:
            row = _row(prompt, "", "error", self.version, own_luck, 0)
            return _Asked(prompt, None, row | {"error": " ".join(str(error).split())})
        return _Asked(prompt, generation, {})

    def _row(self, asked: _Asked) -> dict[str, Any]:
        if asked.generation is None:
            return asked.row
        try:
            reply = asked.generation.result()
        except GenerationFailed as error:
            seed = asked.generation.row.seed
            return _row(asked.prompt, "", "error", self.version, seed, 0) | {"error": str(error)}
        block = self.guardrails.check_output(reply.text) if self.guardrails else None
        text, reason = (block.reply, "blocked") if block else (reply.text, reply.finish_reason)
        row = _row(asked.prompt, text, reason, reply.version, reply.seed, reply.completion_tokens)
        return row | ({"dropped_turns": reply.dropped_turns} if reply.dropped_turns else {})


def _row(prompt: Conversation, completion: str, reason: str, version: str, seed: int, tokens: int) -> dict[str, Any]:
    one = len(prompt) == 1 and prompt[0].role == "user"
    asked = prompt[0].content if one else [{"role": turn.role, "content": turn.content} for turn in prompt]
    return {"prompt": asked, "completion": completion, "finish_reason": reason, "version": version, "seed": seed,
            "tokens": tokens}  # fmt: skip
