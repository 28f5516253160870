"""Every phase in process on lists of data, with whole models (LoRA in PPO only) and with no LoRA at all."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from reward_model import RewardModel
from rlhf.config import plain_values
from rlhf.encoding import Encoder
from rlhf.errors import UserError
from rlhf.models import load_causal_lm
from rlhf.normalisation import Normalisation
from rlhf.phases import base, evaluate, pipeline, ppo, reward, sft
from rlhf.phases.base import blocks_of_text
from rlhf.run import Run
from rlhf.training import read_data
from tests.phases.helpers import metrics, preference, save_pretrained_gpt_neo, tiny_run

RESULTS = ("base", "sft", "reward", "ppo", "ppo_from_base")
SYSTEM_KEYS = {
    "reward_mean", "reward_ci95", "bleu", "chrf", "rouge_l", "gold_mean", "kl_to_sft", "length_mean", "eos_rate",
    "distinct_2", "unsafe_rate", "n", "ood",
}  # fmt: skip
SUITE_KEYS = {"reward_mean", "reward_ci95", "bleu", "gold_mean", "n"}
PAIR_KEYS = {"accuracy", "accuracy_by_kind", "longer_wins_accuracy", "ece", "gold_spearman", "n"}
CPU = torch.device("cpu")


def judge(prompt, reply):
    """Gold for tests: the share of letters in a reply."""
    return sum(letter.isalpha() for letter in reply) / max(1, len(reply))


@pytest.fixture(scope="module", params=[["ppo"], []], ids=["lora in ppo", "no lora"])
def finished(request, tmp_path_factory):
    run = tiny_run(tmp_path_factory.mktemp("all") / "tiny", gold=judge, lora={"phases": request.param})
    pipeline.run_phase(run)
    return run


def report(run: Run) -> dict:
    return json.loads((run.folder / "report" / "report.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


# --- what the phases leave --------------------------------------------------------------------------------------------


def test_every_result_holds_its_configuration_and_metrics(finished):
    for name in RESULTS:
        assert yaml.safe_load((finished.folder / name / "config.yaml").read_text())["seed"] == 0
        assert any("loss" in row or "loss/policy_avg" in row for row in metrics(finished.folder / name)), name
    for name in ("report", "rlhf_gpt_neo_model", "rlhf_reward_model"):
        assert (finished.folder / name / "config.yaml").is_file()
    assert not list(finished.folder.glob(".*")), "nothing half-written is left"
    assert not [path for name in RESULTS for path in (finished.folder / name).rglob("*.bin")]


def test_training_moves_the_weights(finished):
    before, after = (weights(finished.folder / name) for name in ("base", "sft"))
    assert all(not torch.equal(before[name], after[name]) for name in before if "weight" in name)
    assert weights(finished.folder / "rlhf_reward_model")["score.weight"].shape == (1, 32)


def test_samples_are_printed_during_ppo_with_their_rewards(tmp_path, finished, capsys):
    run = replace(finished, folder=tmp_path)
    for name in ("base", "sft", "reward"):
        (tmp_path / name).symlink_to(finished.folder / name)
    ppo.run_phase(run)
    assert "What is a " in capsys.readouterr().out


def test_full_fine_tuning_leaves_whole_models(finished):
    whole = not finished.config.lora.phases
    assert (finished.folder / "ppo" / "model.safetensors").is_file() == whole
    assert (finished.folder / "ppo" / "adapter_model.safetensors").is_file() != whole
    assert (finished.folder / "sft" / "model.safetensors").is_file()


# --- reward normalisation ---------------------------------------------------------------------------------------------


def test_reward_has_mean_0_and_std_1_on_the_calibration_rows(finished):
    tokenizer = finished.tokenizer()
    encoder = Encoder(tokenizer, finished.config.data)
    rows = finished.data.demonstrations("validation")
    sequences = [encoder.prompt(row.prompt) + encoder.reply(row.completion) for row in rows]
    for name in ("reward", "rlhf_reward_model"):
        scores = RewardModel.load(finished.folder / name, tokenizer, "fp32", CPU).score_ids(sequences)
        assert scores.mean().item() == pytest.approx(0, abs=1e-4)
        assert scores.std().item() == pytest.approx(1, abs=1e-4)
        assert Normalisation.load(finished.folder / name).rows == len(rows) == 6


def test_calibration_uses_no_more_rows_than_configured(tmp_path, finished):
    run = tiny_run(tmp_path, lora={"phases": []}, reward={"calibration_rows": 3, "margin": True, "init": "base"})
    (tmp_path / "base").symlink_to(finished.folder / "base")
    assert reward.run_phase(run)["eval_accuracy"] >= 0  # init: base needs no SFT
    assert Normalisation.load(tmp_path / "reward").rows == 3


def test_one_demonstration_is_too_few_to_normalise_on(tmp_path, finished, monkeypatch):
    run = replace(finished, folder=tmp_path)
    for name in ("base", "sft"):
        (tmp_path / name).symlink_to(finished.folder / name)
    one = finished.data.demonstrations("validation")[:1]
    monkeypatch.setattr(type(run.data), "demonstrations", lambda self, split: one)
    with pytest.raises(UserError, match="at least 2 validation demonstrations"):
        reward.run_phase(run)
    assert not (tmp_path / "reward").exists()


def test_replies_longer_than_the_context_are_refused_before_ppo_starts(tmp_path, finished):
    run = tiny_run(tmp_path, lora={"phases": finished.config.lora.phases}, ppo={"response_length": 500})
    for name in ("base", "sft", "reward"):
        (tmp_path / name).symlink_to(finished.folder / name)
    with pytest.raises(UserError, match=r"ppo\.response_length"):
        ppo.run_phase(run)


def test_the_reward_phase_hands_in_a_sampler_of_sft_replies(finished):
    replies = finished.data.sampler(finished.data.prompts("test"))
    assert len(replies) == 4 and all(isinstance(text, str) for text in replies)
    assert replies == finished.data.sampler(finished.data.prompts("test"))
    assert finished.data.sampled == {"train", "validation", "test"}  # test: by the report


def test_dropout_of_the_adapter_is_on_in_reward_training(tmp_path, finished):
    trained = []
    for dropout in (0.0, 0.5):
        run = tiny_run(tmp_path / str(dropout), lora={"phases": ["reward"], "dropout": dropout})
        run.folder.mkdir()
        for name in ("base", "sft"):
            (run.folder / name).symlink_to(finished.folder / name)
        reward.run_phase(run)
        trained.append(load_file(run.folder / "reward" / "adapter_model.safetensors"))
    assert any(not torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_the_held_out_loss_at_the_end_is_logged(finished):
    for name in ("sft", "reward"):
        assert "eval_loss" in metrics(finished.folder / name)[-1]


def test_results_say_what_they_were_trained_on(finished):
    sft_data, reward_data = (read_data(finished.folder / name) for name in ("sft", "reward"))
    assert sft_data["train"] == {"rows": 8, "sources": {"lists": 8}}
    assert sft_data["tokens"]["prompts"] == sft_data["tokens"]["responses"] == 8 + 6
    kinds = reward_data["train"]["kinds"]
    assert reward_data["train"]["rows"] == sum(kinds.values()) == 8 and set(kinds) == {"short", "wrong"}
    assert reward_data["tokens"]["responses"] == 2 * (8 + 6)
    assert read_data(finished.folder / "base")["train"]["blocks"] > 0


# --- the report -------------------------------------------------------------------------------------------------------


def test_report_has_the_promised_keys(finished):
    values = report(finished)
    assert set(values["systems"]) == {"RR", "SO", "RO", "SPP"}
    for system in values["systems"].values():
        assert SYSTEM_KEYS <= set(system)
        assert set(system["ood"]) == {"shouted"} and SUITE_KEYS <= set(system["ood"]["shouted"])
        assert system["n"] == 4 and system["ood"]["shouted"]["n"] == 3
        assert 0 <= system["gold_mean"] <= 1
        assert 0 < system["length_mean"] <= 8
    assert {"win", "tie", "loss", "ci95"} <= set(values["win_rates"]["SPP_vs_SO"])
    wins = values["win_rates"]["SPP_vs_SO"]
    assert wins["win"] + wins["tie"] + wins["loss"] == pytest.approx(1)
    assert PAIR_KEYS <= set(values["reward_model"]) and values["reward_model"]["n"] == 4
    assert set(values["reward_model"]["accuracy_by_kind"]) == {"short", "wrong"}
    assert "people" not in json.dumps(values["reward_model"])  # extra sets only where the configuration names some
    assert values["environment"] and values["versions"]["trl"] and values["seeds"] == {"seed": 0}
    assert values["config"] == plain_values(finished.config)
    assert values["results"] == dict.fromkeys(RESULTS, {})
    assert values["data"]["training"]["sft"] == read_data(finished.folder / "sft")
    assert values["data"]["pairs"]["held_out"]["responses"] == 8
    assert str(finished.folder.parent) not in json.dumps(values)


def test_kl_of_the_sft_model_to_itself_is_0(finished):
    systems = report(finished)["systems"]
    assert systems["SO"]["kl_to_sft"] == 0
    assert systems["RR"]["kl_to_sft"] != 0


def test_page_opens_offline(finished):
    page = (finished.folder / "report" / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert not re.search(r"""src=["']?http|<link|@import|url\(["']?http""", page)


def test_systems_not_trained_are_reported_as_absent(tmp_path, finished):
    run = replace(finished, folder=tmp_path)
    for name in ("base", "reward"):
        (tmp_path / name).symlink_to(finished.folder / name)
    evaluate.run_phase(run)
    values = report(run)
    assert set(values["systems"]) == {"RR"}
    assert values["systems"]["RR"]["kl_to_sft"] is None  # there is no SFT model
    text = json.dumps(values)
    for command in ("--phase sft", "--phase ppo", "--phase all --resume"):
        assert command in text


def test_a_pair_labelled_wrongly_on_purpose_counts_the_right_way_round(finished):
    tokenizer = finished.tokenizer()
    model = RewardModel.load(finished.folder / "reward", tokenizer, "fp32", CPU)
    right = preference("cat")
    wrong = replace(right, chosen=right.rejected, rejected=right.chosen, mislabelled=True)
    scores = evaluate.score_set("x", [right, wrong], model, Encoder(tokenizer, finished.config.data))
    assert scores.margins[0] == scores.margins[1]
    assert scores.length_chosen[0] == scores.length_chosen[1] > scores.length_rejected[0]


def test_pairs_that_are_equal_once_cut_are_not_scored(finished):
    tokenizer = finished.tokenizer()
    model = RewardModel.load(finished.folder / "reward", tokenizer, "fp32", CPU)
    encoder = Encoder(tokenizer, finished.config.data.model_copy(update={"max_response_tokens": 1}))
    equal, differing = (replace(preference("cat"), rejected=text) for text in ("A cat is not here.", "No."))
    for rows, kept in (([equal, differing], 1), ([equal], 0)):
        scores = evaluate.score_set("x", rows, model, encoder)
        assert len(scores.margins) == len(scores.kinds) == kept
    assert encoder.summary()["pairs_equal_once_cut"] == 2


def test_the_report_shows_settings_that_a_result_was_not_made_with(tmp_path, finished):
    other = tiny_run(tmp_path, lora={"phases": finished.config.lora.phases}, reward={"learning_rate": 0.5})
    for name in ("base", "reward"):
        (tmp_path / name).symlink_to(finished.folder / name)
    evaluate.run_phase(other)
    values = report(other)
    assert values["results"] == {"base": {}, "reward": {"reward.learning_rate": 0.01}}
    assert values["config"]["reward"]["learning_rate"] == 0.5
    assert "other_settings" in [warning["code"] for warning in values["warnings"]]


def test_perplexity_of_a_model_that_knows_nothing_is_the_vocabulary(finished):
    tokenizer = finished.tokenizer()
    model = load_causal_lm(str(finished.folder / "base"), tokenizer, "fp32", CPU)
    for parameter in model.parameters():
        parameter.zero_()
    encoder = Encoder(tokenizer, finished.config.data)
    prompts = finished.data.prompts("test")
    perplexity = evaluate._perplexity(model, prompts, encoder, 4)
    assert perplexity == pytest.approx(len(tokenizer) - 1, rel=1e-4)  # a pad is never predicted
    assert math.isnan(evaluate._perplexity(model, [replace(p, reference=None) for p in prompts], encoder, 4))


# --- running again, and in the wrong order ----------------------------------------------------------------------------


def test_all_with_resume_keeps_finished_results_and_makes_missing_ones(tmp_path, finished, capsys):
    run = replace(finished, folder=tmp_path, resume=True)
    for name in (*RESULTS, "rlhf_reward_model"):
        (tmp_path / name).symlink_to(finished.folder / name)
    (tmp_path / "ppo").unlink()  # as if killed before it was done
    kept = (tmp_path / "sft" / "model.safetensors").stat().st_mtime_ns
    pipeline.run_phase(run)
    printed = capsys.readouterr().out
    assert [line.split("] ")[1] for line in printed.splitlines() if "finished before, kept" in line] == [
        f"{name}: finished before, kept" for name in ("base", "sft", "reward", "ppo_from_base")
    ]
    assert (tmp_path / "sft" / "model.safetensors").stat().st_mtime_ns == kept
    assert (tmp_path / "rlhf_gpt_neo_model" / "model.safetensors").is_file()
    assert set(report(run)["systems"]) == {"RR", "SO", "RO", "SPP"}


def test_all_with_resume_refuses_results_of_other_settings(tmp_path, finished):
    run = tiny_run(tmp_path, resume=True, lora={"phases": finished.config.lora.phases}, ppo={"kl_coef": 9})
    for name in (*RESULTS, "rlhf_reward_model", "rlhf_gpt_neo_model"):
        (tmp_path / name).symlink_to(finished.folder / name)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"(?s)/ppo was made .*ppo\.kl_coef: not set then, 9 now.*delete"):
        pipeline.run_phase(run)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_resume_makes_a_merged_model_that_a_kill_prevented(tmp_path, finished, capsys):
    run = replace(finished, folder=tmp_path, resume=True)
    for name in RESULTS:
        (tmp_path / name).symlink_to(finished.folder / name)
    assert pipeline._finished(run, "sft") and pipeline._finished(run, "ppo_from_base")
    assert not pipeline._finished(run, "reward") and not pipeline._finished(run, "ppo")
    assert not pipeline._finished(run, "report")


def test_a_finished_phase_resumed_ends_in_the_same_weights_and_log(tmp_path):
    run = tiny_run(tmp_path, sft={"lr_scheduler_type": "constant"})  # max_steps ends within an epoch
    base.run_phase(run)
    sft.run_phase(run)
    before, rows = weights(tmp_path / "sft"), metrics(tmp_path / "sft")
    for _ in range(2):
        sft.run_phase(replace(run, resume=True))
        after, again = weights(tmp_path / "sft"), metrics(tmp_path / "sft")
        assert all(torch.equal(before[name], after[name]) for name in before)
        for key in ("loss", "eval_loss"):
            assert [row[key] for row in again if key in row] == [row[key] for row in rows if key in row]


@pytest.mark.parametrize(
    ("phase", "missing"),
    [(sft.run_phase, "base"), (reward.run_phase, "sft"), (ppo.run_phase, "sft"), (evaluate.run_phase, "reward"),
     (ppo.run_phase_from_base, "base")],
)  # fmt: skip
def test_a_missing_predecessor_is_named_with_its_command(tmp_path, phase, missing):
    with pytest.raises(UserError, match=rf"python main.py --phase {missing} --output {tmp_path}"):
        phase(tiny_run(tmp_path))
    assert not [path for path in tmp_path.iterdir() if path.name != "training"]


def test_base_is_only_for_models_from_scratch(tmp_path):
    save_pretrained_gpt_neo(tmp_path / "gpt-neo")
    run = tiny_run(tmp_path, model={"name": str(tmp_path / "gpt-neo"), "shape": None})
    with pytest.raises(UserError, match="--phase sft"):
        base.run_phase(run)


def test_all_on_a_pretrained_model_has_no_base_phase(tmp_path, monkeypatch):
    run_order = []
    for module in (base, sft, reward, ppo, evaluate):
        name = module.__name__.rpartition(".")[2]
        monkeypatch.setattr(module, "run_phase", lambda run, name=name: run_order.append(name) or {"x": 1.0})
    monkeypatch.setattr(ppo, "run_phase_from_base", lambda run: run_order.append("from base") or {})
    result = pipeline.run_phase(tiny_run(tmp_path, model={"name": "somewhere", "shape": None}))
    assert run_order == ["sft", "reward", "ppo", "from base", "evaluate"]
    assert result == {"sft/x": 1.0, "reward/x": 1.0, "ppo/x": 1.0, "report/x": 1.0}


def test_supervised_term_is_mixed_into_ppo(tmp_path, finished):
    lora = {"phases": finished.config.lora.phases}
    run = tiny_run(tmp_path, lora=lora, ppo={"sft_coef": 0.5, "eval_prompts": 0})
    for name in ("base", "sft", "reward"):
        (tmp_path / name).symlink_to(finished.folder / name)
    assert ppo.run_phase(run) == {}  # no held-out prompts, so no best policy
    updates = [row for row in metrics(tmp_path / "ppo") if "objective/kl" in row]
    assert updates and all(row["loss/sft_avg"] > 0 for row in updates)
    before, after = (weights(tmp_path / name) for name in ("sft", "rlhf_gpt_neo_model"))
    assert not torch.equal(*(part["transformer.h.0.mlp.c_fc.weight"] for part in (before, after)))


# --- pretraining blocks -----------------------------------------------------------------------------------------------


def test_documents_are_joined_by_eos_and_cut_into_blocks(tokenizer):
    eos, ids = tokenizer.eos_token_id, tokenizer("a cat").input_ids
    stream = [*ids, eos] * 3
    rows = blocks_of_text(tokenizer, ["a cat"] * 3, 4)
    assert len(rows) == len(stream) // 4
    assert [token for row in rows["input_ids"] for token in row] == stream[: 4 * len(rows)]
    assert rows["labels"] == rows["input_ids"]


def test_too_little_text_for_one_block_is_refused(tokenizer):
    with pytest.raises(UserError, match="too little text"):
        blocks_of_text(tokenizer, ["a"], 1000)
