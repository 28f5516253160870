"""What is kept from the model, and from the reader: length, rate, a word list, a classifier of unsafe text.

    guardrails = Guardrails(config.guardrails, device)
    block = guardrails.check_input(user, text) or guardrails.check_output(reply)
    if block:
        say(block.reply)                       # polite, in place of what was blocked

    check = guardrails.while_written()         # a reply that is shown while it is being written
    for delta in generation:
        show(check.add(delta))                 # what has been checked; "" while a word is unfinished
    show(check.finish())
    if check.block:                            # also true within the loop, which may end there
        replace_by(check.block.reply)

Nothing is global and all of it may be called from any thread. A block is neither logged nor stored here.
"""

import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from rlhf.chat.settings import GuardrailSection
from rlhf.evaluation.safety import is_unsafe

Reason = Literal["length", "rate", "words", "classifier"]

ASK_OTHERWISE = "I would rather not answer that. Could you put it another way, please?"
"""In place of a reply to an unsafe message."""
CANNOT_SAY = "I am sorry, I have no good answer to that. Could you ask something else, please?"
"""In place of an unsafe reply."""
BURST = 0.25
"""Share of a minute's messages that may come at once."""
TOGETHER = 20
"""So many people's messages all may send together, where the settings say no number."""
LONGEST_WORD = 40
"""Characters of an unfinished word that are held back; scripts without spaces would else be held back to the end."""
LOOK_BACK = 200
"""Characters before what is new that the word list is shown again, since what it knows may reach across a space."""
LOOK_AHEAD = 3
"""Words after a bad one before it counts: of "summa cum laude" the list minds the middle, but not all three."""
_UNFINISHED_WORD = re.compile(r"\S*\Z")
_SENTENCES = re.compile(r".*[.!?。\n]", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Why a text does not pass, and what is said instead."""

    reason: Reason
    reply: str
    retry_after: float | None = None
    """Seconds after which to try again, where waiting helps."""
    everybody: bool = False
    """Not this user alone is too fast: all are, together."""


class RateLimit:
    """A token bucket for each user: a message costs one token, and tokens come back steadily up to the burst.

    Args:
        per_minute: messages a minute.
        clock: seconds that never go back.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_minute / 60
        self.burst = max(1.0, per_minute * BURST)
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}  # user → tokens, and when they were counted
        self._tidied = clock()

    def wait(self, user: str) -> float:
        """0 where the user may send a message now, which is then counted; else the seconds until one is allowed."""
        with self._lock:
            now = self._clock()
            self._tidy(now)
            tokens, counted = self._buckets.get(user, (self.burst, now))
            tokens = min(self.burst, tokens + (now - counted) * self.per_second)
            allowed = tokens >= 1 - 1e-9  # whoever waits exactly as long as told is let through
            self._buckets[user] = (tokens - 1 if allowed else tokens, now)
            return 0.0 if allowed else (1 - tokens) / self.per_second

    def _tidy(self, now: float) -> None:
        """Forget users whose bucket is full again, so that many names do not fill the memory."""
        full_after = self.burst / self.per_second
        if now - self._tidied > full_after:
            self._buckets = {user: held for user, held in self._buckets.items() if now - held[1] <= full_after}
            self._tidied = now


class Guardrails:
    """The checks of section `guardrails`.

    Args:
        settings: which checks, and how strict.
        device: where the classifier computes; default: the CPU.
        clock: seconds that never go back.

    Raises:
        UserError: the classifier cannot be loaded, or has no such label.
    """

    def __init__(
        self,
        settings: GuardrailSection,
        device: torch.device | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._rate = RateLimit(settings.requests_per_minute, clock)
        together = settings.requests_per_minute_together or TOGETHER * settings.requests_per_minute
        self._together = RateLimit(together, clock)
        self._unsafe = _classifier(settings, device)

    def check_input(self, user: str, text: str) -> Block | None:
        """What keeps a message from the model; None where it passes. Each call counts as a message of the user."""
        if wait := self._rate.wait(user):
            return Block("rate", f"That was a lot at once. {_try_again(wait)}", retry_after=wait)
        if wait := self._together.wait(""):
            said = f"Many people are writing just now. {_try_again(wait)}"
            return Block("rate", said, retry_after=wait, everybody=True)
        return self.check_message(text)

    def check_message(self, text: str) -> Block | None:
        """The same, whatever the rate; for what is no message, too, such as a correction."""
        most = self.settings.max_characters
        if len(text) > most:
            return Block("length", f"That is too long for me: {len(text)} characters. Please use at most {most}.")
        return self._content(text, ASK_OTHERWISE)

    def check_output(self, text: str) -> Block | None:
        """What keeps a reply from the reader; None where it passes."""
        return self._content(text, CANNOT_SAY)

    def while_written(self) -> "WrittenCheck":
        """The same for a reply that is shown while it is being written."""
        return WrittenCheck(self)

    def _content(self, text: str, instead: str) -> Block | None:
        if not text.strip():
            return None
        if self.settings.words and is_unsafe(text):
            return Block("words", instead)
        if self._unsafe and self._unsafe(text) >= self.settings.classifier_threshold:
            return Block("classifier", instead)
        return None


class WrittenCheck:
    """How much of a reply may be shown while it is being written; belongs to one reply and one thread.

    The word list is asked at the end of each word. What it finds is held back, and blocks the reply once a few words
    have not made it harmless. A classifier, which needs to see what is meant, is asked at the end of each sentence, and
    nothing is shown before. The whole reply is checked once more when it is finished.
    """

    def __init__(self, guardrails: Guardrails) -> None:
        self.block: Block | None = None
        """Set once the reply is blocked; nothing of it is shown from then on."""
        self._guardrails = guardrails
        self._text = ""
        self._shown = 0
        self._held: int | None = None
        """Length of the text when the word list first minded what has not been shown."""

    def add(self, delta: str) -> str:
        """What may be shown after this much more was written."""
        self._text += delta
        sentences = self._guardrails.settings.classifier is not None
        ready = _end_of_sentences(self._text) if sentences else _end_of_words(self._text)
        if self.block or ready <= self._shown:
            return ""
        found = self._guardrails.check_output(self._text[:ready]) if sentences or self._suspicious(ready) else None
        if found is None:
            self._held = None
            return self._release(ready)
        if self._held is None:
            self._held = ready
        if sentences or len(self._text[self._held : ready].split()) >= LOOK_AHEAD:
            self.block = found
        return ""

    def _suspicious(self, ready: int) -> bool:
        """Whether the word list minds something near the end; at a cut within a word it may be mistaken."""
        return self._guardrails.check_output(self._text[max(0, self._shown - LOOK_BACK) : ready]) is not None

    def finish(self) -> str:
        """What may be shown at the end of the reply."""
        self.block = self.block or self._guardrails.check_output(self._text)
        return self._release(len(self._text))

    def _release(self, end: int) -> str:
        if self.block:
            return ""
        start, self._shown = self._shown, end
        return self._text[start:end]


def _try_again(wait: float) -> str:
    seconds = math.ceil(wait)
    return f"Please try again in {seconds} second{'s' if seconds > 1 else ''}."


def _end_of_words(text: str) -> int:
    tail = text[-LONGEST_WORD:]
    unfinished = _UNFINISHED_WORD.search(tail)
    return len(text) - (len(unfinished.group()) if unfinished else 0)


def _end_of_sentences(text: str) -> int:
    found = _SENTENCES.match(text)
    return found.end() if found else 0


def _classifier(settings: GuardrailSection, device: torch.device | None) -> Callable[[str], float] | None:
    """Probability that a text is unsafe; None where no classifier is set."""
    if settings.classifier is None:
        return None
    from rlhf.rewards.classifier import Classifier  # transformers, which takes seconds

    classifier = Classifier(settings.classifier, settings.classifier_label, probability=True, device=device)
    lock = threading.Lock()  # a fast tokenizer may not be used by two threads

    def unsafe(text: str) -> float:
        with lock:
            return classifier.alone([text])[0]

    return unsafe
