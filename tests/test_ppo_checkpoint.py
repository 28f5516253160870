"""Checkpoints of PPO, within one process; `phases/test_resume.py` kills real ones."""

import json

import pytest
import torch

from rlhf.config import PPOSection
from tests.ppo_world import SHORT, lengths, make_trainer, same, watched, weights

RUN = SHORT | {"total_episodes": 24, "num_ppo_epochs": 2, "eval_steps": 2, "save_steps": 1, "save_total_limit": 2}
ADAPTIVE = PPOSection(target_kl=0.5, eval_prompts=8)


def untimed(watch):
    return [{k: v for k, v in row.items() if "time" not in k and k != "eps"} for row in watch.rows]


@pytest.mark.parametrize("phases", [("ppo",), ()], ids=["lora", "full"])
@pytest.mark.parametrize("sft_coef", [0.0, 0.3])
def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path, start, tokenizer, phases, sft_coef):
    settings = ADAPTIVE.model_copy(update={"sft_coef": sft_coef})

    def fresh(name):
        torch.manual_seed(0)  # as the phase does: a fresh adapter is random
        return make_trainer(tmp_path / name, start, tokenizer, lengths, settings, phases, foresees=True, **RUN)

    unbroken = fresh("unbroken")
    expected = watched(unbroken)
    unbroken.train()

    broken = fresh("broken")

    def interrupt(update, control):
        if update == 4:
            raise KeyboardInterrupt

    before = watched(broken, interrupt)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed = fresh("broken")
    after = watched(resumed)
    torch.manual_seed(123)  # whatever state the new process is in
    resumed.train(str(tmp_path / "broken" / "out" / "checkpoint-3"))

    assert same(weights(resumed), weights(unbroken))
    assert all(torch.equal(a, b) for a, b in zip(resumed.baseline.moments, unbroken.baseline.moments, strict=True))
    assert resumed.kl_controller.coef == unbroken.kl_controller.coef != 0.05
    assert [row for row in untimed(before) if row["episode"] <= 12] + untimed(after) == untimed(expected)


def test_a_checkpoint_of_a_version_that_kept_the_micro_batch_itself_loads(tmp_path, start, tokenizer):
    make_trainer(tmp_path, start, tokenizer, lengths, ADAPTIVE, **RUN).train()
    folder = tmp_path / "out" / "checkpoint-5"
    state = json.loads((folder / "ppo_state.json").read_text())
    assert state["micro_batch"] is None  # memory has not run out
    del state["rollout_batch"]
    (folder / "ppo_state.json").write_text(json.dumps(state | {"micro_batch": 2}))
    resumed = make_trainer(tmp_path, start, tokenizer, lengths, ADAPTIVE, **RUN)
    resumed.train(str(folder))
    assert (resumed.updater.rows.limit, resumed.sampler.rows.limit) == (2, None)
    assert resumed.state.global_step == 6


def test_the_newest_are_kept_and_nothing_half_written_is_left(tmp_path, start, tokenizer):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths, ADAPTIVE, **RUN)
    trainer.train()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["checkpoint-5", "checkpoint-6"]
    state = json.loads((tmp_path / "out" / "checkpoint-6" / "ppo_state.json").read_text())
    assert state["best"] == {"objective": trainer.best[0], "update": trainer.best[1]}


def test_no_checkpoint_where_none_is_wanted(tmp_path, start, tokenizer):
    make_trainer(tmp_path, start, tokenizer, lengths, ADAPTIVE, **RUN, save_strategy="no").train()
    assert not list((tmp_path / "out").iterdir())
