"""Several command lines of main.py one after the other, in one process: under a launcher, in each of its processes.

    torchrun --nproc_per_node 2 -m tests.phases.several commands.json
    accelerate launch --config_file configs/accelerate/fsdp.yaml -m tests.phases.several commands.json

accelerate switches FSDP and DeepSpeed off where there is no GPU. Everything in them but the exchange between GPUs runs
on CPUs as well, so the second form lifts that condition. Micro-batches are cut by length wherever that saves padding at
all, as in runs of a real size: every process must come to the same cuts.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import accelerate.accelerator
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule

import main
import rlhf.padding

KINDS = {"ACCELERATE_USE_FSDP": DistributedType.MULTI_GPU, "ACCELERATE_USE_DEEPSPEED": DistributedType.DEEPSPEED}
"""What the launcher says → what accelerate is to take the CPUs for; of several GPUs it makes FSDP."""


def allow_on_cpu(kind: DistributedType) -> None:
    """Have accelerate take CPU processes for a kind that it reserves for GPUs, and tell what comes of it."""
    stock, stock_prepare = PartialState.__init__, accelerate.accelerator.Accelerator.prepare

    def on_cpu(self: Any, cpu: bool = False, **kwargs: Any) -> None:
        stock(self, True, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = kind

    def prepare(self: Any, *args: Any, **kwargs: Any) -> Any:
        prepared = stock_prepare(self, *args, **kwargs)
        for model in prepared if isinstance(prepared, list | tuple) else (prepared,):
            if isinstance(model, FSDPModule):
                self.print("weights are spread by FSDP")
            elif hasattr(model, "zero_optimization_stage"):
                self.print(f"optimizer state is spread by ZeRO, stage {model.zero_optimization_stage()}")
        return prepared

    PartialState.__init__ = on_cpu
    accelerate.accelerator.Accelerator.prepare = prepare


def run_all(commands: Path) -> int:
    """The first exit code that is not 0; then the rest is left out."""
    for command in json.loads(commands.read_text()):
        if code := main.main(command):
            return code
        PartialState().wait_for_everyone()  # the first process writes the result that the next command starts from
    return 0


if __name__ == "__main__":
    rlhf.padding.PASS = dict.fromkeys(rlhf.padding.PASS, 0)
    for name, kind in KINDS.items():
        if os.environ.get(name) == "true":
            allow_on_cpu(kind)
    sys.exit(run_all(Path(sys.argv[1])))
