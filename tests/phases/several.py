"""Several command lines of main.py one after the other, in one process: under a launcher, in each of its processes.

torchrun --nproc_per_node 2 -m tests.phases.several commands.json
"""

import json
import sys
from pathlib import Path

import main


def run_all(commands: Path) -> int:
    """The first exit code that is not 0; then the rest is left out."""
    return next((code for code in map(main.main, json.loads(commands.read_text())) if code), 0)


if __name__ == "__main__":
    sys.exit(run_all(Path(sys.argv[1])))
