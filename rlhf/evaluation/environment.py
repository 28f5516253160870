"""Where a run took place: machine, Python, versions of the packages that decide its numbers. Imports none of them."""

import os
import platform
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "tokenizers", "evaluate",
    "sacrebleu", "rouge-score", "glin-profanity", "numpy", "scipy",
)  # fmt: skip

_TOKEN = re.compile(r"(?<=\bserve\.token=).+", re.DOTALL)
_ABSOLUTE = re.compile(r"(?<![\w./:~-])/[^\s,;:'\"\])}]+")


def command(arguments: Sequence[str]) -> str:
    """The command line, `sys.argv` given, as a shell takes it and others may see it."""
    return shlex.join(["python", *(publishable(_TOKEN.sub("TOKEN", part)) for part in arguments)])


def publishable(value: Any) -> Any:
    """The same text or nested values without absolute paths, which tell of a machine and a person, not of the run.

    A path below the current folder becomes relative to it; of any other only its name is kept.
    """
    if isinstance(value, dict):
        return {key: publishable(v) for key, v in value.items()}
    if isinstance(value, list):
        return [publishable(v) for v in value]
    return _ABSOLUTE.sub(lambda found: _relative(Path(found[0])), value) if isinstance(value, str) else value


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def environment() -> dict[str, Any]:
    """When and under which system the report was made."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Package → installed version; packages that are not installed are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware(gpus: list[str]) -> dict[str, Any]:
    """Processor and memory (GiB) of this machine, and the accelerators, which the caller names."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    return {
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count(),
        "memory_gib": None if memory is None else round(memory, 1),
        "gpus": gpus,
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
