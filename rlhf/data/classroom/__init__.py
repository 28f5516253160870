"""The embedded corpus: a small school in Dolly's eight categories, with an answer key for every prompt.

It needs no file and no network, and is the same on every machine and for every seed. 24,000 distinct prompts ask
about some 210 facts in many wordings, and about short passages whose people and things are combined anew. A row:

    What is the capital of France? Please answer.        (open_qa)
    → The capital of France is Paris. I hope this helps.

Demonstrations are of mixed quality, as people's are; `prompts` carry the ideal answer as their reference; pairs are
judged by `judge.GoldJudge`, one in ten of them wrongly. `general_qa` asks the questions about facts of the
other categories about subjects of its own. `facts.py` and `passages.py` hold the tasks, `topics.py`
what they are about, `judge.py` what a good answer is.
"""

import random
from collections import defaultdict
from functools import cache

from rlhf.config import SourceSpec
from rlhf.data.classroom.judge import GoldJudge, grade
from rlhf.data.classroom.pairs import make_pair
from rlhf.data.classroom.pool import Example, examples
from rlhf.data.classroom.prose import document
from rlhf.data.classroom.styles import STYLES, polished
from rlhf.data.source import Keep, Source
from rlhf.records import Demonstration, Preference, Prompt, ask, prompt_id

DEMONSTRATIONS, PREFERENCES, TEXTS = 16_000, 24_000, 14_000
"""Rows that are made where the configuration sets no limit."""

IDEAL_SHARE, BOTH_SHARE, WRONG_SHARE, OFF_TOPIC_SHARE = 0.18, 0.13, 0.13, 0.02
"""Shares of the demonstrations: without a fault, wrong and in poor style, only wrong, off the topic.
The rest is right and in poor style."""
_POOR_STYLES = {"plain": 28, "curt": 20, "impolite": 16, "rambling": 14, "repetitive": 12, "cut_short": 10}


class ClassroomSource(Source):
    """The embedded corpus. `spec.limit` counts rows; there are at most 24,000 prompts."""

    name = "classroom"

    def demonstrations(self, spec: SourceSpec) -> list[Demonstration]:
        """Prompts with replies of mixed quality; `quality` is their gold score."""
        return [_demonstration(number) for number in range(len(examples()[: spec.limit or DEMONSTRATIONS]))]

    def preferences(self, spec: SourceSpec) -> list[Preference]:
        """One pair a prompt, from the end of the pool."""
        count = len(examples())
        return [_preference(number) for number in range(count)[::-1][: spec.limit or PREFERENCES]]

    def prompts(self, spec: SourceSpec) -> list[Prompt]:
        """The prompts of the demonstrations, with ideal answers as references."""
        return [_prompt(number) for number in range(len(examples()[: spec.limit or DEMONSTRATIONS]))]

    def texts(self, spec: SourceSpec, keep: Keep = lambda id, category: True) -> list[str]:
        """Short documents on the same facts and people, in none of the tasks' forms and so of no category."""
        return [text for text in _documents(spec.limit or TEXTS) if keep(prompt_id(ask(text)), "")]

    def judge(self, spec: SourceSpec) -> GoldJudge:
        """The gold judge of all prompts, and of variants of them that name their `origin`."""
        return GoldJudge({row.id: row.draft.key for row in examples()})


# Rows are made from the seed of their id and never change: each is made once, however often a phase asks for it.


@cache
def _documents(count: int) -> list[str]:
    rng = random.Random("classroom texts")
    return [document(rng) for _ in range(count)]


@cache
def _strangers() -> dict[str, list[Example]]:
    """Examples by category: an answer to one is off the topic of another."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for row in examples():
        groups[row.draft.category].append(row)
    return groups


def _ideal(row: Example) -> str:
    return polished(random.Random(f"ideal {row.id}"), row.draft, row.draft.answer)


@cache
def _prompt(number: int) -> Prompt:
    row = examples()[number]
    return Prompt(row.id, ask(row.draft.text), row.draft.category, "classroom", reference=_ideal(row), origin=row.id)


@cache
def _demonstration(number: int) -> Demonstration:
    row = examples()[number]
    rng = random.Random(f"demonstration {row.id}")
    draft = row.draft
    reply = _reply(rng, row, rng.choice(_strangers()[draft.category]))
    return Demonstration(row.id, ask(draft.text), reply, draft.category, "classroom", grade(draft.key, reply))


def _reply(rng: random.Random, row: Example, stranger: Example) -> str:
    """What a person wrote: ideal in eighteen of a hundred cases, else with a fault or two."""
    draft, luck = row.draft, rng.random()
    if luck < IDEAL_SHARE:
        return polished(rng, draft, draft.answer)
    if luck < IDEAL_SHARE + OFF_TOPIC_SHARE:
        return polished(rng, stranger.draft, stranger.draft.answer)
    wrong = luck < IDEAL_SHARE + OFF_TOPIC_SHARE + WRONG_SHARE + BOTH_SHARE
    answer = rng.choice(draft.wrong)[1] if wrong else draft.answer
    if wrong and rng.random() < WRONG_SHARE / (WRONG_SHARE + BOTH_SHARE):
        return polished(rng, draft, answer)
    style = rng.choices(list(_POOR_STYLES), weights=list(_POOR_STYLES.values()))[0]
    return STYLES[style](rng, draft, answer)


@cache
def _preference(number: int) -> Preference:
    row = examples()[number]
    rng = random.Random(f"preference {row.id}")
    return make_pair(rng, row, rng.choice(_strangers()[row.draft.category]))


SOURCE = ClassroomSource()
