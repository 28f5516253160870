"""Properties of replies that need no reference: diversity and repetition. Words are runs of letters and digits."""

import re
from collections.abc import Iterable

REPEATED_SIZES = (3, 4)
SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\d\.)\s+|\n\s*")
"""The white space between two sentences or lines; a number and a dot, as in a list, end none."""


def words(text: str) -> list[str]:
    """The words of a text, case folded."""
    return re.findall(r"\w+", text.casefold())


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text that have a word in them."""
    return [part for part in SENTENCE_END.split(text.strip()) if words(part)]


def _ngrams(tokens: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


def distinct_n(texts: Iterable[str], n: int) -> float | None:
    """Distinct n-grams over all n-grams, pooled over the texts (Li et al. 2016, arXiv 1510.03055); 0 to 1.

    It falls as texts get more or longer: compare it only between sets of one size. None where there is no n-gram.
    """
    grams = [gram for text in texts for gram in _ngrams(words(text), n)]
    return len(set(grams)) / len(grams) if grams else None


def repetition(text: str) -> float:
    """Share of a reply's 3- and 4-grams (pooled) that repeat an earlier one in the same reply; 0 to 1.

    0 for replies too short to have such n-grams.
    """
    tokens = words(text)
    grams = [gram for n in REPEATED_SIZES for gram in _ngrams(tokens, n)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
