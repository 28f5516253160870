"""Checkpoints of PPO: everything that makes a resumed run end like an unbroken one.

    checkpoint-N/trained.safetensors   weights that are trained: policy, value head, critic
                 best.safetensors      the best policy on the held-out prompts so far
                 baseline.safetensors  sums of the regression that foresees returns
                 optimizer.pt, scheduler.pt, rng_state*.pth
                 ppo_state.json        KL coefficient, best update, counts, micro-batches, why it stopped
                 trainer_state.json    step counters, what was logged; written last

A checkpoint is written aside, flushed to the disk and renamed; the newest `save_total_limit` are kept. Random numbers
and prompts of PPO itself are those of a place (`randomness`), so they need no state; the generators' states are kept
for reward functions and callbacks that draw from them.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from trl.experimental.ppo.ppo_trainer import OnlineTrainerState

from rlhf.baseline import Moments
from rlhf.durable import discard, flush
from rlhf.sharding import full, load_optimizer_state, optimizer_state, spread_like

if TYPE_CHECKING:
    from rlhf.ppo_trainer import RLHFTrainer

TRAINED, BEST, STATE = "trained.safetensors", "best.safetensors", "ppo_state.json"
BASELINE = "baseline.safetensors"


def save_checkpoint(trainer: "RLHFTrainer") -> Path:
    """Write `checkpoint-<step>` into the trainer's output folder, then drop those beyond `save_total_limit`."""
    folder, tensors = Path(trainer.args.output_dir), _tensors(trainer)
    target, aside = folder / f"checkpoint-{trainer.state.global_step}", folder / ".checkpoint.partial"
    if trainer.accelerator.is_main_process:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        _write(trainer, tensors, aside)
    trainer.accelerator.wait_for_everyone()
    trainer._save_rng_state(str(aside))
    trainer.accelerator.wait_for_everyone()
    if trainer.accelerator.is_main_process:
        flush(folder)  # what was logged so far, too
        discard(target)
        aside.rename(target)
        _rotate(folder, trainer.args.save_total_limit)
    return target


def _tensors(trainer: "RLHFTrainer") -> dict[str, Any]:
    """What is kept of weights and optimizer, whole; every process takes part where they are spread."""
    best = trainer.best[2] if trainer.best else {}
    return {
        TRAINED: {name: full(p.detach()).contiguous() for name, p in _trained(trainer).items()},
        BEST: {name: full(weight).contiguous() for name, weight in best.items()},
        "optimizer.pt": optimizer_state(trainer.optimizer),
    }


def _write(trainer: "RLHFTrainer", tensors: dict[str, Any], folder: Path) -> None:
    save_file(tensors[TRAINED], folder / TRAINED)
    torch.save(tensors["optimizer.pt"], folder / "optimizer.pt")
    torch.save(trainer.lr_scheduler.state_dict(), folder / "scheduler.pt")
    state: dict[str, Any] = {
        "kl_coef": trainer.kl_controller.coef,
        "skipped": trainer.skipped,
        "skipped_in_a_row": trainer.skipped_in_a_row,
        "without_a_better": trainer.without_a_better,
        "stopped": trainer.stopped,
        "micro_batch": trainer.updater.rows.limit,
        "rollout_batch": trainer.sampler.rows.limit,
        "best": None,
    }
    if trainer.baseline and trainer.baseline.moments:
        save_file(trainer.baseline.moments._asdict(), folder / BASELINE)
    if trainer.best is not None:
        state["best"] = {"objective": trainer.best[0], "update": trainer.best[1]}
        save_file(tensors[BEST], folder / BEST)
    (folder / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    trainer.state.save_to_json(str(folder / "trainer_state.json"))


def load_checkpoint(trainer: "RLHFTrainer", folder: Path) -> None:
    """Put a trainer where it stood when the checkpoint was written."""
    kept = load_file(folder / TRAINED)
    with torch.no_grad():
        for name, parameter in _trained(trainer).items():
            parameter.copy_(spread_like(kept[name], parameter))
    device = trainer.accelerator.device
    load_optimizer_state(trainer.optimizer, torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True))
    trainer.lr_scheduler.load_state_dict(torch.load(folder / "scheduler.pt", weights_only=True))
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    trainer.kl_controller.coef = state["kl_coef"]
    trainer.skipped, trainer.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]
    trainer.without_a_better, trainer.stopped = state.get("without_a_better", 0), state.get("stopped")
    trainer.updater.rows.limit = state["micro_batch"]
    trainer.sampler.rows.limit = state.get("rollout_batch")
    if state["best"]:
        like, kept = trainer.trained_policy(), load_file(folder / BEST)
        weights = {name: spread_like(weight.to(device), like[name]) for name, weight in kept.items()}
        trainer.best = (state["best"]["objective"], state["best"]["update"], weights)
    if trainer.baseline and (folder / BASELINE).is_file():
        trainer.baseline.moments = Moments(**load_file(folder / BASELINE))
    then = OnlineTrainerState.load_from_json(str(folder / "trainer_state.json"))
    for name in ("global_step", "episode", "epoch", "log_history"):
        setattr(trainer.state, name, getattr(then, name))
    trainer.last_good = folder
    trainer._load_rng_state(str(folder))


def _trained(trainer: "RLHFTrainer") -> dict[str, torch.nn.Parameter]:
    model = trainer.accelerator.unwrap_model(trainer.model)
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _rotate(folder: Path, limit: int | None) -> None:
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for old in found[:-limit] if limit else []:
        discard(old)
