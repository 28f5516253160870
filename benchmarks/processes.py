"""Measurements in processes of their own, so that none gains by what another left behind.

python -m benchmarks.processes MODULE:FUNCTION ARGUMENTS RESULT          # what `in_fresh_process` starts
"""

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

QUIET = {"TRL_EXPERIMENTAL_SILENCE": "1", "TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def in_fresh_process(
    function: str, arguments: dict[str, Any], result: Path, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """`function(**arguments)` in a Python of its own, which writes what it returns to `result`, as JSON.

    What it prints goes beside it, as .log. The end of the log and a failing exit code end this process, too.

    Args:
        function: MODULE:FUNCTION.
        arguments: what JSON can hold.
        result: file to be made.
        environment: variables beside those of this process.
    """
    log = result.with_suffix(".log")
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.processes", function, json.dumps(arguments), str(result)]
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(command, stdout=out, stderr=out, env=os.environ | QUIET | (environment or {}))
    if done.returncode or not result.is_file():
        sys.exit(f"{function} with {arguments} failed:\n{log.read_text(encoding='utf-8')[-4000:]}")
    return dict(json.loads(result.read_text(encoding="utf-8")))


def write_json(values: Any, path: Path) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(function: str, arguments: str, result: str) -> None:
    write_json(pkgutil.resolve_name(function)(**json.loads(arguments)), Path(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
