"""Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1) for parameters that lie side by side in one array.

For networks as small as these, most of what PyTorch's optimiser takes is bookkeeping around the arithmetic.
"""

import math

import torch
from torch import Tensor


class Adam:
    """Moves parameters against their gradient.

    Args:
        parameters: (n,), changed in place.
        gradient: (n,), read at each step.
        betas: how much of the past the running means of gradient and of its square keep at each step.
        eps: beside the root of the latter.
    """

    def __init__(
        self, parameters: Tensor, gradient: Tensor, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-5
    ) -> None:
        self._parameters, self._gradient, self._betas, self._eps = parameters, gradient, betas, eps
        self._mean, self._square = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self._steps = 0

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One step. The corrections for means that start at 0 are moved into its length (end of section 2)."""
        self._steps += 1
        keep, keep_square = self._betas
        self._mean.lerp_(self._gradient, 1 - keep)
        self._square.mul_(keep_square).addcmul_(self._gradient, self._gradient, value=1 - keep_square)
        correction = math.sqrt(1 - keep_square**self._steps)
        length = learning_rate * correction / (1 - keep**self._steps)
        self._parameters.addcdiv_(self._mean, self._square.sqrt().add_(self._eps * correction), value=-length)
