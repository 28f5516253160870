"""One reply on its way from the engine to whoever asked for it: a stream of text, and its end."""

import queue
import threading
import time
import uuid
from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerFast

from rlhf.chat.inference.batch import Row
from rlhf.chat.records import FinishReason, Reply
from rlhf.tokenizer import decode_reply

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer makes of half a character."""


class GrowingText:
    """The text of tokens that come one after the other; what one more token costs does not grow with the text.

    Only the tokens since the last but one place at which no character was cut in two are decoded anew: the former of
    them stand before the new ones, since some tokenizers drop a blank in front of the first.

    Args:
        tokenizer: that decodes.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._start = self._read = 0
        self.text = ""
        """All of it that no further token can change."""

    def read(self, tokens: Sequence[int]) -> str:
        """The text, given all tokens there are by now."""
        before = decode_reply(self._tokenizer, tokens[self._start : self._read])
        now = decode_reply(self._tokenizer, tokens[self._start :])
        if len(now) > len(before) and not now.endswith(_REPLACEMENT):
            self.text += now[len(before) :]
            self._start, self._read = self._read, len(tokens)
        return self.text


class GenerationFailed(RuntimeError):
    """The engine could not finish a reply; `__cause__` says why."""


class Generation:
    """A reply that is asked for. Iterate over it for text as it comes, or wait for its `result`.

    Args:
        row: the reply's tokens, as the engine samples them.
        version: that answers.
        stop: texts before which the reply ends.
        dropped_turns: turns that did not fit.
        tokenizer: for the text.
    """

    def __init__(
        self, row: Row, version: str, stop: tuple[str, ...], dropped_turns: int, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        self.id = uuid.uuid4().hex
        self.row, self.version, self.dropped_turns = row, version, dropped_turns
        self._stop, self._tokenizer = tuple(text for text in stop if text), tokenizer
        self._deltas: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._text, self._told = GrowingText(tokenizer), ""
        self._finished = threading.Event()
        self._reason: FinishReason | None = None
        self._error: BaseException | None = None
        self._began, self._first, self._last = time.perf_counter(), 0.0, 0.0

    # --- for whoever asked ------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        """Text as it comes, no half characters or parts of a stop text. For one reader; a slow one gets more at once.

        Raises:
            GenerationFailed: after the text that there was.
        """
        ended = False
        while not ended:
            texts = [self._deltas.get()]
            while not self._deltas.empty():
                texts.append(self._deltas.get())
            ended = texts[-1] is None
            if text := "".join(filter(None, texts)):
                yield text
        self._deltas.put(None)  # whoever iterates again sees the end, too
        self._raise()

    @property
    def done(self) -> bool:
        """Whether the reply is finished, stopped or failed."""
        return self._finished.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody has stopped it."""
        return self.row.dropped and self._reason in (None, "cancelled")

    def cancel(self) -> None:
        """Stop: no token follows, and the place is free for another reply."""
        self.row.dropped = True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done; False where that takes longer than `timeout` seconds."""
        return self._finished.wait(timeout)

    def result(self, timeout: float | None = None) -> Reply:
        """The whole reply.

        Raises:
            GenerationFailed: it could not be finished.
            TimeoutError: not done within `timeout` seconds; it goes on.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"no reply within {timeout} s")
        self._raise()
        assert self._reason is not None
        return Reply(
            text=self._told,
            version=self.version,
            finish_reason=self._reason,
            seed=self.row.seed,
            prompt_tokens=len(self.row.prompt),
            completion_tokens=len(self.row.tokens),
            dropped_turns=self.dropped_turns,
            first_token_seconds=max(0.0, self._first - self._began) if self._first else 0.0,
            seconds=self._last - self._began,
        )

    def _raise(self) -> None:
        if self._error is not None:
            raise GenerationFailed(f"The reply could not be finished: {self._error}") from self._error

    # --- for the engine ---------------------------------------------------------------------------------------

    def tell(self) -> None:
        """Hand on the text of the tokens sampled so far; a stop text in it ends the reply."""
        self._first = self._first or time.perf_counter()
        tokens = self.row.tokens
        text = decode_reply(self._tokenizer, tokens) if self.row.finished else self._text.read(tokens)
        cut = min((at for stop in self._stop if (at := text.find(stop)) >= 0), default=-1)
        if cut >= 0:
            self._reason, self.row.ended = "stop", True
            self._hand_on(text[:cut])
        else:
            self._hand_on(text if self.row.finished else text[: self._certain(text)])

    def _certain(self, text: str) -> int:
        """Characters that no further token can make part of a stop text."""
        end = len(text)
        begun = (
            length
            for stop in self._stop
            for length in range(min(len(stop) - 1, end), 0, -1)
            if text.endswith(stop[:length])
        )
        return end - max(begun, default=0)

    def _hand_on(self, text: str) -> None:
        if len(text) > len(self._told):
            self._deltas.put(text[len(self._told) :])
            self._told = text

    def finish(self, error: BaseException | None = None) -> None:
        """Say that nothing follows, and why."""
        if self.done:
            return
        self._last, self._error = time.perf_counter(), error
        if self._reason is None:
            self._reason = "stop" if self.row.ended else "cancelled" if self.row.dropped else "length"
        self._deltas.put(None)
        self._finished.set()
