"""One reply while it is made: read by whoever wants to, stopped by whoever may, stored once.

    for text in turn:                   # what has been checked, as it comes; any number of readers
        show(text)
    message = turn.done()               # as stored; `message.blocked`: its text replaces what was shown

A turn is driven by its readers. Whoever got it is one of them, and each later one says so (`join`). When the last one
has left (`close`) it is stopped, and what there was is stored; where nobody does even that, the clock of `Deadlines`
does.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from rlhf.chat.feedback import StoredMessage
from rlhf.chat.guardrails import Block, WrittenCheck
from rlhf.chat.inference.generation import Generation
from rlhf.chat.records import Reply
from rlhf.records import Conversation

PATIENCE = 5.0
"""Seconds within which an engine that works stops a reply."""


@dataclass(frozen=True)
class Ending:
    """How a reply ended."""

    text: str
    """All of it, or as much as there was."""
    reply: Reply | None
    """None where it failed."""
    error: Exception | None
    block: Block | None
    """Why the reader is not shown it."""
    timed_out: bool


class Turn:
    """A reply on its way.

    Args:
        user: who asked.
        user_message: what is answered, as stored.
        reply_id: the id that the reply will be stored under.
        generation: makes the text.
        check: holds back what is unsafe.
        finish: is told the ending, once; stores the reply.
    """

    def __init__(
        self,
        user: str,
        user_message: StoredMessage,
        reply_id: str,
        generation: Generation | None,
        check: WrittenCheck | None,
        finish: Callable[["Turn", Ending], StoredMessage],
    ) -> None:
        self.user, self.user_message, self.id, self.reply_id = user, user_message, reply_id, reply_id
        self.conversation = user_message.conversation
        self.prompt: Conversation = ()
        """What the model was shown."""
        self.message: StoredMessage | None = None
        """The reply, once it has ended."""
        self.error: Exception | None = None
        self.timed_out = False
        self.given_up = False
        """Stopped because nobody read it any more."""
        self.kept = True
        """False where the reply, or what it answers, could not be stored."""
        self.obstacle = ""
        """Why not, in words."""
        self.dropped_turns = 0
        """Oldest turns that the model was not shown; known at the end."""
        self.ended = threading.Event()
        self.version = generation.version if generation else None
        """Who answers, or has answered; None where nobody had to be asked."""
        self._generation, self._check, self._finish = generation, check, finish
        self._deltas = iter(generation) if generation else iter(())
        self._pieces: list[str] = []
        self._written: list[str] = []
        self._lock = threading.Lock()
        self._readers, self._counting = 1, threading.Lock()

    @classmethod
    def finished(cls, user: str, user_message: StoredMessage, message: StoredMessage) -> "Turn":
        """A turn whose reply is there already."""
        turn = cls(user, user_message, message.id, None, None, lambda turn, ending: message)
        turn.message, turn.version = message, message.version
        turn._pieces.append(message.content)
        turn.ended.set()
        return turn

    def unkept(self, obstacle: str) -> None:
        """Note that the reply, or what it answers, could not be stored, and why."""
        self.kept, self.obstacle = False, obstacle

    @property
    def shown(self) -> str:
        """What readers have been given so far."""
        return "".join(self._pieces)

    @property
    def pieces(self) -> int:
        """In so many pieces."""
        return len(self._pieces)

    @property
    def notice(self) -> str | None:
        """What the reader should be told about this reply."""
        if not self.kept:
            return f"This reply is shown, but it is not kept: {self.obstacle}."
        return "The reply took too long and was stopped." if self.timed_out else None

    def __iter__(self) -> Iterator[str]:
        """Text as it comes, from the beginning.

        Raises:
            GenerationFailed: after the text that there was, which is stored.
        """
        at = 0
        while True:
            ended = self.ended.is_set()  # before the pieces are looked at: the last one comes before the end
            while at < len(self._pieces):
                yield self._pieces[at]
                at += 1
            if ended:
                break
            self.read(at)
        self._raise()

    def read(self, at: int) -> None:
        """Wait for what follows the first `at` pieces: another piece, an unfinished word, or the end."""
        with self._lock:
            if self.ended.is_set() or len(self._pieces) > at:
                return
            try:
                delta = next(self._deltas, None)
                if delta is not None:
                    self._written.append(delta)
                    self._show(self._check.add(delta) if self._check else delta)
            except Exception as error:
                self.cancel()
                self._end(error)
                return
            blocked = self._check is not None and self._check.block is not None
            if blocked:
                self.cancel()
            if blocked or delta is None:
                self._end(None)

    def done(self) -> StoredMessage:
        """Wait for the end; the reply as it was stored.

        Raises:
            GenerationFailed: it could not be finished; `message` is what was stored.
        """
        self.settle()
        self._raise()
        assert self.message is not None
        return self.message

    def settle(self) -> None:
        """Wait for the end, however it comes."""
        while not self.ended.is_set():
            self.read(len(self._pieces))

    def cancel(self) -> bool:
        """Stop the model; False where it has finished already. Readers then see the end."""
        generation = self._generation
        if generation is None or generation.done:
            return False
        generation.cancel()
        return True

    def expire(self) -> None:
        """The time is up: stop, and store what there is, whether anybody reads it or not. Does not wait for it."""
        generation = self._generation
        if generation and not generation.done:
            self.timed_out = True  # before the readers see the end
            self.cancel()

        def end() -> None:
            if generation and not generation.wait(PATIENCE):
                generation.finish()  # the engine hangs: whoever reads need not
            self.settle()

        threading.Thread(target=end, name="expired", daemon=True).start()

    def join(self) -> bool:
        """Another reader comes; False where they had better ask anew: it failed, or everybody had left."""
        with self._counting:
            welcome = self.error is None and not self.given_up
            self._readers += welcome
        return welcome

    def close(self) -> None:
        """A reader has left. The last one stops it, and waits until what there is is stored."""
        with self._counting:
            self._readers -= 1
            if self._readers > 0:
                return
            self._give_up()
        self.settle()

    def abandon(self) -> None:
        """The same, however many still read."""
        with self._counting:
            self._give_up()
        self.settle()

    def _give_up(self) -> None:
        generation = self._generation
        if generation and not generation.done and not generation.cancelled:
            self.given_up = True
            self.cancel()

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    def _show(self, text: str) -> None:
        if text:
            self._pieces.append(text)

    def _end(self, error: Exception | None) -> None:
        """Store the reply; whatever happens here, nobody waits for this turn any more."""
        try:
            reply, text = None, "".join(self._written)
            try:
                if self._check and not self._check.block:
                    self._show(self._check.finish())
                if error is None and self._generation is not None:
                    reply = self._generation.result()
                    self.dropped_turns = reply.dropped_turns
            except Exception as failure:  # a check that fails lets nothing more through
                error, text = error or failure, self.shown
            block = self._check.block if self._check else None
            self.error = error
            self.timed_out = self.timed_out and reply is not None and reply.finish_reason == "cancelled"
            self.message = self._finish(self, Ending(text, reply, error, block, self.timed_out))
        except Exception as failure:
            self.error = self.error or failure
        finally:
            self.ended.set()
            # Finished turns are remembered for a while: their tokens need not be.
            self._generation, self._check, self._deltas, self._written = None, None, iter(()), []
            self._finish = _finished


def _finished(turn: Turn, ending: Ending) -> StoredMessage:
    raise AssertionError("a turn ends once")


class Expiring(Protocol):
    """What has a deadline."""

    ended: threading.Event

    def expire(self) -> None: ...


class Deadlines:
    """Ends what takes too long; one thread for all.

    Args:
        seconds: that anything may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due: list[tuple[float, int, Expiring]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
        self._thread.start()

    def watch(self, turn: Expiring) -> None:
        """Its time runs from now."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + self.seconds, next(self._count), turn))
            self._changed.notify()

    def close(self) -> None:
        """Watch no longer."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._due and self._due[0][2].ended.is_set():
                    heapq.heappop(self._due)
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if self._closed:
                    return
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                turn = heapq.heappop(self._due)[2]
            turn.expire()
