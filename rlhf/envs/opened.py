"""What a run folder gives the environments: a version's model and tokenizer, its reward model, its settings, its data.

run = open_run(Path("models/tiny"), version=None, device="auto")
run.config.ppo.rewards, run.missing_eos_penalty
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerFast

from rlhf.config import Config, SourceSpec, load_config
from rlhf.data import classroom
from rlhf.data.mixing import in_split, limited, mixed, order
from rlhf.errors import UserError
from rlhf.models import load_causal_lm, resolve_device
from rlhf.records import Demonstration, Prompt
from rlhf.registry import Registry
from rlhf.tokenizer import load_tokenizer

EMBEDDED_PROMPTS = 2000
"""Of the embedded corpus, where no prompts are given."""

EMBEDDED = SourceSpec(source=classroom.SOURCE.name)


class OpenedRun(NamedTuple):
    """A version of a run."""

    config: Config
    """With which the version was made."""
    tokenizer: PreTrainedTokenizerFast
    model: Any
    device: torch.device
    reward_folder: Path | None
    """Of the reward model that belongs to the version; None where there is none."""

    @property
    def missing_eos_penalty(self) -> float:
        """As phase ppo took it off; 0 where it was not set."""
        return self.config.ppo.trainer_args.get("missing_eos_penalty") or 0.0

    @property
    def max_reply_tokens(self) -> int:
        """Of PPO's replies."""
        return self.config.ppo.trainer_args.get("response_length") or self.config.data.max_response_tokens

    @property
    def context(self) -> int:
        """Tokens of the longest prompt and of PPO's longest reply."""
        return self.config.data.max_prompt_tokens + self.max_reply_tokens

    def prompts(self) -> list[Prompt]:
        """The first training prompts of the embedded corpus, in hash order.

        Raises:
            UserError: the run was trained on others, which cannot be read from here.
        """
        data = self.config.data
        self._refuse_others(data.prompts or data.demonstrations, "prompts", 'load_prompts(config, "train")')
        return sorted(in_split(data, classroom.SOURCE.prompts(EMBEDDED), "train"), key=order)[:EMBEDDED_PROMPTS]

    def held_out(self) -> list[Demonstration]:
        """The demonstrations of the validation split, in hash order. Raises `UserError` as `prompts`."""
        data = self.config.data
        specs = data.demonstrations
        self._refuse_others(specs, "demonstrations", 'load_demonstrations(config, "validation")')
        read = [limited(classroom.SOURCE.demonstrations(spec), spec) for spec in specs]
        return mixed([in_split(data, rows, "validation") for rows in read], specs)

    def refuse_other(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """What was trained with the run's own tokenizer must be able to read what is written with the given one.

        Raises:
            UserError: its entries or special tokens are others.
        """
        for what, one, other in (
            ("entries", tokenizer.get_vocab(), self.tokenizer.get_vocab()),
            ("special tokens", _special(tokenizer), _special(self.tokenizer)),
        ):
            if one != other:
                raise UserError("The tokenizer is not that of the run, whose models are used.", found=f"other {what}",
                                remedy="leave tokenizer out, or give model and reward, too")  # fmt: skip

    def _refuse_others(self, specs: list[SourceSpec], name: str, loader: str) -> None:
        others = {one.source for one in specs} - {EMBEDDED.source}
        if others:
            raise UserError(
                f"The run has other {name} than the embedded ones, and none are given.",
                found=f"sources {', '.join(sorted(others))}",
                remedy=f"give {name}=…, for example dataloader.{loader}",
            )


def open_run(folder: Path, version: str | None, device: str) -> OpenedRun:
    """Load a version of a run.

    Args:
        folder: of the run.
        version: its name; None: the live one.
        device: "auto", "cpu" or "cuda".

    Raises:
        UserError: no such folder, version or device.
    """
    if not folder.is_dir():
        raise UserError(f"There is no run folder {folder}.", expected="a folder that python main.py has left",
                        remedy="train one: python main.py --phase all")  # fmt: skip
    registry = Registry(folder)
    chosen = registry.get(version) if version else registry.live()
    path, reward = registry.path(chosen), registry.reward_path(chosen)
    config = load_config(path / "config.yaml")
    found, data = resolve_device(device), config.data
    length = data.max_prompt_tokens + data.max_response_tokens
    tokenizer = load_tokenizer(str(path), vocab_size=config.model.vocab_size, texts=list, max_length=length)
    model = load_causal_lm(str(path), tokenizer, config.model.precision, found)
    return OpenedRun(config, tokenizer, model, found, reward if reward and reward.is_dir() else None)


def _special(tokenizer: PreTrainedTokenizerFast) -> tuple[dict[str, Any], set[int]]:
    return dict(tokenizer.special_tokens_map), set(tokenizer.all_special_ids)  # the map leaves out those without a role
