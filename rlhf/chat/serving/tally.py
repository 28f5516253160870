"""Counts of what happens too often for each time to be written down.

tally = Tally(lambda name, count: store.log("blocked", user=name, count=count))
tally.add("ann")              # written at once, then at most once a minute, with how often it was since
tally.flush()                 # what is not written yet, at the end
"""

import threading
import time
from collections.abc import Callable

EVERY_S = 60.0
"""Between two lines of one name, in seconds."""


class Tally:
    """See the module; for any thread.

    Args:
        write: is given a name, and how often it was counted since it was last written.
        clock: seconds that never go back.
    """

    def __init__(self, write: Callable[[str, int], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._counts: dict[str, tuple[float | None, int]] = {}  # name → when it was written, and how often since
        self._lock = threading.Lock()

    def add(self, name: str) -> None:
        """Count it; whatever is due is written."""
        with self._lock:
            written, count = self._counts.get(name, (None, 0))
            self._counts[name] = (written, count + 1)
            due = self._take(self._clock())
        self._tell(due)

    def flush(self) -> None:
        """Write all that is not written yet."""
        with self._lock:
            due = self._take(float("inf"))
        self._tell(due)

    def _take(self, now: float) -> dict[str, int]:
        due = {
            name: count
            for name, (written, count) in self._counts.items()
            if written is None or now - written >= EVERY_S
        }
        for name, count in due.items():
            if count:
                self._counts[name] = (now, 0)
            else:
                del self._counts[name]
        return {name: count for name, count in due.items() if count}

    def _tell(self, due: dict[str, int]) -> None:
        for name, count in due.items():
            self._write(name, count)
