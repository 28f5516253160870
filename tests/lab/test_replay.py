"""The ring, the sum tree beside a naive one, and prioritised draws by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.replay import PrioritisedReplay, Replay, SumTree, Transitions
from rlhf.errors import UserError


def transitions(*numbers: int) -> Transitions:
    """One transition a number, told apart by it."""
    rows = np.array(numbers, np.float32)[:, None]
    ends = np.array([number % 3 == 0 for number in numbers])
    return Transitions(rows, np.array(numbers), rows[:, 0] / 10, rows + 1, ends)


@given(batches=st.lists(st.integers(1, 5), max_size=12), capacity=st.integers(5, 9))
def test_a_ring_holds_the_newest(batches, capacity) -> None:
    memory, seen = Replay(capacity, (1,)), 0
    for size in batches:
        memory.add(transitions(*range(seen, seen + size)))
        seen += size
    assert len(memory) == min(seen, capacity)
    if seen:
        drawn = memory.sample(500, np.random.default_rng(0)).transitions
        assert set(drawn.actions) == set(range(max(0, seen - capacity), seen))


def test_columns_stay_together() -> None:
    memory = Replay(7, (1,))
    memory.add(transitions(*range(7)))
    drawn = memory.sample(100, np.random.default_rng(0)).transitions
    assert (drawn.observations[:, 0] == drawn.actions).all()
    assert (drawn.next_observations[:, 0] == drawn.actions + 1).all()
    assert np.allclose(drawn.rewards, drawn.actions / 10)
    assert (drawn.terminated == (drawn.actions % 3 == 0)).all()


def test_uniform_draws_are_uniform_and_weigh_one() -> None:
    memory = Replay(8, (1,))
    memory.add(transitions(0, 1, 2, 3))
    sample = memory.sample(20_000, np.random.default_rng(0))
    assert np.bincount(sample.slots, minlength=8)[:4] == pytest.approx(5000, abs=250)  # four standard deviations
    assert (sample.weights == 1).all() and (sample.slots < 4).all()


WEIGHTS = st.integers(0, 100)  # whole numbers: sums are exact in any order


@given(data=st.data(), size=st.integers(1, 33))
def test_sum_tree_is_as_a_naive_one(data, size) -> None:
    tree, naive = SumTree(size), np.zeros(size)
    leaf = st.integers(0, size - 1)
    for changes in data.draw(st.lists(st.lists(st.tuples(leaf, WEIGHTS), min_size=1, max_size=8), max_size=6)):
        leaves, weights = np.array(changes).T
        tree.set(leaves, weights.astype(float))
        for number, weight in changes:
            naive[number] = weight
    assert tree.total == naive.sum() and (tree[np.arange(size)] == naive).all()
    if naive.any():
        totals = np.array(data.draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=1))) * naive.sum()
        expected = [int(np.flatnonzero(np.cumsum(naive) > total)[0]) for total in totals]
        assert tree.find(totals).tolist() == expected


@given(weights=st.lists(st.floats(0, 1e6) | st.floats(0, 1e-6), min_size=1, max_size=40), share=st.floats(0.0, 1.0))
def test_sum_tree_never_finds_an_empty_leaf(weights, share) -> None:
    tree = SumTree(len(weights))
    tree.set(np.arange(len(weights)), np.array(weights))
    if tree.total > 0:
        total = min(share * tree.total, np.nextafter(tree.total, 0))
        assert weights[int(tree.find(np.array([total]))[0])] > 0


def test_sum_tree_by_hand() -> None:
    tree = SumTree(5)
    tree.set(np.arange(5), np.array([3.0, 1.0, 0.0, 2.0, 4.0]))
    assert tree.total == 10
    assert tree.find(np.array([0, 2.9, 3, 3.9, 4, 5.9, 6, 9.9])).tolist() == [0, 0, 1, 1, 3, 3, 4, 4]


def prioritised() -> PrioritisedReplay:
    """Errors 1, −2, 3, 4: with α = 1 drawn in the shares .1, .2, .3, .4."""
    memory = PrioritisedReplay(6, (1,), alpha=1.0, floor=1e-9)
    memory.reprioritise(memory.add(transitions(0, 1, 2, 3)), np.array([1, -2, 3, 4], np.float32))
    return memory


def test_draws_follow_the_errors() -> None:
    generator = np.random.default_rng(0)
    slots = np.concatenate([prioritised().sample(16, generator).slots for _ in range(1250)])
    assert np.bincount(slots) / len(slots) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.01)


def test_ten_parts_of_the_total_give_each_its_share_exactly() -> None:
    slots = prioritised().sample(10, np.random.default_rng(0)).slots
    assert np.bincount(slots).tolist() == [1, 2, 3, 4]


def test_alpha_flattens() -> None:
    memory = PrioritisedReplay(4, (1,), alpha=0.5, floor=1e-9)
    memory.reprioritise(memory.add(transitions(0, 1)), np.array([1, 9], np.float32))  # square roots 1 and 3
    assert np.bincount(memory.sample(400, np.random.default_rng(0)).slots).tolist() == [100, 300]


@pytest.mark.parametrize(
    ("beta", "expected"), [(1.0, [1, 1 / 2, 1 / 3, 1 / 4]), (0.5, [1, 0.5**0.5, 3**-0.5, 0.5]), (0.0, [1, 1, 1, 1])]
)
def test_importance_weights_by_hand(beta, expected) -> None:
    # N P = .4, .8, 1.2, 1.6; to the power −β and divided by the largest, that of slot 0.
    sample = prioritised().sample(40, np.random.default_rng(0), beta)
    assert sample.weights == pytest.approx(np.array(expected)[sample.slots], rel=1e-5)


def test_full_correction_gives_the_uniform_mean() -> None:
    sample = prioritised().sample(10, np.random.default_rng(0), beta=1.0)
    values = np.array([5.0, 1.0, 7.0, 3.0])
    assert np.average(values[sample.slots], weights=sample.weights) == pytest.approx(4.0)


def test_the_new_are_drawn_like_the_largest_so_far() -> None:
    memory = prioritised()
    memory.add(transitions(4))  # priority 4, of 1 + 2 + 3 + 4 + 4
    assert np.bincount(memory.sample(14, np.random.default_rng(0)).slots).tolist() == [1, 2, 3, 4, 4]


def test_a_transition_overwritten_leaves_no_priority() -> None:
    memory = PrioritisedReplay(2, (1,), alpha=1.0)
    memory.reprioritise(memory.add(transitions(0, 1)), np.array([1000, 1], np.float32))
    memory.reprioritise(memory.add(transitions(2)), np.array([1], np.float32))
    drawn = memory.sample(10, np.random.default_rng(0)).transitions.actions
    assert np.bincount(drawn).tolist() == [0, 5, 5]


def test_refusals() -> None:
    with pytest.raises(UserError, match="room"):
        Replay(0, (1,))
    with pytest.raises(UserError, match="Priorities"):
        PrioritisedReplay(2, (1,), alpha=-1)
    with pytest.raises(UserError, match="Priorities"):
        PrioritisedReplay(2, (1,), floor=0)
