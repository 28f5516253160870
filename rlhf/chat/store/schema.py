"""The feedback database's tables, and how a file gets them: created aside and put in place whole, migrated in steps.

prepare(path)          # creates, checks that the file is ours, brings an older one up to date
len(STEPS)             # the schema's version, which stands in the file as PRAGMA user_version

A change of the schema is a new entry at the end of STEPS. An entry that was published is never edited.
"""

import os
import sqlite3
import threading
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rlhf.errors import UserError

APPLICATION_ID = 0x524C4846
"""Says that the file is ours ("RLHF"): PRAGMA application_id."""
_HEADER = 100
"""Length of a database's header, in bytes (https://www.sqlite.org/fileformat.html)."""
_opening = threading.Lock()

_FIRST = (
    """CREATE TABLE conversations (
        id TEXT PRIMARY KEY,
        user TEXT NOT NULL,
        title TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('chat', 'duel', 'api')),
        created REAL NOT NULL,
        updated REAL NOT NULL,
        hidden INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    "CREATE INDEX conversations_of_user ON conversations (user, kind, updated)",
    """CREATE TABLE messages (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        conversation TEXT NOT NULL REFERENCES conversations (id),
        parent TEXT REFERENCES messages (id),
        role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
        content TEXT NOT NULL,
        version TEXT,
        settings TEXT NOT NULL,
        finish_reason TEXT,
        created REAL NOT NULL,
        blocked INTEGER NOT NULL,
        reward REAL,
        prompt_tokens INTEGER,
        completion_tokens INTEGER,
        seconds REAL,
        first_token_seconds REAL
    ) STRICT""",
    "CREATE INDEX messages_of_conversation ON messages (conversation)",
    "CREATE INDEX messages_by_time ON messages (created)",
    """CREATE TABLE ratings (
        user TEXT NOT NULL,
        message TEXT NOT NULL REFERENCES messages (id),
        thumb INTEGER CHECK (thumb IN (-1, 1)),
        helpful INTEGER CHECK (helpful BETWEEN 1 AND 5),
        relevant INTEGER CHECK (relevant BETWEEN 1 AND 5),
        correct INTEGER CHECK (correct BETWEEN 1 AND 5),
        safe INTEGER CHECK (safe BETWEEN 1 AND 5),
        correction TEXT,
        comment TEXT,
        time REAL NOT NULL,
        PRIMARY KEY (user, message)
    ) STRICT""",
    "CREATE INDEX ratings_of_message ON ratings (message)",
    """CREATE TABLE duels (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        user TEXT NOT NULL,
        prompt_message TEXT NOT NULL REFERENCES messages (id),
        left_reply TEXT NOT NULL REFERENCES messages (id),
        right_reply TEXT NOT NULL REFERENCES messages (id) CHECK (right_reply <> left_reply),
        chosen_by TEXT NOT NULL CHECK (chosen_by IN ('active', 'random', 'asked')),
        created REAL NOT NULL,
        choice TEXT CHECK (choice IN ('left', 'right', 'tie', 'both_bad')),
        latency_ms INTEGER,
        voted REAL
    ) STRICT""",
    # Whichever side each reply was shown on, it is the same pair.
    """CREATE UNIQUE INDEX duels_of_pair
        ON duels (user, min(left_reply, right_reply), max(left_reply, right_reply))""",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time REAL NOT NULL,
        kind TEXT NOT NULL,
        data TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX events_of_kind ON events (kind, time)",
    """CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END""",
    """CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END""",
    """CREATE TABLE keys (
        user TEXT NOT NULL,
        key TEXT NOT NULL,
        request TEXT NOT NULL,
        result TEXT NOT NULL,
        time REAL NOT NULL,
        PRIMARY KEY (user, key)
    ) STRICT""",
)
_ROUTING = (
    "ALTER TABLE conversations ADD COLUMN version TEXT",
    "ALTER TABLE messages ADD COLUMN routed REAL CHECK (routed > 0 AND routed <= 1)",
    "ALTER TABLE messages ADD COLUMN uniform INTEGER NOT NULL DEFAULT 0",
)
_BLIND = (
    "ALTER TABLE duels ADD COLUMN votes INTEGER NOT NULL DEFAULT 0",
    "UPDATE duels SET votes = 1 WHERE choice IS NOT NULL",
    """WITH given AS (
        SELECT json_extract(data, '$.duel') AS duel, count(*) AS votes FROM events WHERE kind = 'vote' GROUP BY 1
    ) UPDATE duels SET votes = given.votes FROM given WHERE given.duel = duels.id""",
)
_OPEN = ("CREATE INDEX duels_open ON duels (created) WHERE choice IS NULL",)
STEPS: Sequence[Sequence[str]] = (_FIRST, _ROUTING, _BLIND, _OPEN)
"""Statements that lead from each version to the next: what people say and judge; which version was chosen, and how;
how often a duel was judged; a short way to the duels that nobody has judged."""


def prepare(path: Path, create: bool = True) -> None:
    """Make a file ready to be opened; one that is not ours, or newer than this program, is left as it is.

    Raises:
        UserError: it is missing (without `create`), no feedback database, of a newer schema, or cannot be read.
    """
    if not path.exists():
        if not create:
            raise UserError(
                f"There is no feedback store {path}.",
                expected="a database that the chat has written",
                remedy="check --output; or collect some feedback: python main.py --phase serve, with the same --output",
            )
        _create(path)
    version = _version(path)
    if version < len(STEPS):
        with closing(connect(path)) as connection:
            _migrate(connection)


def connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """A connection that begins no transaction by itself and never makes a file."""
    address = f"{path.absolute().as_uri()}?mode={mode}"
    with _opening:
        connection = sqlite3.connect(address, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # from here on, there is a write-ahead log
        return connection


def _create(path: Path) -> None:
    """Write a database aside and link it into place: a kill leaves none, and of two processes the first one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        aside.touch(mode=0o600)  # what people write is theirs: nobody else on the machine reads it
        with closing(connect(aside)) as connection:
            _migrate(connection)
            connection.execute("PRAGMA journal_mode = WAL")
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
    _flush_name(path.parent)


def _flush_name(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _version(path: Path) -> int:
    """The schema's version in a file that is ours; nothing is written, neither to the file nor beside it."""
    if path.is_dir():
        raise _foreign(path, "a folder")
    try:
        application, version = _header(path)
    except (sqlite3.OperationalError, OSError) as error:
        raise UserError(f"The feedback store {path} cannot be read.", found=str(error),
                        remedy="check the file, its folder and their permissions") from None  # fmt: skip
    except sqlite3.DatabaseError as error:
        raise _foreign(path, str(error)) from None
    if application != APPLICATION_ID:
        raise _foreign(path, "a database of another program")
    if version > len(STEPS):
        raise UserError(
            f"The feedback store {path} was written by a newer version of this program.",
            expected=f"schema {len(STEPS)} or older",
            found=f"schema {version}",
            remedy="update this program; the file was not changed",
        )
    return int(version)


def _header(path: Path) -> tuple[int, int]:
    """What program a database belongs to, and its schema's version; `sqlite3.DatabaseError` where it is none.

    While somebody has it open there is a log beside it, and SQLite must look, since to close a file by hand drops all
    locks that this process has on it. Otherwise SQLite must not: it would leave files beside a foreign database.
    """
    with _opening:
        if not Path(f"{path}-wal").exists():
            with path.open("rb") as file:
                head = file.read(_HEADER)
            if len(head) < _HEADER or not head.startswith(b"SQLite format 3\0"):
                raise sqlite3.DatabaseError("an empty file" if not head else "no database")
            return int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big")
    with closing(connect(path, "ro")) as connection:
        [application] = connection.execute("PRAGMA application_id").fetchone()
        [version] = connection.execute("PRAGMA user_version").fetchone()
    return application, version


def _foreign(path: Path, found: str) -> UserError:
    return UserError(
        f"{path} is no feedback store.",
        expected="a SQLite database that the chat has written, or a name not in use",
        found=found,
        remedy="move it away, or choose another --output; it was not changed",
    )


def _migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that are missing, all in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    [version] = connection.execute("PRAGMA user_version").fetchone()  # another process may have been faster
    for step in STEPS[version:]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {max(version, len(STEPS))}")
    connection.execute("COMMIT")
