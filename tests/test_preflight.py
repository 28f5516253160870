import pytest

from rlhf import preflight
from rlhf.errors import UserError
from rlhf.preflight import check_critic, check_launcher
from tests.conftest import SMALL, small_config

QUANTISED = {"name": "anything", "precision": "8bit"}
LORA = SMALL["lora"] | {"phases": ["sft", "reward", "ppo"]}


def test_training_phases_run_on_several_processes(monkeypatch, config):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for phase in ("base", "sft", "reward", "ppo"):
        check_launcher(phase, config)


@pytest.mark.parametrize("phase", ["test", "all"])
def test_the_report_is_made_by_one_process(monkeypatch, config, phase):
    check_launcher(phase, config)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one process"):
        check_launcher(phase, config)


def test_fsdp_refuses_quantised_weights(monkeypatch, config):
    quantised = small_config(model=QUANTISED, lora=LORA)
    check_launcher("sft", quantised)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    check_launcher("sft", config)
    with pytest.raises(UserError, match="FSDP cannot spread quantised weights"):
        check_launcher("sft", quantised)


def test_a_missing_deepspeed_is_named_with_its_command(monkeypatch, config):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install deepspeed"):
        check_launcher("sft", config)
    monkeypatch.setattr(preflight, "find_spec", lambda name: name)
    check_launcher("sft", config)


@pytest.mark.parametrize("phases", [["ppo"], ["reward"], []])
def test_a_critic_adapter_without_a_reward_adapter_is_refused_before_anything_is_trained(phases):
    with pytest.raises(UserError, match="not both adapters"):
        check_critic(small_config(ppo={"value": "adapter"}, lora=SMALL["lora"] | {"phases": phases}))
    check_critic(small_config(ppo={"value": "adapter"}, lora=LORA))
    check_critic(small_config(lora=SMALL["lora"] | {"phases": phases}))
