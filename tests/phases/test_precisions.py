"""SFT, reward and PPO with LoRA on a pretrained GPT-Neo, in every precision; and what they leave, read by other tools.

The tokenizer is of GPT-2's kind: no pad token, so that the phases add one and grow the embeddings.
"""

import logging
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import rlhf.training
from reward_model import RewardModel
from rlhf.models import load_base, load_causal_lm
from rlhf.phases import ppo, reward, sft
from rlhf.run import Run
from tests.phases.helpers import metrics, save_pretrained_gpt_neo, tiny_run

PHASES = ("sft", "reward", "ppo")
IDS = [40, 41, 42, 43, 44]


@dataclass
class Trained:
    """A finished run, the networks that its phases saved, and what was logged on the way."""

    run: Run
    networks: dict[str, Any]
    logged: list[str]

    @property
    def base(self) -> str:
        return self.run.base_model()

    @property
    def precision(self) -> Any:
        return self.run.config.model.precision


@pytest.fixture(scope="module", params=["fp32", "bf16", "8bit", "4bit"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    save_pretrained_gpt_neo(folder / "gpt-neo")
    short = {"learning_rate": 1e-3, "gradient_checkpointing": True}
    run = tiny_run(
        folder / "run",
        model={"name": str(folder / "gpt-neo"), "shape": None, "precision": request.param},
        lora={"phases": list(PHASES), "dropout": 0.05},
        sft=short, reward=short, ppo=short | {"eval_prompts": 0, "reward_clip": None},
    )  # fmt: skip
    networks, logged = {}, []
    save_model = rlhf.training.save_model
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            rlhf.training, "save_model", lambda m, t, f, *w: (networks.update({f.name: m}), save_model(m, t, f, *w))
        )
        logging.getLogger().addHandler(handler)
        for phase in (sft, reward, ppo):
            phase.run_phase(run)
        logging.getLogger().removeHandler(handler)
    return Trained(run, {phase: networks[f".{phase}.partial"] for phase in PHASES}, logged)


def adapter(trained: Trained, phase: str) -> dict[str, torch.Tensor]:
    return load_file(trained.run.folder / phase / "adapter_model.safetensors")


@pytest.mark.parametrize("phase", PHASES)
def test_losses_are_finite(trained, phase):
    rows = metrics(trained.run.folder / phase)
    steps = [row for row in rows if "loss" in row or "loss/policy_avg" in row]
    assert len(steps) == (2 if phase == "ppo" else 3)
    numbers = [value for row in rows for value in row.values() if isinstance(value, int | float)]
    assert all(math.isfinite(value) for value in numbers)


def test_ppo_starts_without_kl(trained):
    first = next(row for row in metrics(trained.run.folder / "ppo") if "objective/kl" in row)
    assert first["objective/kl"] == pytest.approx(0, abs=1e-5)
    assert first["objective/scores"] != 0


def test_results_hold_no_pickles(trained):
    folders = [*PHASES, "rlhf_gpt_neo_model", "rlhf_reward_model"]
    files = [path for name in folders for path in (trained.run.folder / name).rglob("*")]
    assert {"adapter_model.safetensors", "model.safetensors", "config.yaml"} <= {path.name for path in files}
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_only_the_adapter_is_saved_and_each_phase_moves_it(trained):
    sft_adapter, reward_adapter, ppo_adapter = (adapter(trained, phase) for phase in PHASES)
    assert all(".lora_" in name for name in sft_adapter)
    assert {name for name in reward_adapter if ".lora_" not in name} == {"base_model.model.score.weight"}
    b_matrices = [name for name in sft_adapter if "lora_B" in name]
    assert len(b_matrices) == 12  # six linear layers a block
    for name in b_matrices:  # drawn as zero
        assert sft_adapter[name].abs().max() > 0
        assert not torch.equal(sft_adapter[name], reward_adapter[name])
        assert not torch.equal(sft_adapter[name], ppo_adapter[name])


def test_reward_and_policy_start_from_the_sft_adapter(trained):
    sft_adapter, reward_adapter, ppo_adapter = (adapter(trained, phase) for phase in PHASES)
    for name in (name for name in sft_adapter if "lora_A" in name):  # a few small steps away; drawn anew, far away
        for other in (reward_adapter, ppo_adapter):
            assert (sft_adapter[name].float() - other[name].float()).abs().max() < 0.02


@pytest.mark.parametrize("phase", PHASES)
def test_base_stays_frozen(trained, phase):
    network, tokenizer = trained.networks[phase], trained.run.tokenizer()
    fresh = load_base(trained.base, tokenizer, trained.precision, torch.device("cpu"), reward=phase == "reward")
    weights = {name.replace(".base_layer", ""): p for name, p in network.get_base_model().named_parameters()}
    compared = [name for name, _ in fresh.named_parameters() if not name.startswith("score.")]
    assert len(compared) > 20
    vocabulary = len(tokenizer) - 1  # the row of the added pad token is drawn at each loading
    for name, expected in fresh.named_parameters():
        if name in compared:
            rows = slice(vocabulary) if "wte" in name or "lm_head" in name else slice(None)
            assert torch.equal(weights[name][rows], expected[rows]), name


def test_adapters_load_with_peft(trained):
    ids = torch.tensor([IDS])
    for phase in ("sft", "ppo"):
        model = AutoPeftModelForCausalLM.from_pretrained(trained.run.folder / phase)
        assert model(ids).logits.shape == (1, 5, len(trained.run.tokenizer()))
    model = AutoPeftModelForSequenceClassification.from_pretrained(trained.run.folder / "reward", num_labels=1)
    head = adapter(trained, "reward")["base_model.model.score.weight"].float()
    torch.testing.assert_close(model.get_base_model().score.modules_to_save["default"].weight.float(), head)


def test_merged_policy_loads_with_plain_transformers(trained):
    folder = trained.run.folder / "rlhf_gpt_neo_model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert "### User:\nHi" in prompt
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert model.dtype == torch.float32
    policy = load_causal_lm(str(trained.run.folder / "ppo"), tokenizer, "fp32", torch.device("cpu"))
    known = slice(len(tokenizer) - 1)
    expected = policy(torch.tensor([IDS])).logits[..., known]
    torch.testing.assert_close(model(torch.tensor([IDS])).logits[..., known], expected, atol=1e-4, rtol=1e-4)


def test_merged_reward_model_scores_like_the_adapter(trained):
    folder, tokenizer = trained.run.folder, trained.run.tokenizer()
    plain = AutoModelForSequenceClassification.from_pretrained(folder / "rlhf_reward_model").eval()
    ours = RewardModel.load(folder / "reward", tokenizer, trained.precision, torch.device("cpu"))
    sequences = [IDS, IDS[:3], [50, 60]]
    raw = ours.score_ids(sequences) * ours.normalisation.std + ours.normalisation.mean
    with torch.no_grad():
        expected = torch.cat([plain(torch.tensor([ids])).logits[0] for ids in sequences])
    tolerance = 1e-5 if trained.precision == "fp32" else 0.2
    torch.testing.assert_close(raw, expected, atol=tolerance, rtol=tolerance)
    assert (expected[0] - expected[1]).abs() > 0  # a constant head would pass


def test_known_notices_are_silent_and_nothing_else(trained, caplog):
    assert not [text for text in trained.logged if "inputs will be cast" in text or "gemm_4bit_forward" in text]
    for name in ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops"):
        logging.getLogger(name).warning("something new")
        logging.getLogger(name).warning(
            "MatMul8bitLt: inputs will be cast from x / Failed to load CPU gemm_4bit_forward"
        )
    assert caplog.messages == ["something new"] * 2
