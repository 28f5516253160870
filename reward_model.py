"""The pairwise reward model: a language-model trunk with one scalar head, trained on preferences.

    rewards = RewardModel.load("models/tiny/reward", tokenizer).score_ids(sequences)

The score of a sequence is read at its last token (end of sequence, or the last before the limit) and normalised to
mean 0 and standard deviation 1 on held-out demonstrations, so that rewards of different models have one scale.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast
from trl import RewardTrainer

from rlhf.config import Precision
from rlhf.fused import fuse_kernels
from rlhf.global_batch import GlobalBatchTrainer
from rlhf.logprobs import causal_lm
from rlhf.models import base_of, is_adapter, load_base
from rlhf.normalisation import Normalisation
from rlhf.oom import RowsThatFit, SplittingTrainer
from rlhf.padding import WIDTH, even_slices, pad_right

NoteStates = Callable[[Tensor, Tensor], None]
"""Takes the numbers (n,) of sequences and their last hidden states (n, T, D), padding on the right."""


def bradley_terry_loss(chosen: Tensor, rejected: Tensor, margin: Tensor | None = None) -> Tensor:
    """Mean of -log σ(chosen - rejected - margin) over pairs (all inputs (N,)).

    Bradley & Terry 1952; as a loss for reward models: Christiano et al. 2017 (arXiv 1706.03741, eq. 1), with the
    margin of Touvron et al. 2023 (arXiv 2307.09288, eq. 2).
    """
    difference = chosen - rejected if margin is None else chosen - rejected - margin
    return -F.logsigmoid(difference.float()).mean()


class RewardModel:
    """Scores token sequences; frozen.

    Args:
        model: a sequence classifier with one label (whole or with a LoRA adapter).
        pad_token_id: fills the right of shorter sequences; never scored.
        normalisation: applied to every score.
    """

    def __init__(self, model: torch.nn.Module, pad_token_id: int, normalisation: Normalisation | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.pad_token_id = pad_token_id
        self.normalisation = normalisation or Normalisation()
        self.rows = RowsThatFit("scoring")

    @classmethod
    def load(
        cls, folder: Path, tokenizer: PreTrainedTokenizerFast, precision: Precision, device: torch.device
    ) -> "RewardModel":
        """From a result folder, adapter or whole. Raises `UserError` where it holds no model."""
        model: Any = load_base(base_of(folder), tokenizer, precision, device, reward=True)
        if is_adapter(folder):
            model = PeftModel.from_pretrained(model, str(folder))
        fuse_kernels(model)
        return cls(model, tokenizer.pad_token_id, Normalisation.load(folder))

    @torch.no_grad()
    def score_ids(self, sequences: list[list[int]], batch_size: int = 64, note: NoteStates | None = None) -> Tensor:
        """Normalised rewards (N,), fp32 on the CPU, of N token sequences (prompt and reply, no padding).

        Sequences are scored in order of length, so that a batch holds little padding. A batch for which memory runs out
        is halved.

        Args:
            sequences: N lists of token ids.
            batch_size: sequences at a time, at most.
            note: is told the hidden states that the scores were read from.
        """
        rows = max(1, min(batch_size, len(sequences)))
        return self.rows.run(rows, lambda size: self._score(sequences, size, note))

    def _score(self, sequences: list[list[int]], batch_size: int, note: NoteStates | None) -> Tensor:
        device = next(self.model.parameters()).device
        lengths = torch.tensor([len(s) for s in sequences])
        order = lengths.argsort(stable=True)
        rewards = torch.empty(len(sequences))
        for rows in order.split(even_slices(lengths[order], batch_size, device)):
            ids, mask = pad_right([sequences[i] for i in rows], self.pad_token_id, WIDTH)
            with _told(self.model, partial(note, rows)) if note else nullcontext():
                logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
            rewards[rows] = logits.squeeze(-1).float().cpu()
        return self.normalisation(rewards)


@contextmanager
def _told(model: Any, note: Callable[[Tensor], None]) -> Iterator[None]:
    """Tells the last hidden states (B, T, D) of each pass through a classifier's trunk."""
    trunk = causal_lm(model).base_model
    hook = trunk.register_forward_hook(lambda module, given, output: note(output.last_hidden_state))
    try:
        yield
    finally:
        hook.remove()


class PairwiseRewardTrainer(SplittingTrainer, GlobalBatchTrainer, RewardTrainer):
    """TRL's RewardTrainer on our loss; logs the accuracy and the mean margin of each logging step's pairs."""

    args: Any
    _metrics: Any
    _signature_columns: Any

    def row_count(self, inputs: dict[str, Any]) -> int:
        """Pairs: the chosen sides stand first, then the rejected ones."""
        return len(inputs["input_ids"]) // 2

    def weight(self, inputs: dict[str, Any]) -> float:
        """The loss is a mean over pairs."""
        return self.row_count(inputs)

    def split(self, inputs: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
        """Parts of at most `size` pairs."""
        for pairs in torch.arange(self.row_count(inputs)).split(size):
            both = torch.cat([pairs, pairs + self.row_count(inputs)])
            yield {k: v[pairs if k == "margin" else both] if isinstance(v, Tensor) else v for k, v in inputs.items()}

    def _set_signature_columns_if_needed(self) -> None:
        """Keep the column `length`, by which `train_sampling_strategy: group_by_length` forms batches."""
        super()._set_signature_columns_if_needed()
        if "length" not in self._signature_columns:
            self._signature_columns.append("length")

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        margin = inputs.pop("margin", None)
        outputs = model(**inputs, use_cache=False)
        chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
        loss = self._loss(chosen, rejected, margin)
        metrics = self._metrics["train" if model.training else "eval"]
        with torch.no_grad():
            gather = self.accelerator.gather_for_metrics
            metrics["accuracy"].extend(gather((chosen > rejected).float()).tolist())
            metrics["reward_gap"].extend(gather(chosen - rejected).tolist())
            if not model.training:
                self._note(self.counts(len(chosen)), chosen, rejected, margin)
        return (loss, outputs) if return_outputs else loss

    def _loss(self, chosen: Tensor, rejected: Tensor, margin: Tensor | None) -> Tensor:
        loss = bradley_terry_loss(chosen, rejected, margin)
        if self.args.center_rewards_coefficient is not None:
            loss = loss + self.args.center_rewards_coefficient * ((chosen + rejected) ** 2).mean()
        return loss

    def _note(self, kept: Tensor, chosen: Tensor, rejected: Tensor, margin: Tensor | None) -> None:
        """Add the pairs that count to what `evaluation_loop` makes the mean loss of."""
        if count := int(kept.sum()):
            loss = self._loss(chosen[kept], rejected[kept], None if margin is None else margin[kept])
            self.evaluated += torch.stack([loss * count, kept.sum()])
