"""The feedback store: conversations, replies and what people make of them, in one SQLite file.

store = FeedbackStore(run_folder / FILE)
talk = store.new_conversation("ann")
store.add_message(StoredMessage("q1", talk.id, None, "user", "2+2?"))
store.add_message(StoredMessage("a1", talk.id, "q1", "assistant", "4", version="ppo", finish_reason="stop"))
store.rate("ann", "a1", Rating(thumb=1))           # on the disk when the call returns
store.unrate("ann", "a1")                          # gone from the ratings; both stand in the event log

All methods may be called from any thread, and several processes may use one file. A `key` makes a call safe to
repeat: the same user's same key gives what the first call gave, and changes nothing. One key is for one call.
What was said is in `talk.py`, transactions, keys and the log in `ledger.py`.
"""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace

from rlhf.chat.store.database import StoreBusy, StoreFull
from rlhf.chat.store.ledger import insert, log_event, one
from rlhf.chat.store.records import (
    Choice,
    ChosenBy,
    Duel,
    Event,
    Judged,
    KeyReused,
    Kind,
    NotFound,
    Rating,
    StoredConversation,
    StoredMessage,
    check_vote,
    new_id,
)
from rlhf.chat.store.talk import Talk, message_of

__all__ = [
    "FILE", "Choice", "ChosenBy", "Duel", "Event", "FeedbackStore", "Judged", "KeyReused", "Kind", "NotFound",
    "Rating", "StoreBusy", "StoreFull", "StoredConversation", "StoredMessage", "new_id",
]  # fmt: skip

FILE = "feedback.sqlite"
"""Name of the store in a run's folder."""

_RATING = [part.name for part in fields(Rating)]
_RATED = (
    f"SELECT m.*, {', '.join(f'r.{name} AS r_{name}' for name in _RATING)}, r.user AS r_user, r.time AS r_time "
    "FROM ratings r JOIN messages m ON m.id = r.message"
)
_DUEL = (
    "id, user, prompt_message, left_reply AS left, right_reply AS right, chosen_by, created, choice, "
    "latency_ms, voted, votes"
)
_SAID = (
    "SELECT count(*) AS conversations, count(DISTINCT user) AS users FROM conversations",
    "SELECT count(*) AS messages, total(role = 'assistant') AS replies FROM messages",
)
_JUDGED = (
    """SELECT count(*) AS ratings, total(thumb = 1) AS thumbs_up, total(thumb = -1) AS thumbs_down,
        total(helpful IS NOT NULL OR relevant IS NOT NULL OR correct IS NOT NULL OR safe IS NOT NULL) AS criteria,
        total(correction IS NOT NULL) AS corrections, total(comment IS NOT NULL) AS comments FROM ratings""",
    """SELECT total(choice IS NOT NULL) AS duels, total(choice = 'left') AS left_wins,
        total(choice = 'right') AS right_wins, total(choice = 'tie') AS ties, total(choice = 'both_bad') AS both_bad
        FROM duels""",
)
_LEFT = (
    "SELECT count(*) AS open_duels FROM duels WHERE choice IS NULL",
    """SELECT total(kind IN ('unrate', 'unvote')) AS undone, total(kind = 'blocked') AS blocked,
        total(kind = 'error') AS errors, total(kind = 'timeout') AS timeouts FROM events""",
)


class FeedbackStore(Talk):
    """Ratings and duels, on top of what was said. See the module, and `Ledger` for what is raised."""

    def rate(self, user: str, message_id: str, rating: Rating, key: str | None = None) -> Rating:
        """Note what a user thinks of a reply, in place of what they thought before; nothing at all takes that back."""

        def act(c: sqlite3.Connection) -> Rating:
            message = one(c, "message", message_id, "SELECT role FROM messages WHERE id = ?")
            if message["role"] != "assistant":
                raise NotFound("reply", message_id)
            if rating.empty:
                _unrate(c, user, message_id)
                return rating
            now = time.time()
            row = {"user": user, "message": message_id, "time": now, **asdict(rating)}
            changed = ", ".join(f"{name} = excluded.{name}" for name in ("time", *_RATING))
            insert(c, "ratings", row, f"ON CONFLICT (user, message) DO UPDATE SET {changed}")
            log_event(c, "rate", {"user": user, "message": message_id, **asdict(rating)}, now)
            return rating

        return self._once(user, key, ["rate", message_id, asdict(rating)], act, lambda kept: Rating(**kept))

    def unrate(self, user: str, message_id: str, key: str | None = None) -> None:
        """Take a rating back, if there is one. The event log keeps both."""

        def act(c: sqlite3.Connection) -> None:
            one(c, "message", message_id, "SELECT id FROM messages WHERE id = ?")
            _unrate(c, user, message_id)

        self._once(user, key, ["unrate", message_id], act, lambda kept: None)

    def rating(self, user: str, message_id: str) -> Rating | None:
        with self._db.reading() as c:
            row = c.execute("SELECT * FROM ratings WHERE user = ? AND message = ?", (user, message_id)).fetchone()
            return _rating(row) if row else None

    def ratings(self, conversation: str, user: str) -> dict[str, Rating]:
        """Message → what the user thinks of it."""
        with self._db.reading() as c:
            rows = c.execute(
                "SELECT r.* FROM ratings r JOIN messages m ON m.id = r.message WHERE m.conversation = ? AND r.user = ?",
                (conversation, user),
            )
            return {row["message"]: _rating(row) for row in rows}

    def rated(self, since: float = 0) -> list[Judged]:
        """All ratings that stand, given since a time, with what they are about; oldest first."""
        with self._db.reading() as c:
            rows = c.execute(f"{_RATED} WHERE r.time >= ? ORDER BY r.time, m.number, r.user", (since,))
            return [_judged(row) for row in rows]

    def judged(self, user: str, message_id: str) -> Judged | None:
        """What a user thinks of a reply, with the reply; None where they have said nothing."""
        with self._db.reading() as c:
            row = c.execute(f"{_RATED} WHERE r.user = ? AND r.message = ?", (user, message_id)).fetchone()
            return _judged(row) if row else None

    def open_duel(
        self,
        user: str,
        prompt_message: str,
        left: str,
        right: str,
        chosen_by: ChosenBy,
        key: str | None = None,
        id: str | None = None,
    ) -> Duel:
        """Two replies to one prompt, on the sides on which they are shown; of a pair that the user had, the old duel.

        `id`: under which a reader knows it already.

        Raises:
            ValueError: they are not two replies to this prompt.
        """

        def act(c: sqlite3.Connection) -> Duel:
            for reply in (left, right):
                row = one(c, "message", reply, "SELECT parent, role FROM messages WHERE id = ?")
                if left == right or (row["parent"], row["role"]) != (prompt_message, "assistant"):
                    raise ValueError(f"{left} and {right} are not two replies to {prompt_message}")
            had = c.execute(
                f"SELECT {_DUEL} FROM duels WHERE user = ? AND min(left_reply, right_reply) = min(?, ?) "
                "AND max(left_reply, right_reply) = max(?, ?)",
                (user, left, right, left, right),
            ).fetchone()
            if had:
                return Duel(**had)
            duel = Duel(id or new_id(), user, prompt_message, left, right, chosen_by, time.time())
            columns = asdict(duel)
            columns["left_reply"], columns["right_reply"] = columns.pop("left"), columns.pop("right")
            insert(c, "duels", columns)
            return duel

        request = ["open_duel", prompt_message, left, right, chosen_by]
        return self._once(user, key, request, act, lambda kept: Duel(**kept))

    def duel(self, id: str) -> Duel:
        with self._db.reading() as c:
            return Duel(**one(c, "duel", id, f"SELECT {_DUEL} FROM duels WHERE id = ?"))

    def vote(
        self, user: str, duel_id: str, choice: Choice, latency_ms: int | None = None, key: str | None = None
    ) -> Duel:
        """Judge a duel, in place of an earlier vote. Raises `NotFound` for somebody else's."""
        check_vote(choice, latency_ms)
        return self._vote(user, duel_id, choice, latency_ms, key)

    def unvote(self, user: str, duel_id: str, key: str | None = None) -> Duel:
        """Take a vote back, if there is one. The event log keeps both."""
        return self._vote(user, duel_id, None, None, key)

    def duels(self, voted: bool | None = None, since: float = 0) -> list[Duel]:
        """All duels; only those with a vote, or without; voted since a time, or opened since where there is no vote."""
        when, which = {  # the index of open duels is by `created` alone
            None: ("coalesce(voted, created)", ""),
            True: ("voted", "AND choice IS NOT NULL"),
            False: ("created", "AND choice IS NULL"),
        }[voted]
        with self._db.reading() as c:
            rows = c.execute(
                f"SELECT {_DUEL} FROM duels WHERE {when} >= ? {which} ORDER BY {when}, number",
                (since,),
            )
            return [Duel(**row) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many there are of everything that people gave, as it stands now; of the log, how many lines of a kind."""
        return self._counted(_SAID + _JUDGED + _LEFT)

    def judged_counts(self) -> dict[str, int]:
        """Of `counts`, those of ratings and judged duels: they change only with a line of the log."""
        return self._counted(_JUDGED)

    def _counted(self, queries: Sequence[str]) -> dict[str, int]:
        with self._db.reading() as c:
            rows = [dict(c.execute(query).fetchone()) for query in queries]
            return {name: int(number) for row in rows for name, number in row.items()}

    def _vote(self, user: str, duel_id: str, choice: Choice | None, latency_ms: int | None, key: str | None) -> Duel:
        def act(c: sqlite3.Connection) -> Duel:
            row = one(c, "duel", duel_id, f"SELECT {_DUEL} FROM duels WHERE id = ?")
            if row["user"] != user:
                raise NotFound("duel", duel_id)
            duel = Duel(**row)
            if choice is None and duel.choice is None:
                return duel
            now = time.time()
            votes = duel.votes + (choice is not None and choice != duel.choice)
            duel = replace(duel, choice=choice, latency_ms=latency_ms, voted=now if choice else None, votes=votes)
            c.execute("UPDATE duels SET choice = ?, latency_ms = ?, voted = ?, votes = ? WHERE id = ?",
                      (duel.choice, duel.latency_ms, duel.voted, duel.votes, duel.id))  # fmt: skip
            data = {"user": user, "duel": duel_id}
            vote = {"choice": choice, "latency_ms": latency_ms} if choice else {}
            log_event(c, "vote" if choice else "unvote", data | vote, now)
            return duel

        request = ["vote", duel_id, choice] if choice else ["unvote", duel_id]
        return self._once(user, key, request, act, lambda kept: Duel(**kept))


def _unrate(connection: sqlite3.Connection, user: str, message_id: str) -> None:
    if connection.execute("DELETE FROM ratings WHERE user = ? AND message = ?", (user, message_id)).rowcount:
        log_event(connection, "unrate", {"user": user, "message": message_id})


def _rating(row: sqlite3.Row, prefix: str = "") -> Rating:
    """A row of `ratings`, its columns perhaps renamed."""
    return Rating(**{name: row[prefix + name] for name in _RATING})


def _judged(row: sqlite3.Row) -> Judged:
    """A row of `_RATED`."""
    return Judged(row["r_user"], message_of(row), _rating(row, "r_"), row["r_time"])
