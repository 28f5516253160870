"""Sampling replies, their log-probabilities, and the padding under both."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig

from rlhf.config import DataSection
from rlhf.encoding import Encoder
from rlhf.generation import sample_replies
from rlhf.padding import pad_left, pad_right, prompt_collator
from rlhf.records import Prompt, ask

TEXTS = ["A cat?", "What is the capital of France? The capital of France is Paris.", "Two", "What is two plus three?"]
PROMPTS = [Prompt(str(i), ask(text), "qa", "test") for i, text in enumerate(TEXTS)]


@pytest.fixture
def encoder(tokenizer):
    limits = {"max_prompt_tokens": 40, "max_response_tokens": 8}
    return Encoder(tokenizer, DataSection(demonstrations=["x"], preferences=["x"], **limits))


def sample(model, encoder, prompts=PROMPTS, temperature=1.0, batch_size=2, seed=0):
    return sample_replies(
        model, encoder, prompts, temperature=temperature, batch_size=batch_size, seed=seed, title="test"
    )


# --- padding ----------------------------------------------------------------------------------------------------------


def test_padding_by_hand():
    ids, mask = pad_left([[1, 2, 3], [4]], 0)
    assert ids.tolist() == [[1, 2, 3], [0, 0, 4]] and mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    ids, mask = pad_right([[1, 2, 3], [4], []], 9)
    assert ids.tolist() == [[1, 2, 3], [4, 9, 9], [9, 9, 9]] and mask.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    batch = prompt_collator(7)([{"input_ids": [1]}, {"input_ids": [2, 3]}])
    assert batch["input_ids"].tolist() == [[7, 1], [2, 3]] and batch["attention_mask"].tolist() == [[0, 1], [1, 1]]
    assert "row" not in batch
    assert prompt_collator(7)([{"input_ids": [1], "row": 4}, {"input_ids": [2], "row": 2}])["row"].tolist() == [4, 2]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=5))
def test_unpadding_gives_back_what_was_padded(sequences):
    for pad in (pad_left, pad_right):
        ids, mask = pad(sequences, 5)  # the pad is an ordinary token too: the mask alone tells them apart
        assert [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)] == sequences


# --- sampling ---------------------------------------------------------------------------------------------------------


def test_greedy_replies_equal_plain_generation_one_by_one(lively, encoder):
    tokenizer = encoder.tokenizer
    replies = sample(lively, encoder, temperature=0, batch_size=4)
    assert len({tuple(reply.reply_ids) for reply in replies}) > 1
    for prompt, reply in zip(PROMPTS, replies, strict=True):
        ids = torch.tensor([encoder.prompt(prompt.prompt)])
        alone = lively.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
            suppress_tokens=[tokenizer.pad_token_id],
        )[0, ids.shape[1] :].tolist()  # fmt: skip
        assert reply.reply_ids == alone
        assert reply.prompt_ids == ids[0].tolist()


def test_equal_seeds_give_equal_replies(lively, encoder):
    torch.manual_seed(1)
    first = sample(lively, encoder, seed=3)
    torch.manual_seed(2)
    assert sample(lively, encoder, seed=3) == first
    assert sample(lively, encoder, seed=4) != first


def test_sampling_leaves_the_callers_random_numbers_alone(lively, encoder):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    sample(lively, encoder)
    assert torch.equal(torch.rand(1), expected)


def test_a_pad_is_never_sampled_whatever_its_likelihood(lively, encoder):
    pad = encoder.tokenizer.pad_token_id
    bonus = 1000 * torch.nn.functional.one_hot(torch.tensor(pad), len(encoder.tokenizer))
    lively.get_output_embeddings().register_forward_hook(lambda module, inputs, logits: logits + bonus)
    for temperature in (0.0, 1.0):
        assert all(pad not in reply.reply_ids for reply in sample(lively, encoder, temperature=temperature))


def test_replies_depend_on_no_other_prompt_of_their_batch(lively, encoder):
    expected = sample(lively, encoder, batch_size=1)
    for size in (2, 3, 4):
        assert sample(lively, encoder, batch_size=size) == expected


def test_replies_say_whether_they_ended(lively, encoder):
    replies = sample(lively, encoder, prompts=PROMPTS * 20)
    eos = encoder.tokenizer.eos_token_id
    assert {reply.ended for reply in replies} == {True, False}
    for reply in replies:
        assert reply.ended == (reply.reply_ids[-1] == eos) and eos not in reply.reply_ids[:-1]
        assert reply.ended or len(reply.reply_ids) == 8


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_models_own_generation_settings_do_not_count(lively, encoder, temperature):
    expected = sample(lively, encoder, temperature=temperature)
    lively.generation_config = GenerationConfig(do_sample=True, repetition_penalty=2.0, top_k=1, num_beams=3)
    assert sample(lively, encoder, temperature=temperature) == expected


def test_the_sampler_of_sft_replies_loads_the_model_when_asked_only(tmp_path):
    from rlhf.errors import UserError
    from rlhf.generation import sft_sampler
    from tests.phases.helpers import tiny_run

    sampler = sft_sampler(tiny_run(tmp_path))
    with pytest.raises(UserError, match="--phase sft"):
        sampler(PROMPTS)
