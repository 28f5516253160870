"""Held-out demonstrations as reward functions take them: what `normalise` measures on, in PPO and in the environments.

workshop = run_workshop(config, device, encoder, lambda: data.demonstrations("validation"), read)
rewards = build_rewards(config.ppo.rewards, workshop)
"""

from collections.abc import Callable

import torch

from rlhf.config import Config
from rlhf.data.source import as_prompt
from rlhf.encoding import Encoder
from rlhf.errors import UserError
from rlhf.records import Demonstration
from rlhf.rewards.build import Workshop
from rlhf.rewards.core import Columns, ReadFunction
from rlhf.rewards.tokens import as_columns, with_learned


def run_workshop(
    config: Config,
    device: torch.device,
    encoder: Encoder,
    held_out: Callable[[], list[Demonstration]],
    read: ReadFunction | None,
) -> Workshop:
    """What the rewards of a run are made with: classifiers in its precision, units from its demonstrations.

    Args:
        config: of the run.
        device: where classifiers and embedders compute.
        encoder: with the policy's tokenizer and the run's limits.
        held_out: reads the demonstrations of the validation split; called only if a reward is normalised.
        read: the learned reward model, if it is one of the rewards.
    """

    def calibration() -> Columns:
        rows = measured_on(held_out(), config)
        prompts, replies = [encoder.prompt(row.prompt) for row in rows], [encoder.reply(row.completion) for row in rows]
        columns = as_columns([as_prompt(row) for row in rows], prompts, replies, encoder.tokenizer)
        return with_learned(columns, read)[0]

    dtype = torch.float32 if config.model.precision == "fp32" else torch.bfloat16
    return Workshop(device, dtype, calibration)


def measured_on(held_out: list[Demonstration], config: Config) -> list[Demonstration]:
    """Those of the validation split on which rewards get mean 0 and standard deviation 1.

    Raises:
        UserError: fewer than two.
    """
    rows = held_out[: config.reward.calibration_rows]
    if len(rows) < 2:
        raise UserError(
            "Rewards cannot be normalised.",
            expected="at least 2 validation demonstrations",
            found=str(len(rows)),
            remedy="raise data.validation_fraction, or give more demonstrations",
        )
    return rows
