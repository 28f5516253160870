"""Which versions answer: follows the registry while the server runs, and steps in where a version misbehaves.

    serving.check()                       # every few seconds: loads, unloads, falls back, promotes
    serving.arms                          # ("ppo", "v1"): the live version first, then its challengers
    serving.stands_for("v0")              # who answers in a conversation that was v0's

A challenger that cannot be loaded is retired. One whose replies go wrong too often (`routing.fallback_after`,
`fallback_rate`) is retired, too, and the SFT version takes its place in the conversations that it had, or the live one
where there is no SFT version. With `routing.automatic` a live version whose replies go wrong too often is rolled back,
once: if its predecessor does no better the fault is elsewhere, and nothing more happens until somebody promotes a
version. Where the live version cannot be loaded, the SFT version answers, and the log says so.
"""

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from rlhf.chat.ab_test import Decision, Verdict, misbehaves, verdict
from rlhf.chat.feedback import StoredMessage
from rlhf.chat.serving.answering import REMEMBERED, Answering
from rlhf.chat.serving.following import Kept
from rlhf.chat.serving.outcomes import Outcomes
from rlhf.chat.settings import RoutingSection
from rlhf.errors import UserError
from rlhf.registry import FALLBACK, Registry, Version

log = logging.getLogger(__name__)


class Term(NamedTuple):
    """How a version came to be live: a line `live` of the event log."""

    version: str
    since: float = 0.0
    """Unix seconds; 0 for the first version of a store, which was live before anybody was asked."""
    rolled_back: bool = False
    """Whether the server itself put it in the place of one that misbehaved."""


class Serving:
    """The versions that answer.

    Args:
        registry: says which should.
        answering: its engine loads them; it knows which are at work, and how they behaved.
        outcomes: what people judged.
        settings: of routing.

    Raises:
        UserError: neither the live version nor the SFT version can be loaded.
    """

    def __init__(self, registry: Registry, answering: Answering, outcomes: Outcomes, settings: RoutingSection) -> None:
        self.registry, self.answering, self.outcomes, self.settings = registry, answering, outcomes, settings
        self.engine = answering.engine
        self.arms: tuple[str, ...] = ()
        self.since = 0.0
        """When the oldest challenger came, Unix seconds."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after the arms have changed."""
        self._came: dict[str, float] = {}
        self._term = Term("")
        self._substitutes: dict[str, str] = {}
        self._verdicts: defaultdict[str, Kept[Verdict]] = defaultdict(Kept)
        """Of each challenger: the test is made anew only where something was judged."""
        self._stamp: Any = None
        self._trouble = ""
        self._stuck: set[str] = set()
        """Live versions that misbehave, and that nothing could take the place of."""
        self._lock = threading.Lock()
        self._follow()

    @property
    def live(self) -> str:
        """The version that answers where there is no choice."""
        return self.arms[0]

    def stands_for(self, version: str) -> str:
        """Who answers in a conversation of this version: itself while it serves, else the SFT or the live version."""
        if version in self.arms or version in self._substitutes.values():
            return version
        return self._substitutes.get(version, self.live)

    def check(self) -> None:
        """Pick up what has changed in the registry, and judge the versions."""
        with self._lock:
            try:
                if self.registry.stamp() != self._stamp:
                    self._follow()
                challengers = self.arms[1:]
                if self._rolled_back() or any(self._misbehaved(name) or self._decided(name) for name in challengers):
                    self._follow()
                self._unload()
                self._trouble = ""
            except UserError as error:  # the registry: what answers goes on answering
                if str(error) != self._trouble:  # it is tried again and again
                    log.error("the versions cannot be checked: %s", error)
                self._trouble = str(error)

    def _follow(self) -> None:
        """Load what the registry says should answer. What fails here is tried again at the next look."""
        stamp = self.registry.stamp()
        live = self.registry.live()
        if not self._load(live):
            live = self._instead_of(live)
        challengers = [version for version in self.registry.candidates() if version.name != live.name]
        loaded = [
            version for version in challengers if self._load(version) or self._put_down(version, "cannot be loaded")
        ]
        self._came = {version.name: _time(version) for version in loaded}
        self.since = min(self._came.values(), default=0.0)
        arms = (live.name, *(version.name for version in loaded))
        if self.arms and live.name != self.live:  # as the live version it begins anew, whatever it did before
            self.answering.conduct[live.name].clear()
        self._term = self._begun(live.name)
        if self.answering.scorer:
            self.answering.scorer.use(self.registry.reward_path(live))
        for version in loaded:
            self._recall(version)
        if arms != self.arms:
            self.arms = arms
            log.info("answering: %s", ", ".join(arms))
            self.on_change()
        self._stamp = stamp

    def _begun(self, live: str, rolled_back: bool = False) -> Term:
        """Since when a version is live, after a restart, too; noted where it is so from now on."""
        last = self.answering.keeper.store.events("live", limit=1)
        known = Term(**last[0].data) if last else self._term
        if known.version == live:
            return known
        term = Term(live, time.time() if last else 0.0, rolled_back)
        self.answering.log("live", **term._asdict())
        return term

    def _load(self, version: Version) -> bool:
        if version.name in self.engine.versions:
            return True
        try:
            self.engine.load(version.name, self.registry.path(version))
        except Exception as error:  # whatever a broken folder makes the libraries raise
            log.error("version %s cannot be loaded: %s", version.name, error)
            self.answering.log("load_failed", version=version.name, error=str(error)[:500])
            return False
        return True

    def _instead_of(self, live: Version) -> Version:
        """The SFT version, where the live one cannot be loaded."""
        fallback = self._sft()
        if fallback is None or fallback.name == live.name or not self._load(fallback):
            if self.arms:
                return self.registry.get(self.live)  # what has answered so far goes on
            raise UserError(
                "No version can be loaded.",
                found=f"neither {live.name} nor {FALLBACK}",
                remedy="the lines above say why; promote another version: --phase versions promote NAME",
            )
        log.critical("THE LIVE VERSION %s CANNOT BE LOADED; %s answers in its place", live.name, fallback.name)
        self.answering.log("fallback", version=live.name, instead=fallback.name, reason="cannot be loaded")
        return fallback

    def _sft(self) -> Version | None:
        """The version that answers where another one fails; not every run has one."""
        return next((version for version in self.registry.versions() if version.name == FALLBACK), None)

    def _put_down(self, version: Version, reason: str, *, to_sft: bool = False) -> bool:
        """Retire a challenger; False, since it does not answer any more. Who takes its place comes after that."""
        self.registry.retire(version.name)
        log.error("challenger %s is retired: it %s", version.name, reason)
        instead = self._sft() if to_sft else None
        if instead and self._load(instead):
            self._substitutes[version.name] = instead.name
        else:
            instead = self.registry.live()
        self.answering.log("fallback", version=version.name, instead=instead.name, reason=reason)
        return False

    def _misbehaved(self, name: str) -> bool:
        """Retire a challenger whose replies go wrong too often; the SFT version takes its place, or the live one."""
        if not misbehaves(list(self.answering.conduct[name]), self.settings):
            return False
        self._put_down(self.registry.get(name), "misbehaves", to_sft=True)
        return True

    def _rolled_back(self) -> bool:
        """Where the settings allow it, put the version before the live one, or SFT, in place of one that misbehaves.

        The SFT version is the last resort, and stays; so does what came by a rollback. Replies count from when a
        version became live, or from the start of this server: so who promotes a version again gives it another chance.
        """
        name = self.live
        if not self.settings.automatic or name == FALLBACK or self._term.rolled_back:
            return False
        if not misbehaves(list(self.answering.conduct[name]), self.settings) or self.registry.live().name != name:
            return False
        try:
            instead = self._before(name)
        except UserError as error:
            if name not in self._stuck:  # it is tried again and again
                log.critical("THE LIVE VERSION %s MISBEHAVES, and nothing can take its place: %s", name, error)
            self._stuck.add(name)
            return False
        self._begun(instead.name, rolled_back=True)
        log.critical("THE LIVE VERSION %s MISBEHAVES; it is retired, and %s is live in its place", name, instead.name)
        self.answering.log("fallback", version=name, instead=instead.name, reason="misbehaves")
        return True

    def _before(self, name: str) -> Version:
        """Make the version live that was so before this one; else, or where that one is not whole, SFT."""
        try:
            return self.registry.rollback(of=name)
        except UserError:
            if self._sft() is None or self.registry.live().name != name:
                raise
            return self.registry.promote(FALLBACK)

    def verdict(self, name: str) -> Verdict:
        """What the test says of a challenger. What it has once decided stays, whatever has been taken back since."""
        live, since = self.live, self._met(name)
        found = self._verdicts[name].of(
            (self.outcomes.number(), live, since),
            lambda: verdict(self.outcomes.since(self.since), live, name, self.settings.alpha, since=since),
        )
        return replace(found, decision=self._noted(name) or found.decision)

    def _met(self, name: str) -> float:
        """Since when a challenger and the live version have answered side by side, Unix seconds."""
        return max(self._came.get(name, math.inf), self._term.since)

    def _noted(self, name: str) -> Decision | None:
        """What the log says that the test decided."""
        for event in self.answering.keeper.store.events("decided", since=self._met(name)):
            if (event.data["version"], event.data["against"]) == (name, self.live):
                decision: Decision = event.data["decision"]
                return decision
        return None

    def _decided(self, name: str) -> bool:
        """Note what the test decides; promote or retire a challenger where the settings allow it."""
        found = self.verdict(name)
        if found.decision == "continue":
            return False
        about = {"version": name, "against": self.live, "p_value": found.p_value, "difference": found.difference}
        if not self._noted(name):
            self.answering.log("decided", decision=found.decision, **about)
        if not self.settings.automatic:
            return False
        if found.decision == "promote":
            self.registry.promote(name)
        else:
            self.registry.retire(name)
        self.answering.log("promoted" if found.decision == "promote" else "retired", **about)
        log.info("the test has decided: %s %s", found.decision, name)
        return True

    def _unload(self) -> None:
        """Free what does not answer any more and has nothing left to finish."""
        needed = {*self.arms, *self._substitutes.values(), *self.engine.in_use()}
        retired = {version.name for version in self.registry.versions() if version.state == "retired"}
        for name in self.engine.versions:
            if name in retired - needed:
                self.engine.unload(name)

    def _recall(self, version: Version) -> None:
        """How a challenger behaved before this server was started."""
        conduct = self.answering.conduct[version.name]
        if not conduct:
            replies = self.answering.keeper.store.replies(since=_time(version), limit=REMEMBERED)
            conduct.extend(_bad(reply) for reply in replies if _counts(reply, version.name))


def _bad(reply: StoredMessage) -> bool:
    return reply.blocked or reply.finish_reason == "error" or bool(reply.settings.get("timed_out"))


def _counts(reply: StoredMessage, version: str) -> bool:
    """Whether a reply says something of its version: not where the reader stopped it."""
    return reply.version == version and (reply.finish_reason != "cancelled" or _bad(reply))


def _time(version: Version) -> float:
    """Unix seconds."""
    return datetime.fromisoformat(version.created).timestamp() if version.created else 0.0
