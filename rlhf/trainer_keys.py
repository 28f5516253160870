"""Checks what the sections `base`, `sft`, `reward` and `ppo` pass through to the trainers' configuration classes.

check_trainer_sections(config)        # of all phases at once: a slip in a late one is found before the first is run
"""

import dataclasses
import importlib
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from rlhf.config import Config, TrainingSection
from rlhf.errors import UserError, nearest

TRAINERS = {
    "base": ("transformers", "TrainingArguments"),
    "sft": ("trl", "SFTConfig"),
    "reward": ("trl", "RewardConfig"),
    "ppo": ("trl.experimental.ppo", "PPOConfig"),
}
"""Section → module and name of the class that takes its keys; they are slow to import."""


def check_trainer_sections(config: Config) -> None:
    """`check_trainer_args` for every section, and PPO's batch. Raises `UserError` as that does, and where a PPO batch
    does not fall into equal minibatches."""
    for section, (module, name) in TRAINERS.items():
        settings: TrainingSection = getattr(config, section)
        config_class = getattr(importlib.import_module(module), name)
        check_trainer_args(section, settings.trainer_args, config_class)
        if section == "ppo":
            _check_episodes(settings.trainer_args)
            _check_minibatches(settings.trainer_args, config_class)


def _check_episodes(given: dict[str, Any]) -> None:
    """Refuse a run of no updates. Raises `UserError`."""
    if (episodes := given.get("total_episodes")) is not None and episodes < 1:
        raise UserError(
            "PPO would make no update.",
            expected="ppo.total_episodes of at least 1, which is rounded up to whole batches",
            found=str(episodes),
            remedy="raise ppo.total_episodes",
        )


def _check_minibatches(given: dict[str, Any], config_class: type) -> None:
    """Refuse a PPO batch (of one process) that does not fall into equal minibatches."""
    defaults = {field.name: field.default for field in dataclasses.fields(config_class)}
    rows, steps, parts = (
        int(given.get(key, defaults[key]))
        for key in ("per_device_train_batch_size", "gradient_accumulation_steps", "num_mini_batches")
    )
    if min(rows, steps, parts) < 1 or rows * steps % parts:
        raise UserError(
            f"A PPO batch of {rows * steps} cannot be cut into {parts} equal minibatches.",
            expected="per_device_train_batch_size x gradient_accumulation_steps a multiple of num_mini_batches",
            found=f"{rows} x {steps}, and {parts} minibatches",
            remedy="change one of the three under ppo:",
        )


def check_trainer_args(section: str, given: dict[str, Any], config_class: type) -> None:
    """Refuse keys of a section that its trainer does not know, and values of another type than it wants.

    Raises:
        UserError: naming the key, and the nearest known one.
    """
    known = [field.name for field in dataclasses.fields(config_class)]
    types = get_type_hints(config_class)
    for key, value in given.items():
        if key not in known:
            own = list(getattr(Config.model_fields[section].annotation, "model_fields", ()))
            raise UserError(
                f"Unknown key {section}.{key}.",
                expected=f"a key of {config_class.__name__}, or one of {', '.join(own) or 'none'}",
                remedy=nearest(key, known + own),
            )
        try:
            TypeAdapter(types[key]).validate_python(value)
        except ValidationError as error:
            wanted = dict.fromkeys(item["msg"].removeprefix("Input should be ") for item in error.errors())
            raise UserError(
                f"Bad value for {section}.{key}.", expected="; or ".join(wanted), found=repr(value)
            ) from None
