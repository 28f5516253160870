"""The rating that people would give a reply, learned from rated replies by ridge regression.

    quality = Quality(read_ratings("ratings.jsonl"), text_features)
    quality(prompts=["Where is Rome?"], completions=["In Italy."])        # 0 to 1
    quality.r2                                                            # what it is worth: below 0 is nothing

N replies, F features. The features are properties of the text, or sentence embeddings (`embedding_features`).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlhf.config import SourceSpec
from rlhf.data.jsonl import SOURCE
from rlhf.errors import UserError
from rlhf.evaluation.text import repetition, words
from rlhf.records import Demonstration
from rlhf.rewards.text import Distinct, Embed
from rlhf.rewards.tokens import as_text

Features = Callable[[list[str], list[str]], Tensor]
"""Prompts and completions → (N, F) float64."""

FEWEST = 10
"""Ratings that a regression needs at least."""


class Quality:
    """clip(b + w · z, 0, 1), z the standardised features: w, b minimise Σ (rating − b − w · z)² + λ |w|².

    Hoerl & Kennard 1970; equal ratings give equal weights, whatever the machine's random numbers.

    Args:
        rated: replies with a quality, 0 to 1.
        features: what the regression reads.
        ridge: λ.
    """

    def __init__(self, rated: list[Demonstration], features: Features, ridge: float = 1.0) -> None:
        self.features = features
        given = features([as_text(row.prompt) for row in rated], [row.completion for row in rated])
        ratings = torch.tensor([row.quality for row in rated], dtype=torch.float64)
        self.centre, spread = given.mean(0), given.std(0, correction=0)
        self.scale = torch.where(spread > 1e-9, spread, 1.0)  # a feature that never varies has weight 0
        z = (given - self.centre) / self.scale
        projection = torch.linalg.solve(z.T @ z + ridge * torch.eye(z.shape[1], dtype=z.dtype), z.T)
        self.bias = ratings.mean()
        self.weights = projection @ (ratings - self.bias)
        self.r2 = _r2_leaving_one_out(z, projection, ratings, ratings - self.bias - z @ self.weights)

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
        z = (self.features(prompts, completions) - self.centre) / self.scale
        return (self.bias + z @ self.weights).clamp(0, 1).tolist()


def _r2_leaving_one_out(z: Tensor, projection: Tensor, ratings: Tensor, residuals: Tensor) -> float:
    """Share of the ratings' variance that is predicted, each by the regression on the others; both predictions and
    means leave it out. A residual left out is the residual over 1 − leverage (Allen 1974, PRESS)."""
    count = len(ratings)
    leverage = 1 / count + (z * projection.T).sum(1)
    left_out = residuals / (1 - leverage)
    from_mean = (ratings - ratings.mean()) / (1 - 1 / count)
    return (1 - left_out.square().sum() / from_mean.square().sum()).item()


def read_ratings(path: str) -> list[Demonstration]:
    """The rows of a JSON-lines file that have a quality. Raises `UserError` where they are too few, or all equal."""
    rated = [row for row in SOURCE.demonstrations(SourceSpec(source="jsonl", path=path)) if row.quality is not None]
    if len(rated) < FEWEST or len({row.quality for row in rated}) == 1:
        raise UserError(
            f"{path} holds too few ratings for the reward quality.",
            expected=f"at least {FEWEST} rows with the key quality, 0 to 1, not all equal",
            found=f"{len(rated)} rows with {len({row.quality for row in rated})} different values",
        )
    return rated


def text_features(prompts: list[str], completions: list[str]) -> Tensor:
    """(N, 5): log of 1 + words, letters a word, share of distinct words, of repeated 3- and 4-grams, and of the
    prompt's words that the reply takes up."""
    distinct = Distinct()(prompts, completions)
    rows = []
    for prompt, completion, share in zip(prompts, completions, distinct, strict=True):
        said, asked = words(completion), set(words(prompt))
        letters = sum(map(len, said)) / max(len(said), 1)
        taken_up = len(asked & set(said)) / max(len(asked), 1)
        rows.append([math.log1p(len(said)), letters, share, repetition(completion), taken_up])
    return torch.tensor(rows, dtype=torch.float64)


def embedding_features(embed: Embed) -> Features:
    """(N, D + 1): the reply's embedding, and its cosine with the prompt's."""

    def features(prompts: list[str], completions: list[str]) -> Tensor:
        asked, said = embed(prompts).double(), embed(completions).double()
        return torch.cat([said, (asked * said).sum(1, keepdim=True)], dim=1)

    return features
