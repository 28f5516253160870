"""Replies as they are made: server-sent events, a cap on how many run, and readers who leave.

    with slots.held() as slot:                       at most `serve.streams` at a time; the next is refused, 503
        return stream(Reading({"delta": turn}, slots, reader_left()), events, slot)

waitress hands a thread to each response until it ends, and notices a reader who left only when something is written.
So turns are read by threads of their own, and the response's thread looks four times a second whether the reader is
still there (`environ["waitress.client_disconnected"]`) or the server is stopping; then the turns are closed, which
frees their places in the batch where nobody else reads them.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from flask import Response, request

from rlhf.chat.http.refusals import Refusal, refusal_of

LOOK_SECONDS = 0.25
"""Between two looks whether the reader is still there."""
PAUSE_SECONDS = 0.02
"""Between two events of a reply: what comes meanwhile is sent together. Each costs three threads a turn, and fifty a
second look as smooth as any."""
KEEP_ALIVE_SECONDS = 15.0
"""Silence after which a comment is sent, so that nothing in between takes the connection for dead."""
Event = tuple[str, Mapping[str, Any]]
"""Name and data."""


class Turn(Protocol):
    """What is read here: `rlhf.chat.service.Turn`."""

    def __iter__(self) -> Iterator[Any]: ...
    def done(self) -> Any: ...
    def close(self) -> None: ...


class Done:
    """The end of a turn: what was stored."""

    def __init__(self, message: Any) -> None:
        self.message = message


class Gone(Exception):
    """The reader has left."""


class Slot:
    """A place among those that stream."""

    def __init__(self, slots: "Slots") -> None:
        self._slots: Slots | None = slots

    def give_back(self) -> None:
        """Free the place; a second call does nothing."""
        slots, self._slots = self._slots, None
        if slots:
            slots.free(self)


class Slots:
    """How many replies may be read at a time; each holds a thread of the server."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.stopping = threading.Event()
        self._held: set[Slot] = set()
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        return len(self._held)

    def take(self) -> Slot:
        """Take a place.

        Raises:
            Refusal: 503, all places are taken, or the server is stopping.
        """
        if self.stopping.is_set():
            raise stopping()
        with self._lock:
            if self.taken >= self.limit:
                raise Refusal(503, "too_many_streams", f"{self.limit} replies are streaming; more are not allowed.",
                              todo="Try again in a moment.", retry_after=2)  # fmt: skip
            slot = Slot(self)
            self._held.add(slot)
        return slot

    def free(self, slot: Slot) -> None:
        with self._lock:
            self._held.discard(slot)

    @contextmanager
    def held(self) -> Iterator[Slot]:
        """A place that is given back if the block fails; else whoever got it gives it back."""
        slot = self.take()
        try:
            yield slot
        except BaseException:
            slot.give_back()
            raise


def stopping() -> Refusal:
    return Refusal(503, "stopping", "The server is stopping.", todo="Try again in a moment.", retry_after=5)


def reader_left() -> Callable[[], bool]:
    """Says, at any time, whether the reader of the present request has left; never, where waitress does not run."""
    return request.environ.get("waitress.client_disconnected", lambda: False)


class Reading:
    """Turns read side by side, from the moment this is made: iterate over pairs of name and delta, or name and `Done`.

    None is given for every `KEEP_ALIVE_SECONDS` of silence.
    """

    def __init__(self, turns: Mapping[str, Turn], slots: Slots, left: Callable[[], bool]) -> None:
        self.turns, self.slots, self.left = turns, slots, left
        self._inbox: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._closed = threading.Event()
        for pair in turns.items():
            threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def __iter__(self) -> Iterator[tuple[str, Any] | None]:
        """Until every turn is done.

        Raises:
            Gone: the reader has left.
            Refusal: the server is stopping.
            Exception: what a turn raised.
        """
        going, heard = set(self.turns), time.monotonic()
        while going:
            try:
                item = self._inbox.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                item = None
            if self.left():
                raise Gone
            if self.slots.stopping.is_set():
                raise stopping()
            if item is None and time.monotonic() - heard < KEEP_ALIVE_SECONDS:
                continue
            heard = time.monotonic()
            if item and isinstance(item[1], Exception):
                raise item[1]
            if item and isinstance(item[1], Done):
                going.discard(item[0])
            yield item

    def messages(self) -> dict[str, Any]:
        """Read to the end: name → what was stored."""
        return {item[0]: item[1].message for item in self if item and isinstance(item[1], Done)}

    def close(self) -> None:
        """Leave: what nobody else reads is stopped, and stored as far as it is."""
        self._closed.set()
        for turn in self.turns.values():
            turn.close()

    def _pump(self, name: str, turn: Turn) -> None:
        """Read a turn to its end, or until this reader has left."""
        try:
            for delta in turn:
                self._inbox.put((name, delta))
                if self._closed.wait(PAUSE_SECONDS):
                    return
            self._inbox.put((name, Done(turn.done())))
        except Exception as error:
            self._inbox.put((name, error))


def stream(reading: Reading, events: Callable[[Reading], Iterator[Event | None]], slot: Slot) -> Response:
    """The response that sends events, a comment for each None; what goes wrong on the way is the last event, `error`.

    Args:
        reading: closed when the response has ended, however it did.
        events: makes the events.
        slot: given back then, too.
    """

    def chunks() -> Iterator[str]:
        try:
            for event in events(reading):
                yield ": still there\n\n" if event is None else encode(*event)
        except Gone:
            return
        except Exception as error:
            yield encode("error", refusal_of(error).as_json())

    response = Response(chunks(), mimetype="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(reading.close)
    response.call_on_close(slot.give_back)
    return response


def encode(name: str, data: Mapping[str, Any]) -> str:
    """One event. JSON holds no bare line break, so one data line is enough."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
