"""Feedback as JSON lines in TRL's formats, and back into a store.

export(store, folder)              # folder/pairs.jsonl, folder/unpaired.jsonl; says what was left out, and why
import_feedback(store, file)       # either of the two, or any file of pairs in these formats

{"prompt": [turns], "chosen": [{"role": "assistant", …}], "rejected": [{…}], "kind": "duel", …}    duel or correction
{"prompt": [turns], "completion": [{"role": "assistant", …}], "label": true, …}                    thumb

No row names a person.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf.chat.feedback import FeedbackStore, Kind, Rating, StoredMessage, new_id
from rlhf.chat.store.judgements import IMPORTED, Judgements, Pair, Thumb, collect
from rlhf.data.formats import Disliked, Record, recognise
from rlhf.data.rows import Row, read_lines
from rlhf.durable import replace_text
from rlhf.errors import UserError
from rlhf.records import Conversation, Demonstration, Preference

PAIRS, UNPAIRED = "pairs.jsonl", "unpaired.jsonl"
BATCH = 100
"""Rows that are imported in one transaction; it lasts about a tenth of a second."""
PAUSE_S = 0.02
"""Between two batches, in seconds: who waits to write looks every `database._PAUSE_S`, and gets in."""

Judgement = tuple[Row, Preference | Demonstration]


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote, and what it did not."""

    folder: Path
    pairs: int
    unpaired: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason → judgements."""

    def __str__(self) -> str:
        lines = [f"{self.folder / PAIRS}: {self.pairs} pairs", f"{self.folder / UNPAIRED}: {self.unpaired} thumbs"]
        return "\n".join([*lines, *left_out_in_words(self.left_out)])


@dataclass(frozen=True)
class ImportSummary:
    """What an import has stored."""

    file: Path
    pairs: int = 0
    unpaired: int = 0
    known: int = 0
    """Rows that an earlier import had brought, or that stood there twice."""

    def __str__(self) -> str:
        known = f"; {self.known} were known and are not stored twice" if self.known else ""
        return f"{self.file}: {self.pairs} pairs, {self.unpaired} thumbs{known}"


def export(store: FeedbackStore, folder: Path) -> ExportSummary:
    """Write the judgements that may train, in the place of older files.

    Raises:
        UserError: the folder is a file.
    """
    found = collect(store)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"Cannot export to {folder}.", expected="a folder, or a name not in use", found="a file",
                        remedy="choose another folder")  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / PAIRS, map(_pair_row, found.pairs))
    _write(folder / UNPAIRED, map(_thumb_row, found.thumbs))
    return summary_of(found, folder)


def summary_of(found: Judgements, folder: Path) -> ExportSummary:
    """What an export of these judgements would say."""
    return ExportSummary(folder, len(found.pairs), len(found.thumbs), dict(found.left_out.most_common()))


def left_out_in_words(left_out: Mapping[str, int]) -> list[str]:
    """A line a reason."""
    if not left_out:
        return ["nothing was left out"]
    head = f"{sum(left_out.values())} judgements were left out; they stay in the store:"
    return [head, *(f"  {number:6}  {reason}" for reason, number in left_out.items())]


def import_feedback(store: FeedbackStore, file: Path) -> ImportSummary:
    """Store the pairs (as duels and corrections) or thumbs of a file.

    The whole file is checked first: of one with a bad line nothing is stored. Then its rows are stored in batches, each
    whole or not at all, so that a server which uses the store can write in between. What ends it on the way (a kill, a
    full disk) leaves the batches so far; to import the file again completes it, since no row is stored twice.

    Raises:
        UserError: names the line that is bad, or says what the file holds instead.
    """
    rows = list(read_lines(file))
    kind = recognise(rows[0])
    judged = [_judgement(row, record) for row in rows for record in kind.read(row, IMPORTED)]
    counts = {"pairs": 0, "unpaired": 0, "known": 0}
    for start in range(0, len(judged), BATCH):
        if start:
            time.sleep(PAUSE_S)
        with store.together():
            for row, record in judged[start : start + BATCH]:
                # Where the file does not say which side the chosen one was on, they take turns.
                stored = _put(store, row, record, ("left", "right")[counts["pairs"] % 2])
                counts[("pairs" if isinstance(record, Preference) else "unpaired") if stored else "known"] += 1
    return ImportSummary(file, **counts)


def _judgement(row: Row, record: Record) -> Judgement:
    """A record that can be stored. Raises `UserError` for any other, and for half a character (a lone surrogate)."""
    if not isinstance(record, Preference | Demonstration) or not {"label", "chosen"} & row.values.keys():
        raise UserError(
            f"{row.where}: no judgement.",
            expected="prompt, chosen and rejected; or prompt, completion and label (true or false)",
            found=row.keys(),
        )
    replies = (record.chosen, record.rejected) if isinstance(record, Preference) else (record.completion,)
    names = (_name(row, key) for key in ("version", "chosen_version", "rejected_version"))
    for text in (*(turn.content for turn in record.prompt), *replies, *filter(None, names)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{row.where}: a text cannot be stored.", expected="Unicode text",
                            found=f"half a character at position {error.start}") from None  # fmt: skip
    return row, record


def _put(store: FeedbackStore, row: Row, record: Preference | Demonstration, side: str) -> bool:
    """Store one judgement; false where it was there."""
    judged: tuple[str | bool, ...]
    if isinstance(record, Preference):
        judged = record.chosen, record.rejected, record.kind
    else:
        judged = record.completion, isinstance(record, Disliked)
    digest = hashlib.sha256(json.dumps([record.prompt, *judged]).encode()).hexdigest()
    kind: Kind = "duel" if isinstance(record, Preference) else "api"
    talk = store.new_conversation(IMPORTED, record.prompt[-1].content[:60], kind, key=f"import {digest}")
    if store.messages(talk.id):
        return False
    asked = _put_turns(store, talk.id, record.prompt)
    if isinstance(record, Preference):
        _put_pair(store, row, record, asked, side)
    else:
        reply = _reply(asked, record.completion, row, "version")
        store.add_message(reply)
        store.rate(IMPORTED, reply.id, Rating(thumb=-1 if isinstance(record, Disliked) else 1))
    return True


def _put_turns(store: FeedbackStore, conversation: str, prompt: Conversation) -> StoredMessage:
    last = None
    for turn in prompt:
        last = StoredMessage(new_id(), conversation, last.id if last else None, turn.role, turn.content)
        store.add_message(last)
    assert last is not None  # a prompt without turns is refused by the format
    return last


def _put_pair(store: FeedbackStore, row: Row, pair: Preference, asked: StoredMessage, side: str) -> None:
    rejected = store.add_message(_reply(asked, pair.rejected, row, "rejected_version"))
    if pair.kind == "correction":
        store.rate(IMPORTED, rejected.id, Rating(correction=pair.chosen))
        return
    chosen = store.add_message(_reply(asked, pair.chosen, row, "chosen_version"))
    on_left = (row.values.get("chosen_side") or side) == "left"
    sides = (chosen, rejected) if on_left else (rejected, chosen)
    duel = store.open_duel(IMPORTED, asked.id, sides[0].id, sides[1].id, "asked")
    store.vote(IMPORTED, duel.id, "left" if on_left else "right")


def _reply(asked: StoredMessage, text: str, row: Row, version: str) -> StoredMessage:
    return StoredMessage(
        new_id(), asked.conversation, asked.id, "assistant", text, version=_name(row, version), finish_reason="stop"
    )


def _name(row: Row, key: str) -> str | None:
    """The version that a row names, if it does."""
    name = row.values.get(key)
    return name if isinstance(name, str) else None


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    replace_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _pair_row(pair: Pair) -> dict[str, Any]:
    return {
        "prompt": [turn._asdict() for turn in pair.prompt],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "kind": pair.kind,
        "id": pair.id,
        "chosen_version": pair.chosen_version,
        "rejected_version": pair.rejected_version,
        "chosen_side": pair.chosen_side,
        "latency_ms": pair.latency_ms,
        "time": pair.time,
    }


def _thumb_row(thumb: Thumb) -> dict[str, Any]:
    return {
        "prompt": [turn._asdict() for turn in thumb.prompt],
        "completion": [{"role": "assistant", "content": thumb.completion}],
        "label": thumb.label,
        "id": thumb.id,
        "version": thumb.version,
        "time": thumb.time,
    }
