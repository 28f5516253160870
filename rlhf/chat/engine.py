"""The engine of the chat: one thread owns the models, requests wait in a bounded queue and are decoded in batches.

    with Engine.of(config, {"ppo": Path("models/tiny/ppo")}) as engine:
        for text in engine.submit(ask("Hello"), "ppo", ReplySettings()):
            print(text, end="")

A request joins the replies that are being decoded as soon as there is a place, so ten people wait about as long as one.
Requests to versions on the same base weights alternate token by token.
"""

import logging
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from rlhf.chat.inference.batch import Row, RunningBatch
from rlhf.chat.inference.context import fit_context
from rlhf.chat.inference.fleet import Fleet, UnknownVersion
from rlhf.chat.inference.generation import Generation
from rlhf.chat.records import Reply, ReplySettings, check_settings
from rlhf.chat.settings import ChatSection
from rlhf.config import Config, DataSection, Precision
from rlhf.errors import nearest
from rlhf.models import resolve_device
from rlhf.oom import out_of_memory, release_memory
from rlhf.records import Conversation
from rlhf.tokenizer import ROLES, load_tokenizer

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
"""How long the engine sleeps without work before it looks again; a request wakes it at once."""

PASSES_TO_GROW = 500
"""Passes without a fault after which one reply more is decoded at a time, where memory had run out."""


class QueueFull(Exception):
    """As many requests wait as may. `retry_after`: seconds after which to try again."""

    def __init__(self, waiting: int, retry_after: float) -> None:
        super().__init__(f"{waiting} requests wait already; try again in {retry_after:.0f} s")
        self.waiting, self.retry_after = waiting, retry_after


class EngineClosed(RuntimeError):
    """The engine was closed."""


@dataclass(frozen=True)
class EngineStats:
    """What the engine has done, and what it has to do."""

    waiting: int
    active: int
    queue_size: int
    max_batch: int
    """Replies decoded at a time; less than configured once memory has run out."""
    replies: int
    """Finished since the start."""
    tokens: int
    """Sampled since the start."""
    seconds_busy: float


class Engine:
    """Replies of one or several versions.

    Args:
        tokenizer: of all versions.
        precision: of the base weights.
        device: where the models go.
        limits: `max_response_tokens` is how long a reply may be by default.
        chat: sizes of batch and queue.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        precision: Precision,
        device: torch.device,
        limits: DataSection,
        chat: ChatSection,
    ) -> None:
        self.tokenizer, self.limits, self.chat = tokenizer, limits, chat
        self._fleet = Fleet(tokenizer, precision, device)
        self._stop_ids = (tokenizer.eos_token_id, *_role_ids(tokenizer))
        self._batches: dict[str, RunningBatch] = {}
        self._asked: dict[Row, Generation] = {}
        self._waiting: deque[Generation] = deque()
        self._urgent: deque[Generation] = deque()
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._closed = False
        self._max_batch, self._good = chat.max_batch, 0
        self._contexts: dict[str, int | None] = {}
        self._replies, self._tokens, self._busy = 0, 0, 0.0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, config: Config, versions: Mapping[str, str | Path]) -> "Engine":
        """An engine with versions loaded: name → hub name or result folder; the first one's tokenizer is everyone's.

        Raises:
            UserError: one of them cannot be loaded.
        """
        limits = config.data
        tokenizer = load_tokenizer(
            str(next(iter(versions.values()))),
            vocab_size=config.model.vocab_size,
            texts=list,
            max_length=limits.max_prompt_tokens + limits.max_response_tokens,
        )
        device = resolve_device(config.model.device)
        engine = cls(tokenizer, config.model.precision, device, limits, config.chat)
        try:
            for name, folder in versions.items():
                engine.load(name, folder)
        except BaseException:
            engine.close()
            raise
        return engine

    # --- what others call -------------------------------------------------------------------------------------

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that answer."""
        return tuple(self._contexts)

    def load(self, name: str, folder: str | Path) -> None:
        """Load a version, or another in its place, between two tokens of the others.

        Raises:
            UserError: it cannot be loaded; what was there stays.
            EngineClosed: the engine was closed.
        """

        base = self._fleet.read_base(folder)  # here: it takes long, and the others go on meanwhile

        def add() -> None:
            self._begin_again(name)
            self._fleet.add(name, folder, base)
            self._contexts = self._contexts | {name: self._fleet.context(name)}

        self._on_thread(add)

    def unload(self, name: str) -> None:
        """Take a version out; replies that it has begun fail. Does nothing where it is not there."""

        def remove() -> None:
            self._contexts = {key: value for key, value in self._contexts.items() if key != name}
            unknown = UnknownVersion(f"The version {name!r} was taken out.")
            batch = self._batches.pop(name, None)
            for row in batch.clear() if batch else []:
                self._end(row, unknown)
            self._fleet.remove(name)

        self._on_thread(remove)

    def in_use(self) -> frozenset[str]:
        """The versions that somebody waits for."""
        with self._changed:
            return frozenset(one.version for one in (*self._asked.values(), *self._waiting, *self._urgent))

    def context(self, version: str) -> int | None:
        """Tokens that a version can take, prompt and reply together. Raises `UnknownVersion`."""
        if version not in self._contexts:
            raise UnknownVersion(f"No version {version!r} is loaded.", remedy=nearest(version, self._contexts))
        return self._contexts[version]

    def submit(
        self, messages: Conversation, version: str, settings: ReplySettings, *, urgent: bool = False
    ) -> Generation:
        """Ask for a reply.

        Args:
            messages: the last one is to be answered.
            version: that answers.
            settings: how it is sampled.
            urgent: neither wait nor count as waiting: for a token that says how the engine is, not for people.

        Raises:
            UnknownVersion: no such version.
            PromptTooLong: the last turn does not fit into the context.
            UserError: nothing to reply to, or settings out of range.
            QueueFull: too many requests wait.
            EngineClosed: the engine was closed.
        """
        context = self.context(version)
        check_settings(settings)
        if not urgent:
            self._check_queue()
        most = self.limits.max_response_tokens if settings.max_tokens is None else settings.max_tokens
        fitted = fit_context(self.tokenizer, messages, most, context)
        seed = secrets.randbelow(1 << 31) if settings.seed is None else settings.seed
        row = Row(fitted.ids, most, settings.temperature, settings.top_p, seed)
        generation = Generation(row, version, settings.stop, fitted.dropped_turns, self.tokenizer)
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine was closed")
            if urgent:
                self._urgent.append(generation)
            else:
                self._check_queue()
                self._waiting.append(generation)
            self._changed.notify()
        return generation

    def reply(self, messages: Conversation, version: str, settings: ReplySettings) -> Reply:
        """Ask for a reply and wait for it. Raises as `submit`, and `GenerationFailed`."""
        return self.submit(messages, version, settings).result()

    def stats(self) -> EngineStats:
        """Figures for a monitor."""
        return EngineStats(
            waiting=len(self._waiting),
            active=len(self._asked),
            queue_size=self.chat.queue_size,
            max_batch=self._max_batch,
            replies=self._replies,
            tokens=self._tokens,
            seconds_busy=self._busy,
        )

    def close(self) -> None:
        """Stop; replies in the making and waiting ones fail."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _check_queue(self) -> None:
        waiting = len(self._waiting)
        if waiting >= self.chat.queue_size:
            each = self._busy / self._replies if self._replies else 1.0
            raise QueueFull(waiting, retry_after=max(1.0, waiting * each))

    def _on_thread(self, task: Callable[[], Any]) -> Any:
        future: Future[Any] = Future()
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine was closed")
            self._tasks.put((task, future))
            self._changed.notify()
        return future.result()

    # --- on the engine's thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                began = time.perf_counter()
                try:
                    self._turn()
                except Exception as error:  # a fault of ours: whoever waits hears of it, and the next ones are served
                    log.exception("a turn of the engine failed")
                    self._batches.clear()
                    for row in list(self._asked):
                        self._end(row, error)
                self._busy += time.perf_counter() - began
        finally:
            self._fail_all(EngineClosed("the engine was closed"))

    def _turn(self) -> None:
        """What was asked of the engine, new rows, and a token for everybody."""
        self._do_tasks()
        self._admit()
        for version, batch in list(self._batches.items()):
            if batch.rows:
                self._pass(version, batch, list(batch.rows), batch.step)
            else:
                del self._batches[version]

    def _wait_for_work(self) -> bool:
        """False once the engine is closed."""
        with self._changed:
            while not (self._closed or self._waiting or self._urgent or self._asked or not self._tasks.empty()):
                self._changed.wait(IDLE_SECONDS)
            return not self._closed

    def _do_tasks(self) -> None:
        while not self._tasks.empty():
            task, future = self._tasks.get()
            try:
                future.set_result(task())
            except BaseException as error:  # for whoever asked
                future.set_exception(error)

    def _admit(self) -> None:
        """Let as many waiting requests join as there is place for."""
        arrived: dict[str, list[Generation]] = {}
        with self._changed:
            for line in (self._urgent, self._waiting):
                for generation in [one for one in line if one.row.dropped]:
                    line.remove(generation)
                    generation.finish()
            free = max(0, self._max_batch - len(self._asked))
            admitted = [*self._urgent, *(self._waiting.popleft() for _ in range(min(free, len(self._waiting))))]
            self._urgent.clear()
        for generation in admitted:
            arrived.setdefault(generation.version, []).append(generation)
        for version, generations in arrived.items():
            rows = [generation.row for generation in generations]
            self._asked |= dict(zip(rows, generations, strict=True))
            batch = self._batches.setdefault(version, RunningBatch(self.tokenizer.pad_token_id, self._stop_ids))
            self._pass(version, batch, rows, partial(batch.add, rows=rows))

    def _pass(self, version: str, batch: RunningBatch, rows: list[Row], work: Callable[[Any], None]) -> None:
        """A pass through the network that gives some rows a token; if it fails, they fail, and the others go on."""
        try:
            with self._fleet.role(version) as model:
                work(model)
            self._tokens += len(rows)
            for row in rows:
                self._tell(row)
            for row in batch.drop_finished():
                self._end(row)
        except Exception as error:
            fault: Exception = error
        else:
            self._grow()
            return
        self._recover([*batch.clear(), *rows], rows, fault)

    def _tell(self, row: Row) -> None:
        try:
            self._asked[row].tell()
        except Exception as error:
            row.dropped = True
            self._asked[row].finish(error)

    def _recover(self, every: list[Row], failed: list[Row], fault: Exception) -> None:
        """After a pass that failed: rows that were finished end, those that had no part in it wait to go on.

        Where memory ran out and less might do, all go on, fewer at a time.
        """
        too_much = isinstance(fault, RuntimeError) and out_of_memory(fault) and len(self._asked) > 1
        if too_much:
            self._max_batch, self._good = max(1, len(self._asked) // 2), 0
            fault = fault.with_traceback(None)  # which holds what was computed
            release_memory()
        waiting = []
        for row in dict.fromkeys(row for row in every if row in self._asked):
            if row.finished:
                self._end(row)
            elif row in failed and not too_much:
                self._end(row, fault)
            else:
                waiting.append(row)
        self._put_back(waiting)

    def _grow(self) -> None:
        """Memory that ran out once may be there again."""
        self._good += 1
        if self._good >= PASSES_TO_GROW and self._max_batch < self.chat.max_batch:
            self._max_batch, self._good = self._max_batch + 1, 0

    def _end(self, row: Row, error: BaseException | None = None) -> None:
        self._replies += 1
        self._asked.pop(row).finish(error)

    def _put_back(self, rows: list[Row]) -> None:
        """Let rows wait again, before all others; they go on where they are."""
        with self._changed:
            self._waiting.extendleft(self._asked.pop(row) for row in reversed(rows))

    def _begin_again(self, version: str) -> None:
        """Before a version is exchanged: its replies are read anew, and go on under the new one."""
        batch = self._batches.pop(version, None)
        if batch:
            self._put_back(batch.clear())

    def _fail_all(self, error: BaseException) -> None:
        with self._changed:
            self._closed = True
            left = [*self._asked.values(), *self._urgent, *self._waiting]
            self._asked.clear()
            self._urgent.clear()
            self._waiting.clear()
        for generation in left:
            generation.finish(error)
        while not self._tasks.empty():
            self._tasks.get()[1].set_exception(error)


def _role_ids(tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Tokens that open a turn, where the tokenizer has such: a reply ends where the model goes on for the user."""
    added = tokenizer.get_added_vocab()
    return tuple(added[role] for role in ROLES if role in added)
