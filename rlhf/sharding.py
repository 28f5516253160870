"""Weights that FSDP has spread over processes, and how to have them whole: to sample, to save, to go on from.

    with whole_weights(accelerator, model): ...       forward passes as each process likes
    weights = whole_state(model)                      to save; every process calls it, the main one gets them

Where nothing is spread, all of this leaves things as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map


def full(value: Any) -> Any:
    """A spread tensor gathered from all processes, all of which must ask; anything else as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def spread_like(whole: Tensor, like: Tensor) -> Tensor:
    """This process's part of a tensor that all processes hold, if `like` is spread; else the tensor."""
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)


@contextmanager
def whole_weights(accelerator: Accelerator, model: nn.Module) -> Iterator[None]:
    """Meanwhile each process holds all weights, and may run any part of the model any number of times.

    FSDP gathers the weights of a layer whenever it is called, in all processes at once; but replies end at different
    lengths in each of them.
    """
    parts: list[Any] = [module for module in model.modules() if isinstance(module, FSDPModule)]
    if not parts:
        yield
        return
    root = parts[0]
    root._get_fsdp_state()._lazy_init()  # otherwise the first layer that is called takes itself for the root
    root.set_reshard_after_forward(False)
    for part in parts:
        part.unshard()
    try:
        yield
    finally:
        root.set_reshard_after_forward(bool(accelerator.state.fsdp_plugin.reshard_after_forward))
        root.set_reshard_after_forward(False, recurse=False)  # the backward pass begins there
        for part in parts:
            part.reshard()


def whole_state(module: nn.Module) -> dict[str, Tensor] | None:
    """The state of a module with spread weights, gathered on the CPU of the main process; None where none is spread.

    Every process must call it; those that are not the main one get an empty dictionary. Shared weights appear once.
    """
    if not any(isinstance(parameter, DTensor) for parameter in module.parameters()):
        return None
    every = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    again = every - {name for name, _ in module.named_parameters()}
    state = {}
    for name, value in module.state_dict().items():
        if name not in again:
            whole = full(value).detach()
            if PartialState().is_main_process:
                state[name] = whole.cpu()
    return state


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """`state_dict` with whole tensors. Every process must call it."""
    return tree_map(full, optimizer.state_dict())


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load what `optimizer_state` gave, on any number of processes."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, moments in state["state"].items():
        like = parameters[index]
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == like.shape:
                moments[name] = spread_like(value, like)
    optimizer.load_state_dict(state)
