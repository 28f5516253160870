"""Versions on shared weights: each computes what it computes alone, and there is one copy of the base."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from rlhf.chat.inference.fleet import Fleet, UnknownVersion
from rlhf.errors import UserError
from rlhf.models import load_base, load_causal_lm, load_merged

IDS = torch.tensor([[30, 31, 32, 33]])
CPU = torch.device("cpu")


@pytest.fixture
def adapters(tmp_path, start, tokenizer):
    """Two adapters on the model in `start`, with random weights."""
    folders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        base = load_base(str(start), tokenizer, "fp32", CPU)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(base, config).save_pretrained(tmp_path / f"adapter{seed}")
        folders.append(tmp_path / f"adapter{seed}")
    return folders


@pytest.fixture
def fleet(start, adapters, tokenizer):
    fleet = Fleet(tokenizer, "fp32", CPU)
    fleet.add("v.1", adapters[0])  # the adapter first, then its base
    fleet.add("base", start)
    fleet.add("v.2", adapters[1])
    return fleet


def logits(fleet: Fleet, name: str) -> torch.Tensor:
    with fleet.role(name) as model, torch.no_grad():
        return model(input_ids=IDS).logits


def alone(folder, tokenizer) -> torch.Tensor:
    with torch.no_grad():
        return load_causal_lm(str(folder), tokenizer, "fp32", CPU)(input_ids=IDS).logits


def test_each_version_is_itself_in_any_order(fleet, start, adapters, tokenizer):
    expected = {"base": alone(start, tokenizer)} | {
        f"v.{n}": alone(folder, tokenizer) for n, folder in enumerate(adapters, 1)
    }
    assert fleet.copies() == 1
    for name in ("v.1", "base", "v.2", "v.1", "v.2", "base", "base"):
        torch.testing.assert_close(logits(fleet, name), expected[name], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(expected["v.1"], expected["v.2"], atol=1e-2)


def test_a_merged_model_stands_by_itself(fleet, adapters, tokenizer, tmp_path):
    merged = tmp_path / "merged"
    load_merged(str(adapters[0]), tokenizer).save_pretrained(merged)
    fleet.add("merged", merged)
    assert fleet.copies() == 2
    torch.testing.assert_close(logits(fleet, "merged"), logits(fleet, "v.1"), atol=1e-4, rtol=1e-4)
    fleet.remove("merged")
    assert fleet.copies() == 1


def test_versions_leave_and_come_back(fleet, adapters):
    before = logits(fleet, "v.2")
    fleet.remove("v.1")
    fleet.remove("v.1")
    torch.testing.assert_close(logits(fleet, "v.2"), before)
    fleet.remove("v.2")
    plain = logits(fleet, "base")
    fleet.add("v.2", adapters[1])
    torch.testing.assert_close(logits(fleet, "v.2"), before)
    fleet.remove("v.2")
    fleet.remove("base")
    assert fleet.copies() == 0 and fleet.names == ()
    fleet.add("v.2", adapters[1])
    torch.testing.assert_close(logits(fleet, "v.2"), before)
    assert not torch.allclose(plain, before, atol=1e-2)


def test_a_name_can_be_given_to_another_folder(fleet, adapters):
    expected = logits(fleet, "v.2")
    fleet.add("v.1", adapters[1])
    torch.testing.assert_close(logits(fleet, "v.1"), expected)


def test_the_only_adapter_on_a_base_can_be_exchanged(start, adapters, tokenizer):
    fleet = Fleet(tokenizer, "fp32", CPU)
    fleet.add("base", start)
    plain = logits(fleet, "base")
    fleet.add("v1", adapters[0])
    fleet.add("v1", adapters[1])
    torch.testing.assert_close(logits(fleet, "v1"), alone(adapters[1], tokenizer), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits(fleet, "base"), plain)
    fleet.add("v1", start)  # from an adapter to the base itself
    torch.testing.assert_close(logits(fleet, "v1"), plain)
    assert fleet.copies() == 1


def test_other_weights_in_the_same_folder_are_read_anew(start, tokenizer):
    fleet = Fleet(tokenizer, "fp32", CPU)
    fleet.add("base", start)
    before = logits(fleet, "base")
    model = load_base(str(start), tokenizer, "fp32", CPU)
    with torch.no_grad():
        model.transformer.wpe.weight.mul_(-3)
    model.save_pretrained(start)
    fleet.add("base", start)
    assert fleet.copies() == 1
    assert not torch.allclose(logits(fleet, "base"), before, atol=1e-2)


@pytest.mark.parametrize("others", [0, 1])
def test_an_adapter_of_another_shape_leaves_the_base_as_it_was(start, adapters, tokenizer, tmp_path, others):
    fleet = Fleet(tokenizer, "fp32", CPU)
    fleet.add("base", start)
    plain = logits(fleet, "base")
    for number in range(others):
        fleet.add("good", adapters[number])
    weights = load_file(adapters[0] / "adapter_model.safetensors")
    save_file({name: weight[:, :-1].contiguous() for name, weight in weights.items()},
              adapters[0] / "adapter_model.safetensors")  # fmt: skip
    with pytest.raises(UserError, match="Could not load the adapter"):
        fleet.add("bad", adapters[0])
    torch.testing.assert_close(logits(fleet, "base"), plain)
    fleet.add("good", adapters[1])
    torch.testing.assert_close(logits(fleet, "good"), alone(adapters[1], tokenizer), atol=1e-5, rtol=1e-5)


def test_unknown_and_broken_versions(fleet, tmp_path):
    with pytest.raises(UnknownVersion, match="did you mean v.1"):
        logits(fleet, "v.11")
    with pytest.raises(UserError, match="does not exist"):
        fleet.add("v.1", tmp_path / "nothing")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_text((tmp_path / "adapter1" / "adapter_config.json").read_text())
    with pytest.raises(UserError, match="Could not load the adapter"):
        fleet.add("v.1", broken)
    logits(fleet, "v.1")


def test_eight_bits(start, adapters, tokenizer):
    fleet = Fleet(tokenizer, "8bit", CPU)
    fleet.add("base", start)
    fleet.add("v1", adapters[0])
    assert fleet.copies() == 1
    assert not torch.allclose(logits(fleet, "base"), logits(fleet, "v1"), atol=1e-2)
