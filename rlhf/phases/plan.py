"""Phase plan: what memory the phases will take, before any is run; nothing is loaded, trained or written.

python main.py --phase plan --config configs/gpt-neo-2.7b.yaml --set plan.memory_gb=8
"""

from rlhf import memory
from rlhf.fitting import ROOM, choose, in_words, remedy
from rlhf.phases.base import base_arguments
from rlhf.phases.ppo import ppo_arguments
from rlhf.phases.reward import reward_arguments
from rlhf.phases.sft import sft_arguments
from rlhf.planning import GIB, PhasePlan, capacity, network, plan_phase
from rlhf.run import Run

PHASES = {
    "base": base_arguments,
    "sft": sft_arguments,
    "reward": reward_arguments,
    "ppo": lambda run: ppo_arguments(run, "ppo"),
}
"""Phase → the trainer's configuration for a run."""


def run_phase(run: Run) -> dict[str, float]:
    """Print the predicted peak of every step, by part, and what would fit where something does not."""
    limit, net = capacity(run), network(run)
    print(
        f"{net.weights / 1e6:,.0f} million weights, {run.config.model.precision}; {limit / GIB:.1f} GiB to fit into "
        f"({'plan.memory_gb' if run.config.plan.memory_gb else run.device.type}). Predicted, GiB:\n"
    )
    plans, advice = [], []
    for phase, arguments in PHASES.items():
        if phase == "base" and not run.config.model.shape:
            continue
        args = arguments(run)
        choose(run, phase, args, net, limit, getattr(run.config, phase).fitted)
        plans.append(plan_phase(run, phase, args, net))
        if plans[-1].peak > ROOM * limit:
            advice.append(f"{phase} would fit with: {remedy(run, phase, args, net, limit)}")
    print(table(plans, limit))
    print("", *(f"{plan.phase}: {in_words(plan, limit)}" for plan in plans), *advice, sep="\n")
    return {f"{plan.phase}/peak_gb": plan.peak / GIB for plan in plans}


def table(plans: list[PhasePlan], limit: float) -> str:
    """A line a step, a column a part; the last one says whether the peak fits."""
    columns = list(dict.fromkeys(part for plan in plans for parts in plan.steps.values() for part in parts))
    rows = [["phase", "step", *columns, "overhead", "peak", "fits"]]
    for plan in plans:
        for step, parts in plan.steps.items():
            overhead = memory.total(parts, plan.device) - sum(parts.values())
            numbers = [*(parts.get(part, 0.0) for part in columns), overhead, plan.peaks[step]]
            rows.append([plan.phase, step, *(f"{n / GIB:.2f}" for n in numbers), verdict(plan.peaks[step], limit)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def verdict(peak: float, limit: float) -> str:
    """Whether a predicted peak fits: yes, narrowly, no."""
    return "yes" if peak <= ROOM * limit else "narrowly" if peak <= limit else "no"
