"""The model of memory: against bytes counted on real networks, and by hand."""

import contextlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import get_peft_model

from rlhf import memory
from rlhf.config import LoraSection, Shape
from rlhf.fused import fuse_kernels
from rlhf.logprobs import CHUNK_LOGITS
from rlhf.memory import Held, How, Logits, Network
from rlhf.models import config_of, load_base, lora_config
from rlhf.planning import network_of
from tests.live_bytes import LiveBytes

SHAPE = {"hidden_size": 64, "num_heads": 2, "window_size": 64, "max_position_embeddings": 64}
BLOCK = ("q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj")
ROWS = 16


def shape(layers: int) -> Shape:
    return Shape(**SHAPE, num_layers=layers)


@pytest.fixture(scope="module")
def bases(tmp_path_factory, tokenizer):
    """Folders of two depths, whose difference is what blocks keep."""
    from rlhf.models import from_scratch

    folder = tmp_path_factory.mktemp("bases")
    for layers in (2, 4):
        from_scratch(shape(layers), tokenizer).save_pretrained(folder / str(layers))
        tokenizer.save_pretrained(folder / str(layers))
    return folder


def counted(bases, tokenizer, how: How, layers: int, tokens: int) -> tuple[int, int, int]:
    """Bytes alive behind the forward pass, and at the peak of it and of the backward pass."""
    model = load_base(str(bases / str(layers)), tokenizer, how.precision, torch.device("cpu"))
    if not how.lora:
        model.requires_grad_(True)
    else:
        section = LoraSection(dropout=how.dropout, r=how.rank, target_modules=list(how.targets))
        model = get_peft_model(model, lora_config(section))
    fuse_kernels(model.train())
    if how.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if how.lora:
            model.enable_input_require_grads()
    ids, mask = torch.full((ROWS, tokens), 5), torch.ones(ROWS, tokens, dtype=torch.long)
    mask[0, 0] = 0  # padding: there is a mask
    trunk, count = (model.get_base_model() if how.lora else model).base_model, LiveBytes()
    count.there(model)
    with count, torch.autocast("cpu", torch.bfloat16) if how.autocast else contextlib.nullcontext():
        hidden = trunk(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        kept, forward = count.live, count.peak
    loss = hidden.float().sum()
    count.peak = 0
    with count:
        loss.backward()
    return kept, forward, count.peak


LORA = How(targets=BLOCK, rank=4)
HOWS = {
    "full": How(lora=False), "lora": LORA, "lora on two layers": replace(LORA, targets=("q_proj", "v_proj")),
    "lora with dropout": replace(LORA, dropout=0.1), "lora bf16": replace(LORA, precision="bf16"),
    "lora 8bit": replace(LORA, precision="8bit"), "lora 4bit": replace(LORA, precision="4bit"),
    "lora bf16 autocast": replace(LORA, precision="bf16", autocast=True),
    "full bf16": How(lora=False, precision="bf16"),
    "full bf16 autocast": How(lora=False, precision="bf16", autocast=True),
    "checkpointing": replace(LORA, checkpointing=True),
    "8bit checkpointing": replace(LORA, precision="8bit", checkpointing=True),
}  # fmt: skip


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
def test_what_a_block_keeps_is_what_is_counted(bases, tokenizer, how):
    tokens = 48
    few, many = (counted(bases, tokenizer, how, layers, tokens)[0] for layers in (2, 4))
    found = (many - few) / (2 * ROWS * tokens)
    net = network_of(config_of(shape(2), len(tokenizer)))
    expected = net.width * memory._stream(how) if how.checkpointing else memory.kept_by_block(net, how, tokens)
    assert found == pytest.approx(expected, rel=0.07)


@pytest.mark.parametrize("how", [HOWS["full"], HOWS["lora"], HOWS["lora 4bit"], HOWS["checkpointing"]])
def test_the_peak_of_the_trunk_is_what_is_counted(bases, tokenizer, how):
    tokens = 48
    _, forward, backward = counted(bases, tokenizer, how, 4, tokens)
    net = network_of(config_of(shape(4), len(tokenizer)))
    parts = memory.update(net, how, Held(0.0), ROWS, tokens, Logits(), several=False, head=False)
    gradients = 0 if how.lora else 0.3 * net.weights * 4  # those of the last block stand beside the others' activations
    assert max(forward, backward) == pytest.approx(sum(parts.values()) + gradients, rel=0.15)


def test_reading_keeps_nothing_and_peaks_as_counted(bases, tokenizer):
    model = load_base(str(bases / "4"), tokenizer, "fp32", torch.device("cpu"))
    fuse_kernels(model)
    count = LiveBytes()
    count.there(model)
    ids = torch.full((ROWS, 48), 5)
    with count, torch.no_grad():
        model.base_model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    net = network_of(config_of(shape(4), len(tokenizer)))
    parts = memory.read(net, How(lora=False), Held(0.0), ROWS, 48, Logits())
    assert count.peak == pytest.approx(sum(parts.values()), rel=0.15)


# --- by hand ----------------------------------------------------------------------------------------------------------

NET = Network(
    width=4, inner=16, layers=3, heads=2, vocabulary=10, window=0, local_layers=0,
    linear=dict.fromkeys(BLOCK[:4], (4, 4)) | {"c_fc": (4, 16), "c_proj": (16, 4)},
    other=100, buffers=7,
)  # fmt: skip
LINEAR = 3 * (4 * 16 + 2 * 64)


def test_weights_by_precision():
    assert NET.weights == LINEAR + 100
    assert NET.bytes("fp32") == 4 * (LINEAR + 100) + 7
    assert NET.bytes("bf16") == 2 * (LINEAR + 100) + 7
    assert NET.bytes("8bit") == LINEAR + 4 * 3 * (4 * 4 + 16 + 4) + 2 * 100 + 7
    assert NET.bytes("4bit") == pytest.approx(LINEAR * (0.5 + 1 / 64 + 4 / 16384) + 2 * 100 + 7)
    assert NET.adapter(2, ("q_proj", "c_fc")) == 3 * 2 * ((4 + 4) + (4 + 16))


def test_eight_bit_weights_are_as_large_as_counted(bases, tokenizer):
    for precision in ("8bit", "4bit"):
        model = load_base(str(bases / "4"), tokenizer, precision, torch.device("cpu"))
        model(torch.tensor([[5, 6, 7]]))  # the state moves into place with the first use
        linear = sum(
            p.untyped_storage().nbytes() for name, p in model.named_parameters() if p.dtype in (torch.int8, torch.uint8)
        )
        net = network_of(config_of(shape(4), len(tokenizer)))
        weights = net.weights - net.other
        assert linear == weights / (1 if precision == "8bit" else 2)
        others = sum(p.numel() for p in model.parameters() if p.dtype == torch.bfloat16)
        assert others == net.other
        assert net.bytes(precision) == pytest.approx(linear + 2 * others + net.buffers, rel=0.05)  # and the scales


def test_a_full_block_in_fp32_keeps_sixteen_widths_and_the_scores():
    assert memory.kept_by_block(NET, How(lora=False), 5) == 4 * 16 * 4 + 4 * 2 * 5
    on_gpu = memory.kept_by_block(NET, How(lora=False, device="cuda"), 5)
    assert on_gpu == 4 * 16 * 4 + 4 * 2  # no scores; one number a head and token for their softmax


def test_what_is_held():
    parts = Held(100.0, frozen_adapters=8.0, trained=3, copies=12.0).parts()
    assert parts == {"weights": 100.0, "adapters": 20.0, "optimizer": 24.0, "best policy": 12.0}


def test_gradients_stand_beside_activations_only_where_a_step_has_several_micro_batches():
    held = Held(0.0, trained=10_000_000, adapters=False)
    one, many = (
        memory.update(NET, How(lora=False), held, 1, 5, Logits(), several=several, head=False)
        for several in (False, True)
    )
    assert many["gradients"] == 4 * 10_000_000
    assert (
        one["gradients"] + one["activations"] == 4 * 10_000_000
    )  # activations are gone when the last gradient is there


def test_the_cache_of_sampling():
    parts = memory.decode(NET, How(lora=False), Held(0.0), rows=2, prompt=3, response=5)
    assert parts["cache"] == 2 * (3 + 5) * 3 * (2 * 4 * 4)


def test_logits_are_counted_in_chunks():
    assert Logits.chunked(NET, 6, How()).bytes == 6 * 10 * 8
    assert Logits.chunked(NET, CHUNK_LOGITS, How(precision="8bit")).bytes == CHUNK_LOGITS * 10
    assert Logits.of_sft(NET, 1000).bytes == 256 * 10 * 16


@given(st.integers(1, 64), st.integers(1, 512), st.booleans(), st.sampled_from(["fp32", "bf16", "8bit", "4bit"]))
def test_more_rows_and_tokens_never_take_less(rows, tokens, checkpointing, precision):
    how = How(precision=precision, targets=BLOCK, checkpointing=checkpointing)

    def peak(rows, tokens):
        return sum(memory.update(NET, how, Held(9.0), rows, tokens, Logits(), several=True, head=False).values())

    assert peak(rows + 1, tokens) > peak(rows, tokens)
    assert peak(rows, tokens + 1) > peak(rows, tokens) or tokens == memory.SHORT  # from there on no scores are kept
