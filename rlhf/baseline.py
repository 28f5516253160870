"""What returns the reward model foresees: a regression that stands under the value head, at the price of one more pass.

    baseline = ReturnBaseline(states_of(reward_model, backbone))
    features = baseline.features(sequences, attention_mask, mask)
    foreseen = baseline(features, returns, mask)     # by a regression that has not seen these replies; then it learns

The reward model has read what makes a reply good long before a value head has learned it from rewards. Its hidden state
before each token is therefore regressed on the return of that token, anew with each rollout and without gradients; the
value head learns what is left. B sequences, R response tokens, K features.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from reward_model import RewardModel
from rlhf.backbone import Backbone, SharedRewardModel
from rlhf.logprobs import reply_hidden
from rlhf.randomness import generator

StatesFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Sequences (B, P + R), their attention mask and the mask (B, R) of responses → hidden states (B, R, D) before each
response token."""

FEATURES = 256
"""Wider states are projected at random to so many numbers, so that the regression stays cheap for any model."""
FOLDS = 8
"""Parts of a rollout; each is foreseen by the regression on the other ones and on earlier rollouts."""
DECAY = 0.9
"""Weight of a rollout after each further one: returns change with the policy."""
PENALTIES = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, float("inf"))
"""Candidates for the ridge penalty, in mean variances of a feature; infinity foresees the mean."""


def states_of(model: RewardModel, backbone: Backbone) -> StatesFunction:
    """Reads the hidden states of a reward model, on the backbone or beside it."""
    network: Any = model.model
    shared = isinstance(network, SharedRewardModel)

    def read(sequences: Tensor, attention_mask: Tensor, mask: Tensor) -> Tensor:
        with backbone.role("reward") if shared else nullcontext(network) as trunk:
            return reply_hidden(trunk, sequences, attention_mask, sequences.shape[1] - mask.shape[1])

    return read


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
    """Ridge regression of returns on the reward model's states, over the rollouts so far.

    Args:
        read: gives the states.
        seed: of the random projection.
    """

    def __init__(self, read: StatesFunction, seed: int = 0) -> None:
        self.read = read
        self.seed = seed
        self.moments: Moments | None = None
        """Of the rollouts so far; what a checkpoint keeps."""

    def features(self, sequences: Tensor, attention_mask: Tensor, mask: Tensor) -> Tensor:
        """(B, R, K), K at most `FEATURES`."""
        states = self.read(sequences, attention_mask, mask).float()
        width = states.shape[-1]
        if width <= FEATURES:
            return states
        projection = torch.randn(width, FEATURES, generator=generator(self.seed, "baseline")) / width**0.5
        return states @ projection.to(states)

    def __call__(self, features: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        """The returns foreseen (B, R), 0 on padding and where the numbers are not finite; then learns from them.

        Args:
            features: (B, R, K).
            returns: (B, R), discounted sums of the rewards from each token on.
            mask: (B, R) boolean.
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
