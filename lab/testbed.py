"""The k-armed testbed of Sutton and Barto (2018, section 2.3): many runs of one bandit, side by side.

    course = play(partial(EpsilonGreedy, epsilon=0.1, initial=0.0), Testbed(), steps=1000, runs=2000, seed=0)
    course.rewards[-100:].mean()         # 1.37
    course = play(ThompsonSampling, Bernoulli((0.4, 0.6)), steps=1000, runs=2000, seed=0)
    course.regret[-1]                    # what was lost on the way, on average

Arms pay normal rewards (`Testbed`), or 1 and 0 (`Bernoulli`). Equal seeds give equal arms and equal noise to every
bandit: what differs between two courses is what they choose. The bandits are those of `rlhf.bandits`. K arms, R runs, T
steps.
"""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rlhf.bandits import Bandit, Floats

LATE = 0.1
"""The last share of the steps, by which a bandit is judged: the last 100 of 1,000."""
LAST = 100
"""The last steps of a course, however long it is."""
POINTS = 100
"""Of a curve in the results."""


class Maker(Protocol):
    """A class of `rlhf.bandits`, or a `functools.partial` of one."""

    def __call__(self, arms: int, *, runs: int) -> Bandit: ...


class Arms(Protocol):
    """What a bandit plays on. The mean reward of an arm is its q."""

    @property
    def arms(self) -> int:
        """K."""

    @property
    def changes(self) -> bool:
        """Whether q changes over time."""

    def start(self, runs: int, rng: np.random.Generator) -> Floats:
        """(R, K) q of each run's arms at first."""

    def pay(self, q: Floats, rng: np.random.Generator) -> Floats:
        """(R,) rewards of the arms that were pulled, whose q is given, (R,)."""

    def next(self, q: Floats, done: float, rng: np.random.Generator) -> Floats:
        """(R, K) q after one more step; `done` is the share of the steps that are over."""


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

    @property
    def changes(self) -> bool:
        return self.walk > 0

    def start(self, runs: int, rng: np.random.Generator) -> Floats:
        return rng.normal(self.mean, self.spread, (runs, self.arms))

    def pay(self, q: Floats, rng: np.random.Generator) -> Floats:
        return q + self.noise * rng.standard_normal(len(q))

    def next(self, q: Floats, done: float, rng: np.random.Generator) -> Floats:
        return q + self.walk * rng.standard_normal(q.shape)


@dataclass(frozen=True)
class Bernoulli:
    """Arms that pay 1 or 0, as thumbs do; the same arms in every run."""

    rates: tuple[float, ...]
    """(K,) chance that each pays 1."""
    swaps: bool = False
    """Whether they stand in reverse order from the middle of a run on: of two arms the better one becomes the worse."""

    def __post_init__(self) -> None:
        if not self.rates or not all(0 <= rate <= 1 for rate in self.rates):
            raise ValueError(f"no such arms: {self}")

    @property
    def arms(self) -> int:
        return len(self.rates)

    @property
    def changes(self) -> bool:
        return self.swaps

    def start(self, runs: int, rng: np.random.Generator) -> Floats:
        return np.tile(self.rates, (runs, 1))

    def pay(self, q: Floats, rng: np.random.Generator) -> Floats:
        return (rng.random(len(q)) < q).astype(np.float64)

    def next(self, q: Floats, done: float, rng: np.random.Generator) -> Floats:
        return np.tile(self.rates if done < 0.5 else self.rates[::-1], (len(q), 1))


STATIONARY = Testbed()
RAISED = Testbed(mean=4.0)
"""Of figure 2.5."""
WALKING = Testbed(spread=0.0, walk=0.01)
"""Of exercise 2.5: all arms begin equal."""


@dataclass
class Ending:
    """Means of each run over its last steps."""

    steps: int
    """How many."""
    rewards: Floats
    """(R,)."""
    optimal: Floats
    """(R,) share of the best arm."""

    @classmethod
    def of(cls, steps: int, runs: int) -> "Ending":
        return cls(steps, np.zeros(runs), np.zeros(runs))

    def add(self, paid: Floats, right: NDArray[np.bool_]) -> None:
        """One of the steps."""
        self.rewards += paid / self.steps
        self.optimal += right / self.steps

    def summary(self) -> dict[str, float]:
        """Means over the runs with their standard errors."""
        root = np.sqrt(len(self.rewards))
        return {
            "reward": float(self.rewards.mean()),
            "reward_standard_error": float(self.rewards.std() / root),
            "optimal": float(self.optimal.mean()),
            "optimal_standard_error": float(self.optimal.std() / root),
        }


class Course(NamedTuple):
    """How a bandit did."""

    rewards: Floats
    """(T,) mean over the runs."""
    optimal: Floats
    """(T,) share of the runs that chose the arm with the highest q."""
    regret: Floats
    """(T,) mean over the runs of what was lost so far: the highest q less that of the arm pulled, summed."""
    regrets: Floats
    """(R,) what each run had lost at its end."""
    late: Ending
    """Of the last tenth of the steps (`LATE`)."""
    last: Ending
    """Of the last 100 steps (`LAST`), or all where there are fewer."""
    second_half: Ending
    seconds: float
    """That all runs took."""


def play(make: Maker, testbed: Arms, steps: int, runs: int, seed: int) -> Course:
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
    bandit, rows = make(testbed.arms, runs=runs), np.arange(runs)
    q = testbed.start(runs, arms_rng)
    best = q.argmax(axis=1)
    rewards, optimal, regret, lost = np.zeros(steps), np.zeros(steps), np.zeros(steps), np.zeros(runs)
    late, last, half = (Ending.of(n, runs) for n in (last_steps(steps), min(LAST, steps), max(1, steps // 2)))
    for t in range(steps):
        chosen = bandit.choose_all(choice_rng)
        value = q[rows, chosen]
        paid = testbed.pay(value, noise_rng)
        right = chosen == best
        bandit.update_all(chosen, paid)
        lost += q[rows, best] - value
        rewards[t], optimal[t], regret[t] = paid.mean(), right.mean(), lost.mean()
        for ending in (late, last, half):
            if t >= steps - ending.steps:
                ending.add(paid, right)
        if testbed.changes:
            q = testbed.next(q, (t + 1) / steps, arms_rng)
            best = q.argmax(axis=1)
    return Course(rewards, optimal, regret, lost, late, last, half, time.perf_counter() - began)


def summary(course: Course) -> dict[str, Any]:
    """Means over the last steps with their standard errors, and the curves in blocks of steps.

    The last tenth of the steps, and the last 100 where these are others.
    """
    block = max(1, len(course.rewards) // POINTS)
    found: dict[str, Any] = course.late.summary()
    if course.last.steps != course.late.steps:
        found["last"] = {"steps": course.last.steps, **course.last.summary()}
    return found | {
        "seconds": course.seconds,
        "block": block,
        "rewards": in_blocks(course.rewards, block).round(4).tolist(),
        "optimals": in_blocks(course.optimal, block).round(4).tolist(),
    }


def last_steps(steps: int) -> int:
    """How many of the steps count as the last ones."""
    return max(1, round(LATE * steps))


def in_blocks(curve: Floats, block: int) -> Floats:
    """(T // block,) means of so many steps each; what is left at the end is dropped."""
    return curve[: len(curve) // block * block].reshape(-1, block).mean(axis=1)
