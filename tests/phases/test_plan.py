"""Phase plan as a user meets it, and sizes left to it in a run."""

import pytest
import yaml

import main
from tests.phases.helpers import metrics, save_pretrained_gpt_neo, tiny_config, tiny_run


@pytest.fixture
def config(tmp_path):
    save_pretrained_gpt_neo(tmp_path / "neo")
    (tmp_path / "neo" / "model.safetensors").unlink()  # the weights are not needed
    values = tiny_config(
        model={"name": str(tmp_path / "neo"), "shape": None}, lora={"phases": ["sft", "reward", "ppo"]}
    )
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(values.model_dump(mode="json")))
    return path


def test_plan_prints_every_step_and_writes_nothing(config, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    code = main.main(["--phase", "plan", "--config", str(config), "--output", str(tmp_path / "out")])
    text = capsys.readouterr().out
    assert code == 0
    for step in ("sft     update", "reward  evaluate", "ppo     rollout", "ppo     score", "ppo     update"):
        assert f"\n{step} " in text
    assert "would fit" not in text
    assert sorted(tmp_path.rglob("*")) == before


def test_plan_says_what_does_not_fit(config, tmp_path, capsys):
    options = ["--set", "plan.memory_gb=0.3"]
    assert main.main(["--phase", "plan", "--config", str(config), "--output", str(tmp_path / "out"), *options]) == 0
    text = capsys.readouterr().out
    assert " no\n" in text
    assert "ppo would fit with: take a smaller model, or a larger card" in text  # the libraries alone take more


def test_a_run_with_sizes_left_to_the_plan(tmp_path):
    auto = {"per_device_train_batch_size": "auto", "gradient_accumulation_steps": 4}
    ppo = auto | {
        "local_rollout_forward_batch_size": "auto",
        "num_mini_batches": 2,
        "total_episodes": 8,
        "eval_prompts": 0,
    }
    run = tiny_run(tmp_path / "run", base=auto, sft=auto, reward=auto, ppo=ppo)
    from rlhf.phases import base, ppo, reward, sft

    for phase in (base, sft, reward, ppo):
        phase.run_phase(run)
    assert [row["episode"] for row in metrics(tmp_path / "run" / "ppo") if "episode" in row] == [4, 8]
    assert "auto" in (tmp_path / "run" / "ppo" / "config.yaml").read_text()
