"""What a reward is, and the weighted sum of several in which each keeps its own numbers.

    rewards = Rewards([Reward("length", Length(5, 60)), Reward("polite", polite, weight=0.5)])
    scores = rewards(prompts=["Hi"], completions=["Hello, please come in!"])
    scores.total, scores.parts                  # (1,) and (1, 2)
    statistics(rewards.names, scores.parts)     # {"rewards/length/mean": 0.8, "rewards/length/std": 0.0, …}

N replies, K rewards. A reward that returns None for a reply does not apply to it: it adds nothing there.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from rlhf.data.rows import shorten
from rlhf.errors import UserError
from rlhf.normalisation import Normalisation

log = logging.getLogger(__name__)

Columns = dict[str, list[Any]]
"""The keyword arguments of a reward: `prompts`, `completions` and further columns, each with N values."""


ReadFunction = Callable[[list[list[int]], list[list[int]]], tuple[Tensor, Tensor | None]]
"""The learned reward model: prompts and replies in token ids → rewards (N,) and, where they are wanted, features
(N, R, F) of the replies' tokens, R the longest reply."""


class RewardFunction(Protocol):
    """TRL's convention for reward functions; what returns a coroutine is refused."""

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> Sequence[float | None]:
        """One number a reply, None where it does not apply."""
        ...


class Scores(NamedTuple):
    """The rewards of N replies."""

    total: Tensor
    """(N,) fp32, the weighted sum; not finite where a reward is not."""
    parts: Tensor
    """(N, K) fp32, each reward by itself and without its weight: NaN where it does not apply, infinite where it is no
    finite number."""
    features: Tensor | None = None
    """(N, R, F) of the replies' tokens, where a reward model has read them: see `rlhf.baseline`."""


@dataclass(frozen=True)
class Reward:
    """A reward function with its name in the log, its weight, and the shift and scale of its unit."""

    name: str
    function: RewardFunction
    weight: float = 1.0
    normalisation: Normalisation = Normalisation()

    @property
    def names(self) -> list[str]:
        """Its own name; of a composite, then those of its parts."""
        parts = self.function.parts if isinstance(self.function, Composite) else []
        return [self.name, *(f"{self.name}/{name}" for part in parts for name in part.names)]

    def scores(self, given: Columns) -> list[Tensor]:
        """(N,) float64 for each of `names`. Raises `UserError` where the function returns something else."""
        if isinstance(self.function, Composite):
            own, *parts = self.function.with_parts(given)
        else:
            own, parts = as_column(self.function(**given), len(given["completions"]), self.name), []
        return [self.normalisation(own), *parts]


class Composite:
    """The mean of several rewards by their weights, over those that apply to a reply; None where none does."""

    def __init__(self, parts: Sequence[Reward]) -> None:
        self.parts = parts

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float | None]:
        own = self.with_parts({"prompts": prompts, "completions": completions, **columns})[0]
        return [None if math.isnan(value) else value for value in own.tolist()]

    def with_parts(self, given: Columns) -> list[Tensor]:
        """(N,) float64: the mean, then what the parts give, as `Reward.scores`."""
        scored = [part.scores(given) for part in self.parts]
        weights = torch.tensor([part.weight for part in self.parts], dtype=torch.float64)
        applies = ~torch.stack([own for own, *_ in scored], dim=1).isnan()
        mean = weighted_sum(self.parts, scored) / (applies * weights).sum(1)
        return [mean, *(column for columns in scored for column in columns)]


class Rewards:
    """The weighted sum of reward functions, itself called as they are.

    Args:
        rewards: at least one; their names differ.
    """

    def __init__(self, rewards: Sequence[Reward]) -> None:
        self.rewards = rewards

    @property
    def names(self) -> list[str]:
        """The K names of the columns of `Scores.parts`."""
        return [name for reward in self.rewards for name in reward.names]

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> Scores:
        """Score N replies.

        Raises:
            UserError: a function failed, or returned anything but N numbers or None.
        """
        scored = [r.scores({"prompts": prompts, "completions": completions, **columns}) for r in self.rewards]
        parts = torch.stack([column for columns in scored for column in columns], dim=1)
        return Scores(weighted_sum(self.rewards, scored).float(), parts.float())


def weighted_sum(rewards: Sequence[Reward], scored: Sequence[Sequence[Tensor]]) -> Tensor:
    """Σ weight · reward, (N,), over the rewards that apply and have a weight; the own column of each is its first."""
    total = torch.zeros_like(scored[0][0])
    for reward, (own, *_) in zip(rewards, scored, strict=True):
        if reward.weight:  # 0 times infinity would be no number
            total += reward.weight * torch.where(own.isnan(), 0.0, own)
    return total


def as_column(values: Any, count: int, name: str) -> Tensor:
    """(N,) float64 of what a reward function returned: NaN for None, infinity for what is no finite number.

    Raises:
        UserError: not one number or None for each of `count` replies; names the reward `name`.
    """
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, list | tuple) or len(values) != count:
        found = f"{len(values)} values" if isinstance(values, list | tuple) else shorten(values)
        raise UserError(
            f"The reward {name} did not return one number a reply.", expected=f"a list of {count} numbers", found=found
        )
    numbers = [_number(value, row, name) for row, value in enumerate(values)]
    if math.inf in numbers:
        log.warning("the reward %s is no finite number for %d of %d replies", name, numbers.count(math.inf), count)
    return torch.tensor(numbers, dtype=torch.float64)


def _number(value: Any, row: int, name: str) -> float:
    value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if value is None:
        return math.nan
    if not isinstance(value, Real):
        raise UserError(
            f"The reward {name} did not return a number for reply {row + 1}.",
            expected="a number, or None where it does not apply",
            found=shorten(value),
        )
    return float(value) if math.isfinite(value) else math.inf


def statistics(names: Sequence[str], parts: Tensor, prefix: str = "") -> dict[str, float]:
    """`rewards/NAME/mean` and `rewards/NAME/std` of each reward over the replies to which it applies.

    Args:
        names: K of them.
        parts: (N, K), as in `Scores`. The deviation is that of these replies (divided by N). What applies to none has
            no entry.
        prefix: put before each key.
    """
    found = {}
    for name, column in zip(names, parts.unbind(1), strict=True):
        column = column[~column.isnan()].double()
        if len(column):
            found[f"{prefix}rewards/{name}/mean"] = column.mean().item()
            found[f"{prefix}rewards/{name}/std"] = column.std(correction=0).item()
    return found
