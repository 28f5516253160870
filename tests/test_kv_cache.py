"""Rows that join and leave a cache: what a network then says is what it says to each row alone."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.config import Shape
from rlhf.kv_cache import CachedRows
from rlhf.logprobs import causal_lm
from rlhf.models import from_scratch
from rlhf.padding import pad_left
from rlhf.tokenizer import load_tokenizer
from tests.architectures import tiny_model
from tests.conftest import TEXTS

PAD = 0


@pytest.fixture(params=["gpt-neo", "gpt2", "llama", "mistral", "qwen3"])
def network(request, lively, tokenizer):
    return lively if request.param == "gpt-neo" else tiny_model(request.param, tokenizer)


def alone(network, ids: list[int]) -> torch.Tensor:
    """The last hidden state (D,) of a plain pass."""
    with torch.no_grad():
        return causal_lm(network).base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]


def read(network, rows: list[list[int]], room: int = 16) -> tuple[CachedRows, torch.Tensor]:
    ids, mask = pad_left(rows, PAD)
    cached = CachedRows(network, mask, room)
    with torch.no_grad():
        return cached, cached.read(ids)


def more(cached: CachedRows, rows: list[list[int]], token: int) -> torch.Tensor:
    for row in rows:
        row.append(token)
    with torch.no_grad():
        return cached.read(torch.full((len(rows), 1), token))


@pytest.mark.parametrize(("first", "second"), [(3, 11), (11, 3), (5, 5)])
def test_joined_rows_read_on_as_if_alone(network, first, second):
    """The window of the second layer is 8 tokens: shorter than the longer side."""
    ours, theirs = [list(range(30, 30 + first)), [40]], [list(range(60, 60 + second))]
    cached, _ = read(network, ours)
    for token in (70, 71):
        more(cached, ours, token)
    others, _ = read(network, theirs)
    cached.join(others, room=10)
    rows = [*ours, *theirs]
    for token in (80, 81, 82):
        hidden = more(cached, rows, token)
    for state, row in zip(hidden, rows, strict=True):
        torch.testing.assert_close(state, alone(network, row), atol=1e-4, rtol=1e-4)


def test_columns_that_nobody_sees_are_dropped(network):
    long, short = [list(range(30, 50))], [[60, 61]]
    cached, _ = read(network, [*long, *short])
    cached.keep(torch.tensor([1]))
    others, _ = read(network, [[62]])
    cached.join(others, room=4)
    assert cached.cache.get_seq_length() == 2
    hidden = more(cached, [[60, 61], [62]], 63)
    torch.testing.assert_close(hidden[0], alone(network, [60, 61, 63]), atol=1e-4, rtol=1e-4)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["join", "read", "keep"]), st.integers(1, 12)), min_size=1, max_size=12))
def test_any_order_of_joining_reading_and_leaving(events):
    network = _network()
    rows = [[30, 31]]
    cached, hidden = read(network, rows, room=64)
    for event, number in events:
        if event == "read":
            hidden = more(cached, rows, 40 + number)
        elif event == "keep" and len(rows) > 1:
            kept = torch.arange(len(rows))[torch.arange(len(rows)) != number % len(rows)]
            cached.keep(kept)
            rows = [rows[place] for place in kept]
        else:
            new = [[50 + place for place in range(number)]]
            others, _ = read(network, new, room=1)
            cached.join(others, room=64)
            rows += new
    hidden = more(cached, rows, 99)
    for state, row in zip(hidden, rows, strict=True):
        torch.testing.assert_close(state, alone(network, row), atol=1e-4, rtol=1e-4)


@cache
def _network():
    tokenizer = load_tokenizer("train", vocab_size=300, texts=lambda: TEXTS, max_length=64)
    torch.manual_seed(0)
    shape = Shape(hidden_size=32, num_layers=2, num_heads=2, window_size=8, max_position_embeddings=128)
    model = from_scratch(shape, tokenizer).eval()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(10)
    return model


def test_columns_that_only_rows_which_left_had_are_left_out(network):
    """Two tokens stay of eleven columns; what is read after that is as if the long row had never been there."""
    rows = [list(range(30, 41)), [50, 51]]
    cached, _ = read(network, rows)
    cached.keep(torch.tensor([1]))
    cached.trim()
    assert cached.cache.get_seq_length() == 2
    kept = [rows[1]]
    for token in (60, 61):
        hidden = more(cached, kept, token)
    torch.testing.assert_close(hidden[0], alone(network, kept[0]), atol=1e-4, rtol=1e-4)
    others, _ = read(network, [[70, 71, 72]])
    cached.join(others, room=4)
    kept.append([70, 71, 72])
    for state, row in zip(more(cached, kept, 80), kept, strict=True):
        torch.testing.assert_close(state, alone(network, row), atol=1e-4, rtol=1e-4)
