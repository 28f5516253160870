"""Rewards of replies, in the background: a reward model with a thread and a lock of its own.

scorer = Scorer(config, tokenizer, device)
scorer.use(Path("models/tiny/reward"))
scorer.later(prompt, reply, True, lambda reward: store.set_reward(message, reward))
scorer.score([(prompt, reply, True)])        # [0.7]; None without a reward model
"""

import copy
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerFast

from reward_model import RewardModel
from rlhf.config import Config
from rlhf.encoding import Encoder
from rlhf.records import Conversation

log = logging.getLogger(__name__)

BATCH = 16
"""Replies scored at a time: the chat goes before, and it computes on the same processor."""
TAKEN = 256
"""Replies taken at a time, at most."""
PATIENCE_SECONDS = 1.0
"""How long rewards wait for a moment in which nobody waits for a reply."""
MOST_WAITING = 1000
"""Replies that may wait for their reward; beyond them some stay without."""
CLOSING_SECONDS = 3.0
"""For the rewards that are still to come when the server stops."""


class Judged(NamedTuple):
    """A reply to be scored."""

    prompt: Conversation
    reply: str
    ended: bool
    """Whether the model ended it: only then an end of sequence follows the text."""


class Scorer:
    """The reward model of the version that is live.

    Args:
        config: precision of the weights, and how prompts and replies are cut.
        tokenizer: a copy is used, since a fast tokenizer may not be used by two threads.
        device: where it computes.
    """

    def __init__(self, config: Config, tokenizer: PreTrainedTokenizerFast, device: torch.device) -> None:
        self.precision, self.device = config.model.precision, device
        self.tokenizer = copy.deepcopy(tokenizer)
        self.folder: Path | None = None
        self._encoder = Encoder(self.tokenizer, config.data)
        self._model: RewardModel | None = None
        self._lock = threading.Lock()
        self._waiting: queue.Queue[tuple[Judged, Callable[[float], None]] | None] = queue.Queue(MOST_WAITING)
        self._until = math.inf
        self.busy: Callable[[], bool] = lambda: False
        """Whether somebody waits for a reply: rewards can wait."""
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether there is a reward model."""
        return self._model is not None

    def use(self, folder: Path | None) -> None:
        """Score by the reward model in this folder from now on; None: by none. A bad one is logged, and not used."""
        if folder == self.folder:
            return
        model = None
        if folder is not None:
            try:
                model = RewardModel.load(folder, self.tokenizer, self.precision, self.device)
            except Exception as error:  # whatever a broken folder makes the libraries raise
                log.error("replies get no rewards: %s", error)
        with self._lock:
            self._model, self.folder = model, folder

    def score(self, rows: Sequence[Judged]) -> list[float] | None:
        """Normalised rewards, one a row; None where there is no reward model."""
        with self._lock:
            if self._model is None or not rows:
                return None
            encoder = self._encoder
            ids = [encoder.prompt(row.prompt) + encoder.reply(row.reply, end=row.ended) for row in rows]
            return [float(reward) for reward in self._model.score_ids(ids, BATCH)]

    def later(self, row: Judged, tell: Callable[[float], None]) -> None:
        """Score a reply when there is time, and tell its reward, on this scorer's thread."""
        if self.ready:
            try:
                self._waiting.put_nowait((row, tell))
            except queue.Full:
                log.warning("%d replies wait for their rewards already; one more gets none", MOST_WAITING)

    def close(self) -> None:
        """Score what waits, for a few seconds, and end; what is left stays without."""
        if self._thread.is_alive():
            self._until = time.monotonic() + CLOSING_SECONDS
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            batch = [self._waiting.get()]
            self._let_others_go_first()
            while len(batch) < TAKEN and not self._waiting.empty():
                batch.append(self._waiting.get())
            going = None not in batch
            if time.monotonic() < self._until:
                self._tell([item for item in batch if item is not None])

    def _let_others_go_first(self) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while self.busy() and time.monotonic() < min(until, self._until):
            time.sleep(0.02)

    def _tell(self, batch: list[tuple[Judged, Callable[[float], None]]]) -> None:
        try:
            rewards = self.score([row for row, _ in batch])
        except Exception:
            log.exception("%d replies get no rewards", len(batch))
            return
        for (_, tell), reward in zip(batch, rewards or [], strict=False):
            try:
                tell(reward)
            except Exception:
                log.exception("a reward was not kept")
