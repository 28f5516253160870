"""The network that PPO trains: the policy, and a value head on its trunk or on a critic adapter of its own.

B sequences, P prompt tokens (padded left), R response tokens (padded right), D the trunk's width.
"""

from typing import NamedTuple

from torch import Tensor, nn

from rlhf.backbone import Backbone
from rlhf.logprobs import causal_lm, reply_hidden, spread, token_logprobs


class TokenScores(NamedTuple):
    """What one forward pass says about each response token, all (B, R), fp32, 0 on padding."""

    logprobs: Tensor
    values: Tensor
    entropy: Tensor
    """To look at only: no gradient passes it. Zeros where not asked for."""


class ActorCritic(nn.Module):
    """Policy and critic as one module, for the optimizer and for wrappers of several processes.

    Args:
        backbone: its policy is trained; its role "value", if it has one, too.
        value_head: D → 1.
        detached: the loss of the values does not train the trunk that they share with the policy.
    """

    def __init__(self, backbone: Backbone, value_head: nn.Linear, detached: bool) -> None:
        super().__init__()
        self.policy = backbone.policy
        self.value_head = value_head
        self.detached = detached
        self._no_split_modules = backbone.policy._no_split_modules  # the blocks that FSDP gathers one at a time
        self._backbone = lambda: backbone  # no submodule: its networks are in `policy` already

    @property
    def shares_trunk(self) -> bool:
        """Whether values come from the policy's own hidden states."""
        return not self._backbone().has("value")

    def forward(
        self, sequences: Tensor, attention_mask: Tensor, mask: Tensor, temperature: float, pad_token_id: int,
        *, entropy: bool = False,
    ) -> TokenScores:  # fmt: skip
        """Log-probabilities at the sampling temperature, values and entropies of the response tokens.

        Args:
            sequences: (B, P + R) token ids.
            attention_mask: (B, P + R), 1 on real tokens.
            mask: (B, R) boolean, true on real response tokens.
            temperature: logits are divided by it.
            pad_token_id: takes no part in the distribution.
            entropy: whether the entropies are wanted, too.
        """
        hidden = reply_hidden(self.policy, sequences, attention_mask, mask)
        found = token_logprobs(
            causal_lm(self.policy).get_output_embeddings(), hidden, sequences[:, -mask.shape[1] :][mask],
            temperature, pad_token_id, entropy=entropy,
        )  # fmt: skip
        if not self.shares_trunk:
            with self._backbone().role("value") as critic:
                hidden = reply_hidden(critic, sequences, attention_mask, mask)
        elif self.detached:
            hidden = hidden.detach()
        values = self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1).float()
        return TokenScores(*(spread(part, mask) for part in (found.logprobs, values, found.entropy)))
