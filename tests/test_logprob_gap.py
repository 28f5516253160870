"""Sampling and training must know one policy: how far their log-probabilities are apart, and what comes of it."""

import pytest
import torch
from datasets import Dataset
from trl.experimental.ppo import PPOConfig

from rlhf.backbone import Backbone
from rlhf.config import PPOSection
from rlhf.ppo_trainer import RLHFTrainer
from rlhf.ppo_update import GAP
from rlhf.rollout import Rollout, trusted
from tests.architectures import tiny_model
from tests.conftest import small_config
from tests.ppo_world import no_picks

SAMPLING = {"fp32": 1e-4, "bf16": 0.5, "8bit": 0.5, "4bit": 0.5}
"""Largest difference, in nats, between a token's log-probability in sampling and in training."""
FIRST_STEP = {"fp32": 1e-4, "bf16": 0.05, "8bit": 0.05, "4bit": 0.2}
"""The same between the rollout's and those of the first minibatch, whose ratio is to be 1."""


@pytest.fixture(params=["gpt-neo", "llama"])
def folder(request, tmp_path, lively, tokenizer):
    model = lively if request.param == "gpt-neo" else tiny_model(request.param, tokenizer)
    model.save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def trainer_on(folder, tokenizer, precision, **settings):
    """A policy whose adapter has moved, as after some updates."""
    config = small_config(
        model={"name": str(folder), "precision": precision, "device": "cpu"},
        lora={"r": 4, "alpha": 8, "dropout": 0.0, "phases": ["sft", "reward", "ppo"]},
    )
    torch.manual_seed(0)
    backbone = Backbone(folder, config, tokenizer, torch.device("cpu"))
    with torch.no_grad():
        for name, parameter in backbone.policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    args = PPOConfig(
        output_dir=str(folder / "out"), use_cpu=True, bf16=False, report_to="none", gradient_checkpointing=False,
        total_episodes=64, per_device_train_batch_size=8, gradient_accumulation_steps=2, num_mini_batches=2,
        response_length=24, stop_token="eos", temperature=1.0, num_sample_generations=0, disable_tqdm=True,
        local_rollout_forward_batch_size=16,
    )  # fmt: skip
    prompts = Dataset.from_list([{"input_ids": [10 + i, 11 + i, *([12] * (i % 4))]} for i in range(16)])
    return RLHFTrainer(
        args, PPOSection(eval_prompts=0, **settings), tokenizer, backbone,
        lambda prompts, replies: torch.tensor([float(len(set(reply))) for reply in replies]), prompts,
        exact_decoding=precision == "fp32",
    )  # fmt: skip


@pytest.mark.parametrize("precision", SAMPLING)
def test_the_gap_is_bounded_and_the_first_ratio_is_1(folder, tokenizer, precision):
    trainer = trainer_on(folder, tokenizer, precision)
    rollout = trainer.rollout(1)
    assert rollout.logprobs[rollout.mask].std() > 0.5  # there is something to differ in
    assert rollout.logprob_gap.max() < SAMPLING[precision]
    if precision in ("bf16", "8bit") and trainer.policy_model.config.model_type == "llama":
        assert rollout.logprob_gap.max() > 1e-4  # measured
    trainer.optimizer.step = lambda: None
    first = trainer.updater.step(rollout, torch.arange(8), no_picks())
    assert first[GAP] < FIRST_STEP[precision]
    assert first["val/ratio"] == pytest.approx(1, abs=1e-4 if precision != "4bit" else 1e-2)
    metrics = trainer.update(rollout, 1)
    assert metrics[GAP] >= rollout.logprob_gap.max().item() and metrics["rollout/left_out"] == 0


def test_advantages_are_left_out_where_the_gap_is_larger_than_the_bound():
    numbers = torch.tensor([[1.0, 2.0, 3.0]])
    gap = torch.tensor([[0.5, 1.0, 1.5]])
    rollout = Rollout(
        sequences=torch.tensor([[7, 8, 9, 10]]), attention_mask=torch.ones(1, 4), mask=torch.ones(1, 3).bool(),
        ended=torch.tensor([True]), logprobs=numbers, ref_logprobs=numbers, values=numbers, scores=torch.zeros(1),
        parts=torch.zeros(1, 1), logprob_gap=gap, advantages=numbers, returns=numbers,
        foreseen=torch.zeros(1, 3),
    )  # fmt: skip
    assert trusted(rollout, 1.0).advantages.tolist() == [[1.0, 2.0, 0.0]]
    assert trusted(rollout, None).advantages.tolist() == [[1.0, 2.0, 3.0]]
    assert trusted(rollout, 1.0).returns.tolist() == [[1.0, 2.0, 3.0]]  # the critic still learns from them


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
def test_tokens_left_out_are_counted_and_have_no_gradient(folder, tokenizer):
    bound = 1e-4
    trainer = trainer_on(folder, tokenizer, "bf16", max_logprob_gap=bound)
    rollout = trainer.rollout(1)
    out = (rollout.logprob_gap > bound) & rollout.mask
    assert 0 < out.sum() < rollout.mask.sum()
    assert (rollout.advantages[out] == 0).all() and (rollout.advantages[rollout.mask & ~out] != 0).all()
    trainer.optimizer.step = lambda: None
    metrics = trainer.update(rollout, 1)
    assert metrics["rollout/left_out"] == pytest.approx((out.sum() / rollout.mask.sum()).item())
    everything = trainer_on(folder, tokenizer, "bf16", max_logprob_gap=bound / 1e6).rollout(1)
    assert (everything.advantages[everything.logprob_gap > 0] == 0).all()
