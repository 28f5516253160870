"""Phase all: every phase in turn, and PPO straight from the base model for comparison."""

import time
from collections.abc import Callable

from rlhf.allocator import return_freed_memory
from rlhf.phases import base, evaluate, ppo, reward, sft
from rlhf.run import SPLITS, Run

MERGED = {"reward": reward.MERGED, "ppo": ppo.MERGED}
"""Step → the whole model that it leaves after its result."""

Steps = list[tuple[str, Callable[[Run], dict[str, float]]]]


def run_phase(run: Run) -> dict[str, float]:
    """Run what the configuration calls for; with `--resume`, finished results are kept.

    Raises:
        UserError: before anything is trained, where the data would fail in a later phase, or a finished result is of
            other settings.
    """
    steps = steps_of(run)
    finished = [name for name, _ in steps if run.resume and _finished(run, name)]
    _read_all(run)
    metrics: dict[str, float] = {}
    for number, (name, step) in enumerate(steps, start=1):
        if name in finished:
            print(f"[{number}/{len(steps)}] {name}: finished before, kept")
            continue
        print(f"[{number}/{len(steps)}] {name}")
        started = time.perf_counter()
        metrics |= {f"{name}/{key}": value for key, value in step(run).items()}
        return_freed_memory()
        print(f"[{number}/{len(steps)}] {name} took {time.perf_counter() - started:.0f} s")
    return metrics


def steps_of(run: Run) -> Steps:
    """The results to make, in order, each with what makes it."""
    steps: Steps = [("base", base.run_phase)] if run.config.model.shape else []
    return steps + [
        ("sft", sft.run_phase),
        ("reward", reward.run_phase),
        ("ppo", ppo.run_phase),
        ("ppo_from_base", ppo.run_phase_from_base),
        ("report", evaluate.run_phase),
    ]


def _read_all(run: Run) -> None:
    """Read what every phase will ask for, so that bad data is refused in the first minute and not in the last."""
    for split in SPLITS:
        run.data.demonstrations(split)
        run.data.preferences(split)
        run.data.prompts(split)
    reward.calibration_rows(run)
    run.data.extra_preferences()
    run.data.ood(1)


def _finished(run: Run, name: str) -> bool:
    """Whether a step has left all that it leaves; the report is made anew each time.

    Raises:
        UserError: what it has left comes from other settings.
    """
    return name != "report" and all([run.is_up_to_date(part) for part in (name, MERGED.get(name, name))])
