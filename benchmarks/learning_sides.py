"""One side of the comparison of learning: a PPO trainer on the results of base, SFT and reward, watched by a curve.

In a process of its own; `benchmarks.ppo_learning` starts it.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from transformers import set_seed

import rlhf.phases.ppo
from benchmarks.curve import Curve, HeldOut, PausingClock
from benchmarks.memory import peak_rss_mb
from benchmarks.stock import in_one_piece, stock_trainer, with_our_scale
from dataloader import DataRoom
from reward_model import Normalisation, RewardModel
from rlhf.allocator import keep_freed_memory
from rlhf.config import load_config
from rlhf.encoding import Encoder
from rlhf.models import load_causal_lm, load_merged, lora_config
from rlhf.ppo_trainer import RLHFTrainer
from rlhf.run import Run

HELD_OUT = 512
"""Validation prompts that a curve is measured on, at most."""
STARTS = ("base", "sft", "reward", "rlhf_reward_model")
"""Results that PPO starts from."""


def measure(side: str, config_file: str, settings: list[str], start: str, every: int) -> dict[str, Any]:
    """Train one side and return its curve and its last and kept policies' figures.

    Args:
        side: a key of SIDES.
        config_file: as for main.py.
        settings: as for main.py's --set.
        start: folder with the results of base, sft and reward, which stays as it is.
        every: updates from one point of the curve to the next.
    """
    keep_freed_memory()  # as main.py does
    with tempfile.TemporaryDirectory() as folder:
        for name in STARTS:
            if Path(start, name).is_dir():
                Path(folder, name).symlink_to(Path(start, name).resolve())
        own, train = SIDES[side]
        run = _run(config_file, [*settings, *own], Path(folder))
        curve = Curve(_held_out(run), PausingClock(), every)
        train(run, curve)
    return {"side": side, "seed": run.config.seed, "peak_rss_mb": peak_rss_mb()} | curve.result


def _run(config_file: str, settings: list[str], folder: Path) -> Run:
    config = load_config(config_file, settings)
    return Run(config, folder, DataRoom(config))


def _held_out(run: Run) -> HeldOut:
    config, tokenizer = run.config, run.tokenizer()
    args = rlhf.phases.ppo.ppo_arguments(run, "ppo")
    return HeldOut(
        encoder=Encoder(tokenizer, config.data),
        validation=run.data.prompts("validation")[:HELD_OUT],
        test=run.data.prompts("test")[: config.test.prompts],
        reference=load_causal_lm(str(run.result("sft")), tokenizer, config.model.precision, run.device),
        reward_model=RewardModel.load(run.result("reward"), tokenizer, config.model.precision, run.device),
        judge=run.data.judge(),
        temperature=args.temperature,
        kl_coef=args.kl_coef,
        clip=config.ppo.reward_clip,
        missing_eos_penalty=args.missing_eos_penalty or 0.0,
        seed=config.seed,
    )


def _train_ours(run: Run, curve: Curve) -> None:
    """Phase ppo as it is; the clock leaves out the held-out evaluations by which it keeps the best policy, too."""

    class Watched(RLHFTrainer):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named, callbacks=[curve])

        def _evaluate_if_due(self, *given: Any, **named: Any) -> None:
            with curve.clock.paused("the trainer's own evaluation"):
                super()._evaluate_if_due(*given, **named)

    with mock.patch.object(rlhf.phases.ppo, "RLHFTrainer", Watched):
        rlhf.phases.ppo.run_phase(run)


def _train_stock(run: Run, curve: Curve) -> None:
    """The stock trainer on the same models, prompts and settings; its value network starts as the reward model."""
    if run.config.model.precision != "fp32" or "ppo" not in run.config.lora.phases:
        sys.exit("The stock side trains a LoRA adapter in fp32: set model.precision=fp32, and ppo in lora.phases.")
    set_seed(run.config.seed)
    args, settings, tokenizer = rlhf.phases.ppo.ppo_arguments(run, "ppo"), run.config.ppo, run.tokenizer()
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    for name, value in in_one_piece(batch).items():
        setattr(args, name, value)
    reward_folder = run.result("reward")
    normalisation = Normalisation.load(reward_folder)
    reward, value_network = (load_merged(str(reward_folder), tokenizer, reward=True) for _ in range(2))
    stock_trainer(
        args,
        tokenizer,
        load_merged(str(run.result("sft")), tokenizer),
        with_our_scale(reward, normalisation, settings.reward_clip),
        with_our_scale(value_network, normalisation),
        Encoder(tokenizer, run.config.data).prompts(run.data.prompts("train")),
        lora_config(run.config.lora),
        [curve],
    ).train()


SIDES: dict[str, tuple[list[str], Callable[[Run, Curve], None]]] = {
    "ours": ([], _train_ours),
    "shared": (["ppo.value=shared"], _train_ours),
    "detached": (["ppo.value=detached"], _train_ours),
    "adapter": (["ppo.value=adapter"], _train_ours),
    "trl": (["ppo.save_strategy='no'", "ppo.num_sample_generations=0"], _train_stock),
}
"""Side → settings of its own, and how it is trained."""
