"""The files under configs/accelerate, as accelerate itself reads them."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

import main

FOLDER = Path(main.__file__).parent / "configs" / "accelerate"
KINDS = {
    "one-gpu.yaml": DistributedType.NO,
    "multi-gpu.yaml": DistributedType.MULTI_GPU,
    "fsdp.yaml": DistributedType.FSDP,
    "deepspeed-zero2.yaml": DistributedType.DEEPSPEED,
}


def test_every_file_is_known_here():
    assert {path.name for path in FOLDER.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_the_file(name):
    config = load_config_from_file(str(FOLDER / name))  # which refuses unknown keys
    assert config.distributed_type == KINDS[name]
    assert config.num_machines == 1
    assert config.num_processes == (1 if name == "one-gpu.yaml" else 2)
    assert config.mixed_precision == "no"  # model.precision decides
    command = (FOLDER / name).read_text().splitlines()[0]
    assert command.startswith(f"# accelerate launch --config_file configs/accelerate/{name} main.py --phase sft")


def test_fsdp_is_version_2_and_its_checkpoints_are_whole():
    settings = load_config_from_file(str(FOLDER / "fsdp.yaml")).fsdp_config
    assert settings["fsdp_version"] == 2
    assert settings["fsdp_state_dict_type"] == "FULL_STATE_DICT"


def test_zero_is_stage_2():
    assert load_config_from_file(str(FOLDER / "deepspeed-zero2.yaml")).deepspeed_config["zero_stage"] == 2
