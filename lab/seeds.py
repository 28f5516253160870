"""Seeds for each purpose, so that no run is evaluated on what it, or another run, was trained on.

worlds.reset(seed=seeds(0, TRAINING)(8))           # eight environments of run 0
worlds.reset(seed=seeds(0, EVALUATING)(100))       # a hundred fresh episodes for it

NumPy's `SeedSequence` mixes the run's seed and the purpose, so that the numbers are as good as drawn at random from all
of 32 bits. Counting up from a number of one's own would meet the numbers of another run sooner or later.
"""

from collections.abc import Callable

import numpy as np

Seeds = list[int | None]
"""As Gymnasium takes them; here none is None."""
TRAINING, DRAWING, EVALUATING = range(3)
"""What random numbers are for: each purpose has seeds of its own."""


def seeds(seed: int, *purpose: int) -> Callable[[int], Seeds]:
    """As many seeds as asked for, which no other seed or purpose shares; fewer of them are the first of more."""
    return lambda count: np.random.SeedSequence((seed, *purpose)).generate_state(count).tolist()
