"""What the training phases share: trainer settings, the log, checkpoints, the final save."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from transformers import TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig
from trl.experimental.ppo import PPOConfig

from rlhf import training
from rlhf.config import LoraSection, save_config
from rlhf.errors import UserError
from rlhf.models import lora_config
from rlhf.training import (
    MetricsLog,
    computes_in_bf16,
    count_trainable,
    last_complete_checkpoint,
    read_data,
    read_metrics,
    save_model,
    save_result,
    train,
    trainer_arguments,
    training_folder,
)
from tests.phases.helpers import tiny_run

# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_come_from_the_section_then_our_defaults(tmp_path):
    run = tiny_run(tmp_path, seed=7, sft={"learning_rate": 0.5, "max_length": 99})
    args = trainer_arguments(SFTConfig, run, "sft", "sft", {"max_length": None, "completion_only_loss": True})
    assert (args.learning_rate, args.max_length, args.completion_only_loss) == (0.5, 99, True)
    assert (args.seed, args.data_seed) == (7, 7)
    assert args.output_dir == str(tmp_path / "training" / "sft")
    assert args.use_cpu and not args.bf16 and args.report_to == []


@pytest.mark.parametrize("able", [True, False])
def test_bf16_auto_follows_what_the_processor_can(tmp_path, monkeypatch, able):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able, "avx2": True})
    run = tiny_run(tmp_path, base={"bf16": "auto"})
    assert trainer_arguments(TrainingArguments, run, "base", "base").bf16 is able


@pytest.mark.parametrize(
    ("device", "able", "expected"),
    [
        ("cpu", {"amx_bf16": True}, True), ("cpu", {"avx512_bf16": True}, True), ("cpu", {"avx2": True}, False),
        ("cpu", {"architecture": "aarch64"}, False), ("mps", {"amx_bf16": True}, False),
    ],
)  # fmt: skip
def test_which_processors_compute_in_bf16(monkeypatch, device, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert computes_in_bf16(torch.device(device)) is expected


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_that_only_emulates_bf16_does_not_count(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or native)
    assert computes_in_bf16(torch.device("cuda")) is native


@pytest.mark.parametrize("asked", [True, False])
def test_bf16_as_asked_for_goes_before_precision(tmp_path, asked):
    run = tiny_run(tmp_path, sft={"bf16": asked}, model={"precision": "fp32" if asked else "bf16"})
    assert trainer_arguments(SFTConfig, run, "sft", "sft").bf16 is asked


def test_checkpoints_go_on_only_in_the_precision_they_were_made_in(tmp_path, monkeypatch):
    """Of the phase itself: base is finished by then, wherever it was trained."""
    auto = {"base": {"bf16": "auto"}, "sft": {"bf16": "auto"}}
    run, folder = tiny_run(tmp_path, **auto), training_folder(tiny_run(tmp_path, **auto), "sft")
    folder.mkdir(parents=True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    save_config(training._on_this_machine(run.config, "sft", run.device), folder)
    training._check_same_config(training._on_this_machine(run.config, "sft", run.device), folder, "sft")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(UserError, match=r"sft\.bf16: true then, false now"):
        training._check_same_config(training._on_this_machine(run.config, "sft", run.device), folder, "sft")
    asked = tiny_run(tmp_path, base={"bf16": "auto"}, sft={"bf16": True})
    training._check_same_config(training._on_this_machine(asked.config, "sft", run.device), folder, "sft")


def test_bf16_is_on_for_all_but_fp32(tmp_path):
    model = {"precision": "bf16"}
    assert trainer_arguments(TrainingArguments, tiny_run(tmp_path, model=model), "base", "base").bf16


def test_our_own_keys_do_not_reach_the_trainer(tmp_path):
    run = tiny_run(tmp_path, ppo={"target_kl": 6.0, "reward_clip": 1.0, "kl_coef": 0.3})
    assert trainer_arguments(PPOConfig, run, "ppo", "ppo").kl_coef == 0.3


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path):
    run = tiny_run(tmp_path, sft={"learning_rat": 1.0})
    with pytest.raises(UserError, match=r"(?s)sft.learning_rat\b.*learning_rate"):
        trainer_arguments(SFTConfig, run, "sft", "sft")


def test_a_value_that_the_trainer_refuses_is_the_users_to_put_right(tmp_path):
    run = tiny_run(tmp_path, sft={"eval_strategy": "sometimes"})
    with pytest.raises(UserError, match="sometimes"):
        trainer_arguments(SFTConfig, run, "sft", "sft")


# --- the log ----------------------------------------------------------------------------------------------------------


def log(folder: Path, step: int, **logs) -> None:
    MetricsLog(folder).on_log(None, TrainerState(global_step=step, max_steps=9), TrainerControl(), logs)


def begin(folder: Path, step: int) -> None:
    MetricsLog(folder).on_train_begin(None, TrainerState(global_step=step), TrainerControl())


def test_each_log_entry_is_a_row_and_a_line(tmp_path, capsys):
    begin(tmp_path, 0)
    log(tmp_path, 1, loss=0.5, **{"objective/kl": "0.25", "epoch": 0.1})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 0.5, "objective/kl": "0.25", "epoch": 0.1}]
    assert capsys.readouterr().out == "step 1/9  loss 0.5  kl 0.25\n"


def test_a_new_run_begins_a_new_log(tmp_path):
    begin(tmp_path, 0)
    log(tmp_path, 1, loss=1.0)
    begin(tmp_path, 0)
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path):
    begin(tmp_path, 0)
    for step in (1, 2, 3):
        log(tmp_path, step, loss=float(step))
    begin(tmp_path, 2)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_resumed_run_drops_what_a_finished_one_summed_up(tmp_path):
    begin(tmp_path, 0)
    log(tmp_path, 2, loss=1.0)
    log(tmp_path, 2, train_runtime=5.0)
    log(tmp_path, 2, eval_loss=3.0)
    begin(tmp_path, 2)
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 2, "loss": 1.0}]


def test_only_the_main_process_writes(tmp_path):
    state = TrainerState(global_step=1, is_world_process_zero=False)
    MetricsLog(tmp_path).on_train_begin(None, state, TrainerControl())
    MetricsLog(tmp_path).on_log(None, state, TrainerControl(), {"loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert read_metrics(path) == [{"step": 1}, {"step": 2}]
    assert read_metrics(tmp_path / "none") == []


# --- checkpoints ------------------------------------------------------------------------------------------------------


def checkpoint(folder: Path, step: int, state: str | None = "{}") -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    if state is not None:
        (made / "trainer_state.json").write_text(state)
    return made


def test_the_newest_whole_checkpoint_is_found_by_number(tmp_path):
    for step in (9, 100, 20):
        checkpoint(tmp_path, step)
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-100"


def test_broken_checkpoints_are_ignored_and_deleted(tmp_path):
    whole = checkpoint(tmp_path, 1)
    broken = [checkpoint(tmp_path, 2, None), checkpoint(tmp_path, 3, ""), checkpoint(tmp_path, 4, '{"global_step": 4')]
    assert last_complete_checkpoint(tmp_path) == whole
    assert not any(path.exists() for path in broken)


def test_a_checkpoint_whose_weights_were_cut_short_is_ignored(tmp_path):
    for step in (1, 2):
        save_file({"weight": torch.ones(100)}, checkpoint(tmp_path, step) / "model.safetensors")
    with (tmp_path / "checkpoint-2" / "model.safetensors").open("r+b") as file:
        file.truncate(200)
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-1"


def test_no_checkpoint_is_none(tmp_path):
    assert last_complete_checkpoint(tmp_path / "none") is None
    checkpoint(tmp_path, 2, None)
    assert last_complete_checkpoint(tmp_path) is None


def fake_trainer(record):
    """As much of a trainer as `train` touches before it trains."""

    class Fake:
        args = SimpleNamespace(disable_tqdm=True, world_size=1)
        accelerator = SimpleNamespace(
            main_process_first=lambda: open("/dev/null"), wait_for_everyone=lambda: record.append("waited")
        )
        remove_callback = add_callback = staticmethod(lambda callback: None)
        is_world_process_zero = staticmethod(lambda: True)

        def train(self, resume_from_checkpoint):
            record.append(resume_from_checkpoint)

    return Fake()


def test_training_starts_afresh_without_resume(tmp_path):
    run, record = tiny_run(tmp_path), []
    old = checkpoint(training_folder(run, "sft"), 2)
    train(fake_trainer(record), run, "sft")
    assert record == ["waited", "waited", None]
    assert not old.exists() and (training_folder(run, "sft") / "config.yaml").is_file()


def test_training_goes_on_from_a_checkpoint_of_the_same_settings_only(tmp_path):
    run, record = tiny_run(tmp_path), []
    train(fake_trainer([]), run, "sft")
    folder = training_folder(run, "sft")
    state = json.dumps({"global_step": 2, "max_steps": 3})
    newest = checkpoint(folder, 2, state)
    (folder / "metrics.jsonl").write_text('{"step": 2, "num_tokens": 17}\n{"step": 3, "num_tokens": 20}\n')
    trainer = fake_trainer(record)
    train(trainer, replace(run, resume=True), "sft")
    assert record == ["waited", "waited", str(newest)]
    assert trainer._total_train_tokens == 17
    with pytest.raises(UserError, match=r"(?s)Cannot resume.*sft.learning_rate: 0.01 then, 0.5 now"):
        train(fake_trainer([]), tiny_run(tmp_path, resume=True, sft={"learning_rate": 0.5}), "sft")
    assert newest.exists()
    record.clear()
    for process in range(2):
        (newest / f"rng_state_{process}.pth").touch()
    with pytest.raises(UserError, match=r"(?s)Cannot resume.*expected: 2 processes.*found: 1"):
        train(fake_trainer([]), replace(run, resume=True), "sft")
    (newest / "rng_state_1.pth").unlink()
    later = {"ppo": {"kl_coef": 0.5}, "test": {"samples": 1}, "report_to": "none"}  # nothing that SFT depends on
    train(fake_trainer(record), tiny_run(tmp_path, resume=True, **later), "sft")
    assert record == ["waited", "waited", str(newest)]


# --- saving -----------------------------------------------------------------------------------------------------------


def test_a_result_holds_model_tokenizer_metrics_and_extras(tmp_path, model, tokenizer):
    run = tiny_run(tmp_path)
    training_folder(run, "sft").mkdir(parents=True)
    (training_folder(run, "sft") / "metrics.jsonl").write_text('{"step": 1}\n')
    folder = save_result(
        run, "sft", model, tokenizer, lambda aside: (aside / "extra").write_text("x"), data={"train": {}}
    )
    assert read_data(folder) == {"train": {}} and read_data(tmp_path) == {}
    assert read_metrics(folder / "metrics.jsonl") == [{"step": 1}]
    names = {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "extra", "config.yaml"}
    assert names <= {path.name for path in folder.iterdir()}


def test_a_result_that_cannot_be_written_leaves_the_old_one(tmp_path, model, tokenizer, monkeypatch):
    run = tiny_run(tmp_path)
    folder = save_result(run, "sft", model, tokenizer)
    before = (folder / "model.safetensors").read_bytes()

    def disk_full(model, tokenizer, folder, weights):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training, "save_model", disk_full)
    with pytest.raises(OSError, match="No space"):
        save_result(run, "sft", model, tokenizer)
    assert (folder / "model.safetensors").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_of_an_adapter_only_the_policys_is_saved(tmp_path, model, tokenizer):
    adapted = get_peft_model(model, lora_config(LoraSection(r=2)))
    adapted.add_adapter("reference", lora_config(LoraSection(r=2)))
    save_model(adapted, tokenizer, tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert weights and all("lora_" in name and "reference" not in name for name in weights)
    assert not (tmp_path / "reference").exists() and not (tmp_path / "model.safetensors").exists()


def test_trained_weights_are_counted():
    network = torch.nn.Sequential(torch.nn.Linear(9, 100), torch.nn.Linear(100, 10))
    network[0].requires_grad_(False)
    assert count_trainable(network) == "1,010 of 2,010 weights are trained (50.2%)"


def test_a_line_names_each_reward():
    row = {"step": 3, "objective/scores": 0.5, "eval/rewards/mix/length/mean": 0.25, "rewards/model/std": 1.0}
    assert training._one_line(row, 9) == "step 3/9  scores 0.5  mix/length/mean 0.25  model/std 1"
