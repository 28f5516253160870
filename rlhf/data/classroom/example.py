"""What a task of the classroom makes: a prompt, the ways to answer it, wrong answers to it, and its answer key."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

from rlhf.data.classroom.judge import Key
from rlhf.data.layout import with_context

_BEFORE = (
    "", "", "", "Please tell me: ", "I have a question: ", "Hello! ", "Can you help me? ", "My friend asks: ",
    "For school: ", "Quick question: ", "One more question: ", "For my homework: ", "Dear teacher: ",
)  # fmt: skip
_AFTER = (
    "", "", "", " Please answer.", " Thank you.", " Answer in one sentence.", " I want to learn.", " Keep it short.",
    " It is for a friend.",
)  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """One example of a task."""

    text: str
    """The instruction, and the passage that it is about, where there is one."""
    category: str
    """One of Dolly's eight."""
    task: str
    templates: tuple[str, ...]
    """Whole sentences with "{}" where the answer goes; the first is the usual one."""
    answer: str
    wrong: tuple[tuple[str, str], ...]
    """Wrong answers that fit the same place: why each is wrong, and the answer.

    Why: "wrong_fact" (a usual mistake), "mixed_up" (right elsewhere), "context_ignored" (not in the passage)."""
    key: Key

    def sentence(self, answer: str, template: int = 0) -> str:
        """A whole sentence that gives this answer."""
        return capital(self.templates[template % len(self.templates)].replace("{}", answer))


def capital(text: str) -> str:
    """The text with its first letter a capital."""
    return text[:1].upper() + text[1:]


def wrap(rng: random.Random, question: str, passage: str = "") -> str:
    """A question in one of many framings, and the passage that it is about."""
    return with_context(f"{rng.choice(_BEFORE)}{capital(question)}{rng.choice(_AFTER)}", passage)


def join(words: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def others(words: Iterable[str], *, but: Iterable[str]) -> list[str]:
    """The distinct words of a list besides some, in the list's order."""
    excluded = set(but)
    return [word for word in dict.fromkeys(words) if word not in excluded]


def lower(words: Iterable[str]) -> frozenset[str]:
    """The words as an answer key holds them."""
    return frozenset(word.casefold() for word in words)
