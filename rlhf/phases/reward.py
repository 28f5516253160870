"""Phase reward: the pairwise reward model, from human or made preference pairs.

python main.py --phase reward
"""

from pathlib import Path

import torch
from transformers import set_seed
from trl import RewardConfig

from reward_model import PairwiseRewardTrainer, RewardModel
from rlhf.encoding import Encoder, data_statistics
from rlhf.errors import UserError
from rlhf.fitting import fit
from rlhf.generation import sft_sampler
from rlhf.models import load_merged, trainable_model
from rlhf.normalisation import Normalisation
from rlhf.records import Demonstration, Preference
from rlhf.run import TRAINED_ON, Run
from rlhf.sharding import whole_state
from rlhf.training import count_trainable, save_model, save_result, train, trainer_arguments

MERGED = "rlhf_reward_model"


def reward_arguments(run: Run) -> RewardConfig:
    """TRL's configuration: our defaults, then what the section `reward` passes through."""
    return trainer_arguments(RewardConfig, run, "reward", "reward", {"max_length": None, "disable_dropout": False})


def run_phase(run: Run) -> dict[str, float]:
    """Train on pairs, normalise on held-out demonstrations. Leaves `DIR/reward` and `DIR/rlhf_reward_model`."""
    set_seed(run.config.seed)
    settings = run.config.reward
    args = fit(run, "reward", reward_arguments(run))
    start = str(run.result("sft")) if settings.init == "sft" else run.base_model()
    tokenizer = run.tokenizer()
    encoder = Encoder(tokenizer, run.config.data)
    sampler = sft_sampler(run)
    given: dict[str, list[Preference]] = {split: run.data.preferences(split, sampler) for split in TRAINED_ON}
    rows, held_out = (encoder.preferences(given[split], margin=settings.margin) for split in TRAINED_ON)
    data = data_statistics(given, encoder)
    calibration = calibration_rows(run)
    model = trainable_model(start, run.config, "reward", tokenizer, run.device)
    trainer = PairwiseRewardTrainer(
        model=model, args=args, train_dataset=rows, eval_dataset=held_out, processing_class=tokenizer
    )
    trainer.accelerator.print(f"reward: {len(rows):,} pairs ({encoder.summary()}); {count_trainable(model)}")
    train(trainer, run, "reward")
    metrics = trainer.evaluate()
    trained = trainer.accelerator.unwrap_model(trainer.model)
    normalisation = _normalise(calibration, trained, encoder, args.per_device_eval_batch_size)
    weights = whole_state(trained)
    if trainer.is_world_process_zero():
        folder = save_result(run, "reward", trained, tokenizer, normalisation.save, data=data, weights=weights)
        run.publish(MERGED, lambda aside: _write_merged(folder, aside, run, normalisation))
    return {"eval_accuracy": metrics["eval_accuracy"], "eval_loss": metrics["eval_loss"]}


def calibration_rows(run: Run) -> list[Demonstration]:
    """The demonstrations on which rewards get mean 0 and standard deviation 1. Raises `UserError` below two."""
    rows = run.data.demonstrations("validation")[: run.config.reward.calibration_rows]
    if len(rows) < 2:
        raise UserError(
            "Rewards cannot be normalised.",
            expected="at least 2 validation demonstrations",
            found=str(len(rows)),
            remedy="raise data.validation_fraction, or give more demonstrations",
        )
    return rows


def _normalise(rows: list[Demonstration], model: torch.nn.Module, encoder: Encoder, batch_size: int) -> Normalisation:
    sequences = [encoder.prompt(row.prompt) + encoder.reply(row.completion) for row in rows]
    return Normalisation.of(RewardModel(model, encoder.tokenizer.pad_token_id).score_ids(sequences, batch_size))


def _write_merged(folder: Path, aside: Path, run: Run, normalisation: Normalisation) -> None:
    tokenizer = run.tokenizer()
    save_model(load_merged(str(folder), tokenizer, reward=True), tokenizer, aside)
    normalisation.save(aside)
