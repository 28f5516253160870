"""The classroom's examples: one fixed list, whatever the run's seed, made once a process in about a second."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from rlhf.data.classroom import facts, passages
from rlhf.data.classroom.example import Draft
from rlhf.data.classroom.topics import RELATIONS
from rlhf.records import ask, prompt_id

SIZE = 24_000

TASKS: dict[str, tuple[float, Callable[[random.Random], Draft]]] = {
    **{name: (relation.share, partial(facts.fact, name)) for name, relation in RELATIONS.items()},
    "pick": (0.01, facts.pick),
    "mood": (0.005, facts.mood),
    "ideas": (0.02, facts.ideas),
    "tale": (0.008, facts.tale),
    "closed": (0.012, passages.closed),
    "extract": (0.006, passages.extract),
    "summary": (0.013, passages.summary),
}
"""Task to its share of all examples and its generator."""


@dataclass(frozen=True)
class Example:
    """A draft and the id of its prompt."""

    id: str
    draft: Draft


@cache
def examples() -> tuple[Example, ...]:
    """All examples, no two with the same prompt, tasks mixed."""
    found: dict[str, Example] = {}
    for name, (share, make) in TASKS.items():
        rng = random.Random(f"classroom {name}")
        goal = len(found) + round(SIZE * share)
        while len(found) < goal:
            draft = make(rng)
            example = Example(prompt_id(ask(draft.text)), draft)
            found.setdefault(example.id, example)
    rows = list(found.values())
    random.Random("classroom order").shuffle(rows)
    return tuple(rows)
