"""What people's judgements say of the versions, read from the store: what routing learns from, and the test compares.

    outcomes = Outcomes(store)
    outcomes.thumbs(time)                 # one outcome a judged, routed reply: for routing
    outcomes.since(time)                  # those, and two a duel between versions: for the test
    outcomes.results()                    # all duels between versions that count: what the standing is made of
    outcomes.left_side()                  # how often the left answer won: for the monitor

A thumb on a reply whose version routing had chosen is an outcome, 1 or 0; thumbs of one conversation form one group,
since they are not independent. A duel between two versions is one outcome for each, in one group: 1 and 0, or a half
each. What nobody judged is no outcome; nor is "both bad", which says nothing of who is better; nor what may not train
because of what it is (`rlhf.chat.store.judgements`): spam, votes that were not blind, blocked turns, cut-off replies;
nor what was imported, whose versions were chosen elsewhere; nor duels whose replies were picked by their rewards
(`Duel.selected`), in which the version that the reward model overrates is the worse one. A conversation that its owner
has hidden goes on counting: what people hide may depend on who answered.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rlhf.chat.ab_test import Outcome, Standing, standings
from rlhf.chat.feedback import Duel, Event, FeedbackStore, Judged
from rlhf.chat.serving.following import Followed, Kept
from rlhf.chat.store.judgements import IMPORTED, one_sided, unfair, unfit

SCORES = {"left": 1.0, "tie": 0.5, "right": 0.0}
"""Choice → what the left side gets."""


class Result(NamedTuple):
    """How a duel between two versions ended."""

    left: str
    right: str
    score: float
    """What the left one got: 1, 1/2 or 0."""


class LeftSide(NamedTuple):
    """How the left answer did, whatever versions met: the sides are drawn by chance."""

    wins: int
    losses: int


class Thumb(NamedTuple):
    """What a rating says of a version. None where it has no thumb, or routing did not choose the version."""

    reply: str
    conversation: str
    version: str | None
    value: float | None
    uniform: bool
    time: float


class Vote(NamedTuple):
    """A judged duel."""

    duel: Duel
    versions: tuple[str | None, str | None]
    """Left and right."""
    fair: bool
    """Whether it says something of the two replies, as far as they and the vote itself show."""


class Outcomes:
    """The outcomes of a store, as they are whenever they are asked for; for any thread.

    Args:
        store: what people judged.
    """

    def __init__(self, store: FeedbackStore) -> None:
        self.store = store
        self._ratings = Followed(store, ("rate", "unrate"), self._every_rating, self._one_rating)
        self._votes = Followed(store, ("vote", "unvote"), self._every_vote, self._one_vote)
        self._begun: dict[str, float | None] = {}
        self._thumbs, self._all = Kept[list[Outcome]](), Kept[list[Outcome]]()
        self._fair, self._results = Kept[list[Vote]](), Kept[list[tuple[Duel, Result]]]()
        self._standings, self._counts = Kept[list[Standing]](), Kept[dict[str, int]]()

    def number(self) -> tuple[int, int]:
        """Another one whenever something was judged or taken back since it was last asked for."""
        return self._ratings.look().number, self._votes.look().number

    def thumbs(self, begin: float) -> Sequence[Outcome]:
        """Thumbs of the conversations that began since a time, in Unix seconds; the oldest first."""
        number, ratings = self._ratings.look()
        return self._thumbs.of((number, begin), lambda: list(self._of_thumbs(ratings, begin)))

    def since(self, begin: float) -> Sequence[Outcome]:
        """Outcomes of the conversations and duels that began since a time, the oldest first."""

        def found() -> list[Outcome]:
            return sorted([*self.thumbs(begin), *self._of_duels(begin)], key=lambda outcome: outcome.time)

        return self._all.of((*self.number(), begin), found)

    def results(self) -> Sequence[Result]:
        """Of all duels between two versions that count, the oldest first."""
        return [result for _, result in self._compared()]

    def standings(self) -> Sequence[Standing]:
        """How the versions stand by these duels, the strongest first. A thousand resamples take a moment."""
        return self._standings.of(self._votes.look().number, lambda: standings(self.results()))

    def left_side(self) -> LeftSide:
        """Of all fair duels, also those of a version with itself and those that were picked by their rewards."""
        choices = [vote.duel.choice for vote in self._fair_votes()]
        return LeftSide(choices.count("left"), choices.count("right"))

    def counts(self) -> dict[str, int]:
        """How many judgements of each kind there are, whether they count or not (`FeedbackStore.judged_counts`)."""
        return self._counts.of(self.number(), self.store.judged_counts)

    # --- thumbs -----------------------------------------------------------------------------------------------------

    def _of_thumbs(self, ratings: Sequence[Thumb], begin: float) -> Iterator[Outcome]:
        for thumb in ratings:
            if thumb.value is None or thumb.version is None or thumb.time < begin:
                continue
            begun = self._beginning(thumb)
            if begun is not None and begun >= begin:
                talk = thumb.conversation
                yield Outcome(thumb.version, thumb.value, thumb.uniform, thumb.time, group=talk, begun=begun)

    def _beginning(self, thumb: Thumb) -> float | None:
        """When its conversation began; None for a reply whose judgement does not count. Neither ever changes."""
        if thumb.reply not in self._begun:
            *turns, judged = self.store.path(thumb.reply)
            counts = unfit(turns, judged) is None
            self._begun[thumb.reply] = self.store.conversation(thumb.conversation).created if counts else None
        return self._begun[thumb.reply]

    def _every_rating(self) -> Iterator[tuple[tuple[str, str], Thumb]]:
        for judged in self.store.rated():
            yield (judged.user, judged.message.id), _thumb(judged)

    def _one_rating(self, line: Event) -> tuple[tuple[str, str], Thumb | None]:
        key = user, message = line.data["user"], line.data["message"]
        judged = self.store.judged(user, message)
        return key, _thumb(judged) if judged else None

    # --- duels ------------------------------------------------------------------------------------------------------

    def _of_duels(self, begin: float) -> Iterator[Outcome]:
        for duel, (left, right, score) in self._compared():
            if duel.created >= begin:
                at, begun = duel.voted or duel.created, duel.created
                for version, value in ((left, score), (right, 1 - score)):
                    yield Outcome(version, value, uniform=True, time=at, group=duel.id, begun=begun, duel=True)

    def _compared(self) -> Sequence[tuple[Duel, Result]]:
        """The duels that say which of two versions is better."""
        return self._results.of(self._votes.look().number, lambda: list(_results(self._fair_votes())))

    def _fair_votes(self) -> Sequence[Vote]:
        number, votes = self._votes.look()
        return self._fair.of(number, lambda: _fair(votes))

    def _every_vote(self) -> Iterator[tuple[str, Vote]]:
        for duel in self.store.duels(voted=True):
            yield duel.id, self._vote(duel)

    def _one_vote(self, line: Event) -> tuple[str, Vote | None]:
        duel = self.store.duel(line.data["duel"])
        return duel.id, self._vote(duel) if duel.choice else None

    def _vote(self, duel: Duel) -> Vote:
        if duel.user == IMPORTED:  # thousands, perhaps, of which none counts
            return Vote(duel, (None, None), False)
        left, right = self.store.message(duel.left), self.store.message(duel.right)
        fair = not (unfair(duel, left, right) or unfit(self.store.path(duel.prompt_message), left, right))
        return Vote(duel, (left.version, right.version), fair)


def _thumb(judged: Judged) -> Thumb:
    message, thumb = judged.message, judged.rating.thumb
    value = None if thumb is None or message.routed is None else float(thumb > 0)
    return Thumb(message.id, message.conversation, message.version, value, message.uniform, judged.time)


def _fair(votes: Sequence[Vote]) -> list[Vote]:
    """Those that are fair, each by itself and in the row of its person's votes."""
    runs = one_sided([vote.duel for vote in votes])
    return [vote for vote in votes if vote.fair and vote.duel.id not in runs]


def _results(votes: Sequence[Vote]) -> Iterator[tuple[Duel, Result]]:
    for duel, (left, right), _ in votes:
        score = SCORES.get(duel.choice or "")
        if score is not None and left is not None and right is not None and left != right and not duel.selected:
            yield duel, Result(left, right, score)
