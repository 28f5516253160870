"""One update of ours and of TRL's stock trainer on the same weights, responses and rewards: equal to 1e-5.

Where the two mean something else on purpose, the ground is levelled: no response ends early (stock puts the score of
one that does on a pad), the pad has no probability anyway, the value does not learn, and advantages are whitened by our
function (stock divides by n - 1, we by n).
"""

import copy

import pytest
import torch
import trl.experimental.ppo.ppo_trainer as stock
from datasets import Dataset
from torch import nn
from transformers import AutoModelForCausalLM, GPTNeoForSequenceClassification
from trl.experimental.ppo import PPOConfig, PPOTrainer

import rlhf.ppo_math
from reward_model import RewardModel
from rlhf.config import PPOSection
from tests.ppo_world import make_trainer, watched

SETTINGS = {
    "total_episodes": 16, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 1, "num_mini_batches": 1,
    "num_ppo_epochs": 3, "stop_token": None, "response_length": 8, "temperature": 0.9, "learning_rate": 3e-3,
    "kl_coef": 0.3, "gamma": 0.97, "lam": 0.9, "cliprange": 0.02, "vf_coef": 0.0, "adam_epsilon": 1e-5,
    "max_grad_norm": 0.0, "save_strategy": "no", "logging_steps": 1,
}  # fmt: skip
COMPARED = (
    "objective/kl", "objective/rlhf_reward", "objective/scores", "objective/entropy", "loss/policy_avg",
    "loss/value_avg", "policy/clipfrac_avg", "policy/approxkl_avg", "policy/entropy_avg", "val/ratio",
)  # fmt: skip


@pytest.fixture
def start(tmp_path, lively, tokenizer):
    """A model that gives the pad no probability."""
    with torch.no_grad():
        lively.transformer.ln_f.weight[0], lively.transformer.ln_f.bias[0] = 0, 10
        lively.transformer.wte.weight[tokenizer.pad_token_id] = 0
        lively.transformer.wte.weight[tokenizer.pad_token_id, 0] = -100
    lively.save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def classifier(policy, seed):
    torch.manual_seed(seed)
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    return GPTNeoForSequenceClassification(config).eval()


def gradients_of(optimizer, parameters):
    """Collects the gradients of each step."""
    seen, step = [], optimizer.step

    def note(*args, **kwargs):
        seen.append({name: p.grad.clone() for name, p in parameters() if p.grad is not None})
        return step(*args, **kwargs)

    optimizer.step = note
    return seen


@pytest.mark.parametrize("kl_estimator", ["k1", "k3"])
def test_one_update_equals_the_stock_trainers(tmp_path, start, tokenizer, monkeypatch, kl_estimator):
    policy = AutoModelForCausalLM.from_pretrained(start)
    reference = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter, generator=None))
        reference.transformer.wte.weight[tokenizer.pad_token_id] = policy.transformer.wte.weight[tokenizer.pad_token_id]
        reference.transformer.ln_f.weight[0], reference.transformer.ln_f.bias[0] = 0, 10
    reward, value = classifier(policy, 1), classifier(policy, 2)
    nn.init.zeros_(value.score.weight)
    scorer = RewardModel(copy.deepcopy(reward), tokenizer.pad_token_id)
    settings = SETTINGS | {"kl_estimator": kl_estimator}

    def score(prompts, replies):
        return scorer.score_ids([prompt + reply for prompt, reply in zip(prompts, replies, strict=True)])

    ours = make_trainer(tmp_path / "ours", start, tokenizer, score, PPOSection(reward_clip=None), (), **settings)
    ours.backbone.reference.load_state_dict(reference.state_dict())
    ours.eval_dataset = None
    prompts = Dataset.from_list([{"input_ids": [10 + i, 11 + i, 12 + i]} for i in range(16)])
    ours.train_dataset = prompts
    our_steps = gradients_of(ours.optimizer, ours.policy_model.named_parameters)
    our_log = watched(ours)
    rollouts = []
    rollout = ours.rollout
    monkeypatch.setattr(ours, "rollout", lambda update: rollouts.append(rollout(update)) or rollouts[-1])
    ours.train()

    tokens = rollouts[0].sequences

    def given(model, queries, *rest):
        with torch.no_grad():
            logits = model(tokens).logits[:, queries.shape[1] - 1 : -1] / settings["temperature"]
        return tokens, logits

    monkeypatch.setattr(stock, "batch_generation", given)
    monkeypatch.setattr(stock, "masked_whiten", lambda x, mask: rlhf.ppo_math.whiten(x, mask))
    args = PPOConfig(output_dir=str(tmp_path / "stock"), use_cpu=True, bf16=False, report_to="none",
                     gradient_checkpointing=False, num_sample_generations=0, disable_tqdm=True, **settings)  # fmt: skip
    theirs = PPOTrainer(args, tokenizer, policy, reference, reward, prompts, value, eval_dataset=prompts)
    width = rollouts[0].prompt_width
    theirs.dataloader = [{"input_ids": tokens[:, :width]}]
    their_steps = gradients_of(theirs.optimizer, theirs.policy_model.named_parameters)
    their_log = watched(theirs)
    theirs.train()

    assert len(our_steps) == len(their_steps) == 3
    for ours_then, theirs_then in zip(our_steps, their_steps, strict=True):
        assert ours_then.keys() == theirs_then.keys() and len(ours_then) > 20
        for name, expected in theirs_then.items():
            torch.testing.assert_close(ours_then[name], expected, atol=1e-5, rtol=1e-4, msg=name)
    for key in COMPARED[2 * (kl_estimator == "k3") :]:  # ours logs k1 whatever the rewards are made with
        assert our_log[key] == pytest.approx(their_log[key], abs=1e-5, rel=1e-4), key
    assert abs(their_log["objective/kl"][0]) > 0.02 and their_log["policy/clipfrac_avg"][0] > 0  # all parts took part
