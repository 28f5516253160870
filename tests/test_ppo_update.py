"""The update: what it does when numbers are not finite or memory runs out."""

import copy
import math

import pytest
import torch

from rlhf.errors import UserError
from tests.ppo_world import SHORT, lengths, make_trainer, no_picks, one_rollout, same, watched, weights


def gradients(trainer):
    return {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", None])
def test_running_out_of_memory_halves_the_micro_batch_and_changes_nothing(tmp_path, start, tokenizer, capsys, message):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths, per_device_train_batch_size=16,
                           gradient_accumulation_steps=1, num_mini_batches=1)  # fmt: skip
    rollout = one_rollout(trainer)
    trainer.optimizer.step = trainer.optimizer.zero_grad = lambda: None
    expected = trainer.updater.step(rollout, torch.arange(16), no_picks())
    there = gradients(trainer)
    trainer.model.zero_grad()
    loss = trainer.updater._ppo_loss

    def hungry(part, *rest):
        if len(part.scores) > 4:
            raise RuntimeError(message) if message else torch.OutOfMemoryError("CUDA out of memory")
        return loss(part, *rest)

    trainer.updater._ppo_loss = hungry
    assert trainer.updater.step(rollout, torch.arange(16), no_picks()) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    for name, gradient in gradients(trainer).items():
        torch.testing.assert_close(gradient, there[name], atol=1e-5, rtol=1e-4)
    assert trainer.updater.rows.limit == 4
    assert capsys.readouterr().out.count("out of memory in the update: going on with") == 2


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path, start, tokenizer):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths)

    def broken(*args):
        raise RuntimeError("shapes do not fit")

    trainer.updater._ppo_loss = broken
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        trainer.updater.step(one_rollout(trainer), torch.arange(8), no_picks())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_without_a_finite_loss_is_left_out_and_counted(tmp_path, start, tokenizer, bad):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths, **SHORT)
    rollout = one_rollout(trainer)
    before = weights(trainer)
    state = copy.deepcopy(trainer.optimizer.state_dict()["state"])
    rollout.advantages[0, 0] = bad
    trainer.update(rollout, 1)
    assert same(weights(trainer), before)
    assert trainer.optimizer.state_dict()["state"] == state
    assert (trainer.skipped, trainer.skipped_in_a_row) == (1, 1)
    trainer.update(one_rollout(trainer), 2)
    assert not same(weights(trainer), before)
    assert (trainer.skipped, trainer.skipped_in_a_row) == (1, 0)


def test_deepspeed_which_has_made_the_step_by_then_ends_the_run(tmp_path, start, tokenizer):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths, **SHORT)
    rollout = one_rollout(trainer)
    rollout.advantages[0, 0] = float("nan")
    trainer.updater.by_deepspeed = True
    with pytest.raises(UserError, match="DeepSpeed has made the step already"):
        trainer.update(rollout, 1)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_three_updates_in_a_row_without_finite_rewards_end_the_run(tmp_path, start, tokenizer, broken):
    calls = iter(range(100))

    def score(prompts, replies):  # the second, fourth, fifth and sixth are broken
        return torch.full((len(replies),), broken if next(calls) in (1, 3, 4, 5) else 0.0)

    trainer = make_trainer(tmp_path, start, tokenizer, score, **SHORT, total_episodes=80, save_steps=1)
    trainer.eval_dataset = None
    watch = watched(trainer)
    with pytest.raises(UserError, match=r"(?s)update 6.*3 times in a row.*checkpoint-3"):
        trainer.train()
    assert watch["skipped_updates"] == [0, 1, 1, 2, 3]
