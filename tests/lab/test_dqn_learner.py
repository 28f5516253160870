"""One update of deep Q-learning by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lab.dqn_learner import Learner, Settings, targets
from lab.replay import Sample, Transitions
from rlhf.errors import UserError

SMALL = Settings(hidden=(8,), batch=2)


def sample(rewards: list[float], terminated: list[bool], weights: list[float] | None = None) -> Sample:
    """Transitions from state (1, 0) by action 0 to state (0, 1)."""
    many = len(rewards)
    rows = Transitions(
        observations=np.tile(np.array([1, 0], np.float32), (many, 1)),
        actions=np.zeros(many, np.int64),
        rewards=np.array(rewards, np.float32),
        next_observations=np.tile(np.array([0, 1], np.float32), (many, 1)),
        terminated=np.array(terminated),
    )
    return Sample(rows, np.array(weights or [1] * many, np.float32), np.arange(many))


def linear_learner(**changes: object) -> Learner:
    """Values are the columns of a matrix: in state (1, 0) 3 and 5, in state (0, 1) 2 and 4; the target's 10 and 7."""
    learner = Learner(2, 2, replace(SMALL, hidden=(), **changes), seed=0)
    with torch.no_grad():
        learner.network[0].weight.copy_(torch.tensor([[3.0, 2.0], [5.0, 4.0]]))
        learner.target[0].weight.copy_(torch.tensor([[0.0, 10.0], [0.0, 7.0]]))
        for layers in (learner.network, learner.target):
            layers[0].bias.zero_()
    return learner


def test_targets_by_hand() -> None:
    found = targets(
        rewards=torch.tensor([1.0, 1.0, -2.0]),
        terminated=torch.tensor([False, True, False]),
        next_values=torch.tensor([[10.0, 7.0], [10.0, 7.0], [1.0, 3.0]]),
        next_choosers=torch.tensor([[10.0, 7.0], [10.0, 7.0], [1.0, 3.0]]),
        discount=0.9,
    )
    assert found.tolist() == pytest.approx([1 + 9, 1, -2 + 2.7])


def test_double_dqn_chooses_with_one_network_and_values_with_the_other() -> None:
    values, choosers = torch.tensor([[10.0, 7.0]]), torch.tensor([[2.0, 4.0]])
    found = targets(torch.tensor([1.0]), torch.tensor([False]), values, choosers, 0.5)
    assert found.tolist() == [1 + 0.5 * 7]  # action 1 is the chooser's; action 0 would have been valued 10


@pytest.mark.parametrize(
    ("double", "expected"),
    [
        (False, [1 + 0.5 * 10 - 3, 1 - 3]),  # goes on: the target's maximum, 10; terminated: the reward alone
        (True, [1 + 0.5 * 7 - 3, 1 - 3]),  # the network prefers action 1 (4 over 2), which the target values 7
    ],
)
def test_errors_of_an_update(double, expected) -> None:
    errors = linear_learner(double=double, discount=0.5).update(sample([1, 1], [False, True]), 1e-3)
    assert errors.tolist() == pytest.approx(expected)


def test_an_update_moves_only_what_was_done_and_towards_the_target() -> None:
    learner = linear_learner(double=False, discount=0.5)
    learner.update(sample([1], [False]), 0.01)  # the target is 6, the estimate 3
    # Adam's first step is the learning rate, whatever the gradient.
    assert learner.network[0].weight.tolist() == [pytest.approx([3.01, 2.0]), pytest.approx([5.0, 4.0])]
    assert learner.network[0].bias.tolist() == pytest.approx([0.01, 0.0])


def test_a_weight_of_zero_silences_a_transition() -> None:
    both, alone = linear_learner(), linear_learner()
    both.update(sample([1, -100], [False, True], weights=[2, 0]), 0.01)  # the mean over two of 2 and 0
    alone.update(sample([1], [False]), 0.01)
    assert torch.allclose(both.network[0].weight, alone.network[0].weight)


def test_the_target_follows_every_so_many_updates() -> None:
    learner = linear_learner(target_every=2, target_rate=1.0)
    learner.update(sample([1], [False]), 0.01)
    assert learner.target[0].weight.tolist() == [[0, 10], [0, 7]]
    learner.update(sample([1], [False]), 0.01)
    assert torch.equal(learner.target[0].weight, learner.network[0].weight)


def test_the_target_follows_part_of_the_way() -> None:
    learner = linear_learner(target_every=1, target_rate=0.25, double=False)
    learner.update(sample([1], [False]), 0.01)  # the network's rows are now (3.01, 2) and (5, 4)
    expected = [pytest.approx([0.25 * 3.01, 10 - 0.25 * 8]), pytest.approx([0.25 * 5, 7 - 0.25 * 3])]
    assert learner.target[0].weight.tolist() == expected


def test_acts_greedily() -> None:
    learner = linear_learner()
    assert learner.best(np.array([[1, 0], [-1, 0]], np.float32)).tolist() == [1, 0]


def test_first_weights_follow_the_seed_and_move_no_other_random_number() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, third = (Learner(2, 2, SMALL, seed).network[0].weight for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(discount=1.0), "--dqn.discount"),
        (dict(learning_rate=0.0), "--dqn.learning-rate"),
        (dict(final_learning_rate=-1.0), "--dqn.final-learning-rate"),
        (dict(batch=0), "--dqn.batch"),
        (dict(replay_ratio=0.0), "--dqn.replay-ratio"),
        (dict(steps=0), "--dqn.steps"),
        (dict(capacity=3, environments=4), "--dqn.capacity"),
        (dict(hidden=(64, 0)), "--dqn.hidden"),
        (dict(exploration_fraction=0.0), "--dqn.exploration-fraction"),
        (dict(final_exploration=1.5), "--dqn.final-exploration"),
        (dict(alpha=-0.1), "--dqn.alpha"),
        (dict(beta=2.0), "--dqn.beta"),
        (dict(warmup=-1), "--dqn.warmup"),
        (dict(target_rate=0.0), "--dqn.target-rate"),
        (dict(target_every=0), "--dqn.target-every"),
        (dict(huber=0.0), "--dqn.huber"),
        (dict(gradient_norm=0.0), "--dqn.gradient-norm"),
    ],
)
def test_refuses_settings_out_of_range(change, message) -> None:
    with pytest.raises(UserError, match=message):
        Settings(**change)
