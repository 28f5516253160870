"""All phases on Dolly for real, timed, each with its peak of memory, and the report's figures, as one page.

    python -m benchmarks.dolly_gpu --dolly data/databricks-dolly-15k.jsonl.gz --text data/t0_train_50k.jsonl.gz \
        --markdown docs/results/dolly_gpu.md

`configs/dolly-gpu.yaml` says what is run: a GPT-Neo of 125M's shape, pretrained on the text for some minutes, then SFT,
reward model, PPO (from SFT, and from the base to compare) and the report. `--set` changes it as in main.py. What is
finished already is kept with `--resume`; its time is then not in the page. On a CPU it runs as well, for days.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import described
from benchmarks.memory import peak_rss_mb
from dataloader import DataRoom
from rlhf.config import load_config
from rlhf.evaluation.terminal import summary_table
from rlhf.phases import pipeline
from rlhf.phases.plan import PHASES
from rlhf.planning import GIB, plan_phase
from rlhf.run import Run
from rlhf.stopwatch import now

CONFIG = Path(__file__).parent.parent / "configs/dolly-gpu.yaml"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIG, help="configs/dolly-gpu.yaml")
    parser.add_argument("--dolly", required=True, help="databricks-dolly-15k.jsonl, plain or gzipped")
    parser.add_argument("--text", nargs="+", default=[], help="files of plain text to pretrain on, beside Dolly's own")
    parser.add_argument("--hh", nargs="+", default=[], help="files of HH-RLHF pairs, beside the pairs made from Dolly")
    parser.add_argument("--output", type=Path, default=Path("models/dolly-gpu"), help="folder of results")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--resume", action="store_true", help="keep what is finished")
    parser.add_argument("--markdown", type=Path, help="where to write the page")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    config = load_config(args.config, [*paths(args), *args.set])
    run = Run(config, args.output, DataRoom(config), args.resume)
    run.check()
    measured = [measure(run, name, step) for name, step in pipeline.steps_of(run) if not kept(run, name)]
    page = markdown(run, measured)
    print(page)
    if args.markdown:
        args.markdown.write_text(page, encoding="utf-8")


def paths(args: argparse.Namespace) -> list[str]:
    """The files as settings."""
    dolly = {"source": "dolly", "path": args.dolly}
    text = [{"source": "jsonl", "path": path} for path in args.text]
    pairs = [{"source": "made", "limit": 12000}, *({"source": "hh_rlhf", "path": path} for path in args.hh)]
    sources = {"demonstrations": [dolly], "text": [*text, dolly], "preferences": pairs}
    return [f"data.{key}={json.dumps(value)}" for key, value in sources.items()]


def kept(run: Run, name: str) -> bool:
    """Whether a result is finished and stays."""
    return run.resume and name != "report" and run.is_up_to_date(name)


def measure(run: Run, name: str, step: Any) -> dict[str, Any]:
    """Run a step; returns its seconds, and its peak and the predicted one in GiB."""
    phase = name.partition("_")[0]
    predicted = plan_phase(run, phase, fitted(run, phase)).peak / GIB if phase in PHASES else None
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = now()
    step(run)
    seconds = now() - started
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_reserved() / GIB
        torch.cuda.empty_cache()
    else:
        peak = peak_rss_mb() / 1024
    return {"step": name, "seconds": seconds, "peak": peak, "predicted": predicted}


def fitted(run: Run, phase: str) -> Any:
    """The trainer's configuration with the sizes that the phase will choose."""
    from rlhf.fitting import fit

    return fit(run, phase, PHASES[phase](run))


def markdown(run: Run, measured: list[dict[str, Any]]) -> str:
    """What was run, on what, how long, with how much memory, and what came out."""
    gpu = described()["gpu"]
    device = gpu or "A CPU (peaks are resident memory of the whole process so far, and the times say nothing of a GPU)"
    report = json.loads((run.folder / "report" / "report.json").read_text(encoding="utf-8"))
    lines = [
        "# All phases on Dolly, on one GPU", "",
        f"Made by `python -m benchmarks.dolly_gpu` on {device}, torch {torch.__version__}. Shape: "
        f"`{run.config.model.shape}`, {run.config.model.precision}. What the prediction counts beside the peak of the "
        "allocator: docs/memory.md.", "",
        "| step | seconds | peak, GiB | predicted, GiB |", "| --- | ---: | ---: | ---: |",
        *(_line(row) for row in measured),
        f"| all | {sum(row['seconds'] for row in measured):.0f} | | |", "",
        "```", summary_table(report), "```", "",
        f"The report in full: `{run.folder / 'report' / 'report.html'}`, made by that run.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    predicted = "" if row["predicted"] is None else f"{row['predicted']:.2f}"
    return f"| {row['step']} | {row['seconds']:.0f} | {row['peak']:.2f} | {predicted} |"


if __name__ == "__main__":
    main()
