"""Sampled responses and everything that PPO's update needs about them: the first half of each update.

    rollout = RolloutMaker(args, settings, tokenizer, backbone, score)(actor_critic, prompts, kl_coef)

B sequences, P prompt tokens (padded left), R response tokens (padded right), V vocabulary entries.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl.experimental.ppo import PPOConfig

from rlhf.backbone import Backbone
from rlhf.config import PPOSection
from rlhf.generation import generate, sampling_config
from rlhf.logprobs import reply_distribution, token_logprobs
from rlhf.ppo_math import generalized_advantages, kl_per_token, shaped_rewards, whiten

ScoreFunction = Callable[[list[list[int]]], Tensor]
"""Token sequences (prompt and reply, unpadded) → rewards (N,)."""


class TokenScores(NamedTuple):
    """What one forward pass says about each response token, all (B, R)."""

    logprobs: Tensor
    values: Tensor
    entropy: Tensor
    """To look at only: no gradient passes it."""


class ActorCritic(nn.Module):
    """The policy and, on the same trunk, a linear value head that starts at zero."""

    def __init__(self, policy: PreTrainedModel | PeftModel, value_head: nn.Linear) -> None:
        super().__init__()
        self.policy = policy
        self.value_head = value_head

    def forward(
        self, sequences: Tensor, attention_mask: Tensor, prompt_width: int, temperature: float, pad_token_id: int
    ) -> TokenScores:
        """Log-probabilities at the sampling temperature, values and entropies of the response tokens.

        Arguments as for `reply_distribution`.
        """
        log_probs, hidden = reply_distribution(
            self.policy, sequences, attention_mask, prompt_width, temperature, pad_token_id
        )
        logprobs = token_logprobs(log_probs, sequences[:, prompt_width:])
        with torch.no_grad():
            entropy = -(log_probs.exp() * log_probs).sum(-1)
        values = self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1)
        return TokenScores(logprobs, values.float(), entropy)


@dataclass(frozen=True)
class Rollout:
    """Sampled responses and everything about them that stays fixed during the update."""

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
    """(B,) reward-model scores, clipped and penalised."""
    advantages: Tensor
    """(B, R), whitened."""
    returns: Tensor
    """(B, R)."""

    @property
    def prompt_width(self) -> int:
        return self.sequences.shape[1] - self.mask.shape[1]

    def rows(self, index: Tensor) -> "Rollout":
        """The same for some of the sequences."""
        return replace(self, **{name: getattr(self, name)[index] for name in self.__dataclass_fields__})

    def without_padding(self) -> "Rollout":
        """The same without the columns that are padding in every sequence."""
        width, length = self.prompt_width, int(self.mask.any(0).sum())
        first = int(self.attention_mask[:, :width].any(0).int().argmax())
        tokens = ("mask", "logprobs", "ref_logprobs", "values", "advantages", "returns")
        return replace(
            self,
            sequences=self.sequences[:, first : width + length],
            attention_mask=self.attention_mask[:, first : width + length],
            **{name: getattr(self, name)[:, :length] for name in tokens},
        )


class RolloutMaker:
    """Samples a response to each prompt, scores it and computes advantages.

    Args:
        args: TRL's configuration.
        settings: our own PPO settings.
        tokenizer: pad and end-of-sequence differ.
        backbone: samples with the policy, compares with the reference.
        score: rewards of whole sequences.
    """

    def __init__(
        self,
        args: PPOConfig,
        settings: PPOSection,
        tokenizer: PreTrainedTokenizerFast,
        backbone: Backbone,
        score: ScoreFunction,
    ) -> None:
        self.args = args
        self.settings = settings
        self.tokenizer = tokenizer
        self.backbone = backbone
        self.score = score

    @torch.no_grad()
    def __call__(self, actor_critic: nn.Module, prompts: dict[str, Tensor], kl_coef: float) -> Rollout:
        """Everything that the update needs.

        Args:
            actor_critic: the backbone's policy and a value head, perhaps in a wrapper for several processes.
            prompts: "input_ids" and "attention_mask", (B, P), padded left, on the model's device.
            kl_coef: weight of the KL in the rewards.
        """
        by_length = prompts["attention_mask"].sum(1).argsort(stable=True)  # slices of like length hold little padding
        ids, prompt_mask = prompts["input_ids"][by_length], prompts["attention_mask"][by_length]
        responses = self.sample(ids, prompt_mask)
        mask = responses != self.tokenizer.pad_token_id
        ended = (responses == self.tokenizer.eos_token_id).any(dim=1)
        sequences = torch.cat([ids, responses], dim=1)
        attention_mask = torch.cat([prompt_mask, mask.to(prompt_mask.dtype)], dim=1)
        logprobs, values = self.policy_scores(actor_critic, sequences, attention_mask, ids.shape[1])
        ref_logprobs = self.reference_logprobs(sequences, attention_mask, ids.shape[1])
        scores = self.clip_and_penalise(self._score_sequences(sequences, attention_mask), ended)
        kl = kl_per_token(logprobs, ref_logprobs, mask, self.args.kl_estimator)
        rewards = shaped_rewards(scores, kl, mask, kl_coef)
        if self.args.whiten_rewards:
            rewards = whiten(rewards, mask)
        advantages, returns = generalized_advantages(rewards, values, mask, self.args.gamma, self.args.lam)
        rollout = Rollout(
            sequences=sequences, attention_mask=attention_mask, mask=mask, ended=ended,
            logprobs=logprobs, ref_logprobs=ref_logprobs, values=values, scores=scores,
            advantages=whiten(advantages, mask), returns=returns,
        )  # fmt: skip
        return rollout.rows(by_length.argsort())  # in the order of the prompts again

    def sample(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Responses (B, R), R at most response_length: real tokens, the end of sequence if reached, then padding."""
        config = sampling_config(self.tokenizer, self.args.temperature, self.args.response_length)
        parts = [generate(self.backbone.policy, i, m, config) for i, m, _ in self._parts(ids, mask)]
        width = max(part.shape[1] for part in parts)
        pad = self.tokenizer.pad_token_id
        return torch.cat([nn.functional.pad(part, (0, width - part.shape[1]), value=pad) for part in parts])

    @torch.no_grad()
    def policy_scores(
        self, actor_critic: nn.Module, sequences: Tensor, mask: Tensor, prompt_width: int
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and values of the response tokens, both (B, R)."""
        temperature, pad = self.args.temperature, self.tokenizer.pad_token_id
        parts = [actor_critic(s, m, prompt_width - cut, temperature, pad) for s, m, cut in self._parts(sequences, mask)]
        return torch.cat([part.logprobs for part in parts]), torch.cat([part.values for part in parts])

    @torch.no_grad()
    def reference_logprobs(self, sequences: Tensor, mask: Tensor, prompt_width: int) -> Tensor:
        """The same tokens' log-probabilities (B, R) under the reference."""
        temperature, pad = self.args.temperature, self.tokenizer.pad_token_id
        with self.backbone.role("reference") as reference:
            parts = [
                token_logprobs(
                    reply_distribution(reference, s, m, prompt_width - cut, temperature, pad).log_probs,
                    s[:, prompt_width - cut :],
                )
                for s, m, cut in self._parts(sequences, mask)
            ]
        return torch.cat(parts)

    def clip_and_penalise(self, scores: Tensor, ended: Tensor) -> Tensor:
        """Scores (B,) held within ±reward_clip, then lowered where the response did not end by itself."""
        if self.settings.reward_clip is not None:
            scores = scores.clamp(-self.settings.reward_clip, self.settings.reward_clip)
        if self.args.missing_eos_penalty is not None:
            scores = scores - self.args.missing_eos_penalty * (~ended)
        return scores

    def _score_sequences(self, sequences: Tensor, mask: Tensor) -> Tensor:
        """Raw scores (B,): prompt and response without padding, cut after the end of sequence."""
        rows = [ids[keep.bool()].tolist() for ids, keep in zip(sequences, mask, strict=True)]
        return self.score(rows).to(sequences.device)

    def _parts(self, ids: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor, int]]:
        """Both in slices of as many rows as go through a network at once, and how many columns of padding each lost."""
        size = self.args.local_rollout_forward_batch_size
        slices = zip(ids.split(size), mask.split(size), strict=True)
        cuts = [(i, m, int(m.any(0).int().argmax())) for i, m in slices]
        return [(i[:, cut:], m[:, cut:], cut) for i, m, cut in cuts]
