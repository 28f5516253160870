"""What can be refused within a second: before the libraries are imported, and before anything is computed or written.

check_output(Path("models/tiny"))
check_model_name(config)
check_launcher("ppo", config)
check_critic(config)
"""

import os
from importlib.util import find_spec
from pathlib import Path

from rlhf.config import Config
from rlhf.errors import UserError


def check_output(folder: Path) -> None:
    """Refuse a place where no results can be written; nothing is created. Raises `UserError`."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"Cannot write results to {folder}.", expected="a folder, or a name not in use",
                        found=f"{there} is a file", remedy="choose another --output")  # fmt: skip
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"Cannot write results to {folder}.", expected="a folder that you may write to",
                        found=f"{there} is not writable",
                        remedy="choose another --output, or change its permissions")  # fmt: skip


def check_model_name(config: Config) -> None:
    """Refuse a model that is neither a local path, nor in the cache, nor to be had from the hub. Raises `UserError`."""
    if config.model.name:
        from rlhf.hub import reachable_or_cached  # only this needs the hub's library

        reachable_or_cached(config.model.name, "model")


def check_critic(config: Config) -> None:
    """Refuse a critic adapter whose start, the reward model, will be no adapter itself. Raises `UserError`."""
    if config.ppo.value == "adapter" and not {"reward", "ppo"} <= set(config.lora.phases):
        raise UserError("ppo.value is adapter, but reward model and policy are not both adapters.",
                        expected="reward and ppo in lora.phases", found=f"lora.phases: {config.lora.phases}",
                        remedy="--set 'lora.phases=[sft, reward, ppo]', or ppo.value=auto")  # fmt: skip


def check_launcher(phase: str, config: Config) -> None:
    """Refuse what cannot work in the processes that torchrun or accelerate have started. Raises `UserError`."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and phase in ("test", "all"):
        raise UserError(f"Phase {phase} runs in one process.", expected="1 process", found=f"{processes} processes",
                        remedy="python main.py; several processes are for base, sft, reward and ppo")  # fmt: skip
    fsdp, deepspeed = (
        os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true" for name in ("FSDP", "DEEPSPEED")
    )
    if deepspeed and find_spec("deepspeed") is None:
        raise UserError("The launcher asks for DeepSpeed, and the package deepspeed is not installed.",
                        remedy="pip install deepspeed, or use configs/accelerate/fsdp.yaml")  # fmt: skip
    if fsdp and config.model.precision in ("8bit", "4bit"):
        raise UserError("FSDP cannot spread quantised weights over processes.", expected="model.precision fp32 or bf16",
                        found=config.model.precision,
                        remedy="--set model.precision=bf16, or configs/accelerate/multi-gpu.yaml")  # fmt: skip
