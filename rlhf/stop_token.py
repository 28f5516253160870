"""The token at which PPO's responses end: the tokenizer's end of sequence, or `ppo.stop_token_id` in its place."""

from transformers import PreTrainedTokenizerFast
from trl.experimental.ppo import PPOConfig

from rlhf.errors import UserError


def stop_token_id(args: PPOConfig, tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The one token that ends a response; None where only the limit does (`stop_token: null`).

    As in TRL, another stop token takes the place of the end of sequence, which then ends nothing.

    Raises:
        UserError: two stop tokens, one outside the vocabulary, or the pad token.
    """
    if args.stop_token_id is None:
        return tokenizer.eos_token_id if args.stop_token == "eos" else None
    if args.stop_token is not None:
        raise UserError(
            "ppo.stop_token and ppo.stop_token_id exclude each other.",
            found=f"{args.stop_token} and {args.stop_token_id}",
            remedy="leave one of the two out",
        )
    if not 0 <= args.stop_token_id < len(tokenizer):
        raise UserError(
            "ppo.stop_token_id is no token of this tokenizer.",
            expected=f"a number from 0 to {len(tokenizer) - 1}",
            found=str(args.stop_token_id),
        )
    if args.stop_token_id == tokenizer.pad_token_id:
        raise UserError(
            "ppo.stop_token_id is the pad token, which is never sampled: no response would end.",
            expected="another token, or none for the end of sequence",
            found=f"{args.stop_token_id}, {tokenizer.pad_token!r}",
        )
    return args.stop_token_id
