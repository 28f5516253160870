"""What every part of the feedback store stands on: transactions, calls that are safe to repeat, the event log."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, TypeVar

from rlhf.chat.store.database import Database
from rlhf.chat.store.records import Event, KeyReused, NotFound, Stored

Result = TypeVar("Result", bound=Stored | None)


class Ledger:
    """A database whose log only grows.

    Args:
        path: the database; an older one is brought up to date.
        create: make it where it is missing.

    Raises:
        UserError: the file is not ours, newer than this program, or cannot be used; nothing is changed then. Every
            method: `StoreFull` where the disk is full, `NotFound` for an unknown id, `KeyReused`.
    """

    def __init__(self, path: Path, create: bool = True) -> None:
        self.file = Path(path)
        self._db = Database(self.file, create)

    def close(self) -> None:
        """Close the file; the store cannot be used any more."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def together(self, wait_s: float | None = None) -> Iterator[None]:
        """All that this thread writes inside is written as one, or not at all.

        Args:
            wait_s: seconds to wait for other writes, after which it is `StoreBusy`; default `database.WAIT_S`.
        """
        with self._db.writing(wait_s):
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that this thread reads inside is of one moment."""
        with self._db.reading():
            yield

    def log(self, kind: str, **data: Any) -> None:
        """Add a line to the event log."""
        with self._db.writing() as c:
            log_event(c, kind, data)

    def events(self, kind: str | None = None, since: float = 0, limit: int = 1000) -> list[Event]:
        """Lines of the log since a time, oldest first; of more than `limit`, the latest."""
        with self._db.reading() as c:
            rows = c.execute(
                f"SELECT * FROM events WHERE time >= ? {'AND kind = ?' if kind else ''} ORDER BY id DESC LIMIT ?",
                (since, kind, limit) if kind else (since, limit),
            )
            return [event_of(row) for row in rows][::-1]

    def last_event(self) -> int:
        """Id of the latest line of the log; 0 where there is none. It costs the same however long the log is."""
        with self._db.reading() as c:
            [last] = c.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
            return int(last)

    def events_after(self, id: int, kinds: Collection[str]) -> list[Event]:
        """Lines of some kinds that were written after one, oldest first. It costs what was written since."""
        marks = ", ".join("?" * len(kinds))
        with self._db.reading() as c:
            # The + keeps SQLite from the index of kinds, which would have it read all lines of them.
            rows = c.execute(f"SELECT * FROM events WHERE id > ? AND +kind IN ({marks}) ORDER BY id", (id, *kinds))
            return [event_of(row) for row in rows]

    def note(self, user: str, key: str, request: str, result: str) -> None:
        """Say what came of a key: the id of what was made. The first note stands."""
        with self._db.writing() as c:
            row = {"user": user, "key": key, "request": request, "result": json.dumps(result), "time": time.time()}
            insert(c, "keys", row, "ON CONFLICT DO NOTHING")

    def noted(self, user: str, key: str, request: str) -> str | None:
        """What came of a key, if it was noted. Raises `KeyReused` where it named another request."""
        with self._db.reading() as c:
            kept = c.execute("SELECT request, result FROM keys WHERE user = ? AND key = ?", (user, key)).fetchone()
        if kept is not None and kept["request"] != request:
            raise KeyReused(key)
        return None if kept is None else str(json.loads(kept["result"]))

    def _update(self, what: str, id: str, statement: str, value: object) -> None:
        with self._db.writing() as c:
            if not c.execute(statement, (value, id)).rowcount:
                raise NotFound(what, id)

    def _once(
        self,
        user: str,
        key: str | None,
        request: list[Any],
        act: Callable[[sqlite3.Connection], Result],
        again: Callable[[Any], Result],
    ) -> Result:
        """Do it in one transaction with the note that it was done; or, where the key was used, give what came of it."""
        asked = hashlib.sha256(json.dumps(request).encode()).hexdigest()
        with self._db.writing() as c:
            if key is None:
                return act(c)
            kept = c.execute("SELECT request, result FROM keys WHERE user = ? AND key = ?", (user, key)).fetchone()
            if kept is not None:
                if kept["request"] != asked:
                    raise KeyReused(key)
                return again(json.loads(kept["result"]))
            result = act(c)
            text = json.dumps(None if result is None else asdict(result))
            insert(c, "keys", {"user": user, "key": key, "request": asked, "result": text, "time": time.time()})
            return result


def insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any], conflict: str = "") -> None:
    """Add a row; column names are ours, values anybody's."""
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks}) {conflict}", tuple(row.values()))


def one(connection: sqlite3.Connection, what: str, id: str, query: str) -> sqlite3.Row:
    """The row that a query finds for an id. Raises `NotFound` where it finds none."""
    row = connection.execute(query, (id,)).fetchone()
    if row is None:
        raise NotFound(what, id)
    return row  # type: ignore[no-any-return]


def event_of(row: sqlite3.Row) -> Event:
    """A row of `events`."""
    return Event(row["id"], row["time"], row["kind"], json.loads(row["data"]))


def log_event(connection: sqlite3.Connection, kind: str, data: Mapping[str, Any], when: float | None = None) -> None:
    """Add a line to the log, in the transaction of what it tells."""
    insert(
        connection, "events", {"time": time.time() if when is None else when, "kind": kind, "data": json.dumps(data)}
    )
