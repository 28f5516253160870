"""The k-armed testbed of Sutton and Barto (2018, section 2.3): many runs of one bandit, side by side.

    course = play(partial(EpsilonGreedy, epsilon=0.1, initial=0.0), Testbed(), steps=1000, runs=2000, seed=0)
    course.rewards[-100:].mean()         # 1.37

Every run has arms of its own, and equal seeds give equal arms and equal noise to every bandit: what differs between two
courses is what they choose. The bandits are those of `rlhf.bandits`. K arms, R runs, T steps.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from rlhf.bandits import Bandit, Floats

LATE = 0.1
"""The last share of the steps, by which a bandit is judged: the last 100 of 1,000."""


class Maker(Protocol):
    """A class of `rlhf.bandits`, or a `functools.partial` of one."""

    def __call__(self, arms: int, *, runs: int) -> Bandit: ...


@dataclass(frozen=True)
class Testbed:
    """Arms whose rewards are drawn from N(q, noise²); q of each arm from N(mean, spread²)."""

    __test__ = False  # no class of tests, whatever its name

    arms: int = 10
    mean: float = 0.0
    spread: float = 1.0
    noise: float = 1.0
    walk: float = 0.0
    """Standard deviation of a step that every q takes after each pull; 0: they stay."""

    def __post_init__(self) -> None:
        if self.arms < 1 or min(self.spread, self.noise, self.walk) < 0:
            raise ValueError(f"no such testbed: {self}")


STATIONARY = Testbed()
RAISED = Testbed(mean=4.0)
"""Of figure 2.5."""
WALKING = Testbed(spread=0.0, walk=0.01)
"""Of exercise 2.5: all arms begin equal."""


class Course(NamedTuple):
    """How a bandit did."""

    rewards: Floats
    """(T,) mean over the runs."""
    optimal: Floats
    """(T,) share of the runs that chose the arm with the highest q."""
    late_rewards: Floats
    """(R,) mean of each run over its last steps (`LATE`)."""
    late_optimal: Floats
    """(R,) share of the best arm there."""
    seconds: float
    """That all runs took."""


def play(make: Maker, testbed: Testbed, steps: int, runs: int, seed: int) -> Course:
    """Let R copies of a bandit choose T times.

    Args:
        make: the bandit.
        testbed: what it plays on.
        steps: T, at least 1.
        runs: R.
        seed: of the arms, the noise and the choices.
    """
    began = time.perf_counter()
    arms_rng, noise_rng, choice_rng = (np.random.default_rng((seed, part)) for part in range(3))
    bandit, rows, late = make(testbed.arms, runs=runs), np.arange(runs), last_steps(steps)
    q = arms_rng.normal(testbed.mean, testbed.spread, (runs, testbed.arms))
    best = q.argmax(axis=1)
    rewards, optimal, late_rewards, late_optimal = np.zeros(steps), np.zeros(steps), np.zeros(runs), np.zeros(runs)
    for t in range(steps):
        chosen = bandit.choose_all(choice_rng)
        paid = q[rows, chosen] + testbed.noise * noise_rng.standard_normal(runs)
        right = chosen == best
        bandit.update_all(chosen, paid)
        rewards[t], optimal[t] = paid.mean(), right.mean()
        if t >= steps - late:
            late_rewards += paid / late
            late_optimal += right / late
        if testbed.walk:
            q += testbed.walk * arms_rng.standard_normal(q.shape)
            best = q.argmax(axis=1)
    return Course(rewards, optimal, late_rewards, late_optimal, time.perf_counter() - began)


def last_steps(steps: int) -> int:
    """How many of the steps count as the last ones."""
    return max(1, round(LATE * steps))


def in_blocks(curve: Floats, block: int) -> Floats:
    """(T // block,) means of so many steps each; what is left at the end is dropped."""
    return curve[: len(curve) // block * block].reshape(-1, block).mean(axis=1)
