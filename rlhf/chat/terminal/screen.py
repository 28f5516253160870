"""What a terminal shows: replies as they come, notes and errors; colours only on a terminal."""

import os
import unicodedata
from collections.abc import Mapping
from typing import TextIO

DIM, RED, GREEN, BOLD = "2", "31", "32", "1"


def printable(text: str) -> str:
    """Without what a terminal would take for an order: control characters other than line feed and tab."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


def wants_colours(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream is a terminal that shows colours, and nobody objects (https://no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


class Screen:
    """Replies go to one stream, all else to another where that keeps the replies apart.

    Args:
        replies: usually stdout.
        notes: stdout in a terminal, stderr where replies go to a pipe or a file.
    """

    def __init__(self, replies: TextIO, notes: TextIO) -> None:
        self._replies, self._notes = replies, notes
        self._colours = wants_colours(notes)

    def reply(self, text: str) -> None:
        """A piece of a reply, at once."""
        self._replies.write(printable(text))
        self._replies.flush()

    def end_reply(self) -> None:
        """The reply is over."""
        self.reply("\n")

    def note(self, text: str) -> None:
        """What is about the conversation rather than in it."""
        self._say(text, DIM)

    def plain(self, text: str) -> None:
        """What was asked for: help, a list, results."""
        self._say(text, "")

    def good(self, text: str) -> None:
        """Something was done."""
        self._say(text, GREEN)

    def error(self, text: str) -> None:
        """Something was not done."""
        self._say(f"error: {text}", RED)

    def _say(self, text: str, style: str) -> None:
        text = printable(text)
        print(f"\033[{style}m{text}\033[0m" if self._colours and style else text, file=self._notes, flush=True)
