import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.envs.reader import Reader
from tests.env_world import CONTEXT, small


@torch.no_grad()
def alone(model, ids: list[int]) -> torch.Tensor:
    return model.transformer(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]


class Counting:
    """A model that notes how many tokens each pass has."""

    def __init__(self, model) -> None:
        self.widths: list[tuple[int, int]] = []
        model.transformer.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module, args, kwargs) -> None:
        self.widths.append(tuple(kwargs["input_ids"].shape))


@settings(max_examples=15)
@given(moves=st.lists(st.lists(st.sampled_from(["grow", "new", "stay"]), min_size=3, max_size=3), max_size=12))
def test_states_are_those_of_each_conversation_read_alone(moves):
    model, tokenizer = small()
    reader = Reader(model, tokenizer.pad_token_id, slots=3, context=CONTEXT)
    conversations = [[5], [6, 7, 8], [9] * 10]
    for number, each in enumerate([["stay"] * 3, *moves]):
        for slot, move in enumerate(each):
            token = 10 + (number * 3 + slot) % 90
            if move == "grow" and len(conversations[slot]) < CONTEXT:
                conversations[slot] = [*conversations[slot], token]
            elif move == "new":
                conversations[slot] = [token] * (1 + number)
        states = reader(conversations)
        for ids, state in zip(conversations, states, strict=True):
            torch.testing.assert_close(state, alone(model, ids), atol=2e-4, rtol=1e-3)


def test_what_grew_is_one_pass_of_one_token_each(lively, tokenizer):
    reader = Reader(lively, tokenizer.pad_token_id, slots=3, context=CONTEXT)
    passes = Counting(lively)
    reader([[5, 6], [7], [8, 9, 10]])
    reader([[5, 6, 1], [7, 1], [8, 9, 10, 1]])
    assert passes.widths == [(3, 3), (3, 1)]


def test_what_stayed_is_not_read_again(lively, tokenizer):
    reader = Reader(lively, tokenizer.pad_token_id, slots=2, context=CONTEXT)
    first = reader([[5, 6], [7]])
    passes = Counting(lively)
    torch.testing.assert_close(reader([[5, 6], [7]]), first)
    assert passes.widths == []


def test_what_stayed_while_others_began_anew_is_read_on_from_the_cache(lively, tokenizer):
    """The first stays, then all grow: one pass of a token each."""
    reader = Reader(lively, tokenizer.pad_token_id, slots=3, context=CONTEXT)
    reader([[5, 6], [7], [8, 9, 10]])
    passes = Counting(lively)
    reader([[5, 6], [1, 2], [3]])
    reader([[5, 6, 4], [1, 2, 4], [3, 4]])
    assert passes.widths == [(2, 2), (3, 1)]


def test_what_stayed_while_others_grew_is_read_from_its_beginning(lively, tokenizer):
    reader = Reader(lively, tokenizer.pad_token_id, slots=2, context=CONTEXT)
    reader([[5, 6], [7]])
    passes = Counting(lively)
    reader([[5, 6], [7, 1]])
    reader([[5, 6, 1], [7, 1, 2]])
    assert passes.widths == [(1, 1), (1, 1), (1, 3)]


def test_what_is_new_or_grew_by_more_is_a_second_pass(lively, tokenizer):
    reader = Reader(lively, tokenizer.pad_token_id, slots=3, context=CONTEXT)
    reader([[5, 6], [7], [8, 9, 10]])
    passes = Counting(lively)
    reader([[5, 6, 1], [7, 1, 1], [2]])
    assert passes.widths == [(1, 1), (2, 3)]


def test_a_context_as_long_as_the_models_positions_is_never_exceeded(lively, tokenizer):
    """One row always new, one that grows to the last position: the cache's columns stay within the model's."""
    reader = Reader(lively, tokenizer.pad_token_id, slots=2, context=CONTEXT)
    for _ in range(2):
        long, short = [5], [6] * 40
        while len(long) < CONTEXT:
            state = reader([long, short])[0]
            torch.testing.assert_close(state, alone(lively, long), atol=2e-4, rtol=1e-3)
            long = [*long, 7]
            short = [*short, 8] if len(short) < CONTEXT else [6] * 40
