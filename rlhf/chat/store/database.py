"""Transactions on the feedback database, from any thread of any process; what goes wrong on the disk, said clearly.

database = Database(path)
with database.writing() as connection:       # committed and on the disk when the block ends, else nothing of it
    connection.execute("INSERT …")
with database.reading() as connection:       # one state of the database, whatever is written meanwhile
    connection.execute("SELECT …")

Writes wait for each other at a lock of this process and then at a lock file beside the database. SQLite's own lock
would do, but it is polled, and SQLite before 3.51.3 can, very rarely, damage a write-ahead log that one connection
commits to while another copies it into the database (https://www.sqlite.org/wal.html#walresetbug). Behind these locks
that cannot happen: a commit and the copying that follows it are one.
"""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from rlhf.chat.store.schema import connect, prepare
from rlhf.errors import FULL, UserError

WAIT_S = 30.0
"""How long a write waits for another one, in seconds."""
_PAUSE_S = 0.002
_WRITE_FAILED = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE)


class StoreFull(UserError):
    """There is no room for what was to be written; nothing of it was. Later writes work once there is room."""


class StoreBusy(UserError):
    """Others, most often another process, have been writing for too long; nothing was written."""


class Database:
    """A few connections to one file, lent to one thread at a time.

    Args:
        path: the database; an older one is brought up to date.
        create: make it where it is missing.

    Raises:
        UserError: as `schema.prepare`; later, where the disk is full (`StoreFull`) or the file cannot be used.
    """

    def __init__(self, path: Path, create: bool = True) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._pool = threading.Lock()
        self._writer = threading.RLock()
        self._lent = threading.local()
        self._lock_file: int | None = None
        self._closed = False
        try:
            prepare(path, create)
            # When the last connection is closed, as after a failed write, SQLite deletes the files beside the database.
            # To read anew it would have to make them again, for which a full disk has no room.
            self._anchor = self._open()
            self._anchor.execute("SELECT count(*) FROM sqlite_master").fetchall()
        except (sqlite3.Error, OSError) as error:
            _explain(path, error)

    @contextmanager
    def writing(self, wait_s: float | None = None) -> Iterator[sqlite3.Connection]:
        """A transaction that writes; inside another one of this thread, a part of that.

        Args:
            wait_s: seconds to wait for our own programs' other writes; default `WAIT_S`. For a foreign program, which
                knows nothing of the lock file, SQLite itself waits `WAIT_S`.

        Raises:
            StoreBusy: they took longer.
        """
        outer = getattr(self._lent, "connection", None)
        if outer is not None:
            if not self._lent.writes:
                raise RuntimeError("a transaction that reads cannot begin to write")
            yield outer
            return
        wait_s = WAIT_S if wait_s is None else wait_s
        deadline = time.monotonic() + wait_s
        if not self._writer.acquire(timeout=wait_s):  # many threads wait at once, not one after the other
            raise _busy(self.path, wait_s)
        try:
            with self._alone(deadline, wait_s), self._transaction(writes=True) as connection:
                yield connection
        finally:
            self._writer.release()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that only reads; inside another one of this thread, a part of that."""
        outer = getattr(self._lent, "connection", None)
        if outer is not None:
            yield outer
            return
        with self._transaction(writes=False) as connection:
            yield connection

    def close(self) -> None:
        """Close what is idle now, and the rest when it is given back."""
        with self._pool:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        with self._writer:
            self._anchor.close()
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    @contextmanager
    def _transaction(self, writes: bool) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._take()
            self._lent.connection, self._lent.writes = connection, writes
            try:
                connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()  # undoes the transaction, whatever state the connection is in
                raise
            finally:
                self._lent.connection = None
        except sqlite3.Error as error:
            _explain(self.path, error)
        except UnicodeEncodeError as error:
            raise UserError("A text cannot be stored.", expected="Unicode text",
                            found=f"half a character at position {error.start}") from None  # fmt: skip
        self._give(connection)

    def _take(self) -> sqlite3.Connection:
        with self._pool:
            if self._closed:
                raise RuntimeError(f"the feedback store {self.path} is closed")
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _open(self) -> sqlite3.Connection:
        connection = connect(self.path)
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA busy_timeout = {int(1000 * WAIT_S)}")  # other programs know nothing of our locks
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk before it is acknowledged
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _give(self, connection: sqlite3.Connection) -> None:
        with self._pool:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    @contextmanager
    def _alone(self, deadline: float, wait_s: float) -> Iterator[None]:
        """Hold the lock file: no other process writes meanwhile. Raises `StoreBusy` after `deadline` (monotonic)."""
        if self._lock_file is None:
            try:
                self._lock_file = os.open(f"{self.path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                _explain(self.path, error)
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise _busy(self.path, wait_s)
            time.sleep(_PAUSE_S)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)


def _explain(path: Path, error: sqlite3.Error | OSError) -> NoReturn:
    """Raise what a person can put right as a `UserError`, and anything else as it is."""
    extended = getattr(error, "sqlite_errorcode", None) or 0
    code = extended & 0xFF
    if code == sqlite3.SQLITE_FULL or extended in _WRITE_FAILED or getattr(error, "errno", None) in FULL:
        raise StoreFull(
            f"The feedback store {path} cannot grow: the disk is full, or a quota used up.",
            found=str(error),
            remedy="free some space; what was acknowledged is safe, and writing goes on once there is room",
        ) from error
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise _busy(path, WAIT_S) from error
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        raise UserError(
            f"The feedback store {path} is damaged.",
            expected="a whole SQLite database",
            found=str(error),
            remedy="put a copy in its place, or rescue what is there: sqlite3 FILE .recover",
        ) from error
    unusable = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM)
    if code in unusable or isinstance(error, OSError):
        raise UserError(f"The feedback store {path} cannot be used.", found=str(error),
                        remedy="check the file, its folder and their permissions") from error  # fmt: skip
    raise error


def _busy(path: Path, wait_s: float) -> StoreBusy:
    return StoreBusy(
        f"The feedback store {path} is busy.",
        found=f"others have been writing for {wait_s:.3g} s",
        remedy="try again; see which process holds it: fuser FILE",
    )
