"""Spread weights on a process group of one; on two processes: tests/phases/test_two_processes.py."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from rlhf.sharding import full, load_optimizer_state, optimizer_state, spread_like, whole_state, whole_weights

ACCELERATOR = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=SimpleNamespace(reshard_after_forward=True)))


@pytest.fixture
def group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[2].weight = model[0].weight  # as embeddings and language-model head share theirs
    return model


@pytest.fixture
def spread(group):
    model = network()
    fully_shard(model[1])
    return fully_shard(model)


def is_spread(model):
    return [isinstance(parameter, DTensor) for parameter in model.parameters()]


def test_what_is_not_spread_is_left_alone():
    model, value = network(), torch.ones(2)
    assert whole_state(model) is None
    assert full(value) is value and spread_like(value, torch.zeros(2)) is value
    with whole_weights(ACCELERATOR, model):
        assert is_spread(model) == [False] * 5


def test_the_state_is_whole_and_shared_weights_are_in_it_once(spread):
    state, expected = whole_state(spread), network().state_dict()
    assert set(state) == set(expected) - {"2.weight"}
    for name, value in state.items():
        assert not isinstance(value, DTensor) and torch.equal(value, expected[name])


def test_parts_of_a_model_run_while_its_weights_are_whole_and_it_trains_afterwards(spread):
    model, x = network(), torch.randn(4, 3)
    for _ in range(2):
        with whole_weights(ACCELERATOR, spread), torch.no_grad():
            assert is_spread(spread) == [False] * 5
            for part in (1, 2, 1):  # one is a unit of FSDP, and another belongs to the root
                assert torch.equal(spread[part](x), model[part](x))
        assert is_spread(spread) == [True] * 5
    for each in (spread, model):
        each(x).pow(2).sum().backward()
    for ours, theirs in zip(spread.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(full(ours.grad), theirs.grad)


def one_step(optimizer, model):
    optimizer.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()


def test_optimizer_state_of_spread_weights_can_be_loaded_where_none_are_and_back(spread):
    optimizer = torch.optim.Adam(spread.parameters(), lr=0.1)
    one_step(optimizer, spread)
    kept = copy.deepcopy(optimizer_state(optimizer))
    plain = network()
    plain.load_state_dict(whole_state(spread), strict=False)
    for model in (plain, spread):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        load_optimizer_state(optimizer, copy.deepcopy(kept))
        assert isinstance(optimizer.state[model[0].weight]["exp_avg"], DTensor) == (model is spread)
        again = optimizer_state(optimizer)["state"]
        for index, moments in kept["state"].items():
            assert {name: value.tolist() for name, value in again[index].items()} == {
                name: value.tolist() for name, value in moments.items()
            }
        one_step(optimizer, model)
    for ours, theirs in zip(spread.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(full(ours).detach(), theirs.detach())
