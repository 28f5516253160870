"""Loading, adapting, merging and saving networks."""

import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

import rlhf.hub
from rlhf.config import LoraSection, Shape
from rlhf.errors import UserError
from rlhf.models import (
    base_of,
    from_scratch,
    init_reward_head,
    is_adapter,
    load_base,
    load_causal_lm,
    load_merged,
    lora_config,
    resolve_device,
    trainable_model,
)
from tests.conftest import small_config

CPU = torch.device("cpu")
IDS = torch.tensor([[30, 31, 32, 33]])


@pytest.fixture
def whole(tmp_path, model, tokenizer):
    """A result folder with a whole model."""
    with torch.no_grad():
        model.transformer.wte.weight.mul_(10)
    model.save_pretrained(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    return str(tmp_path / "whole")


@pytest.fixture
def adapter(tmp_path, whole, tokenizer):
    """A result folder with an adapter that changes `whole`."""
    model = trainable_model(whole, with_lora("sft"), "sft", tokenizer, CPU)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05)
    model.save_pretrained(tmp_path / "adapter")
    return str(tmp_path / "adapter")


def with_lora(*phases, r=4, **model):
    shape = {"shape": {"hidden_size": 32, "num_layers": 2, "num_heads": 2}, "device": "cpu"}
    return small_config(lora={"r": r, "alpha": 8, "dropout": 0.0, "phases": list(phases)}, model=shape | model)


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


# --- from scratch -----------------------------------------------------------------------------------------------------


def test_attention_layers_alternate_global_first(tokenizer):
    shape = Shape(hidden_size=16, num_layers=5, num_heads=2, window_size=8, max_position_embeddings=64)
    model = from_scratch(shape, tokenizer)
    assert model.config.attention_layers == ["global", "local", "global", "local", "global"]
    assert model.config.window_size == 8
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert model.config.eos_token_id == tokenizer.eos_token_id != model.config.pad_token_id == tokenizer.pad_token_id
    assert not [m for m in model.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]


def test_a_width_that_heads_do_not_divide_is_refused(tokenizer):
    with pytest.raises(UserError, match="30 and 4"):
        from_scratch(Shape(hidden_size=30, num_layers=1, num_heads=4), tokenizer)


# --- devices ----------------------------------------------------------------------------------------------------------


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == CPU
    with pytest.raises(UserError, match="model.device=cpu"):
        resolve_device("cuda")


def test_auto_takes_a_gpu_and_cpu_does_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("cpu").type == "cpu"


# --- loading ----------------------------------------------------------------------------------------------------------


def test_a_folder_never_asks_the_hub(whole, adapter, tokenizer, monkeypatch):
    def refuse(*_):
        raise AssertionError("asked the hub")

    monkeypatch.setattr(rlhf.hub, "_ask_hub", refuse)
    for folder in (whole, adapter):
        load_causal_lm(folder, tokenizer, "fp32", CPU)


@pytest.mark.parametrize("content", ["nothing", "config only", "cut short"])
def test_a_folder_without_a_whole_model_is_refused(tmp_path, whole, tokenizer, content):
    folder = tmp_path / "broken"
    folder.mkdir()
    if content != "nothing":
        (folder / "config.json").write_bytes((tmp_path / "whole" / "config.json").read_bytes())
    if content == "cut short":
        weights = (tmp_path / "whole" / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match="Could not load a model from .*broken"):
        load_base(str(folder), tokenizer, "fp32", CPU)


def test_embeddings_grow_to_the_tokenizer_and_special_tokens_are_set(whole, tokenizer):
    larger = type(tokenizer).from_pretrained(whole)
    larger.add_tokens(["<new>"])
    model = load_base(whole, larger, "fp32", CPU)
    assert model.get_input_embeddings().num_embeddings == len(tokenizer) + 1
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.generation_config.pad_token_id == model.config.pad_token_id == tokenizer.pad_token_id
    assert model.generation_config.eos_token_id == model.config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_weights(whole, tokenizer, precision, dtype):
    assert {p.dtype for p in load_base(whole, tokenizer, precision, CPU).parameters()} == {dtype}


def test_a_model_to_generate_with_is_frozen(adapter, tokenizer):
    model = load_causal_lm(adapter, tokenizer, "fp32", CPU)
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_8_bit_without_bitsandbytes_is_refused(whole, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match="pip install bitsandbytes"):
        load_base(whole, tokenizer, "8bit", CPU)


def test_gradient_passes_4_bit_layers_after_sampling(whole, tokenizer):
    """bitsandbytes repacks its 4-bit weights on some processors at the first forward in eval mode."""
    config = with_lora("sft", "reward", "ppo", shape=None, name=whole, precision="4bit")
    model = trainable_model(whole, config, "sft", tokenizer, CPU)
    logits(model)
    embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
    model.train()(inputs_embeds=embedded).logits[0, -1, 7].backward()
    assert embedded.grad is not None and embedded.grad[0, 0].abs().max() > 0


# --- adapters ---------------------------------------------------------------------------------------------------------


def test_an_adapter_folder_names_its_base_by_absolute_path(whole, adapter, monkeypatch, tmp_path, tokenizer):
    assert is_adapter(adapter) and not is_adapter(whole)
    assert base_of(adapter) == base_of(whole) == whole
    monkeypatch.chdir(tmp_path)
    assert load_base("whole", tokenizer, "fp32", CPU).name_or_path == whole


def test_merged_weights_say_what_the_adapter_says(whole, adapter, tokenizer, tmp_path):
    expected = logits(load_causal_lm(adapter, tokenizer, "fp32", CPU))
    merged = load_merged(adapter, tokenizer)
    torch.testing.assert_close(logits(merged), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits(load_merged(whole, tokenizer)), expected, atol=1e-2)
    merged.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), expected, atol=1e-5, rtol=1e-5
    )


def test_without_lora_every_weight_is_trained_from_the_merged_start(adapter, tokenizer):
    model = trainable_model(adapter, with_lora(), "sft", tokenizer, CPU)
    assert all(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(logits(model), logits(load_merged(adapter, tokenizer)))


def test_with_lora_only_the_adapter_is_trained_and_begins_as_no_change(whole, tokenizer):
    model = trainable_model(whole, with_lora("sft"), "sft", tokenizer, CPU)
    assert all(p.requires_grad == ("lora_" in name) for name, p in model.named_parameters())
    torch.testing.assert_close(logits(model), logits(load_merged(whole, tokenizer)))


def test_a_new_adapter_begins_as_a_copy_of_the_starts(adapter, tokenizer):
    model = trainable_model(adapter, with_lora("sft"), "sft", tokenizer, CPU)
    torch.testing.assert_close(logits(model), logits(load_merged(adapter, tokenizer)), atol=1e-5, rtol=1e-5)
    assert any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("phases", [(), ("reward",)], ids=["whole", "lora"])
def test_the_reward_model_begins_on_the_sft_trunk_with_a_fresh_head(adapter, tokenizer, phases):
    torch.manual_seed(0)
    model = trainable_model(adapter, with_lora(*phases), "reward", tokenizer, CPU).eval()
    trunk = (model.get_base_model() if phases else model).transformer
    expected = load_merged(adapter, tokenizer).transformer(IDS).last_hidden_state
    torch.testing.assert_close(trunk(IDS).last_hidden_state, expected, atol=1e-4, rtol=1e-4)
    heads = [p for name, p in model.named_parameters() if "score" in name and p.requires_grad]
    assert [tuple(head.shape) for head in heads] == [(1, 32)]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (trained < 10_000) == bool(phases)


@pytest.mark.parametrize("phases", [(), ("reward",)], ids=["whole", "adapter"])
def test_a_reward_model_goes_on_with_its_own_head(adapter, tokenizer, tmp_path, phases):
    first = trainable_model(adapter, with_lora(*phases), "reward", tokenizer, CPU)
    with torch.no_grad():  # as if trained
        for parameter in first.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    first.save_pretrained(tmp_path / "reward")
    again = trainable_model(str(tmp_path / "reward"), with_lora(*phases), "reward", tokenizer, CPU, kept_head=True)
    torch.testing.assert_close(logits(again), logits(first))
    assert any(p.requires_grad for name, p in again.named_parameters() if "score" in name)


def test_an_adapter_of_another_rank_is_refused(adapter, tokenizer):
    with pytest.raises(UserError, match="r 8, from section lora"):
        trainable_model(adapter, with_lora("reward", r=8), "reward", tokenizer, CPU)


def test_lora_settings_reach_peft():
    section = LoraSection(r=3, alpha=5, dropout=0.25, target_modules=["q_proj"])
    config = lora_config(section, reward=True)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 5, 0.25)
    assert config.target_modules == {"q_proj"} and config.modules_to_save == ["score"]
    assert lora_config(section).modules_to_save is None


def test_the_reward_head_is_drawn_with_std_1_over_root_of_width_plus_1():
    torch.manual_seed(0)
    network = torch.nn.ModuleDict({"score": torch.nn.Linear(9_999, 1, bias=False), "other": torch.nn.Linear(4, 1)})
    before = network["other"].weight.clone()
    init_reward_head(network)
    assert network["score"].weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert network["score"].weight.mean().item() == pytest.approx(0, abs=4e-4)
    assert torch.equal(network["other"].weight, before)
