"""Phase reward: the pairwise reward model, from human or made preference pairs.

python main.py --phase reward
"""

from pathlib import Path

import torch
from transformers import set_seed
from trl import RewardConfig

from reward_model import PairwiseRewardTrainer, RewardModel
from rlhf.data.source import Sampler
from rlhf.encoding import Encoder, data_statistics
from rlhf.fitting import fit
from rlhf.generation import sft_sampler
from rlhf.models import load_merged, trainable_model
from rlhf.normalisation import Normalisation
from rlhf.records import Demonstration, Preference
from rlhf.rewards.calibration import measured_on
from rlhf.run import TRAINED_ON, Run
from rlhf.sharding import whole_state
from rlhf.training import count_trainable, save_model, save_result, train, trainer_arguments

MERGED = "rlhf_reward_model"


def reward_arguments(run: Run) -> RewardConfig:
    """TRL's configuration: our defaults, then what the section `reward` passes through."""
    return trainer_arguments(RewardConfig, run, "reward", "reward", {"max_length": None, "disable_dropout": False})


def run_phase(run: Run) -> dict[str, float]:
    """Train on pairs, normalise on held-out demonstrations. Leaves `DIR/reward` and `DIR/rlhf_reward_model`."""
    start = str(run.result("sft")) if run.config.reward.init == "sft" else run.base_model()
    return train_reward_model(run, start, sft_sampler(run), MERGED)


def update(run: Run, start: Path) -> dict[str, float]:
    """Go on from a reward model, its head included, with the pairs of `run.data`. Leaves `DIR/reward`."""
    return train_reward_model(run, str(start), kept_head=True)


def train_reward_model(
    run: Run, start: str, sampler: Sampler | None = None, merged: str | None = None, *, kept_head: bool = False
) -> dict[str, float]:
    """The phase, from any model.

    Args:
        run: its `data.preferences` are trained on, the calibration rows of `data.demonstrations` normalise.
        start: hub name or result folder of a language model; with `kept_head`, of a reward model.
        sampler: handed to `run.data.preferences`.
        merged: result folder to leave the whole, merged model in, too.
        kept_head: go on with the head of `start`, instead of drawing a new one.
    """
    set_seed(run.config.seed)
    settings = run.config.reward
    args = fit(run, "reward", reward_arguments(run))
    tokenizer = run.tokenizer()
    encoder = Encoder(tokenizer, run.config.data)
    given: dict[str, list[Preference]] = {split: run.data.preferences(split, sampler) for split in TRAINED_ON}
    rows, held_out = (encoder.preferences(given[split], margin=settings.margin) for split in TRAINED_ON)
    data = data_statistics(given, encoder)
    calibration = calibration_rows(run)
    model = trainable_model(start, run.config, "reward", tokenizer, run.device, kept_head=kept_head)
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
        if merged:
            run.publish(merged, lambda aside: _write_merged(folder, aside, run, normalisation))
    return {"eval_accuracy": metrics["eval_accuracy"], "eval_loss": metrics["eval_loss"]}


def calibration_rows(run: Run) -> list[Demonstration]:
    """The demonstrations on which rewards get mean 0 and standard deviation 1. Raises `UserError` below two."""
    return measured_on(run.data.demonstrations("validation"), run.config)


def _normalise(rows: list[Demonstration], model: torch.nn.Module, encoder: Encoder, batch_size: int) -> Normalisation:
    sequences = [encoder.prompt(row.prompt) + encoder.reply(row.completion) for row in rows]
    return Normalisation.of(RewardModel(model, encoder.tokenizer.pad_token_id).score_ids(sequences, batch_size))


def _write_merged(folder: Path, aside: Path, run: Run, normalisation: Normalisation) -> None:
    tokenizer = run.tokenizer()
    save_model(load_merged(str(folder), tokenizer, reward=True), tokenizer, aside)
    normalisation.save(aside)
