"""The arithmetic of PPO, for language models and for the lab: pure functions on tensors, no model, no I/O.

Notation: B sequences, T response tokens. Every `mask` is boolean (B, T), True on real response tokens
(the end-of-sequence token included) and False on padding. KL and entropies are in nats.

In the lab a sequence is what one environment did, a token is a step, and the mask is False on steps that only reset the
environment. Losses take None for a mask that is True everywhere, and then tensors of any shape.
"""

from typing import NamedTuple

import torch
from torch import Tensor


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of `x` (B, T) over the True entries of `mask` (B, T); 0 where there are none."""
    if mask is None:
        return x.mean()
    return (x * mask).sum() / mask.sum().clamp(min=1)


def whiten(x: Tensor, mask: Tensor | None) -> Tensor:
    """`x` (B, T) shifted and scaled to mean 0 and variance 1 over the True entries of `mask`; 0 elsewhere."""
    mean = masked_mean(x, mask)
    variance = masked_mean((x - mean) ** 2, mask)
    white = (x - mean) * torch.rsqrt(variance + 1e-8)
    return white if mask is None else white * mask


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 − Var(return − value) / Var(return) over real tokens: 1 foresees all, 0 no more than the mean, below 0 less."""
    left, whole = (x[mask].float() for x in (returns - values, returns))
    return (1 - left.var(correction=0) / whole.var(correction=0).clamp(min=1e-12)).item()


def kl_per_token(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, estimator: str = "k1") -> Tensor:
    """Per-token estimate (B, T) of KL(policy || reference) from tokens that the policy sampled; 0 on padding.

    k1 = log(p/q) is unbiased but may be negative; k3 = (q/p - 1) + log(p/q) is unbiased and never negative
    (Schulman, "Approximating KL Divergence", joschu.net/blog/kl-approx.html).
    """
    log_ratio = (logprobs - ref_logprobs).masked_fill(~mask, 0.0)
    return log_ratio if estimator == "k1" else torch.expm1(-log_ratio) + log_ratio


def shaped_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Per-token rewards (B, T): -kl_coef · KL on each token, plus the score (B,) on the last real token.

    Ziegler et al. 2019 (arXiv 1909.08593), equation 2, spread over the tokens as in Stiennon et al. 2020.
    """
    rewards = -kl_coef * kl * mask
    last = mask.long().sum(dim=1).clamp(min=1) - 1
    return rewards.scatter_add(1, last.unsqueeze(1), scores.unsqueeze(1).to(rewards.dtype))


class Ends(NamedTuple):
    """Where episodes of environments end, and what is expected behind the steps that were taken."""

    continues: Tensor
    """(B, T), True unless the step ended its episode for good (termination): what lies behind is then worth 0."""
    bootstrap: Tensor
    """(B,), the value of the state behind the last step."""


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float, ends: Ends | None = None
) -> tuple[Tensor, Tensor]:
    """Advantages and returns, both (B, T) and 0 on padding, by GAE (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

    `values[:, t]` is the value before token t; behind the last real token the episode is over (value 0) without `ends`.

    With `ends`, a row is several episodes of an environment that resets itself on the step after an episode's last
    (Gymnasium's AutoresetMode.NEXT_STEP): mask is False on that step, from the state in which the episode ended to the
    first of the next. `values` there is the value of the state in which it ended, and an episode that was cut short
    (truncation) is worth that much behind its last step.
    """
    rewards = rewards * mask
    values = values * mask if ends is None else values
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(running) if ends is None else ends.bootstrap
    for t in reversed(range(rewards.shape[1])):
        after = next_value if ends is None else next_value * ends.continues[:, t]
        delta = rewards[:, t] + gamma * after - values[:, t]
        running = (delta + gamma * lam * running) * mask[:, t]
        advantages[:, t] = running
        next_value = values[:, t]
    return advantages, (advantages + values) * mask


class ClippedLoss(NamedTuple):
    """A loss and the share of tokens on which the clipped branch was the larger one."""

    loss: Tensor
    clip_fraction: Tensor


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor | None, clip: float
) -> ClippedLoss:
    """The clipped surrogate, to be minimised (Schulman et al. 2017, arXiv 1707.06347, eq. 7); inputs (B, T)."""
    log_ratio = logprobs - old_logprobs
    ratio = torch.exp(log_ratio if mask is None else log_ratio.masked_fill(~mask, 0.0))
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return ClippedLoss(masked_mean(torch.maximum(plain, clipped), mask), masked_mean((clipped > plain).float(), mask))


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor | None, clip: float | None
) -> ClippedLoss:
    """Half the squared error, or that of the prediction held within ±clip of the old one if larger; inputs (B, T).

    With `clip` None it is the squared error alone.
    """
    if clip is None:
        return ClippedLoss(0.5 * masked_mean((values - returns) ** 2, mask), values.new_zeros(()))
    near = values.clamp(old_values - clip, old_values + clip)  # exactly the value where it is near
    plain, clipped = (values - returns) ** 2, (near - returns) ** 2
    return ClippedLoss(
        0.5 * masked_mean(torch.maximum(plain, clipped), mask), masked_mean((clipped > plain).float(), mask)
    )


class KLController:
    """The KL coefficient: fixed, or adapted so that the KL stays near a target.

    Ziegler et al. 2019, section 2.2: coef ← coef · (1 + clip(KL/target - 1, ±0.2) · episodes/horizon).

    Args:
        coef: starting coefficient.
        target: wanted KL in nats a response; None keeps `coef` fixed.
        horizon: episodes over which the controller reacts.
    """

    def __init__(self, coef: float, target: float | None = None, horizon: int = 10_000) -> None:
        self.coef = coef
        self.target = target
        self.horizon = horizon

    def update(self, kl: float, episodes: int) -> None:
        """Adapt to a measured KL (nats a response, mean over `episodes` responses)."""
        if self.target is None:
            return
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.coef *= 1 + error * episodes / self.horizon
