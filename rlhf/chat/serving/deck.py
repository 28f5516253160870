"""Which prompt the next duel is on: every so often the one that the reward model is least sure of, else any.

    deck = Deck(prompts, duels, sampled, config.serve, rng)
    deck.next()                     # Offer(prompt, …, chosen_by="active" or "random")

The reward model is unsure of a pair of replies where it gives both about the same reward: the nearer their difference
is to 0, the nearer is the chance that one is preferred to a half. Pairs are drawn and scored ahead, on a thread of the
deck's own, while nobody waits for the engine, and not before the first duel. The pair shown is the pair scored: the
versions and seeds are part of the offer. A prompt that a guardrail blocks is taken out.
"""

import logging
import random
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from rlhf.chat.engine import QueueFull
from rlhf.chat.inference.generation import GenerationFailed
from rlhf.chat.records import Reply, ReplySettings
from rlhf.chat.serving.answering import Asked, Chosen, in_tree
from rlhf.chat.serving.duels import Arm, Duels, Offer
from rlhf.chat.serving.scorer import Judged
from rlhf.chat.settings import ServeSection
from rlhf.errors import UserError
from rlhf.records import Conversation, Prompt

log = logging.getLogger(__name__)

AHEAD = 4
"""Unsure pairs kept in stock."""
ROUND = 2
"""Of them found at a time: so many times `duel_pool` pairs are drawn together."""
PAUSE = 0.05
"""Seconds between two looks whether the engine is free."""


class Deck:
    """Prompts for duels.

    Args:
        prompts: to choose from. Those of several turns are left out: a page shows one text.
        duels: draws versions and seeds; knows engine and reward model.
        sampled: how replies are sampled ahead.
        settings: the share that is chosen by uncertainty, and among how many.
        rng: draws prompts.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        duels: Duels,
        sampled: ReplySettings,
        settings: ServeSection,
        rng: random.Random,
    ) -> None:
        self.prompts = [row.prompt for row in prompts if [turn.role for turn in row.prompt] == ["user"]]
        self.duels, self.sampled, self.settings, self.rng = duels, sampled, settings, rng
        self._passed: set[str] = set()
        self._stock: deque[Offer] = deque()
        self._wanted, self._closed = threading.Event(), threading.Event()
        self._asked: list[Asked] = []
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def stock(self) -> int:
        """Unsure pairs that are ready."""
        return len(self._stock)

    def next(self) -> Offer:
        """A prompt. Raises `UserError` where there is none."""
        if self.prompts and self.rng.random() < self.settings.active_share:
            self._want()
            with self._lock:
                if self._stock:
                    return self._stock.popleft()
        return self._any()

    def clear(self) -> None:
        """Forget the pairs in stock: other versions answer now."""
        with self._lock:
            self._stock.clear()

    def close(self) -> None:
        """Draw no more, and stop what is being drawn."""
        self._closed.set()
        self._wanted.set()
        self._cancel()
        if self._thread:
            self._thread.join()

    def fill(self) -> None:
        """Draw and score a round of pairs, and keep those of which the reward model is least sure."""
        count = ROUND * self.settings.duel_pool
        drawn = [(self._any(), self.duels.draw()) for _ in range(count)]
        arms = self.duels.arms()
        pairs = [
            (replace(offer, chosen_by="active", arms=pair), self._replies(offer.conversation, pair))
            for offer, pair in drawn
        ]
        differing = [(offer, pair) for offer, pair in pairs if pair and pair[0].text != pair[1].text]
        if self._closed.is_set():
            return
        gaps = self._gaps([(offer.conversation, pair) for offer, pair in differing])
        order = sorted(range(len(gaps)), key=gaps.__getitem__)
        with self._lock:
            if arms == self.duels.arms():
                self._stock.extend(differing[number][0] for number in order[:ROUND])

    def _any(self) -> Offer:
        """A prompt by chance; those that a guardrail blocks are taken out when they are met."""
        while prompts := self.prompts:
            prompt = self.rng.choice(prompts)
            text = prompt[-1].content
            block = None if text in self._passed else self.duels.answering.guardrails.check_message(text)
            if block is None:
                self._passed.add(text)
                return Offer(text, prompt, "random")
            with self._lock:
                known = len(self.prompts)
                self.prompts = [other for other in self.prompts if other != prompt]
                met = len(self.prompts) < known
            if met:
                self.duels.answering.log("blocked", side="deck", reason=block.reason, prompt=text)
        raise UserError(
            "There are no prompts to duel on.",
            expected="prompts of one user turn",
            remedy="type one, or start the server with --set serve.duel_prompts=FILE",
        )

    def _want(self) -> None:
        """Have the stock filled, where there is a reward model."""
        scorer = self.duels.answering.scorer
        if scorer is None or not scorer.ready:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deck", daemon=True)
                self._thread.start()
        self._wanted.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wanted.wait()
            self._wanted.clear()
            try:
                while self.stock < AHEAD and not self._closed.is_set():
                    before = self.stock
                    self.fill()
                    if self.stock == before:  # equal replies, or other versions: not for ever
                        break
            except Exception:
                log.exception("the prompts of the next duels are random")

    def _replies(self, prompt: Conversation, pair: tuple[Arm, Arm]) -> tuple[Reply, Reply] | None:
        """Both replies; None where one cannot be had, or nobody wants them any more."""
        answering = self.duels.answering
        self._asked = []
        try:
            while answering.engine.stats().waiting and not self._closed.wait(PAUSE):
                pass  # people go first
            for arm in pair:
                if not self._closed.is_set():
                    how = replace(self.sampled, seed=arm.seed)
                    self._asked.append(answering.ask(in_tree(prompt), Chosen(arm.version), how))
            if self._closed.is_set():  # perhaps too late for `close` to see the last one
                self._cancel()
            replies = [one.generation.result() for one in self._asked]
            return None if self._closed.is_set() else (replies[0], replies[1])
        except (QueueFull, GenerationFailed, UserError):
            self._cancel()
            return None

    def _cancel(self) -> None:
        for one in list(self._asked):
            one.generation.cancel()

    def _gaps(self, pairs: Sequence[tuple[Conversation, tuple[Reply, Reply]]]) -> list[float]:
        """How far apart the rewards of each pair are; empty without a reward model."""
        rows = [Judged(prompt, reply.text, reply.finish_reason == "stop") for prompt, pair in pairs for reply in pair]
        scorer = self.duels.answering.scorer
        rewards = scorer.score(rows) if scorer else None
        return [abs(a - b) for a, b in zip(rewards[::2], rewards[1::2], strict=True)] if rewards else []
