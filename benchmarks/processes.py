"""Measurements in processes of their own, so that none gains by what another left behind."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

QUIET = {"TRL_EXPERIMENTAL_SILENCE": "1", "TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def in_fresh_process(module: str, arguments: list[str], result: Path) -> dict[str, Any]:
    """Run `python -m module arguments`, which writes JSON to `result`; what it prints goes beside it, as .log.

    The end of the log and a failing exit code end this process, too.
    """
    log = result.with_suffix(".log")
    result.unlink(missing_ok=True)
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], stdout=out, stderr=out, env=os.environ | QUIET
        )  # fmt: skip
    if done.returncode or not result.is_file():
        sys.exit(f"{module} {' '.join(arguments)} failed:\n{log.read_text(encoding='utf-8')[-4000:]}")
    return dict(json.loads(result.read_text(encoding="utf-8")))


def write_json(values: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def peak_rss_mb() -> float:
    """The most memory this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
