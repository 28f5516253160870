"""Rewards that read the text alone: length, distinct words, coherence. Words and n-grams are those of the report.

    Length(5, 60)(prompts, completions)          # 1 from 5 to 60 words
    Coherence()(prompts, completions)            # sentences as counts of words; or Coherence(Embedder(path))

A reply without a word gets 0 from `Length` and `Distinct`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rlhf.evaluation.text import distinct_n, sentences, words

Embed = Callable[[list[str]], Tensor]
"""N texts → (N, D) fp32, rows of length 1, or 0 where there is nothing to embed."""


class Length:
    """min(w / fewest, 1, most / w) of a reply of w words: 0 to 1, and 1 within the band, both ends included."""

    def __init__(self, fewest: int, most: int) -> None:
        self.fewest, self.most = fewest, most

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
        counts = [len(words(completion)) for completion in completions]
        return [min(count / self.fewest, 1.0, self.most / max(count, 1)) for count in counts]


class Distinct:
    """Distinct n-grams over all n-grams of a reply (distinct-n, Li et al. 2016, arXiv 1510.03055), 0 to 1.

    0 where it has no n-gram. Longer replies have lower shares.
    """

    def __init__(self, n: int = 1) -> None:
        self.n = n

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
        return [distinct_n([completion], self.n) or 0.0 for completion in completions]


class Coherence:
    """Mean cosine of each two neighbouring sentences of a reply; None for fewer than two sentences.

    Foltz, Kintsch & Landauer 1998, "The measurement of textual coherence with latent semantic analysis", with the
    embeddings at hand in place of theirs. It says how much a sentence is about what the one before it was about, and
    nothing of logic: a sentence said twice gets 1.

    Args:
        embed: of sentences; by default `word_counts`, with which it is the overlap of words, 0 to 1.
    """

    def __init__(self, embed: Embed | None = None) -> None:
        self.embed = embed or word_counts

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float | None]:
        parts = [sentences(completion) for completion in completions]
        if not any(len(part) > 1 for part in parts):
            return [None] * len(parts)
        vectors = self.embed([sentence for part in parts for sentence in part]).split([len(part) for part in parts])
        return [(v[:-1] * v[1:]).sum(1).mean().item() if len(v) > 1 else None for v in vectors]


def word_counts(texts: list[str]) -> Tensor:
    """How often each word of all N texts is in each of them, (N, words), rows of length 1."""
    counted = [words(text) for text in texts]
    index = {word: at for at, word in enumerate(dict.fromkeys(word for text in counted for word in text))}
    counts = torch.zeros(len(texts), max(len(index), 1))
    for row, text in enumerate(counted):
        for word in text:
            counts[row, index[word]] += 1
    return F.normalize(counts, dim=1)
