"""A PPO trainer on a tiny random model, for the tests of the engine."""

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl.experimental.ppo import PPOConfig

from rlhf.backbone import Backbone
from rlhf.baseline import ReturnBaseline
from rlhf.config import PPOSection
from rlhf.padding import pad_right
from rlhf.ppo_trainer import RLHFTrainer
from rlhf.rewards.core import Scores
from tests.conftest import small_config


def make_trainer(tmp_path, start, tokenizer, score, settings=None, phases=("ppo",), foresees=False, **arguments):
    config = small_config(lora={"r": 4, "alpha": 8, "dropout": 0.0, "phases": list(phases)})
    args = PPOConfig(
        output_dir=str(tmp_path / "out"),
        use_cpu=True,
        bf16=False,
        report_to="none",
        **{
            "gradient_checkpointing": False,
            "total_episodes": 16,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 2,
            "num_mini_batches": 2,
            "response_length": 8,
            "stop_token": "eos",
            "temperature": 0.9,
            "learning_rate": 1e-3,
            "num_sample_generations": 0,
            "disable_tqdm": True,
        }
        | arguments,
    )
    prompts = Dataset.from_list([{"input_ids": [10 + i, 11 + i, *([12] * (i % 4))]} for i in range(64)])
    backbone = Backbone(start, config, tokenizer, torch.device("cpu"))
    demonstrations = Dataset.from_list([{"prompt_ids": [10, 11], "reply_ids": [20, 21, tokenizer.eos_token_id]}] * 4)
    return RLHFTrainer(
        args, settings or PPOSection(), tokenizer, backbone, with_features(score, backbone) if foresees else score,
        prompts, prompts, demonstrations, baseline=ReturnBaseline() if foresees else None,
    )  # fmt: skip


def with_features(score, backbone):
    """The frozen embeddings of the replies' tokens, in place of a reward model's states before them."""

    def scores(prompts, replies):
        total = score(prompts, replies)
        features = backbone.policy.get_input_embeddings()(pad_right(replies, 0)[0])
        return Scores(total, total.unsqueeze(1), features)

    return scores


def constant(prompts, replies):
    return torch.zeros(len(replies))


def lengths(prompts, replies):
    return torch.tensor([float(len(prompt) + len(reply)) for prompt, reply in zip(prompts, replies, strict=True)])


def one_rollout(trainer):
    return trainer.rollout(1)


def no_picks():
    return torch.Generator()


def weights(trainer):
    """What is trained of the policy, copied."""
    return {n: p.detach().clone() for n, p in trainer.policy_model.named_parameters() if p.requires_grad}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class Watch(TrainerCallback):
    """Keeps what is logged; calls `after(update)` behind each update, before its evaluation."""

    def __init__(self, after=lambda update, control: None):
        self.rows, self.after = [], after

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.rows.append(dict(logs))

    def on_step_end(self, args, state, control, **kwargs):
        self.after(state.global_step, control)
        return control

    def __getitem__(self, key):
        """All logged values of a key."""
        return [row[key] for row in self.rows if key in row]


def watched(trainer, after=lambda update, control: None):
    watch = Watch(after)
    trainer.add_callback(watch)
    return watch


SHORT = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "num_mini_batches": 1, "num_ppo_epochs": 1}
"""Updates of four episodes and one optimizer step."""
