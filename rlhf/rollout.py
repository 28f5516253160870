"""Sampled responses and everything that PPO's update needs about them: the first half of each update.

    samples = Sampler(args, settings, tokenizer, backbone, score)(actor_critic, prompts, luck)
    rollout = with_advantages(samples, kl_coef, args)

B sequences, P prompt tokens (padded left), R response tokens (padded right), V vocabulary entries.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerFast
from trl.experimental.ppo import PPOConfig

from rlhf.actor_critic import ActorCritic
from rlhf.backbone import Backbone
from rlhf.config import PPOSection
from rlhf.decoding import Decoded, Sampling, decode
from rlhf.logprobs import masked_logprobs
from rlhf.oom import RowsThatFit
from rlhf.padding import even_slices, left_margin
from rlhf.ppo_math import explained_variance, generalized_advantages, kl_per_token, shaped_rewards, whiten
from rlhf.rewards.core import Scores
from rlhf.stop_token import stop_token_id
from rlhf.stopwatch import Stopwatch

T = TypeVar("T")
ScoreFunction = Callable[..., Tensor | Scores]
"""Prompts and replies as token ids, unpadded (and, where the prompts have them, the numbers of their rows) → rewards
(N,), or `Scores`, whose parts the attribute `names` of the function names, perhaps with features for a baseline."""
BaselineFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Features (B, R, F), returns (B, R) and the mask (B, R) of responses → what of the returns was to be foreseen."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Sampled responses, as the networks see them before any update."""

    sequences: Tensor
    """(B, P + R) token ids."""
    attention_mask: Tensor
    """(B, P + R), 1 on real tokens."""
    mask: Tensor
    """(B, R) boolean, True on real response tokens, the end of sequence included."""
    ended: Tensor
    """(B,) boolean: the response stopped by itself before the limit."""
    logprobs: Tensor
    """(B, R) under the policy that sampled."""
    ref_logprobs: Tensor
    """(B, R) under the reference."""
    values: Tensor
    """(B, R), the value before each token."""
    scores: Tensor
    """(B,) rewards, clipped and penalised."""
    parts: Tensor
    """(B, K), what each reward function gave, as in `rewards.core.Scores`."""
    logprob_gap: Tensor
    """(B, R) difference between the log-probabilities of sampling and of training, ≥ 0; 0 where not measured."""
    features: Tensor | None = None
    """(B, R, F) of the response tokens, of which a baseline foresees returns."""

    @property
    def prompt_width(self) -> int:
        return self.sequences.shape[1] - self.mask.shape[1]

    def rows(self, index: Tensor) -> Self:
        """The same for some of the sequences."""
        return self.each(lambda _, values: values[index])

    def each(self, change: Callable[[str, Tensor], Tensor]) -> Self:
        """The same with each field exchanged for `change(name, values)`, but for those that are not there."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(name, value) for name, value in values.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class Rollout(Samples):
    """Samples of the whole batch and what PPO makes of them; it stays fixed during the update."""

    advantages: Tensor
    """(B, R), whitened."""
    returns: Tensor
    """(B, R), less what was foreseen: what the value head is to learn."""
    foreseen: Tensor
    """(B, R), by the baseline; 0 without one."""

    def explained_variance(self) -> float:
        """Share of the variance of returns that baseline and value head explain."""
        return explained_variance(self.values + self.foreseen, self.returns + self.foreseen, self.mask)


def with_advantages(
    samples: Samples, kl_coef: float, args: PPOConfig, baseline: BaselineFunction | None = None
) -> Rollout:
    """Rewards from scores and KL, then advantages, whitened over the whole batch.

    Args:
        samples: of all processes.
        kl_coef: weight of the KL in the rewards.
        args: `kl_estimator`, `whiten_rewards`, `gamma`, `lam`.
        baseline: foresees the sums of the rewards from each token on. The value head stands on it: a value is the sum
            of both.

    Raises:
        ValueError: there is a baseline, and the samples have no features.
    """
    mask = samples.mask
    kl = kl_per_token(samples.logprobs, samples.ref_logprobs, mask, args.kl_estimator)
    rewards = shaped_rewards(samples.scores, kl, mask, kl_coef)
    if args.whiten_rewards:
        rewards = whiten(rewards, mask)
    foreseen = torch.zeros_like(rewards)
    if baseline is not None:
        if samples.features is None:
            raise ValueError("a baseline needs a score function that gives features")
        sums = generalized_advantages(rewards, foreseen, mask, args.gamma, 1.0)[1]
        foreseen = baseline(samples.features, sums, mask)
    values = samples.values + foreseen
    advantages, returns = generalized_advantages(rewards, values, mask, args.gamma, args.lam)
    rest = {field.name: getattr(samples, field.name) for field in fields(samples)}
    rest["features"] = None  # have served
    return Rollout(**rest, advantages=whiten(advantages, mask), returns=returns - foreseen, foreseen=foreseen)


def trusted(rollout: Rollout, max_logprob_gap: float | None) -> Rollout:
    """The rollout without the advantages of tokens on which sampling and training disagree by more than a bound.

    Such a token was hardly drawn from the policy that is trained (Yao et al. 2025, "Your Efficient RL Framework
    Secretly Brings You Off-Policy RL Training"); with an advantage of 0 it takes no part in the policy's loss.
    """
    if max_logprob_gap is None:
        return rollout
    return replace(rollout, advantages=rollout.advantages.masked_fill(rollout.logprob_gap > max_logprob_gap, 0.0))


class Sampler:
    """Samples a response to each prompt and scores it.

    Args:
        args: TRL's configuration.
        settings: our own PPO settings.
        tokenizer: pad and end-of-sequence differ.
        backbone: samples with the policy, compares with the reference.
        score: rewards of prompts and replies.
        stopwatch: notes the seconds of "rollout" (sampling) and "score" (all the rest).
        exact_decoding: take log-probabilities and values from the sampling itself. Without, a forward pass of training
            gives them, as it must where sampling rounds otherwise (bf16, 8 and 4 bits).
    """

    def __init__(
        self,
        args: PPOConfig,
        settings: PPOSection,
        tokenizer: PreTrainedTokenizerFast,
        backbone: Backbone,
        score: ScoreFunction,
        stopwatch: Stopwatch | None = None,
        exact_decoding: bool = True,
    ) -> None:
        self.args = args
        self.settings = settings
        self.pad = tokenizer.pad_token_id
        self.backbone = backbone
        self.score = score
        self.stopwatch = stopwatch or Stopwatch()
        self.exact_decoding = exact_decoding
        self.rows = RowsThatFit("sampling")
        stop = stop_token_id(args, tokenizer)
        self.sampling = Sampling(args.response_length, () if stop is None else (stop,), self.pad, args.temperature)

    @torch.no_grad()
    def __call__(self, actor_critic: ActorCritic, prompts: dict[str, Tensor], luck: Tensor) -> Samples:
        """Everything about the responses but their advantages.

        Args:
            actor_critic: the backbone's policy and a value head, perhaps in a wrapper for several processes.
            prompts: "input_ids" and "attention_mask", (B, P), padded left, on the model's device.
            luck: (B, response_length), uniform in [0, 1): decides each token.
        """
        by_length = prompts["attention_mask"].sum(1).argsort(stable=True)  # slices of like length hold little padding
        ids, prompt_mask = prompts["input_ids"][by_length], prompts["attention_mask"][by_length]
        with self.stopwatch("rollout"):
            decoded = self.sample(actor_critic, ids, prompt_mask, luck[by_length.cpu()])
        with self.stopwatch("score"):
            numbers = [prompts["row"][by_length].tolist()] if "row" in prompts else []
            samples = self._judge(actor_critic, ids, prompt_mask, decoded, *numbers)
        return samples.rows(by_length.argsort())  # in the order of the prompts again

    def _judge(
        self, actor_critic: ActorCritic, ids: Tensor, prompt_mask: Tensor, decoded: Decoded, *numbers: list[int]
    ) -> Samples:
        """What every network says about the responses (B, R) to prompts (B, P), with their rows' numbers, if any."""
        sequences = torch.cat([ids, decoded.tokens], dim=1)
        attention_mask = torch.cat([prompt_mask, decoded.mask.to(prompt_mask.dtype)], dim=1)
        logprobs, values = decoded.logprobs, decoded.values
        if not (self.exact_decoding and _unwrapped(actor_critic).shares_trunk):
            logprobs, values = self.policy_scores(actor_critic, sequences, attention_mask, decoded.mask)
        ref_logprobs = self.reference_logprobs(sequences, attention_mask, decoded.mask)
        raw, parts, features = self._score(sequences, attention_mask, decoded.mask, *numbers)
        scores = self.clip_and_penalise(raw, decoded.ended)
        return Samples(
            sequences=sequences, attention_mask=attention_mask, mask=decoded.mask, ended=decoded.ended,
            logprobs=logprobs, ref_logprobs=ref_logprobs, values=values, scores=scores, parts=parts,
            features=features, logprob_gap=(logprobs - decoded.logprobs).abs(),
        )  # fmt: skip

    def sample(self, actor_critic: ActorCritic, ids: Tensor, mask: Tensor, luck: Tensor) -> Decoded:
        """Responses to prompts (B, P); R is at most response_length."""
        model = _unwrapped(actor_critic)
        head = model.value_head if model.shares_trunk else None

        def attempt(size: int) -> Decoded:
            parts = []
            for i, m, row in zip(ids.split(size), mask.split(size), luck.split(size), strict=True):
                margin = (left_margin(m), 0)
                parts.append(decode(model.policy, pad(i, margin), pad(m, margin), self.sampling, row, head))
            return _joined(parts, self.pad)

        return self._run(len(mask), attempt)

    @torch.no_grad()
    def policy_scores(
        self, actor_critic: ActorCritic, sequences: Tensor, attention_mask: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and values of the response tokens, both (B, R)."""

        def both(ids: Tensor, seen: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
            found = actor_critic(ids, seen, real, self.args.temperature, self.pad)
            return found.logprobs, found.values

        logprobs, values = self._in_slices(sequences, attention_mask, mask, both)
        return logprobs, values

    @torch.no_grad()
    def reference_logprobs(self, sequences: Tensor, attention_mask: Tensor, mask: Tensor) -> Tensor:
        """The same tokens' log-probabilities (B, R) under the reference."""

        with self.backbone.role("reference") as reference:

            def logprobs(ids: Tensor, seen: Tensor, real: Tensor) -> tuple[Tensor]:
                return (masked_logprobs(reference, ids, seen, real, self.args.temperature, self.pad).logprobs,)

            return self._in_slices(sequences, attention_mask, mask, logprobs)[0]

    def _in_slices(
        self, sequences: Tensor, attention_mask: Tensor, mask: Tensor, work: Callable[..., tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """What `work` finds of response tokens, (B, R) each; rows of like length share a pass."""
        lengths, order = attention_mask.sum(1).sort(stable=True)

        def attempt(size: int) -> tuple[Tensor, ...]:
            slices = order.split(even_slices(lengths, size, sequences.device))
            parts = [work(sequences[rows], attention_mask[rows], mask[rows]) for rows in slices]
            return tuple(torch.cat(column)[order.argsort()] for column in zip(*parts, strict=True))

        return self._run(len(mask), attempt)

    def _run(self, rows: int, attempt: Callable[[int], T]) -> T:
        """In slices of so many rows as fit: a reply, and what is said of it, depends on its own row alone."""
        return self.rows.run(min(rows, self.args.local_rollout_forward_batch_size), attempt)

    def clip_and_penalise(self, scores: Tensor, ended: Tensor) -> Tensor:
        """Scores (B,) held within ±reward_clip, then lowered where the response did not end by itself."""
        if self.settings.reward_clip is not None:
            clipped = scores.clamp(-self.settings.reward_clip, self.settings.reward_clip)
            scores = clipped.where(scores.isfinite(), scores)  # what is no number must not become a good one
        if self.args.missing_eos_penalty is not None:
            scores = scores - self.args.missing_eos_penalty * (~ended)
        return scores

    def _score(
        self, sequences: Tensor, attention_mask: Tensor, mask: Tensor, *numbers: list[int]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Raw scores (B,), their parts and features: of prompt and response without padding, cut after the end."""
        width = sequences.shape[1] - mask.shape[1]

        def rows(part: slice) -> list[list[int]]:
            pairs = zip(sequences[:, part], attention_mask[:, part], strict=True)
            return [ids[keep.bool()].tolist() for ids, keep in pairs]

        found = self.score(rows(slice(width)), rows(slice(width, None)), *numbers)
        total, parts, features = found if isinstance(found, Scores) else Scores(found, found.unsqueeze(1))
        if features is not None:
            features = pad(features, (0, 0, 0, mask.shape[1] - features.shape[1])).to(mask.device)
        return total.to(mask.device), parts.to(mask.device), features


def _unwrapped(actor_critic: Any) -> ActorCritic:
    return getattr(actor_critic, "module", actor_critic)


def _joined(parts: list[Decoded], pad_token_id: int) -> Decoded:
    """Slices of replies as one, all as wide as the widest."""
    width = max(part.tokens.shape[1] for part in parts)

    def joined(name: str, fill: float) -> Tensor:
        columns = [getattr(part, name) for part in parts]
        return torch.cat([pad(c, (0, width - c.shape[1]), value=fill) for c in columns])

    return Decoded(
        tokens=joined("tokens", pad_token_id), mask=joined("mask", False), ended=torch.cat([p.ended for p in parts]),
        logprobs=joined("logprobs", 0), values=joined("values", 0),
    )  # fmt: skip
