"""Where lines come from: typed, with editing and history, in a terminal; as they stand from a pipe or a file."""

import os
from pathlib import Path
from typing import Any, Protocol, TextIO

PROMPT = "> "
HISTORY = "chat_history"


class Reader(Protocol):
    """Gives one line after the other."""

    interactive: bool
    """Whether somebody sits there who can be asked."""

    def read(self) -> str:
        """The next line. Raises `EOFError` at the end, `KeyboardInterrupt` on Ctrl-C."""

    def confirm(self, question: str) -> bool:
        """Ask a question that is answered by yes or no; no, where nobody can be asked."""


class PlainLines:
    """Lines of a pipe or a file."""

    interactive = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def read(self) -> str:
        line = self._stream.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def confirm(self, question: str) -> bool:
        return False


class EditedLines:
    """Lines that are typed: arrow keys, history over sessions, Ctrl-R to search it.

    Args:
        history: file of what was typed before; None, or where it cannot be used: of this session only.
    """

    interactive = True

    def __init__(self, history: Path | None) -> None:
        from prompt_toolkit import PromptSession  # not needed for a pipe
        from prompt_toolkit.history import FileHistory, InMemoryHistory

        file = _own_file(history) if history else None
        kept: Any = FileHistory(str(file)) if file else InMemoryHistory()
        self._session: Any = PromptSession(history=kept)
        self._question: Any = PromptSession()

    def read(self) -> str:
        try:
            return str(self._session.prompt(PROMPT))
        except KeyboardInterrupt:
            if not self._session.default_buffer.text:
                raise
            return ""  # as in a shell: the line is given up, not the chat

    def confirm(self, question: str) -> bool:
        try:
            return str(self._question.prompt(f"{question} [y/N] ")).strip().lower() in ("y", "yes")
        except (EOFError, KeyboardInterrupt):
            return False


def history_file() -> Path | None:
    """Where typed lines are remembered: in the user's folder for state (XDG base directories), if there is one."""
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        folder = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    except RuntimeError:  # a user without a home
        return None
    return folder / "rlhf" / HISTORY


def _own_file(path: Path) -> Path | None:
    """The file, made if need be, for nobody else to read; None where that cannot be."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.fchmod(opened, 0o600)
        finally:
            os.close(opened)
    except OSError:
        return None
    return path
