"""Memory that this process holds, and held at most, in MB (2²⁰ bytes)."""

import resource
from pathlib import Path

import psutil
import torch


def held_mb() -> float:
    """Memory held now: the GPU's where there is one, else the process's."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated() / 2**20
    return psutil.Process().memory_info().rss / 2**20


def forget_peak() -> None:
    """Let the peak begin anew: loading a model takes more for a moment than training it may."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: resets VmHWM


def peak_mb() -> float:
    """The most memory held since `forget_peak` (elsewhere than on Linux, since the process began)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_rss_mb()
    (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


def peak_rss_mb() -> float:
    """The most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
