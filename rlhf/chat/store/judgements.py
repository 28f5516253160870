"""Which judgements may train, and why the others may not.

found = collect(store)
found.pairs, found.thumbs        # one of each, in the order in which they were given
found.left_out                   # reason → how many

Nothing is deleted from the store, and all of it is looked at each time: what is left out today may count tomorrow,
and what counts today may be taken back. A judgement is left out where

- it prefers nothing: a tie, both bad, a rating without thumb and correction;
- its conversation is hidden or holds a blocked or an empty turn;
- the judged reply was cut off (cancelled, error), or is preferred though its length limit cut it: training would teach
  to end there;
- the names of the versions were known: a vote that was given after they had been told, in place of another;
- it is spam: faster than anybody reads (`least_ms`), or one of `RUN` votes in a row for the same side;
- it contradicts others: of one person who judged the same texts both ways nothing counts; of several, the majority;
- it says again what an earlier one said.

What was imported is no single person's: it is no spam, and each row counts as another person.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeVar

from rlhf.chat.feedback import Duel, FeedbackStore, Judged, StoredMessage
from rlhf.records import Conversation, Message

LEAST_MS = 300
"""Nobody sees two texts and answers sooner: choosing between two signs alone takes about as long."""
MS_A_CHARACTER = 2
"""500 characters a second, some twenty times the speed of silent reading (238 words a minute: Brysbaert 2019)."""
ENOUGH_MS = 3000
"""A vote that took so long is never too fast: the beginning of a long reply may be enough to judge it."""
RUN = 24
"""Votes in a row for one side. Sides are random: a million honest votes hold 0.06 such runs."""

IMPORTED = "(import)"
"""The user to whom imported judgements belong; no client can have this name."""

CUT = ("cancelled", "error")


@dataclass(frozen=True)
class Pair:
    """A reply that somebody preferred to another, or wrote in its place."""

    id: str
    """Of the duel, or of the reply that was corrected."""
    kind: str
    """"duel" or "correction"."""
    user: str
    time: float
    prompt: Conversation
    chosen: str
    rejected: str
    chosen_version: str | None = None
    rejected_version: str | None = None
    chosen_side: str | None = None
    latency_ms: int | None = None

    @property
    def question(self) -> object:
        """What was judged: the same for whoever judges these texts, whatever comes of it."""
        return self.prompt, frozenset((self.chosen, self.rejected))

    @property
    def answer(self) -> object:
        return self.chosen


@dataclass(frozen=True)
class Thumb:
    """A reply that somebody liked, or did not."""

    id: str
    """Of the reply."""
    user: str
    time: float
    prompt: Conversation
    completion: str
    label: bool
    version: str | None = None

    @property
    def question(self) -> object:
        """What was judged."""
        return self.prompt, self.completion

    @property
    def answer(self) -> object:
        return self.label


Row = Pair | Thumb
Kept = TypeVar("Kept", Pair, Thumb)


@dataclass(frozen=True)
class Judgements:
    """What may train, and how many judgements may not, by reason."""

    pairs: list[Pair]
    thumbs: list[Thumb]
    left_out: Counter[str] = field(default_factory=Counter)


def collect(store: FeedbackStore) -> Judgements:
    """All judgements that may train."""
    with store.snapshot():
        looked_at = [*_of_duels(store), *(found for one in store.rated() for found in _of_rating(store, one))]
    left_out = Counter(row for row in looked_at if isinstance(row, str))
    pairs = _settled((row for row in looked_at if isinstance(row, Pair)), left_out)
    thumbs = _settled((row for row in looked_at if isinstance(row, Thumb)), left_out)
    return Judgements(pairs, thumbs, left_out)


def least_ms(*replies: str) -> int:
    """The shortest time in which somebody may have looked at these replies, in milliseconds."""
    return min(ENOUGH_MS, LEAST_MS + MS_A_CHARACTER * sum(map(len, replies)))


Found = Row | str
"""What it is, or why it is left out."""


def _of_duels(store: FeedbackStore) -> Iterator[Found]:
    votes = store.duels(voted=True)
    runs = one_sided(votes)
    for duel in votes:
        if duel.winner is None:
            yield {"tie": "tie", "both_bad": "both bad"}[duel.choice or ""]
            continue
        left, right = store.message(duel.left), store.message(duel.right)
        turns = store.path(duel.prompt_message)
        better, worse = (left, right) if duel.choice == "left" else (right, left)
        reason = _unfit(store, turns, worse, preferred=better)
        reason = reason or unfair(duel, left, right)
        if reason is None and duel.id in runs:
            reason = f"{RUN} votes or more in a row for the same side"
        yield reason or _pair_of(duel, turns, better, worse)


def unfair(duel: Duel, left: StoredMessage, right: StoredMessage) -> str | None:
    """Why a vote says nothing of the two replies, whatever it was."""
    texts = left.content.strip(), right.content.strip()
    if texts[0] == texts[1]:
        return "equal replies"
    if not duel.blind:
        return "given when the names were known"
    too_fast = duel.latency_ms is not None and duel.latency_ms < least_ms(*texts)
    return "faster than anybody reads" if too_fast else None


def _pair_of(duel: Duel, turns: Sequence[StoredMessage], better: StoredMessage, worse: StoredMessage) -> Pair:
    return Pair(
        id=duel.id,
        kind="duel",
        user=duel.user,
        time=duel.voted or duel.created,
        prompt=_prompt(turns, better),
        chosen=better.content.strip(),
        rejected=worse.content.strip(),
        chosen_version=better.version,
        rejected_version=worse.version,
        chosen_side=duel.choice,
        latency_ms=duel.latency_ms,
    )


def _of_rating(store: FeedbackStore, judged: Judged) -> Iterator[Found]:
    """A thumb and a correction are two judgements."""
    rating, reply = judged.rating, judged.message
    correction = (rating.correction or "").strip()
    if rating.thumb is None and not correction:
        yield "neither thumb nor correction"
        return
    turns = store.path(reply.id)[:-1]
    prompt, text = _prompt(turns, reply) if turns else (), reply.content.strip()
    if rating.thumb is not None:
        liked = rating.thumb == 1
        reason = _unfit(store, turns, reply, preferred=reply if liked else None)
        yield reason or Thumb(reply.id, judged.user, judged.time, prompt, text, liked, reply.version)
    if correction:
        reason = _unfit(store, turns, reply) or ("equal replies" if correction == text else None)
        yield reason or Pair(
            reply.id, "correction", judged.user, judged.time, prompt, correction, text, None, reply.version
        )


def _unfit(
    store: FeedbackStore, turns: Sequence[StoredMessage], reply: StoredMessage, preferred: StoredMessage | None = None
) -> str | None:
    """Why a judgement of one or two replies to these turns may not train."""
    if store.conversation(reply.conversation).hidden:
        return "hidden conversation"
    reason = unfit(turns, *([reply, preferred] if preferred else [reply]))
    if reason is None and preferred and preferred.finish_reason == "length":
        return "preferred reply cut at its length limit"
    return reason


def unfit(turns: Sequence[StoredMessage], *replies: StoredMessage) -> str | None:
    """Why a judgement of these replies to these turns cannot count, from what they are."""
    if any(turn.blocked for turn in [*turns, *replies]):
        return "blocked turn"
    if any(reply.finish_reason in CUT for reply in replies):
        return "cut-off reply"
    return None if turns and all(turn.content.strip() for turn in [*turns, *replies]) else "empty turn"


def _prompt(turns: Sequence[StoredMessage], reply: StoredMessage) -> Conversation:
    """What the model was shown: the turns, under the system turn of the time, which is noted with the reply."""
    said = tuple(Message(turn.role, turn.content.strip()) for turn in turns)
    system = str(reply.settings.get("system", "")).strip()
    return (Message("system", system), *said) if system and turns[0].role != "system" else said


def one_sided(votes: Sequence[Duel]) -> set[str]:
    """Ids of the duels in which one person gave one side again and again."""
    found: set[str] = set()
    by_user: dict[str, list[Duel]] = defaultdict(list)
    for duel in votes:
        if duel.user != IMPORTED:
            by_user[duel.user].append(duel)
    for theirs in by_user.values():
        for choice, group in groupby(theirs, key=lambda duel: duel.choice):
            run = list(group)
            if choice in ("left", "right") and len(run) >= RUN:
                found |= {duel.id for duel in run}
    return found


def _settled(rows: Iterable[Kept], left_out: Counter[str]) -> list[Kept]:
    """One row for each thing that was judged, in the order of time; what is left out is counted."""
    by_question: dict[object, list[Kept]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.time):
        by_question[row.question].append(row)
    kept: list[Kept] = []
    for judged in by_question.values():
        agreeing = _majority(judged)
        kept += agreeing[:1]
        for reason, rest in (("contradictory", len(judged) - len(agreeing)), ("duplicate", len(agreeing[1:]))):
            if rest:
                left_out[reason] += rest
    return sorted(kept, key=lambda row: row.time)


def _majority(judged: list[Kept]) -> list[Kept]:
    """The rows that say what most people say; none where as many say the opposite."""
    said: dict[object, set[object]] = defaultdict(set)
    for row in judged:
        said[_person(row)].add(row.answer)
    steady = [row for row in judged if len(said[_person(row)]) == 1]
    people = Counter(answer for answers in said.values() if len(answers) == 1 for answer in answers).most_common(2)
    if not people or (len(people) > 1 and people[0][1] == people[1][1]):
        return []
    return [row for row in steady if row.answer == people[0][0]]


def _person(row: Row) -> object:
    return (row.user, row.id) if row.user == IMPORTED else row.user
