"""Out-of-distribution variants of prompts: longer contexts, other wording, typing mistakes.

    PERTURBATIONS["typos"](prompts)    # same ids and references; suite "typos", origin = the id of the original

Each gives as many prompts, in the same order, depends on nothing but its arguments, and rewrites the last turn only.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from rlhf.data.hashing import generator
from rlhf.data.layout import split_context, with_context
from rlhf.data.rewording import reword
from rlhf.records import Message, Prompt

TYPO_RATE = 0.05
"""Share of letters that are mistyped."""

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    key: "".join(row[max(0, at - 1) : at] + row[at + 1 : at + 2]) for row in _ROWS for at, key in enumerate(row)
}
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+(?!\s)[^.!?\n]+)*[.!?]*")
_WORD = re.compile(r"[a-z]{4,}")
_LEAD_IN = "Here are some notes. Not all of them matter."


def typos(prompts: Sequence[Prompt]) -> list[Prompt]:
    """About 5% of the letters mistyped (a key beside, two swapped, one left out), at least one; no digits."""
    return [_rewritten(p, "typos", with_context(*(_mistyped(t, _rng(p, "typos")) for t in _parts(p)))) for p in prompts]


def paraphrase(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The question in other words, by rules (see `rewording.py`); its context stays as it is."""
    return [
        _rewritten(p, "paraphrase", with_context(reword(instruction, _rng(p, "paraphrase")), context))
        for p in prompts
        for instruction, context in [_parts(p)]
    ]


def long_context(prompts: Sequence[Prompt], others: Sequence[Prompt] | None = None, budget: int = 600) -> list[Prompt]:
    """Unrelated sentences from other prompts' contexts (without any: from references) put before the question.

    Args:
        prompts: what is rewritten.
        others: prompts that the sentences come from, the more the more varied; `prompts` themselves where None.
        budget: characters of the message that the added sentences may fill; one is added even where it does not fit.
    """
    others = prompts if others is None else others
    contexts = [split_context(_last(p))[1] for p in others]
    passages = [text for text in (contexts if any(contexts) else [p.reference for p in others]) if text]
    return [
        _rewritten(p, "long_context", _with_notes(_last(p), passages, budget, _rng(p, "long_context"))) for p in prompts
    ]


PERTURBATIONS: dict[str, Callable[[Sequence[Prompt]], list[Prompt]]] = {
    "typos": typos,
    "paraphrase": paraphrase,
    "long_context": long_context,
}


def _with_notes(message: str, passages: Sequence[str], budget: int, rng: Random) -> str:
    """The message behind the opening sentences of some passages, of a few drawn at random the least related ones."""
    drawn = rng.sample(range(len(passages)), min(len(passages), 40))
    others = [passages[index] for index in drawn if passages[index] not in message]
    notes: list[str] = []
    room = budget - len(message) - len(_LEAD_IN)
    for passage in sorted(others, key=lambda passage: _likeness(passage, message)):
        for sentence in _SENTENCE.findall(passage):
            if notes and len(sentence) + 1 > room:
                break
            notes.append(sentence.strip())
            room -= len(sentence) + 1
        if room < 40:
            break
    return "\n\n".join([_LEAD_IN, " ".join(notes), message]) if notes else message


def _likeness(passage: str, message: str) -> float:
    """Share of the longer words of a passage that the message has too."""
    words = set(_WORD.findall(passage.lower()))
    return len(words & set(_WORD.findall(message.lower()))) / len(words) if words else 1.0


def _mistyped(text: str, rng: Random) -> str:
    """The text with mistakes in about one letter of twenty; letters only, at least one where there are two."""
    letters = [at for at, sign in enumerate(text) if sign.lower() in _NEIGHBOURS]
    wrong = {at for at in letters if rng.random() < TYPO_RATE}
    if not wrong and len(letters) > 1:
        wrong = {rng.choice(letters)}
    typed, at = [], 0
    while at < len(text):
        sign, step = text[at], 1
        if at in wrong:
            sign, step = _mistake(text, at, rng)
        typed.append(sign)
        at += step
    return "".join(typed)


def _mistake(text: str, at: int, rng: Random) -> tuple[str, int]:
    """What is typed instead of the letter at a position, and how many letters that uses up."""
    sign, following = text[at], text[at + 1 : at + 2]
    kind = rng.choice(("neighbour", "swap", "drop"))
    if kind == "swap" and following.lower() in _NEIGHBOURS and following != sign:
        return following + sign, 2
    if kind == "drop":
        return "", 1
    typed = rng.choice(_NEIGHBOURS[sign.lower()])
    return (typed.upper() if sign.isupper() else typed), 1


def _last(prompt: Prompt) -> str:
    return prompt.prompt[-1].content


def _parts(prompt: Prompt) -> tuple[str, str]:
    return split_context(_last(prompt))


def _rewritten(prompt: Prompt, suite: str, message: str) -> Prompt:
    turns = (*prompt.prompt[:-1], Message(prompt.prompt[-1].role, message))
    return replace(prompt, prompt=turns, suite=suite, origin=prompt.origin or prompt.id)


def _rng(prompt: Prompt, purpose: str) -> Random:
    return generator(f"{prompt.id} {_last(prompt)}", purpose)
