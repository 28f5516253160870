"""Shift and scale that give rewards of any origin one unit: standard deviations over held-out demonstrations.

normalisation = Normalisation.of(raw_rewards)
rewards = normalisation(raw_rewards)
"""

import json
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

NORMALISATION_FILE = "reward_normalisation.json"


class Normalisation(NamedTuple):
    """Shift and scale that take raw rewards to mean 0 and standard deviation 1 on `rows` demonstrations."""

    mean: float = 0.0
    std: float = 1.0
    rows: int = 0

    def __call__(self, raw_rewards: Tensor) -> Tensor:
        """Rewards (N,), shifted and scaled."""
        return (raw_rewards - self.mean) / self.std

    @classmethod
    def of(cls, raw_rewards: Tensor) -> Self:
        """Measured on raw rewards (N,) of held-out demonstrations, N at least 2."""
        return cls(raw_rewards.mean().item(), max(raw_rewards.std().item(), 1e-6), len(raw_rewards))

    def of_head(self, head: nn.Linear) -> nn.Linear:
        """A head whose output is what this makes of the output of `head` (D → 1, no bias)."""
        normalised = nn.Linear(head.in_features, 1).to(head.weight.device)
        with torch.no_grad():
            normalised.weight.copy_(head.weight / self.std)
            normalised.bias.fill_(-self.mean / self.std)
        return normalised

    def save(self, folder: Path) -> None:
        (folder / NORMALISATION_FILE).write_text(json.dumps(self._asdict()) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        path = folder / NORMALISATION_FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else cls()
