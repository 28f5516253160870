"""TRL's stock PPO trainer, set up as a competent user would: what all comparisons compare with."""

from typing import Any

from datasets import Dataset
from peft import LoraConfig
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer

from reward_model import Normalisation


def stock_trainer(
    args: PPOConfig,
    tokenizer: PreTrainedTokenizerFast,
    policy: PreTrainedModel,
    reward: PreTrainedModel,
    value: PreTrainedModel,
    prompts: Dataset,
    lora: LoraConfig,
    callbacks: list[TrainerCallback] | None = None,
) -> PPOTrainer:
    """The trainer of a LoRA policy; its reference is the policy without the adapter.

    Args:
        args: with the batch in one piece (see `in_one_piece`), else it makes fewer optimizer steps than minibatches.
        tokenizer: will pad on the left.
        policy: whole model to start from.
        reward: sequence classifier with one label.
        value: the same, trained with all of its weights.
        prompts: rows {"input_ids"}.
        lora: of the policy.
        callbacks: as for any Trainer.
    """
    tokenizer.padding_side = "left"
    return PPOTrainer(
        args, tokenizer, policy, None, reward, prompts, value,
        eval_dataset=prompts, callbacks=callbacks, peft_config=lora,
    )  # fmt: skip


def in_one_piece(batch: int) -> dict[str, int]:
    """Settings for as many optimizer steps as minibatches: the stock trainer steps once in so many micro-batches as are
    accumulated, whatever `num_mini_batches` says, and cuts the batch into minibatches even where it is one micro-batch.
    """
    return {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 1}


def with_our_scale(reward: Any, normalisation: Normalisation, clip: float | None = None) -> Any:
    """The same classifier whose head gives normalised scores, held within ±clip, as our engine makes them."""
    head: nn.Module = normalisation.of_head(reward.score)
    reward.score = head if clip is None else nn.Sequential(head, nn.Hardtanh(-clip, clip))
    return reward
