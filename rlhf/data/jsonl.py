"""Any JSON-lines file (or hub data set): its format is recognised from the first row, see `formats.py`.

Rows as Dolly, Anthropic HH and OpenAssistant publish them are recognised too and read by those sources, so a
bare path of any kind works. A sample row:

    {"messages": [{"content": "Why is the sky blue?"}, {"content": "Air scatters blue light most."}], "quality": 0.9}
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn, TypeGuard

from rlhf.config import SourceSpec
from rlhf.data import dolly, hh_rlhf, oasst2
from rlhf.data.formats import Disliked, Record, recognise
from rlhf.data.rows import Row, label, read_rows, shorten
from rlhf.data.source import Keep, Source, as_prompt, as_text
from rlhf.errors import UserError
from rlhf.records import Conversation, Demonstration, Preference, Prompt, ask, prompt_id

_MADE_INSTEAD = "give a file of pairs; data.preferences=[made] makes pairs from the demonstrations instead"
_PAIRS = "preference pairs"
_KEYS = {
    "demonstrations": "prompt and completion; or messages, the last one the assistant's",
    _PAIRS: "prompt, chosen and rejected; or chosen and rejected; or messages and quality, or prompt, completion and "
    "label, several to one prompt",
    "prompts": "prompt; or those of demonstrations or pairs",
}
"""What is asked of a file → the rows that hold it."""


class JSONL(Source):
    """Whatever the file holds; asked for something else, it says what that is. All raise `UserError` as `read_rows`."""

    name = "jsonl"

    def demonstrations(self, spec: SourceSpec) -> list[Demonstration]:
        """The rows with one reply; of those that say whether it was liked, the liked ones."""
        if publisher := _publisher(spec):
            return publisher.demonstrations(spec)
        rows = [record for record in _records(spec) if _to_imitate(record)]
        return rows or _holds_no(spec, "demonstrations")

    def preferences(self, spec: SourceSpec) -> list[Preference]:
        """The pairs; of replies with a quality or a label, any two to one conversation that differ in it."""
        if publisher := _publisher(spec):
            return publisher.preferences(spec)
        records = list(_records(spec))
        pairs = [record for record in records if isinstance(record, Preference)]
        rated = [record for record in records if isinstance(record, Demonstration)]
        return pairs or pairs_of_rated(rated) or _holds_no(spec, _PAIRS)

    def prompts(self, spec: SourceSpec) -> list[Prompt]:
        """The prompts; of demonstrations and pairs, what they reply to, each conversation once."""
        if publisher := _publisher(spec):
            return publisher.prompts(spec)
        prompts = sorted(self.each_prompt(spec), key=lambda prompt: prompt.reference is None)
        return list({p.prompt: p for p in reversed(prompts)}.values())[::-1]

    def each_prompt(self, spec: SourceSpec) -> list[Prompt]:
        """The prompt of every row that has one, in their order, equal ones each time."""
        if publisher := _publisher(spec):
            return publisher.prompts(spec)
        prompts: list[Prompt] = []
        for record in _records(spec):
            if isinstance(record, Prompt):
                prompts.append(record)
            elif isinstance(record, Disliked):
                prompts.append(replace(as_prompt(record), reference=None))
            elif isinstance(record, Demonstration):
                prompts.append(as_prompt(record))
            elif isinstance(record, Preference):
                prompts += hh_rlhf.prompts_of([record])
        return prompts or _holds_no(spec, "prompts")

    def texts(self, spec: SourceSpec, keep: Keep = lambda id, category: True) -> list[str]:
        """Plain texts as they stand, and demonstrations as turns and reply."""
        if publisher := _publisher(spec):
            return publisher.texts(spec, keep)
        found = []
        for record in _records(spec):
            if isinstance(record, str) and keep(prompt_id(ask(record)), ""):
                found.append(record)
            elif _to_imitate(record) and keep(record.id, record.category):
                found.append(as_text(record))
        return found


def _to_imitate(record: Record) -> TypeGuard[Demonstration]:
    return isinstance(record, Demonstration) and not isinstance(record, Disliked)


def _publisher(spec: SourceSpec) -> Source | None:
    """The source that reads this file, where its first row is of a published format of its own."""
    keys = _first(read_rows(spec), spec).values
    if "instruction" in keys and "response" in keys:
        return dolly.SOURCE
    if "message_tree_id" in keys or "parent_id" in keys:
        return oasst2.SOURCE
    if "prompt" not in keys and isinstance(keys.get("chosen"), str):
        return hh_rlhf.SOURCE
    return None


def _records(spec: SourceSpec) -> Iterator[Record]:
    rows = read_rows(spec)
    first = _first(rows, spec)
    chosen = recognise(first)
    source = label(spec)
    for row in itertools.chain([first], rows):
        yield from chosen.read(row, source)


def _first(rows: Iterator[Row], spec: SourceSpec) -> Row:
    row = next(rows, None)
    if row is None:
        raise UserError(f"{spec.path or spec.name} has no rows.", expected="one JSON object a line")
    return row


def pairs_of_rated(rows: list[Demonstration]) -> list[Preference]:
    """Of the replies to one conversation, each beside each that is worse; thumbs do not say by how much."""
    by_prompt: dict[Conversation, list[tuple[float, Demonstration]]] = defaultdict(list)
    for row in rows:
        if row.quality is not None:
            by_prompt[row.prompt].append((row.quality, row))
    pairs = []
    for replies in by_prompt.values():
        best_first = sorted(replies, key=lambda item: -item[0])
        for (high, better), (low, worse) in itertools.combinations(best_first, 2):
            if high > low and better.completion != worse.completion:
                sides = (better.completion, worse.completion)
                margin = None if isinstance(worse, Disliked) else high - low
                pairs.append(Preference(better.id, better.prompt, *sides, better.source, category=better.category,
                                        margin=margin))  # fmt: skip
    return pairs


def _holds_no(spec: SourceSpec, wanted: str) -> NoReturn:
    first = _first(read_rows(spec), spec)
    raise UserError(
        f"{spec.path or spec.name} holds no {wanted}.",
        expected=f"rows with the keys {_KEYS[wanted]}",
        found=f"{recognise(first).name} rows, such as {shorten(dict(first.values))}",
        remedy=_MADE_INSTEAD if wanted == _PAIRS else "",
    )


SOURCE = JSONL()
