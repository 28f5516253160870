"""Values that change while training goes on: learning rates, exploration, clipping.

exploration = linear(1.0, 0.04, fraction=0.16)
exploration(0.0), exploration(0.08), exploration(0.5)      # 1.0, 0.52, 0.04

A schedule is a function of progress: 0 at the first step, 1 at the last. Progress outside counts as the nearer end.
"""

import math
from collections.abc import Callable

from rlhf.errors import UserError

Schedule = Callable[[float], float]
"""From progress, 0 to 1, to a value."""


def constant(value: float) -> Schedule:
    """The same all the way."""
    return lambda progress: value


def linear(start: float, end: float, fraction: float = 1.0) -> Schedule:
    """A straight line, then level.

    Args:
        start, end: the values at both ends.
        fraction: of the way at which `end` is reached, 0 < fraction ≤ 1.

    Raises:
        UserError: the fraction is out of range.
    """
    if not 0 < fraction <= 1:
        raise UserError(
            "A schedule's fraction is out of range.", expected="more than 0, at most 1", found=str(fraction)
        )
    return lambda progress: start + (end - start) * min(_clip(progress) / fraction, 1.0)


def exponential(start: float, end: float) -> Schedule:
    """Shrinks, or grows, by the same factor at every step.

    Args:
        start, end: the values at both ends, both positive.

    Raises:
        UserError: an end is not positive.
    """
    if start <= 0 or end <= 0:
        raise UserError("An exponential schedule cannot start or end there.", expected="two positive values",
                        found=f"{start} and {end}")  # fmt: skip
    return lambda progress: start * (end / start) ** _clip(progress)


def cosine(start: float, end: float) -> Schedule:
    """Half a cosine wave: slow, fast, slow (Loshchilov and Hutter 2017, equation 5, without restarts)."""
    return lambda progress: end + (start - end) * (1 + math.cos(math.pi * _clip(progress))) / 2


def _clip(progress: float) -> float:
    return min(max(progress, 0.0), 1.0)
