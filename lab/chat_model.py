"""A language model small enough to be made and trained on the spot, from the embedded school corpus.

model, tokenizer = small_model(asked.training, entries=512, steps=600, seed=0)
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import GPTNeoForCausalLM, PreTrainedTokenizerFast

from rlhf.config import Shape
from rlhf.encoding import IGNORED
from rlhf.models import from_scratch
from rlhf.padding import pad_right
from rlhf.records import Prompt
from rlhf.tokenizer import encode_prompt, encode_reply, load_tokenizer

BATCH = 16
SHAPE = Shape(hidden_size=64, num_layers=2, num_heads=4, window_size=32, max_position_embeddings=128)


def small_model(
    prompts: Sequence[Prompt], entries: int, steps: int, seed: int
) -> tuple[GPTNeoForCausalLM, PreTrainedTokenizerFast]:
    """A model that has read some prompts with their reference replies, and its tokenizer.

    Args:
        prompts: with references.
        entries: of the vocabulary.
        steps: of Adam, on `BATCH` conversations each.
        seed: of the weights and of the order.
    """
    tokenizer = load_tokenizer(
        "train", vocab_size=entries, texts=lambda: [_text(prompt) for prompt in prompts],
        max_length=SHAPE.max_position_embeddings,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = from_scratch(SHAPE, tokenizer).train()
    rows = [encode_prompt(tokenizer, p.prompt) + encode_reply(tokenizer, p.reference or "") for p in prompts]
    rows = [row for row in rows if len(row) <= SHAPE.max_position_embeddings]
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, 3e-3, total_steps=max(steps, 1), pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in tqdm(range(steps), "language model"):
        chosen = torch.randint(len(rows), (BATCH,), generator=generator).tolist()
        _loss(model, [rows[row] for row in chosen], tokenizer.pad_token_id).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        rate.step()
        adam.zero_grad()
    return model.eval(), tokenizer


def _text(prompt: Prompt) -> str:
    return f"{prompt.prompt[-1].content}\n{prompt.reference}"


def _loss(model: GPTNeoForCausalLM, rows: list[list[int]], pad: int) -> Tensor:
    """Mean negative log-likelihood of the tokens, nats."""
    ids, mask = pad_right(rows, pad)
    return model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, IGNORED)).loss
