"""What a server of the chat does, without HTTP: conversations, replies, judgements, duels, and who answers.

    service = ChatService(run_folder, config, engine, store, registry, guardrails, scorer, prompts)
    service.watch()                                       # follows the registry from now on
    talk = service.create("ann")
    turn = service.say("ann", talk.id, None, "Hello", ReplySettings())
    for text in turn: …
    service.rate("ann", turn.done().id, Rating(thumb=1))

Every method takes the user; what belongs to somebody else is `NotFound`. Nothing that was said is ever changed: another
wording is another child of the same parent, another reply another child of the same turn. What a guardrail blocks is no
error: the turn's reply is then the safe reply, with `blocked` True. On a full disk replies are given all the same, and
`Turn.kept` is False.
"""

import logging
import random
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.chat.ab_test import Router
from rlhf.chat.engine import Engine
from rlhf.chat.feedback import Duel, FeedbackStore, NotFound, Rating, StoredConversation, StoredMessage
from rlhf.chat.guardrails import Guardrails
from rlhf.chat.records import ReplySettings
from rlhf.chat.serving.answering import Answering
from rlhf.chat.serving.arena import Arena
from rlhf.chat.serving.attempt import Attempt, NoDuel
from rlhf.chat.serving.choosing import Choosing
from rlhf.chat.serving.deck import Deck
from rlhf.chat.serving.duels import Duels, DuelTurn, Offer, Refused
from rlhf.chat.serving.health import Health
from rlhf.chat.serving.keeping import Keeper
from rlhf.chat.serving.once import Key, Once
from rlhf.chat.serving.outcomes import Outcomes
from rlhf.chat.serving.replies import Replies, TooFast
from rlhf.chat.serving.scorer import Scorer
from rlhf.chat.serving.turns import Turn
from rlhf.chat.serving.versions import Serving
from rlhf.chat.store.records import Choice
from rlhf.config import Config
from rlhf.records import Conversation, Prompt
from rlhf.registry import Registry

__all__ = ["ChatService", "ConversationView", "DuelResult", "NoDuel", "Refused", "TooFast"]

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks at the registry."""
SAMPLED = 0.7
"""Temperature of duels where the configuration says 0: two greedy answers of one version never differ."""


@dataclass(frozen=True)
class ConversationView:
    """A conversation, all of its messages as a tree, and what its user thinks of them."""

    conversation: StoredConversation
    messages: list[StoredMessage]
    ratings: dict[str, Rating]


@dataclass(frozen=True)
class DuelResult:
    """A duel after the vote: now the names."""

    duel: Duel
    left_version: str
    right_version: str


class ChatService:
    """See the module.

    Args:
        run_folder: DIR, as `--output` gives it.
        config: of everything.
        engine: makes the replies; versions that are missing in it are loaded.
        store: keeps what is said and judged.
        registry: says which versions answer.
        guardrails: hold back what is unsafe.
        scorer: gives replies their rewards; None: none do, and all duels are on random prompts.
        prompts: to duel on.

    Raises:
        UserError: neither the live version nor the SFT version can be loaded.
    """

    def __init__(
        self,
        run_folder: Path,
        config: Config,
        engine: Engine,
        store: FeedbackStore,
        registry: Registry,
        guardrails: Guardrails,
        scorer: Scorer | None = None,
        prompts: Sequence[Prompt] = (),
    ) -> None:
        self.run_folder, self.config, self.engine, self.store, self.registry = (
            run_folder, config, engine, store, registry,
        )  # fmt: skip
        self.guardrails, self.scorer = guardrails, scorer
        if scorer:
            scorer.busy = lambda: engine.stats().active > 0
        rng = random.Random(secrets.randbits(64))  # another one at each start: choices must not repeat
        self.keeper, self.outcomes, self._once = Keeper(store), Outcomes(store), Once(store)
        self.answering = Answering(engine, self.keeper, guardrails, scorer, config.chat.system, config.serve.timeout_s)
        self.serving = Serving(registry, self.answering, self.outcomes, config.routing)
        router = Router(config.routing, rng.getrandbits(32))
        self.choosing = Choosing(self.serving, router, self.keeper, self.outcomes)
        self.replies = Replies(self.answering, self.choosing)
        duels = Duels(self.answering, lambda: self.serving.arms, rng)
        sampled = ReplySettings(temperature=config.chat.temperature or SAMPLED, top_p=config.chat.top_p)
        self.deck = Deck(prompts, duels, sampled, config.serve, rng)
        self.serving.on_change = self.deck.clear
        self.arena = Arena(duels, self.deck, self.replies)
        self._health = Health(engine, lambda: self.serving.live, config.serve.timeout_s)
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    # --- conversations ------------------------------------------------------------------------------------------

    def conversations(self, user: str) -> list[StoredConversation]:
        """Newest first."""
        return self.keeper.conversations(user)

    def create(self, user: str, title: str = "", key: str | None = None) -> StoredConversation:
        """An empty conversation; without a title, what is said first becomes it."""
        return self.keeper.new_conversation(user, title, key=key)

    def conversation(self, user: str, id: str) -> ConversationView:
        """One with all that was said in it."""
        talk = self.replies.owned(user, id)
        ratings = {} if self.keeper.is_in_memory(id) else self.store.ratings(id, user)
        return ConversationView(talk, self.keeper.messages(id), ratings)

    def rename(self, user: str, id: str, title: str) -> None:
        """Give it another title."""
        self.replies.owned(user, id)
        self.keeper.name(id, title)

    def hide(self, user: str, id: str) -> None:
        """Take it off the list; nothing is deleted."""
        self.replies.owned(user, id)
        self.keeper.hide(id)

    # --- replies ------------------------------------------------------------------------------------------------

    def say(
        self,
        user: str,
        conversation: str,
        parent: str | None,
        content: str,
        settings: ReplySettings,
        key: str | None = None,
    ) -> Turn:
        """Say something, and have it answered.

        Args:
            parent: the reply that it follows; None at the beginning. To edit a turn, say it again to the same parent.
            key: a request sent again with the same key joins the first one; `Turn.close` when you have read enough.

        Raises:
            NotFound, KeyReused, QueueFull, TooFast, PromptTooLong, UserError: nothing was stored.
        """
        request = ("say", conversation, parent, content, settings)
        return self._once.of(
            user, key, request, lambda _: self.replies.say(user, conversation, parent, content, settings, key)
        )

    def regenerate(self, user: str, message_id: str, settings: ReplySettings, key: str | None = None) -> Turn:
        """Another reply to a user's turn, given by itself or by one of its replies. Raises as `say`."""
        request = ("regenerate", message_id, settings)
        return self._once.of(
            user, key, request, lambda key: self.replies.regenerate(user, message_id, settings, key), self.replies.given
        )

    def complete(
        self,
        user: str,
        messages: Conversation,
        version: str | None,
        settings: ReplySettings,
        key: str | None = None,
    ) -> Turn:
        """Answer a conversation that a program holds itself. Raises as `say`.

        Args:
            version: its name; `replies.LIVE`: the live one; None: routing chooses.
        """
        request = ("complete", messages, version, settings)
        return self._once.of(
            user, key, request, lambda key: self.replies.complete(user, messages, version, settings, key),
            self.replies.given,
        )  # fmt: skip

    def stop(self, user: str, turn_id: str) -> bool:
        """Stop a reply or a duel, in the engine too; False where it has ended already."""
        turn = self.answering.running.get(turn_id)
        duel = self.arena.running.get(turn_id)
        owner = turn.user if turn else duel.left.user if duel else user
        if owner != user:
            raise NotFound("turn", turn_id)
        return turn.cancel() if turn else duel.cancel() if duel else False

    # --- judgements ---------------------------------------------------------------------------------------------

    def rate(self, user: str, message_id: str, rating: Rating, key: str | None = None) -> Rating:
        """Judge a reply, in place of an earlier judgement.

        Raises:
            Refused: a guardrail blocks the correction, from which a model would learn.
            NotFound, StoreFull, StoreBusy: nothing was stored.
        """
        self.replies.owned_message(user, message_id)
        if block := self.guardrails.check_message(rating.correction or ""):
            self.answering.log("blocked", side="correction", reason=block.reason, user=user, message=message_id)
            raise Refused(block)
        self.keeper.need_kept(message_id)
        return self.store.rate(user, message_id, rating, key=key)

    def unrate(self, user: str, message_id: str, key: str | None = None) -> None:
        """Take a judgement back."""
        self.replies.owned_message(user, message_id)
        self.keeper.need_kept(message_id)
        self.store.unrate(user, message_id, key=key)

    def next_duel_prompt(self, user: str, other: bool = False) -> Offer:
        """The prompt of this user's next duel, and how it was chosen; the same until that duel begins.

        Args:
            other: in place of the one that was offered.
        """
        return self.arena.next_prompt(user, other)

    def duel(
        self,
        user: str,
        prompt: str | None,
        settings: ReplySettings,
        key: str | None = None,
        left: Callable[[], bool] = lambda: False,
    ) -> DuelTurn:
        """Two answers side by side, which differ; to a prompt of the user's own, or None: to the next one.

        Args:
            settings: of which the length and the stop texts count: who chose the seed would know whose answer is whose.
            left: whether nobody waits for it any more.

        Raises:
            Refused: a guardrail blocks the prompt.
            NoDuel: the answers are equal every time, or it took too long to find two that are not.
            Left: nobody waits any more.
            As `say`.
        """

        def begin(noted: Key | None) -> DuelTurn:
            attempt = Attempt(lambda: self._stopping.is_set() or left(), self.config.serve.timeout_s)
            return self.arena.begin(user, prompt, settings, attempt, noted)

        return self._once.of(user, key, ("duel", prompt, settings), begin, self.arena.duels.given)

    def vote(
        self, user: str, duel_id: str, choice: Choice, latency_ms: int | None = None, key: str | None = None
    ) -> DuelResult:
        """Judge a duel; the versions' names come with the result."""
        duel = self.store.vote(user, duel_id, choice, latency_ms, key=key)
        left, right = (self.store.message(side).version or "" for side in (duel.left, duel.right))
        return DuelResult(duel, left, right)

    def unvote(self, user: str, duel_id: str, key: str | None = None) -> Duel:
        """Take a vote back."""
        return self.store.unvote(user, duel_id, key=key)

    # --- the server ---------------------------------------------------------------------------------------------

    def check_versions(self) -> None:
        """Pick up changes of the registry; fall back, promote and retire as `rlhf.chat.serving.versions` says."""
        self.serving.check()

    def watch(self, every_s: float = LOOK_SECONDS) -> None:
        """Check the versions every so often, on a thread, until `close`."""

        def look() -> None:
            while not self._stopping.wait(every_s):
                try:
                    self.check_versions()
                except Exception:
                    log.exception("the versions could not be checked")

        self._watcher = threading.Thread(target=look, name="versions", daemon=True)
        self._watcher.start()

    def health(self) -> dict[str, Any]:
        """Generate one token, or say how that went within the last second. Raises as `Health.seconds`."""
        version, seconds = self._health.seconds()
        return {"status": "ok", "version": version, "seconds": seconds}

    def close(self) -> None:
        """Stop what runs, and store it; engine and store stay open for whoever made them."""
        self._stopping.set()
        self.answering.close()
        self.deck.close()
        self.replies.close()
        if self._watcher:
            self._watcher.join()
        if self.scorer:
            self.scorer.close()
