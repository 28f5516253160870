"""What all training phases share: trainer settings, the metrics log, checkpoints to resume from, the final save."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from tqdm.auto import tqdm
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from rlhf.config import AutocastSection, Config, TrainingSection, load_config, save_config
from rlhf.durable import discard, replace_text, tidy
from rlhf.errors import UserError
from rlhf.global_batch import in_words as batch_in_words
from rlhf.provenance import dependencies, differences, in_words
from rlhf.run import Run
from rlhf.trainer_keys import check_trainer_args

METRICS_FILE = "metrics.jsonl"
DATA_FILE = "data.json"
TRAINER_STATE = "trainer_state.json"
logger = logging.getLogger(__name__)
Arguments = TypeVar("Arguments", bound=TrainingArguments)


def trainer_arguments(
    kind: type[Arguments], run: Run, phase: str, section: str, defaults: dict[str, Any] | None = None
) -> Arguments:
    """The trainer's configuration for a phase: our defaults, then whatever the section passes through.

    Raises:
        UserError: a key that `kind` does not know, or a value that it refuses.
    """
    settings: TrainingSection = getattr(run.config, section)
    check_trainer_args(section, settings.trainer_args, kind)
    values: dict[str, Any] = {
        "output_dir": str(training_folder(run, phase)),
        "seed": run.config.seed,
        "data_seed": run.config.seed,
        "use_cpu": run.device.type == "cpu",
        "bf16": _in_bf16(run.config, settings, run.device),
        "report_to": run.config.report_to,
        "run_name": f"{run.folder.name}-{phase}",
        "save_total_limit": 2,
        "dataloader_pin_memory": run.device.type == "cuda",
    }
    values |= (defaults or {}) | settings.trainer_args
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # the configuration decides, not what a launcher passes on
    try:
        return kind(**values)
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"The settings under {section}: do not work.", found=str(error).splitlines()[0]) from error


def _in_bf16(config: Config, settings: TrainingSection | AutocastSection, device: torch.device) -> bool:
    asked = settings.bf16 if isinstance(settings, AutocastSection) else None
    if asked is None:
        return config.model.precision != "fp32"
    return computes_in_bf16(device) if asked == "auto" else asked


def _on_this_machine(config: Config, phase: str, device: torch.device) -> Config:
    """The configuration with the phase's `bf16` decided: what its checkpoints must go on in, wherever that is."""
    section = getattr(config, phase)
    if not isinstance(section, AutocastSection):
        return config
    decided = section.model_copy(update={"bf16": _in_bf16(config, section, device)})
    return config.model_copy(update={phase: decided})


def computes_in_bf16(device: torch.device) -> bool:
    """Whether a device multiplies in bf16 natively; where it does not, bf16 is slower than fp32.

    Other CPUs than x86 count as those that do not.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def training_folder(run: Run, phase: str) -> Path:
    """Where a phase keeps its checkpoints and metrics while it trains."""
    return run.folder / "training" / phase


class MetricsLog(TrainerCallback):
    """Writes each log entry to metrics.jsonl, and prints it as one line.

    On resume, entries behind the checkpoint's step, and behind a training's end, are dropped, so that each step
    stands there once.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS_FILE

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        kept = _rows_until(self.path, state.global_step)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs:
            return
        row = {"step": state.global_step} | {k: v for k, v in logs.items() if isinstance(v, int | float | str)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        tqdm.write(_one_line(row, state.max_steps))


def _rows_until(path: Path, step: int) -> list[dict[str, Any]]:
    """What was logged when the checkpoint of this step was written; nothing for step 0."""
    rows = read_metrics(path) if step else []
    return list(takewhile(lambda row: row["step"] <= step and "train_runtime" not in row, rows))


class QuietProgress(ProgressCallback):
    """The progress bar alone; `MetricsLog` prints the numbers."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        return


def _one_line(row: dict[str, Any], max_steps: int) -> str:
    numbers = {k: v for k, v in row.items() if k not in ("step", "epoch", "total_flos") and not isinstance(v, str)}
    numbers |= {k: float(v) for k, v in row.items() if isinstance(v, str) and _is_number(v)}
    text = "  ".join(f"{_short_name(key)} {value:.4g}" for key, value in numbers.items())
    return f"step {row['step']}/{max_steps}  {text}"


def _short_name(key: str) -> str:
    """Without its group, unless other groups have the same names; of a reward among several, with the reward's name."""
    group = key.partition("/")[0]
    if group in ("time", "val", "eval") and "rewards/" not in key:
        return key
    return key.partition("rewards/")[2] or key.split("/")[-1]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; none where there is no file, and a last line cut short by a kill is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            logger.warning("%s: left out an incomplete line", path)
    return rows


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose trainer state, which is written last, and weights are whole; others are deleted."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True)
    for checkpoint in found:
        try:
            json.loads((checkpoint / TRAINER_STATE).read_text(encoding="utf-8"))
            for weights in checkpoint.glob("*.safetensors"):
                with safe_open(weights, "pt"):  # reads the header, and whether the file is as long as it says
                    pass
            return checkpoint
        except (OSError, ValueError, SafetensorError):
            logger.warning("%s was cut short and is left out", checkpoint)
            discard(checkpoint)
    return None


def watch(trainer: Trainer, folder: Path) -> None:
    """A progress bar and metrics.jsonl, in place of the stock callbacks, which print every number once more."""
    for stock in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(stock)
    trainer.add_callback(MetricsLog(folder))
    if not trainer.args.disable_tqdm:
        trainer.add_callback(QuietProgress())


def train(trainer: Trainer, run: Run, phase: str) -> None:
    """Train from the start, or with `run.resume` from the newest whole checkpoint; the log stands beside it.

    Raises:
        UserError: the checkpoints come from other settings of what the phase depends on.
    """
    checkpoint = prepare(trainer, run, phase, phase)
    if checkpoint:
        _restore_token_count(trainer, training_folder(run, phase), checkpoint)
    if not (checkpoint and _load_if_finished(trainer, checkpoint)):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def prepare(trainer: Trainer, run: Run, result: str, section: str) -> Path | None:
    """Watch a trainer, and find the checkpoint that it is to go on from; without one, clear its folder.

    Args:
        trainer: about to be started.
        run: says whether to resume.
        result: names the folder under `DIR/training`.
        section: of the configuration, with the trainer's settings.

    Raises:
        UserError: the checkpoints come from other settings of what the result depends on, or from another number of
            processes.
    """
    folder = training_folder(run, result)
    watch(trainer, folder)
    config = _on_this_machine(run.as_made(result), section, run.device)
    with trainer.accelerator.main_process_first():  # which cleans up
        if trainer.is_world_process_zero():
            tidy(folder)
        checkpoint = last_complete_checkpoint(folder) if run.resume else None
    trainer.accelerator.wait_for_everyone()  # until all have looked: it may be cleared now
    if checkpoint:
        _check_same_config(config, folder, result)
        _check_same_processes(checkpoint, trainer.args.world_size)
        if trainer.is_world_process_zero():
            tqdm.write(f"resuming {result} from {checkpoint.name}")
    elif trainer.is_world_process_zero():
        if run.resume and (folder / METRICS_FILE).is_file():
            tqdm.write(f"{result} left no checkpoint: it starts from the beginning")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        save_config(config, folder)
    trainer.accelerator.wait_for_everyone()
    if trainer.args.world_size > 1:
        trainer.accelerator.print(batch_in_words(trainer.args))
    return checkpoint


def _load_if_finished(trainer: Trainer, checkpoint: Path) -> bool:
    """Load a checkpoint of the last step and say so: from there `Trainer.train` would take one step too many."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE))
    if state.global_step < state.max_steps:
        return False
    best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    trainer._load_from_checkpoint(best or str(checkpoint))
    state.init_training_references(trainer, state.max_steps, state.num_train_epochs, None)
    trainer.state = state
    events = trainer.callback_handler
    trainer.control = events.on_train_begin(trainer.args, state, trainer.control)
    trainer.log({"train_runtime": 0.0})  # the mark of a training's end in the log
    trainer.control = events.on_train_end(trainer.args, state, trainer.control)
    return True


def _restore_token_count(trainer: Any, folder: Path, checkpoint: Path) -> None:
    """TRL's trainers log num_tokens since the start, but keep the count in no checkpoint."""
    rows = _rows_until(folder / METRICS_FILE, int(checkpoint.name.rpartition("-")[2]))
    counts = [row["num_tokens"] for row in rows if "num_tokens" in row]
    if counts:
        trainer._total_train_tokens = counts[-1]


def _check_same_config(config: Config, folder: Path, phase: str) -> None:
    found = differences(load_config(folder / "config.yaml"), config, dependencies(phase))
    if found:
        raise UserError(
            f"Cannot resume: {folder} was made with another configuration.",
            expected="the settings that the phase was started with",
            found=in_words(found),
            remedy="start again without --resume, or restore these settings",
        )


def _check_same_processes(checkpoint: Path, processes: int) -> None:
    wrote = len(list(checkpoint.glob("rng_state*.pth")))  # one each
    if wrote not in (0, processes):
        raise UserError(
            f"Cannot resume: {checkpoint} was written by another number of processes, and so for another batch.",
            expected=f"{wrote} processes",
            found=str(processes),
            remedy="start as many, or start again without --resume",
        )


def save_result(
    run: Run,
    phase: str,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    extra: Callable[[Path], object] | None = None,
    *,
    data: dict[str, Any] | None = None,
    weights: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Publish a trained model, its tokenizer, its metrics and whatever `extra` writes as `DIR/<phase>`.

    Args:
        data: what it was trained on (`encoding.data_statistics`), kept as data.json for the report.
        weights: the model's state where it is spread over processes (`sharding.whole_state`).
    """

    def write(folder: Path) -> None:
        save_model(model, tokenizer, folder, weights)
        metrics = training_folder(run, phase) / METRICS_FILE
        if metrics.is_file():
            shutil.copyfile(metrics, folder / METRICS_FILE)
        if data is not None:
            (folder / DATA_FILE).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        if extra:
            extra(folder)

    return run.publish(phase, write)


def read_data(result: Path) -> dict[str, Any]:
    """What a result was trained on, as its phase saved it; empty where it saved nothing."""
    path = result / DATA_FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def save_model(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Save weights as safetensors, with configuration and tokenizer; of an adapter, only the adapter.

    The embeddings stay with the base: peft grows them to the tokenizer saved here when it loads the adapter.
    """
    if isinstance(model, PeftModel):
        model.save_pretrained(
            str(folder), selected_adapters=["default"], save_embedding_layers=False, state_dict=weights
        )
    else:
        model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)


def count_trainable(model: torch.nn.Module) -> str:
    """A line that says how many weights are trained, of how many."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return f"{trained:,} of {total:,} weights are trained ({100 * trained / total:.1f}%)"
