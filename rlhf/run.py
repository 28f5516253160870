"""One run: its configuration, its folder of results, its data. Every phase is `run_phase(run: Run) -> dict`.

DIR/base, DIR/sft, DIR/reward, DIR/ppo …   finished results, each renamed into place in one step
DIR/training/<phase>                       checkpoints and metrics.jsonl while it trains
"""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from transformers import PreTrainedTokenizerFast

from rlhf.config import Config, load_config, save_config
from rlhf.data.source import Judge, Sampler
from rlhf.durable import flush
from rlhf.errors import UserError
from rlhf.models import resolve_device
from rlhf.provenance import LATE_DATA, SHARED, dependencies, differences, in_words, upstream
from rlhf.records import Demonstration, Preference, Prompt
from rlhf.rewards.build import check_rewards
from rlhf.tokenizer import load_tokenizer
from rlhf.trainer_keys import check_trainer_sections

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
TRAINED_ON: tuple[Split, ...] = ("train", "validation")
RESULTS = ("base", "sft", "reward", "ppo", "ppo_from_base", "report")


class Data(Protocol):
    """What a phase asks for; `dataloader.DataRoom` gives it from the configuration, a test from lists."""

    def demonstrations(self, split: Split) -> list[Demonstration]: ...
    def preferences(self, split: Split, sampler: Sampler | None = None) -> list[Preference]: ...
    def extra_preferences(self) -> dict[str, list[Preference]]: ...
    def prompts(self, split: Split) -> list[Prompt]: ...
    def ood(self, limit: int) -> dict[str, list[Prompt]]: ...
    def text(self) -> list[str]: ...
    def judge(self) -> Judge | None: ...


class Given(NamedTuple):
    """What the command line gives to a single phase."""

    words: tuple[str, ...] = ()
    """What stands behind the options, such as `compare sft ppo`."""
    prompts: str | None = None
    """File to read prompts from."""
    out: str | None = None
    """File to write to."""


@dataclass(frozen=True)
class Run:
    """What a phase works on."""

    config: Config
    folder: Path
    data: Data
    resume: bool = False
    arguments: str = ""
    """The `--config … --output …` part of the command, for messages that name a command."""
    given: Given = Given()

    @property
    def device(self) -> torch.device:
        return resolve_device(self.config.model.device)

    def command(self, phase: str) -> str:
        """The command that runs another phase of this run."""
        return f"python main.py --phase {phase} {self.arguments}".strip()

    def result(self, name: str) -> Path:
        """The folder of a finished result.

        Raises:
            UserError: there is none, or it was made from other pairs or prompts. Names the command that makes it.
        """
        folder = self.folder / name
        phase = "all" if name == "ppo_from_base" else name
        late = tuple(key for key in dependencies(name) if key in LATE_DATA)
        self._refuse_if_other(name, late, f"restore them, or make it anew: {self.command(phase)}")
        if not folder.is_dir():
            raise UserError(
                f"This phase needs the result of phase {phase}, and {folder} does not exist.",
                remedy=f"run: {', then '.join(self.command(step) for step in self._missing(phase))}",
            )
        return folder

    def _missing(self, phase: str) -> list[str]:
        """The phases still to be run, in order, for the result of this one."""
        steps = [] if phase == "all" else upstream(phase)
        there = [step for step in steps if (self.folder / step).is_dir() or (step == "base" and self.config.model.name)]
        return [*(step for step in steps if step not in there), phase]

    def base_model(self) -> str:
        """Hub name or folder of the model before any fine-tuning."""
        return self.config.model.name or str(self.result("base"))

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The run's tokenizer; one trained here is made by the first call and kept with the base model."""
        model, data = self.config.model, self.config.data
        kept = self.folder / "base"
        spec = str(kept) if model.shape and kept.is_dir() else model.tokenizer or model.name or "train"
        return load_tokenizer(
            spec,
            vocab_size=model.vocab_size,
            texts=self.data.text,
            max_length=data.max_prompt_tokens + data.max_response_tokens,
        )

    def check(self) -> None:
        """Refuse, before anything is loaded or written, settings that some phase of this run would trip over.

        Raises:
            UserError: a trainer's key or value, a reward that is not there, a GPU where none is, a folder of another
                configuration.
        """
        check_trainer_sections(self.config)
        check_rewards(self.config.ppo.rewards)
        resolve_device(self.config.model.device)
        self.check_folder()

    def check_folder(self) -> None:
        """Refuse a folder whose results come from another model or other data; first put back what a kill displaced."""
        _put_back(self.folder)
        for name in RESULTS:
            self._refuse_if_other(name, SHARED, "choose another --output, or delete that folder")

    def is_up_to_date(self, name: str) -> bool:
        """Whether a result is there and would come out the same now; `--resume` keeps it then.

        Raises:
            UserError: it is there, but a setting that it depends on has changed since.
        """
        remedy = "restore these settings, choose another --output, or delete that folder and make it anew"
        self._refuse_if_other(name, dependencies(name), remedy)
        return (self.folder / name).is_dir()

    def made_with(self, name: str) -> Config | None:
        """The configuration saved in a result folder; None where there is none."""
        path = self.folder / name / "config.yaml"
        return load_config(path) if path.is_file() else None

    def as_made(self, name: str) -> Config:
        """What a result made now comes from: the configuration, its upstream sections as their results were made."""
        made = {step: self.made_with(step) for step in upstream(name)}
        return self.config.model_copy(update={step: getattr(then, step) for step, then in made.items() if then})

    def _refuse_if_other(self, name: str, sections: tuple[str, ...], remedy: str) -> None:
        then = self.made_with(name)
        found = differences(then, self.config, sections) if then else {}
        if found:
            raise UserError(
                f"{self.folder / name} was made with another configuration.",
                expected=f"the same {', '.join(dict.fromkeys(key.partition('.')[0] for key in found))} as now",
                found=in_words(found),
                remedy=remedy,
            )

    def publish(self, name: str, write: Callable[[Path], object]) -> Path:
        """Let `write` fill a folder aside, add the configuration, and rename it to `DIR/name` in one step.

        Whatever goes wrong in between, the old result stays and nothing half-written is left.
        """
        target, aside = self.folder / name, self.folder / f".{name}.partial"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            write(aside)
            save_config(self.as_made(name), aside)
            flush(aside)
            replace_folder(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return target


def replace_folder(new: Path, target: Path) -> None:
    """Put a finished folder in the place of an older one, which is kept until the new one stands."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _put_back(folder: Path) -> None:
    """Undo a `replace_folder` that was killed between its two renames."""
    for old in folder.glob(".*.old"):
        target = folder / old.name.removeprefix(".").removesuffix(".old")
        if not target.exists():
            with suppress(FileNotFoundError):  # another process of this run was faster
                old.rename(target)
