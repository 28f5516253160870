"""Training on global batches: which rows make one, and what is logged, do not depend on the number of processes.

    class MyTrainer(TokenTrainer, SFTTrainer): ...

A *global batch* is what one optimizer step sees: per_device_train_batch_size × gradient_accumulation_steps × processes
rows. The stock trainers draw the order of rows from each process's own random numbers, group by length within what one
process sees, end an epoch with a smaller batch, and evaluate rows twice where they do not divide evenly.
"""

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.trainer_utils import EvalLoopOutput

from rlhf.encoding import IGNORED
from rlhf.randomness import generator


class EpochRows(Sampler[int]):
    """The rows of an epoch in an order that seed and epoch alone decide, begun again until they fill whole batches.

    Args:
        rows: how many there are.
        batch: rows of a global batch.
        seed: of the run.
        epoch: tells which one is to be read, from 0; a resumed run says the one that it broke off in.
        lengths: of each row, to put rows of like length into a batch; without, the order is random.
    """

    def __init__(
        self, rows: int, batch: int, seed: int, epoch: Callable[[], int], lengths: list[int] | None = None
    ) -> None:
        self.rows, self.batch, self.seed, self.epoch, self.lengths = rows, batch, seed, epoch, lengths

    def __len__(self) -> int:
        return -(-self.rows // self.batch) * self.batch

    def __iter__(self) -> Iterator[int]:
        random = generator(self.seed, "rows", self.epoch())
        if self.lengths is None:
            order = torch.randperm(self.rows, generator=random).tolist()
        else:
            order = get_length_grouped_indices(self.lengths, self.batch, generator=random)
        return islice(cycle(order), len(self))


class GlobalBatchTrainer(Trainer):
    """A trainer on `EpochRows`, whose evaluation counts every row once, whichever process computes it."""

    evaluated: Tensor
    """Sum of loss × weight, and of weights, of the evaluation that goes on, in this process."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        args = self.args
        if args.train_sampling_strategy not in ("random", "group_by_length"):
            return super()._get_train_sampler(rows)
        lengths = _lengths(rows) if args.train_sampling_strategy == "group_by_length" else None
        seed = args.seed if args.data_seed is None else args.data_seed
        return EpochRows(len(rows), global_batch(args), seed, lambda: int(self.state.epoch or 0), lengths)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Any:
        """As they come, or the longest first where training groups by length, too."""
        if self.args.train_sampling_strategy != "group_by_length":
            return range(len(eval_dataset))
        lengths = _lengths(eval_dataset)
        return sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loader: Any = self.accelerator.gradient_state.active_dataloader
        if loader is not None:  # which thinks that the last batch ends in repeats that the metrics are to leave out
            loader.remainder = 0
        return super().training_step(*args, **kwargs)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As the stock loop, but the loss is a mean over all that was counted, not over batches."""
        self.evaluated = torch.zeros(2, device=self.args.device)
        output = super().evaluation_loop(*args, **kwargs)
        total, weight = self.accelerator.reduce(self.evaluated).tolist()
        metrics: Any = output.metrics
        metrics[f"{kwargs.get('metric_key_prefix', 'eval')}_loss"] = total / weight
        return output

    def counts(self, rows: int) -> Tensor:
        """Which rows (N,) of this process's evaluation batch count: the last batch may end in repeats."""
        kept = torch.ones(rows, dtype=torch.bool, device=self.args.device)
        state = self.accelerator.gradient_state
        if self.args.world_size > 1 and state.end_of_dataloader and state.remainder > 0:
            first = rows * self.accelerator.process_index
            kept[max(0, state.remainder - first) :] = False
        return kept


class TokenTrainer(GlobalBatchTrainer):
    """For losses that are means over the tokens of a global batch: those of transformers, and of TRL's SFT."""

    tokens: list[float]
    """How many every evaluation batch has, of all processes."""

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        self.tokens = []
        return super().evaluation_loop(*args, **kwargs)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any
    ) -> tuple[Tensor | None, Any, Any]:
        labels = inputs["labels"].to(self.args.device)
        inputs["labels"] = labels = labels.masked_fill(~self.counts(len(labels)).unsqueeze(1), IGNORED)
        mine = (labels[:, 1:] != IGNORED).sum()
        self.tokens.append(self.accelerator.reduce(mine.clone()).item())
        found: Any = super().prediction_step(model, inputs, *args, **kwargs)
        # The loss is this process's sum over the tokens of all of them, times the processes.
        self.evaluated += torch.stack([found[0] * self.tokens[-1] / self.args.world_size, mine])
        return found


def global_batch(args: TrainingArguments) -> int:
    """Rows that one optimizer step sees, of all processes together."""
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def in_words(args: TrainingArguments) -> str:
    """The same as a line for the log."""
    return (
        f"global batch {global_batch(args)} = {args.per_device_train_batch_size} a process"
        f" x {args.gradient_accumulation_steps} accumulated x {args.world_size} processes"
    )


def _lengths(rows: Dataset) -> list[int]:
    return list(rows["length"]) if "length" in rows.column_names else [len(ids) for ids in rows["input_ids"]]
