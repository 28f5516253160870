"""Memories of transitions to learn from again: uniform, and prioritised by how wrong the last estimate was.

memory = PrioritisedReplay(100_000, observation_shape=(4,))
memory.add(Transitions(observations, actions, rewards, next_observations, terminated))
sample = memory.sample(64, generator, beta=0.4)          # sample.transitions, .weights, .slots
memory.reprioritise(sample.slots, errors)

Both are rings: the newest transition takes the place of the oldest. Everything is NumPy, a batch at a time.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlhf.errors import UserError

Floats = NDArray[np.float32]
Slots = NDArray[np.int64]


class Transitions(NamedTuple):
    """B transitions, one a row."""

    observations: Floats
    """(B, …): what was seen."""
    actions: NDArray[np.int64]
    """(B,): what was done."""
    rewards: Floats
    """(B,): what it gave."""
    next_observations: Floats
    """(B, …): what was seen next, before any reset."""
    terminated: NDArray[np.bool_]
    """(B,): True: the task ended here and nothing is to come. A time limit (truncation) is no such end."""


class Sample(NamedTuple):
    """B transitions out of a memory."""

    transitions: Transitions
    weights: Floats
    """(B,): what each one's loss is multiplied by; at most 1."""
    slots: Slots
    """(B,): where they lie, for `reprioritise`."""


class Replay:
    """A ring of transitions, each as likely to be drawn as any other (Mnih et al. 2015).

    Args:
        capacity: transitions it holds.
        observation_shape: of one observation.

    Raises:
        UserError: the capacity is not positive.
    """

    def __init__(self, capacity: int, observation_shape: tuple[int, ...]) -> None:
        if capacity < 1:
            raise UserError("A replay memory needs room.", expected="a capacity of at least 1", found=str(capacity))
        self.capacity = capacity
        self._added = 0
        self._all: tuple[np.ndarray, ...] = Transitions(
            observations=np.zeros((capacity, *observation_shape), np.float32),
            actions=np.zeros(capacity, np.int64),
            rewards=np.zeros(capacity, np.float32),
            next_observations=np.zeros((capacity, *observation_shape), np.float32),
            terminated=np.zeros(capacity, np.bool_),
        )

    def __len__(self) -> int:
        return min(self._added, self.capacity)

    def add(self, transitions: Transitions) -> Slots:
        """Keep B transitions, no more than the capacity, in place of the oldest; the slots they got."""
        slots = (self._added + np.arange(len(transitions.actions))) % self.capacity
        for column, new in zip(self._all, transitions, strict=True):
            column[slots] = new
        self._added += len(slots)
        return slots

    def sample(self, size: int, generator: np.random.Generator, beta: float = 1.0) -> Sample:
        """Draw with replacement.

        Args:
            size: B.
            generator: of the draw.
            beta: without effect here: nothing is drawn more often, so all weights are 1.
        """
        slots = generator.integers(len(self), size=size)
        return Sample(self._at(slots), np.ones(size, np.float32), slots)

    def reprioritise(self, slots: Slots, errors: Floats) -> None:
        """Take note of the errors (B,) of sampled transitions; here without effect."""

    def _at(self, slots: Slots) -> Transitions:
        return Transitions._make(column[slots] for column in self._all)


class SumTree:
    """Weights in the leaves of a binary tree, in each node the sum of its two children.

    Changing a weight and finding where a running total falls both take log2(size) steps, for a batch at a time. Node 1
    is the root, the children of node n are 2n and 2n + 1; the leaves come last.

    Args:
        size: leaves.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._depth = max(size - 1, 0).bit_length()
        self._first = 1 << self._depth
        self._sums = np.zeros(2 * self._first, np.float64)

    @property
    def total(self) -> float:
        return float(self._sums[1])

    def __getitem__(self, leaves: Slots) -> NDArray[np.float64]:
        """The weights (B,) of leaves (B,)."""
        return self._sums[self._first + leaves]

    def set(self, leaves: Slots, weights: NDArray[np.floating]) -> None:
        """Change the weights (B,), none negative, of leaves (B,); of a leaf named twice, the last one counts."""
        nodes = self._first + leaves
        self._sums[nodes] = weights
        for _ in range(self._depth):
            nodes = nodes >> 1
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def find(self, totals: NDArray[np.float64]) -> Slots:
        """The leaves (B,) in which running totals (B,), 0 ≤ total < `self.total`, fall.

        Leaf i is found by totals from the sum of the weights before it up to, but without, that sum with its own; so
        a leaf of weight 0 is never found.
        """
        nodes, rest = np.ones(len(totals), np.int64), totals
        for _ in range(self._depth):
            left = 2 * nodes
            below = self._sums[left]
            # A sum may be rounded to a little more than its parts hold: never step into an empty right half.
            right = (rest >= below) & (self._sums[left + 1] > 0)
            nodes, rest = left + right, np.where(right, rest - below, rest)
        return nodes - self._first


class PrioritisedReplay(Replay):
    """Transitions are drawn the more often the larger their last error (Schaul et al. 2016, proportional variant).

    P(i) = p_i^α / Σ_k p_k^α with p_i = |error_i| + ε (their equation 1); what that distorts is weighed off by
    w_i = (N · P(i))^−β / max_j w_j (section 3.4), the maximum taken over the batch. A new transition gets the largest
    priority so far, so that it is soon seen once.

    Args:
        capacity: transitions it holds.
        observation_shape: of one observation.
        alpha: 0: uniform; 1: in proportion to the error.
        floor: ε, so that no transition is lost for good.

    Raises:
        UserError: the capacity or the floor is not positive, or alpha is negative.
    """

    def __init__(
        self, capacity: int, observation_shape: tuple[int, ...], alpha: float = 0.6, floor: float = 1e-6
    ) -> None:
        super().__init__(capacity, observation_shape)
        if not (alpha >= 0 and floor > 0):
            raise UserError("Priorities cannot be formed like that.", expected="alpha ≥ 0, floor > 0",
                            found=f"alpha {alpha}, floor {floor}")  # fmt: skip
        self.alpha, self.floor = alpha, floor
        self._tree = SumTree(capacity)
        self._largest = 1.0

    def add(self, transitions: Transitions) -> Slots:
        slots = super().add(transitions)
        self._tree.set(slots, np.full(len(slots), self._largest**self.alpha))
        return slots

    def sample(self, size: int, generator: np.random.Generator, beta: float = 1.0) -> Sample:
        """Draw one transition from each of B equal parts of the total priority (their appendix B.2.1).

        Args:
            size: B.
            generator: of the draw.
            beta: how much of the distortion the weights undo: 0 nothing, 1 all.
        """
        total = self._tree.total
        marks = (np.arange(size) + generator.random(size)) * (total / size)
        slots = self._tree.find(np.minimum(marks, np.nextafter(total, 0)))
        weights = (len(self) * self._tree[slots] / total) ** -beta
        return Sample(self._at(slots), (weights / weights.max()).astype(np.float32), slots)

    def reprioritise(self, slots: Slots, errors: Floats) -> None:
        """Let the errors (B,), of either sign, of sampled transitions be their priorities from now on."""
        priorities = np.abs(errors).astype(np.float64) + self.floor
        self._largest = max(self._largest, float(priorities.max()))
        self._tree.set(slots, priorities**self.alpha)
