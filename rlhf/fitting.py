"""Sizes that fit: what `auto` becomes, and what to change where nothing fits.

args = fit(run, "sft", sft_arguments(run))      # sizes that are `auto` are chosen; what cannot fit is refused
"""

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

from transformers import TrainingArguments

from rlhf.config import FITTED, Config
from rlhf.errors import UserError
from rlhf.memory import Network
from rlhf.planning import GIB, PhasePlan, capacity, network, plan_phase
from rlhf.run import Run

ROOM = 0.9
"""What is chosen is predicted to take at most this share of the memory: a prediction is right within 15%."""
HOPELESS = 1.25
"""What is predicted to take more than so many times the memory, one sequence at a time, is refused."""
Arguments = TypeVar("Arguments", bound=TrainingArguments)


def fit(run: Run, phase: str, args: Arguments) -> Arguments:
    """Choose the sizes that are `auto`, in `args`; say what will not fit.

    With `per_device_train_batch_size: auto`, a batch is `gradient_accumulation_steps` sequences (pairs, episodes), of
    which as many at a time are taken as fit: the largest power of two that divides them, and in PPO a minibatch.
    `local_rollout_forward_batch_size: auto` is the largest power of two that fits.

    Raises:
        UserError: far too much for the memory even one sequence at a time; with what would fit.
    """
    section = getattr(run.config, phase)
    several = int(os.environ.get("WORLD_SIZE", 1))
    if section.fitted and several > 1:
        raise UserError(
            f"{phase}: sizes that are auto are chosen for one process, and this run has {several}.",
            expected="numbers: each process would choose by its own memory, and they must agree",
            found=", ".join(f"{phase}.{key}: auto" for key in section.fitted),
            remedy=f"--phase plan --set plan.memory_gb=… shows what fits; then --set {phase}.{section.fitted[0]}=N",
        )
    limit, net = capacity(run), network(run)
    choose(run, phase, args, net, limit, section.fitted)
    plan = plan_phase(run, phase, args, net)
    if section.fitted:
        print(f"{phase}: {in_words(plan, limit)}")
    if plan.peak > limit:
        _warn_or_refuse(run, phase, args, net, limit)
    return args


def choose(run: Run, phase: str, args: Any, net: Network, limit: float, keys: list[str]) -> None:
    """Set the keys (of `config.FITTED`) to the largest sizes that are predicted to fit, else to 1."""
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    minibatch = batch // args.num_mini_batches if phase == "ppo" else batch

    def peak(*steps: str) -> float:
        peaks = plan_phase(run, phase, args, net).peaks
        return max(peaks[step] for step in steps)

    if "per_device_train_batch_size" in keys:
        for rows in _sizes(minibatch):
            args.per_device_train_batch_size, args.gradient_accumulation_steps = rows, batch // rows
            if peak("update") <= ROOM * limit:
                break
    if "local_rollout_forward_batch_size" in keys and phase == "ppo":
        for rows in _sizes(batch, divisors=False):
            args.local_rollout_forward_batch_size = rows
            if peak("rollout", "score") <= ROOM * limit:
                break


def _sizes(most: int, divisors: bool = True) -> Iterator[int]:
    """Powers of two up to `most`, largest first; of these the divisors."""
    size = 1 << (most.bit_length() - 1)
    while size:
        if not divisors or most % size == 0:
            yield size
        size //= 2


def _warn_or_refuse(run: Run, phase: str, args: Any, net: Network, limit: float) -> None:
    plan, advice = plan_phase(run, phase, args, net), remedy(run, phase, args, net, limit)
    smallest = plan_phase(run, phase, _With(args, **ONE_AT_A_TIME), net).peak
    if smallest > HOPELESS * limit:
        raise UserError(
            f"Phase {phase} does not fit into memory, not even one sequence at a time.",
            expected=f"at most {limit / GIB:.1f} GiB",
            found=f"{smallest / GIB:.1f} GiB (predicted; --phase plan shows the parts)",
            remedy=advice,
        )
    print(f"{phase}: {in_words(plan, limit)}: it may not fit; fewer rows go at a time once memory runs out. {advice}")


ONE_AT_A_TIME = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "local_rollout_forward_batch_size": 1,
}


class _With:
    """A trainer's configuration with other values, which are not checked again."""

    def __init__(self, args: Any, **changes: Any) -> None:
        self.__dict__.update(changes)
        self._args = args

    def __getattr__(self, name: str) -> Any:
        return getattr(self._args, name)


def in_words(plan: PhasePlan, limit: float) -> str:
    """One line: the peak, the memory, the sizes."""
    sizes = f"micro-batch {plan.rows} x {plan.accumulation}"
    if plan.rollout_rows:
        sizes += f", {plan.rollout_rows} sampled at a time"
    return f"{plan.peak / GIB:.1f} of {limit / GIB:.1f} GiB predicted, {sizes}"


def remedy(run: Run, phase: str, args: Any, net: Network, limit: float) -> str:
    """The mildest settings with which the phase is predicted to fit, as options of the command line.

    In this order, each on top of those before: smaller sizes, gradient checkpointing, LoRA in all phases, 8 bits, 4
    bits, half the tokens, a quarter of them.
    """
    changed: dict[str, Any] = {}
    for change, config in _changes(run.config, phase):
        changed |= change
        altered = replace(run, config=config)
        trial = _With(
            args,
            **ONE_AT_A_TIME,
            gradient_accumulation_steps=args.per_device_train_batch_size * args.gradient_accumulation_steps,
            activation_checkpointing=args.activation_checkpointing or f"{phase}.gradient_checkpointing" in changed,
            response_length=config.data.max_response_tokens,
        )
        choose(altered, phase, trial, net, limit, list(FITTED))
        if plan_phase(altered, phase, trial, net).peak <= ROOM * limit:
            return "--set " + " ".join(_setting(*item) for item in (_sizes_of(phase, trial, args) | changed).items())
    return "take a smaller model, or a larger card"


def _changes(config: Config, phase: str) -> Iterator[tuple[dict[str, Any], Config]]:
    """What would take less, step by step: what is set, and the configuration with it."""
    yield {}, config
    yield {f"{phase}.gradient_checkpointing": True}, config
    everywhere = ["sft", "reward", "ppo"]
    if phase != "base" and set(config.lora.phases) != set(everywhere):
        config = config.model_copy(update={"lora": config.lora.model_copy(update={"phases": everywhere})})
        yield {"lora.phases": everywhere}, config
    for precision in ("8bit", "4bit") if config.model.name else ():
        if config.model.precision != "4bit" and precision != config.model.precision:
            config = config.model_copy(update={"model": config.model.model_copy(update={"precision": precision})})
            yield {"model.precision": precision}, config
    for _ in range(2):
        sections = (
            {"base": ("block_tokens",)} if phase == "base" else {"data": ("max_prompt_tokens", "max_response_tokens")}
        )
        for name, keys in sections.items():
            halves = {key: max(1, getattr(getattr(config, name), key) // 2) for key in keys}
            config = config.model_copy(update={name: getattr(config, name).model_copy(update=halves)})
            yield {f"{name}.{key}": value for key, value in halves.items()}, config


def _sizes_of(phase: str, trial: Any, args: Any) -> dict[str, Any]:
    """The sizes of a trial that differ from those of the run."""
    last = "local_rollout_forward_batch_size" if phase == "ppo" else "per_device_eval_batch_size"
    keys = ("per_device_train_batch_size", "gradient_accumulation_steps", last)
    return {f"{phase}.{key}": getattr(trial, key) for key in keys if getattr(trial, key) != getattr(args, key)}


def _setting(key: str, value: Any) -> str:
    text = f"[{', '.join(value)}]" if isinstance(value, list) else str(value).lower()
    return shlex.quote(f"{key}={text}")
