"""What a reply is worth in `lab.chat`: the words that it shares with the reference; and the best reply to everything.

shared_words(["Rome"], ["The capital is Rome."])            # [0.4]
best_constant(["Rome is big.", "Oslo is small."])           # "is": to know better, one has to read the question
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

FREQUENT = 12
"""Words of which the best constant reply may be made; the next more frequent one is in few references."""


def shared_words(completions: list[str], reference: list[str], **columns: list[Any]) -> list[float]:
    """F1 of the words of reply and reference, each as often as it stands (Rajpurkar et al. 2016, arXiv 1606.05250).

    0 where they share none, 1 where the reply has all of the reference's words and no others.
    """
    return [_f1(_words(one), _words(other)) for one, other in zip(completions, reference, strict=True)]


def best_constant(references: Sequence[str], frequent: int = FREQUENT) -> str:
    """Of all replies made of the most frequent words, each once or not at all, the one with the highest mean F1.

    Args:
        references: N of them.
        frequent: K, how many words; all 2^K - 1 replies are tried.
    """
    bags = [_words(reference) for reference in references]
    counted = Counter(word for bag in bags for word in bag)
    words = [word for word, _ in counted.most_common(frequent)]
    there = np.array([[word in bag for word in words] for bag in bags], np.float32)  # (N, K)
    chosen = (np.arange(1, 2 ** len(words))[:, None] >> np.arange(len(words)) & 1).astype(np.float32)  # (2^K - 1, K)
    lengths = np.array([bag.total() for bag in bags], np.float32)[:, None]
    best = (2 * there @ chosen.T / (lengths + chosen.sum(1))).mean(0).argmax()
    return " ".join(word for word, taken in zip(words, chosen[best], strict=True) if taken)


def _words(text: str) -> Counter[str]:
    """In lower case, without the punctuation around them; what else stands beside a letter makes it another word."""
    return Counter(filter(None, (word.strip(".,!?").lower() for word in text.split())))


def _f1(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 0.0
