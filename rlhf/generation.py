"""Replies of a model to a list of prompts, in batches of like length."""

from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm

from rlhf.data.source import Sampler
from rlhf.decoding import Sampling, decode
from rlhf.encoding import Encoder
from rlhf.models import load_causal_lm
from rlhf.padding import pad_left
from rlhf.randomness import generator
from rlhf.records import Prompt
from rlhf.run import Run
from rlhf.tokenizer import decode_reply


class Sampled(NamedTuple):
    """A reply as tokens and as text."""

    prompt_ids: list[int]
    reply_ids: list[int]
    """The end-of-sequence token included, if it was reached."""
    text: str
    ended: bool
    """Stopped by itself before the limit."""


@torch.no_grad()
def sample_replies(
    model: Any, encoder: Encoder, prompts: list[Prompt], *, temperature: float, batch_size: int, seed: int, title: str
) -> list[Sampled]:
    """One reply a prompt, in the order of the prompts; equal for equal seeds (temperature 0 is greedy)."""
    tokenizer, limits = encoder.tokenizer, encoder.limits
    encoded = [encoder.prompt(prompt.prompt) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    sampling = Sampling(limits.max_response_tokens, (tokenizer.eos_token_id,), tokenizer.pad_token_id, temperature)
    luck = torch.rand(len(prompts), limits.max_response_tokens, generator=generator(seed, "replies"))
    device = next(model.parameters()).device
    replies: list[Sampled | None] = [None] * len(prompts)
    for start in tqdm(range(0, len(order), batch_size), desc=title, unit="batch"):
        rows = order[start : start + batch_size]
        ids, mask = pad_left([encoded[i] for i in rows], tokenizer.pad_token_id)
        found = decode(model, ids.to(device), mask.to(device), sampling, luck[rows])
        for i, tokens, real, ended in zip(rows, found.tokens, found.mask, found.ended.tolist(), strict=True):
            reply = tokens[real].tolist()
            replies[i] = Sampled(encoded[i], reply, decode_reply(tokenizer, reply), ended)
    return [reply for reply in replies if reply is not None]


def sft_sampler(run: Run) -> Sampler:
    """Replies sampled from the run's SFT model, which is loaded only when they are asked for."""

    def sample(prompts: list[Prompt]) -> list[str]:
        tokenizer = run.tokenizer()
        model = load_causal_lm(str(run.result("sft")), tokenizer, run.config.model.precision, run.device)
        replies = sample_replies(
            model,
            Encoder(tokenizer, run.config.data),
            prompts,
            temperature=1.0,
            batch_size=run.config.test.batch_size,
            seed=run.config.seed,
            title="sampling rejected replies",
        )
        return [reply.text for reply in replies]

    return sample
