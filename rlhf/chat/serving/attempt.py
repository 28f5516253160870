"""How long somebody waits for a duel to begin: until they leave, or the time is up.

attempt = Attempt(reader_left, seconds=120)
while drawing:
    attempt.check()                     # raises Left, or NoDuel
    with attempt.watching(turn):        # stops the turn in either case, also while its first token is awaited
        …
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rlhf.errors import UserError

LOOK_SECONDS = 0.25
"""Between two looks whether they are still there."""


class Left(Exception):
    """Whoever asked has left, or the server is stopping."""


class NoDuel(UserError):
    """There are not two answers to judge."""


class Stoppable(Protocol):
    def cancel(self) -> bool: ...


class Attempt:
    """See the module; the time runs from now.

    Args:
        left: whether nobody waits any more.
        seconds: that all of it may take.
    """

    def __init__(self, left: Callable[[], bool], seconds: float) -> None:
        self.left, self.seconds = left, seconds
        self._until = time.monotonic() + seconds

    @property
    def late(self) -> bool:
        return time.monotonic() >= self._until

    def check(self) -> None:
        """Raises `Left`, or `NoDuel` where the time is up."""
        if self.left():
            raise Left("Nobody waits for this duel any more.")
        if self.late:
            raise NoDuel(
                f"No two answers that differ were found within {self.seconds:g} s.",
                remedy="try another prompt, or try again in a moment",
            )

    @contextmanager
    def watching(self, turn: Stoppable) -> Iterator[None]:
        """Within it, the turn is stopped as soon as nobody waits any more."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(LOOK_SECONDS):
                if self.left() or self.late:
                    turn.cancel()
                    return

        threading.Thread(target=look, name="attempt", daemon=True).start()
        try:
            yield
        finally:
            over.set()
