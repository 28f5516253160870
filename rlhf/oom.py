"""Running out of memory: fewer rows at a time, and the same result.

    rows = RowsThatFit("sampling")
    replies = rows.run(64, lambda size: decode_in_slices(prompts, size))     # 64, else 32, 16 …

    class MyTrainer(SplittingTrainer): ...                                   # any transformers Trainer

What is computed in slices and put together, or added up, does not depend on how large the slices are. The size that
fitted is kept. On several processes nothing is caught: the others would wait for the one that begins again.
"""

import gc
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import Trainer

from rlhf.encoding import IGNORED

T = TypeVar("T")
Inputs = dict[str, Any]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the GPU's, or the system's, memory is used up."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def release_memory() -> None:
    """Give what a failed attempt held back to the device; call it once its exception is gone."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def processes() -> int:
    """How many train together."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class RowsThatFit:
    """How many rows go through a network at a time.

    Args:
        what: names the work in the message.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.limit: int | None = None
        """The most that has been found to fit, once memory has run out; before, None."""

    def run(self, wanted: int, work: Callable[[int], T]) -> T:
        """`work(size)` with the largest size that fits, from `wanted` down by halves.

        Raises:
            RuntimeError: memory runs out with one row, too, or on one of several processes.
        """
        size = min(wanted, self.limit or wanted)
        while True:
            try:
                return work(size)
            except RuntimeError as error:
                if not out_of_memory(error) or size == 1 or processes() > 1:
                    raise
            size = self.limit = size // 2  # outside of `except`, whose error holds on to what was computed
            release_memory()
            tqdm.write(f"out of memory in {self.what}: going on with {size} rows at a time, and the same result")


class SplittingTrainer(Trainer):
    """A Trainer whose training step, when memory runs out, goes on in micro-batches of half the size.

    Gradients add up over the optimizer step as before. What the failed attempt had added is thrown away, and the step
    is made again from the inputs of its micro-batches, which are kept until then (token ids: next to nothing).
    """

    rows: RowsThatFit
    _of_this_step: list[tuple[Inputs, Any]]
    """Inputs since the last optimizer step, each with the number of items that the step's loss is a mean over."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rows = RowsThatFit("training")
        self._of_this_step = []

    def training_step(self, model: nn.Module, inputs: Inputs, num_items_in_batch: Any = None) -> Tensor:
        """As in transformers: forward and backward; returns the loss."""
        if not self._of_this_step:
            self._tokens_before = getattr(self, "_total_train_tokens", 0)  # TRL's count, and what it means to log
            self._logged_before = {name: len(values) for name, values in self._to_log().items()}
        self._of_this_step.append((inputs, num_items_in_batch))
        first = True

        def attempt(size: int) -> Tensor:
            nonlocal first
            todo, first = self._of_this_step[-1:] if first else self._of_this_step, False
            if len(todo) == len(self._of_this_step):
                model.zero_grad()  # of a failed attempt
                self._total_train_tokens = self._tokens_before
                for name, values in self._to_log().items():
                    del values[self._logged_before.get(name, 0) :]
            return [self._in_parts(model, *step, size) for step in todo][-1]

        loss = self.rows.run(self.row_count(inputs), attempt)
        if self.accelerator.sync_gradients:
            self._of_this_step = []
        return loss

    def _in_parts(self, model: nn.Module, inputs: Inputs, items: Any, size: int) -> Tensor:
        """A mean loss counts by its share of what it is a mean over; one that is divided by `items`, as it is."""
        if size >= self.row_count(inputs):
            return super().training_step(model, dict(inputs), items)
        steps, total = self.current_gradient_accumulation_steps, self.weight(inputs)
        losses = []
        try:
            for part in self.split(inputs, size):
                divisor: Any = steps * total / self.weight(part)
                self.current_gradient_accumulation_steps = divisor  # of losses that are means
                losses.append(super().training_step(model, part, items))
        finally:
            self.current_gradient_accumulation_steps = steps
        return torch.stack(losses).sum()

    def _to_log(self) -> dict[str, list[Any]]:
        """TRL's statistics since the last line of the log; transformers has none."""
        return getattr(self, "_metrics", {}).get("train", {})

    def weight(self, inputs: Inputs) -> float:
        """What a micro-batch's loss is a mean over: the tokens that it sees."""
        return max(1, int((inputs["labels"][..., 1:] != IGNORED).sum()))

    def row_count(self, inputs: Inputs) -> int:
        """Rows of a micro-batch, as `per_device_train_batch_size` counts them."""
        return len(inputs["input_ids"])

    def split(self, inputs: Inputs, size: int) -> Iterator[Inputs]:
        """The micro-batch in parts of at most `size` rows."""
        for start in range(0, self.row_count(inputs), size):
            yield {key: v[start : start + size] if isinstance(v, Tensor) else v for key, v in inputs.items()}
