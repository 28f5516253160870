"""What a measurement of memory or speed needs in place of a download: random weights at a true shape, texts of full
length, and the results of phases that a later phase starts from.

    make_base(folder, GPT_NEO["1.3b"])
    run = Run(parse_config(...), output, FullRows(config), False)

One byte of text is one token, so that every prompt and reply has just the length that it is cut to.
"""

from dataclasses import dataclass
from pathlib import Path

from rlhf.config import Config, Shape
from rlhf.data.source import Judge, Sampler
from rlhf.records import Demonstration, Preference, Prompt, ask, prompt_id
from rlhf.run import Split

END = "<|endoftext|>"
VOCABULARY = 50257
"""GPT-2's, which GPT-Neo has."""

GPT_NEO = {
    "125m": Shape(hidden_size=768, num_layers=12, num_heads=12, max_position_embeddings=2048),
    "1.3b": Shape(hidden_size=2048, num_layers=24, num_heads=16, max_position_embeddings=2048),
    "2.7b": Shape(hidden_size=2560, num_layers=32, num_heads=20, max_position_embeddings=2048),
}
"""The shapes of the published models."""


def make_base(folder: Path, shape: Shape, vocabulary: int = VOCABULARY, dtype: str = "float32") -> None:
    """A GPT-Neo of random weights, and a tokenizer that reads bytes, as a hub folder holds them.

    Args:
        folder: to be made.
        shape: of the model.
        vocabulary: entries of its embeddings, at least 257.
        dtype: of the weights on the disk.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from rlhf.models import from_scratch

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*letters, *(f"<{number}>" for number in range(vocabulary - len(letters) - 1)), END]
    backend = Tokenizer(models.BPE({entry: number for number, entry in enumerate(entries)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, bos_token=END, pad_token=END, model_max_length=1
    )
    torch.manual_seed(0)
    from_scratch(shape, tokenizer).to(getattr(torch, dtype)).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, bos_token=END).save_pretrained(folder)


@dataclass
class FullRows:
    """`rlhf.run.Data` whose every prompt and reply is cut at its limit; `rows` in each split."""

    config: Config
    rows: int = 64

    def demonstrations(self, split: Split) -> list[Demonstration]:
        return [
            Demonstration(prompt_id(row.prompt), row.prompt, self._reply("a"), "any", "random")
            for row in self.prompts(split)
        ]

    def preferences(self, split: Split, sampler: Sampler | None = None) -> list[Preference]:
        return [
            Preference(row.id, row.prompt, self._reply("a"), self._reply("b"), "random", "any", "any")
            for row in self.prompts(split)
        ]

    def extra_preferences(self) -> dict[str, list[Preference]]:
        return {}

    def prompts(self, split: Split) -> list[Prompt]:
        text = "x" * self.config.data.max_prompt_tokens
        rows = [ask(f"{number} {text}") for number in range(self.rows)]
        return [Prompt(prompt_id(row), row, "any", "random") for row in rows]

    def ood(self, limit: int) -> dict[str, list[Prompt]]:
        return {}

    def text(self) -> list[str]:
        return ["x" * self.config.base.block_tokens] * self.rows

    def judge(self) -> Judge | None:
        return None

    def _reply(self, letter: str) -> str:
        return letter * self.config.data.max_response_tokens
