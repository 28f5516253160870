"""Several processes on one batch: who answers which prompts, and how everyone gets all answers."""

import torch
from accelerate import Accelerator
from torch import Tensor

from rlhf.rollout import Samples


def share_of(accelerator: Accelerator, rows: int) -> Tensor:
    """The rows of a batch that this process works on, in turns; every one takes equally many, so some begin again."""
    size = -(-rows // accelerator.num_processes)
    return (torch.arange(size) * accelerator.num_processes + accelerator.process_index) % rows


def gather_samples(accelerator: Accelerator, samples: Samples, rows: int, pad_token_id: int) -> Samples:
    """All processes' samples of a batch, in its order. Prompts have one width; responses are widened to one."""
    fill = {"sequences": pad_token_id}
    return samples.each(lambda name, values: gather_rows(accelerator, values, fill.get(name, 0))[:rows])


def gather_rows(accelerator: Accelerator, values: Tensor, fill: int = 0) -> Tensor:
    """Everyone's rows of a batch, in its order, where each process has those of `share_of`."""
    if accelerator.num_processes == 1:
        return values
    dtype = values.dtype
    values = values.to(torch.int64) if dtype == torch.bool else values  # not every backend sends booleans
    if values.ndim > 1:
        values = accelerator.pad_across_processes(values, dim=1, pad_index=fill)
    everyone = accelerator.gather(values.contiguous()).unflatten(0, (accelerator.num_processes, -1))
    return everyone.transpose(0, 1).flatten(0, 1).to(dtype)
