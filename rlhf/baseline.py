"""What returns the reward model foresees: a regression that stands under the value head, at next to no price.

    read = reader(reward_model)
    scores, features = read(prompts, replies)                # one pass of the reward model for both
    foreseen = ReturnBaseline()(features, returns, mask)     # by a regression that has not seen these; then it learns

The reward model has read what makes a reply good long before a value head has learned it from rewards. Its hidden state
before each token is therefore regressed on the return of that token, anew with each rollout and without gradients; the
value head learns what is left. N replies, R response tokens, K features.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from reward_model import RewardModel
from rlhf.randomness import generator
from rlhf.rewards.core import ReadFunction

FEATURES = 256
"""Wider states are projected at random to so many numbers, so that the regression stays cheap for any model."""
FOLDS = 8
"""Parts of a rollout; each is foreseen by the regression on the other ones and on earlier rollouts."""
DECAY = 0.9
"""Weight of a rollout after each further one: returns change with the policy."""
PENALTIES = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, float("inf"))
"""Candidates for the ridge penalty, in mean variances of a feature; infinity foresees the mean."""


def reader(model: RewardModel, batch_size: int = 64, seed: int = 0, features: bool = True) -> ReadFunction:
    """Reads replies once: what the reward model gives them, and its hidden state before each of their tokens.

    Args:
        model: on the backbone or beside it.
        batch_size: replies at a time, at most.
        seed: of the random projection of wide states.
        features: whether the states are wanted.
    """

    def read(prompts: list[list[int]], replies: list[list[int]]) -> tuple[Tensor, Tensor | None]:
        before = torch.tensor([len(prompt) for prompt in prompts]) - 1
        tokens = torch.arange(max(map(len, replies), default=0))
        found: dict[int, Tensor] = {}

        def note(rows: Tensor, states: Tensor) -> None:
            at = (before[rows, None] + tokens).clamp(max=states.shape[1] - 1)  # beyond the end: padding
            of_replies = states[torch.arange(len(rows))[:, None], at]
            found.update(zip(rows.tolist(), as_features(of_replies, seed), strict=True))

        sequences = [prompt + reply for prompt, reply in zip(prompts, replies, strict=True)]
        scores = model.score_ids(sequences, batch_size, note if features else None)
        return scores, torch.stack([found[row] for row in range(len(scores))]) if features else None

    return read


def as_features(states: Tensor, seed: int) -> Tensor:
    """(…, K) fp32 of states (…, D): the same where D is at most `FEATURES`, else K = `FEATURES`."""
    states, width = states.float(), states.shape[-1]
    if width <= FEATURES:
        return states
    projection = torch.randn(width, FEATURES, generator=generator(seed, "baseline")) / width**0.5
    return states @ projection.to(states)


class Moments(NamedTuple):
    """Sums over tokens, in float64, from which a regression of y on x follows. They add up and subtract."""

    tokens: Tensor
    x: Tensor
    """(K,)"""
    y: Tensor
    xx: Tensor
    """(K, K)"""
    xy: Tensor
    """(K,)"""

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Self:
        """Of features (N, K) and targets (N,)."""
        return cls(torch.tensor(float(len(y)), dtype=y.dtype), x.sum(0), y.sum(), x.t() @ x, x.t() @ y)

    def plus(self, other: Self, weight: float = 1.0) -> Self:
        return type(self)(*(one + weight * two for one, two in zip(self, other, strict=True)))

    def ridge(self, penalties: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        """Weights (p, K) and intercepts (p,) of least Σ (y − w·x − c)² + penalty · v · |w|², v the mean variance."""
        mean_x, mean_y = self.x / self.tokens, self.y / self.tokens
        spread = self.xx - self.tokens * torch.outer(mean_x, mean_x)
        along = self.xy - self.tokens * mean_x * mean_y
        scales, axes = torch.linalg.eigh(spread)
        scales = scales.clamp(min=0)
        penalty = torch.tensor(penalties, dtype=scales.dtype)[:, None] * (scales.mean() / self.tokens + 1e-12)
        weights = (axes.t() @ along / (scales + penalty)) @ axes.t()
        return weights, mean_y - weights @ mean_x


class ReturnBaseline:
    """Ridge regression of returns on the reward model's states, over the rollouts so far."""

    def __init__(self) -> None:
        self.moments: Moments | None = None
        """Of the rollouts so far; what a checkpoint keeps."""

    def __call__(self, features: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        """The returns foreseen (N, R), 0 on padding and where the numbers are not finite; then learns from them.

        Args:
            features: (N, R, K).
            returns: (N, R), discounted sums of the rewards from each token on.
            mask: (N, R) boolean.
        """
        real = mask.cpu()
        x, y = features.cpu().double(), returns.cpu().double()
        if not (x[real].isfinite().all() and y[real].isfinite().all()):
            return torch.zeros_like(returns)
        folds = torch.arange(len(y)) % min(FOLDS, len(y))
        parts = [Moments.of(x[rows][real[rows]], y[rows][real[rows]]) for rows in (folds == f for f in folds.unique())]
        before = self.moments
        whole = parts[0] if before is None else parts[0].plus(before, DECAY)
        for part in parts[1:]:
            whole = whole.plus(part)
        self.moments = whole
        foreseen = torch.zeros(len(PENALTIES), *y.shape, dtype=y.dtype)
        for f, part in enumerate(parts):
            others = whole.plus(part, -1.0)
            if others.tokens > 0:
                weights, intercepts = others.ridge(PENALTIES)
                rows = folds == f
                foreseen[:, rows] = torch.einsum("brk,pk->pbr", x[rows], weights) + intercepts[:, None, None]
        error = ((foreseen - y)[:, real] ** 2).mean(1)
        return foreseen[error.argmin()].where(real, 0.0).to(returns)
