"""Phase chat: talk to a version in the terminal, or let it reply to a file of prompts.

python main.py --phase chat
python main.py --phase chat --prompts prompts.txt --out replies.jsonl
"""

import os
import sys
from pathlib import Path
from typing import Any

from transformers.utils import logging

from rlhf.chat.cli import Terminal
from rlhf.chat.engine import Engine
from rlhf.chat.feedback import FILE, FeedbackStore
from rlhf.chat.guardrails import Guardrails
from rlhf.chat.records import ReplySettings
from rlhf.chat.terminal.batch_file import check_out, read_prompts, write_replies
from rlhf.chat.terminal.conversations import ConversationFolder
from rlhf.chat.terminal.dialogue import Dialogue
from rlhf.chat.terminal.journal import Journal, user_name
from rlhf.chat.terminal.reader import EditedLines, PlainLines, Reader, history_file
from rlhf.chat.terminal.screen import Screen
from rlhf.errors import UserError
from rlhf.registry import Registry, Version
from rlhf.run import Run

CONVERSATIONS = "conversations"


def run_phase(run: Run) -> dict[str, Any]:
    """Talk, or reply to a file; returns the version, and for a file how many replies there are.

    Raises:
        UserError: no version to talk to, no such version, or a bad file.
    """
    prompts, out = run.given.prompts, run.given.out
    if (prompts is None) != (out is None):
        raise UserError("Replies to a file need both files.", expected="--prompts FILE --out FILE",
                        found="only --prompts" if prompts else "only --out")  # fmt: skip
    registry = Registry(run.folder)
    wanted = run.config.chat.version
    version = registry.get(wanted) if wanted else registry.live()
    logging.disable_progress_bar()  # of loading the weights: it would stand between the first lines
    if prompts and out:
        return _reply_to_file(run, registry, version, Path(prompts), Path(out))
    _talk(run, registry, version)
    return {"version": version.name}


def _settings(run: Run) -> ReplySettings:
    return ReplySettings(temperature=run.config.chat.temperature, top_p=run.config.chat.top_p)


def _reply_to_file(run: Run, registry: Registry, version: Version, source: Path, out: Path) -> dict[str, Any]:
    chat = run.config.chat
    prompts = read_prompts(source)
    check_out(out, chat.overwrite)
    guardrails = Guardrails(run.config.guardrails, run.device)
    with Engine.of(run.config, {version.name: registry.path(version)}) as engine:
        counts = write_replies(
            engine, version.name, _settings(run), prompts, out,
            seed=run.config.seed, system=chat.system, guardrails=guardrails, overwrite=chat.overwrite,
        )  # fmt: skip
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts.items() if reason != "rows")
    print(f"{out}: {counts['rows']} replies of version {version.name} ({reasons})")
    return {"version": version.name, "out": str(out)} | counts


def _talk(run: Run, registry: Registry, version: Version) -> None:
    typed = sys.stdin.isatty() and sys.stdout.isatty()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # what a terminal cannot show is no reason to end
    reader: Reader = EditedLines(history_file()) if typed else PlainLines(sys.stdin)
    screen = Screen(sys.stdout, sys.stdout if typed else sys.stderr)
    guardrails = Guardrails(run.config.guardrails, run.device)
    folder = registry.path(version)
    with FeedbackStore(run.folder / FILE) as store, Engine.of(run.config, {version.name: folder}) as engine:
        journal = Journal(store, user_name())
        dialogue = Dialogue(engine, version.name, _settings(run), guardrails, journal, run.config.chat.system)
        greeting = f"You are talking to version {version.name} ({folder}). help lists the commands."
        try:
            Terminal(dialogue, ConversationFolder(run.folder / CONVERSATIONS), reader, screen).run(greeting)
        except BrokenPipeError:  # whoever read the replies has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
