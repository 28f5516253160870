"""The machine that a benchmark ran on."""

import platform
from typing import Any

import torch
import transformers
import trl


def described() -> dict[str, Any]:
    """What a result must be read with."""
    return {
        "cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__,
    }  # fmt: skip
