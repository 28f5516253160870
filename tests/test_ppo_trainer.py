"""The PPO trainer: its invariants before the first update, its loop, its corrections, a toy problem it must learn."""

import copy
import math
import warnings
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch

from rlhf.baseline import ReturnBaseline
from rlhf.config import PPOSection
from rlhf.errors import UserError
from rlhf.logprobs import causal_lm
from rlhf.padding import PASS, WIDTH
from rlhf.phases.ppo import ppo_arguments
from rlhf.ppo_math import kl_per_token, shaped_rewards
from rlhf.rollout import Samples, with_advantages
from tests.phases.helpers import tiny_run
from tests.ppo_world import SHORT, constant, lengths, make_trainer, no_picks, one_rollout, same, watched, weights


@pytest.mark.parametrize("phases", [("ppo",), ()], ids=["lora", "full"])
def test_before_the_first_update_kl_is_0_and_ratio_is_1(tmp_path, start, tokenizer, phases):
    trainer = make_trainer(tmp_path, start, tokenizer, constant, phases=phases)
    rollout = one_rollout(trainer)
    torch.testing.assert_close(rollout.logprobs, rollout.ref_logprobs, atol=1e-5, rtol=0)
    again = trainer.model(rollout.sequences, rollout.attention_mask, rollout.mask, 0.9, tokenizer.pad_token_id)
    ratio = torch.exp(again.logprobs - rollout.logprobs)[rollout.mask]
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-4, rtol=0)
    assert (rollout.values == 0).all()


def test_padding_changes_no_logprob(start, tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, start, tokenizer, constant)
    pad, ids = tokenizer.pad_token_id, [30, 31, 32, 40, 41]
    alone = torch.tensor([ids])
    padded = torch.tensor([[pad, pad, *ids, pad]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 0]])
    torch.nn.init.normal_(trainer.value_head.weight)
    real = torch.tensor([[True, True]])
    with torch.no_grad():
        one = trainer.model(alone, torch.ones_like(alone), real, 1.0, pad, entropy=True)
        other = trainer.model(padded, mask, torch.tensor([[True, True, False]]), 1.0, pad, entropy=True)
    for expected, found in zip(one, other, strict=True):
        torch.testing.assert_close(expected, found[:, :2], atol=1e-5, rtol=0)
        assert (found[:, 2] == 0).all()


def test_scores_see_no_padding_and_stop_at_the_end_of_sequence(tmp_path, start, tokenizer):
    seen = []

    def record(prompts, replies):
        seen.extend(prompt + reply for prompt, reply in zip(prompts, replies, strict=True))
        return torch.zeros(len(replies))

    trainer = make_trainer(tmp_path, start, tokenizer, record, response_length=40)
    one_rollout(trainer)
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    assert seen and all(pad not in ids for ids in seen)
    assert all(eos not in ids[:-1] for ids in seen)


def test_missing_stop_is_penalised_and_scores_are_clipped(tmp_path, start, tokenizer):
    trainer = make_trainer(
        tmp_path, start, tokenizer, constant, settings=PPOSection(reward_clip=2.0), missing_eos_penalty=1.5
    )
    scores = trainer.sampler.clip_and_penalise(torch.tensor([7.0, -7.0, 1.0]), torch.tensor([True, True, False]))
    assert scores.tolist() == [2.0, -2.0, -0.5]


def test_a_reward_that_is_no_number_does_not_become_a_good_one(tmp_path, start, tokenizer):
    trainer = make_trainer(tmp_path, start, tokenizer, constant, settings=PPOSection(reward_clip=2.0))
    scores = trainer.sampler.clip_and_penalise(torch.tensor([math.nan, math.inf, -math.inf, 3.0]), torch.ones(4).bool())
    assert scores.isfinite().tolist() == [False, False, False, True] and scores[3] == 2


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_policy_whose_evaluation_is_no_number_is_never_the_best(tmp_path, start, tokenizer, broken):
    trainer = make_trainer(tmp_path, start, tokenizer, lambda p, r: torch.full((len(r),), broken))
    trainer._evaluate_if_due(0)
    assert trainer.best is None
    trainer.sampler.score = constant
    trainer._evaluate_if_due(0)
    assert trainer.best[0] == pytest.approx(0, abs=1e-5)


def test_micro_batches_add_up_to_the_minibatch(tmp_path, start, tokenizer):
    gradients, statistics = [], []
    for size in (16, 4):
        torch.manual_seed(0)
        trainer = make_trainer(
            tmp_path, start, tokenizer, lengths, per_device_train_batch_size=size,
            gradient_accumulation_steps=16 // size, num_mini_batches=1, max_grad_norm=0, response_length=40,
        )  # fmt: skip
        rollout = one_rollout(trainer)
        rollout = replace(rollout, mask=torch.arange(40) < torch.arange(16, 32).unsqueeze(1))  # of unequal length
        trainer.optimizer.step = lambda: None
        trainer.optimizer.zero_grad = lambda: None
        statistics.append(trainer.updater.step(rollout, torch.arange(16), no_picks()))
        gradients.append(trainer.model.value_head.bias.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)
    assert statistics[0] == pytest.approx(statistics[1], rel=1e-3, abs=1e-4)


def test_sequences_of_like_length_share_a_micro_batch(tmp_path, start, tokenizer):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths, per_device_train_batch_size=4,
                           gradient_accumulation_steps=4, num_mini_batches=1)  # fmt: skip
    rollout = one_rollout(trainer)
    lengths_of = torch.arange(16) % 8 + 1  # in no order
    mask = torch.arange(rollout.mask.shape[1]) < lengths_of.unsqueeze(1)
    attention = torch.cat([torch.ones(16, rollout.prompt_width, dtype=torch.long), mask.long()], dim=1)
    seen, widths, forward = shapes_seen(trainer), [], trainer.updater._ppo_loss
    trainer.updater._ppo_loss = lambda part, *rest: widths.append(part.mask.sum(1).max()) or forward(part, *rest)
    trainer.updater.step(replace(rollout, mask=mask, attention_mask=attention), torch.arange(16), no_picks())
    assert widths == [2, 4, 6, 8]
    prompt, widest = rollout.prompt_width, rollout.sequences.shape[1]
    assert seen == [(4, min(prompt + longest + -(prompt + longest) % WIDTH, widest)) for longest in (2, 4, 6, 8)]


def shapes_seen(trainer):
    """Of all token ids that will go through the trunk."""
    seen: list[tuple[int, ...]] = []
    trunk = causal_lm(trainer.backbone.policy).base_model
    trunk.register_forward_pre_hook(lambda _, given, named: seen.append(named["input_ids"].shape), with_kwargs=True)
    return seen


def of_unequal_lengths(rollout):
    """The rollout with replies of 1 to 8 tokens, in no order."""
    mask = torch.arange(rollout.mask.shape[1]) < (torch.arange(16) % 8 + 1).unsqueeze(1)
    attention = torch.cat([rollout.attention_mask[:, : rollout.prompt_width], mask.long()], dim=1)
    return replace(rollout, mask=mask, attention_mask=attention)


def test_passes_that_are_cut_by_length_find_the_same(tmp_path, start, tokenizer, monkeypatch):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths, local_rollout_forward_batch_size=16)
    torch.nn.init.normal_(trainer.value_head.weight)
    given = of_unequal_lengths(one_rollout(trainer))
    given = given.sequences, given.attention_mask, given.mask
    found, seen = [], shapes_seen(trainer)
    for cost in (0, 10**6):
        monkeypatch.setitem(PASS, "cpu", cost)
        found.append(
            [*trainer.sampler.policy_scores(trainer.model, *given), trainer.sampler.reference_logprobs(*given)]
        )
    assert len(seen) > 4 and seen[-1] == (16, 13) and seen[0][1] == 8
    for cut, whole in zip(*found, strict=True):
        torch.testing.assert_close(cut, whole, atol=1e-5, rtol=1e-5)


def test_all_processes_cut_a_minibatch_alike_and_take_every_row_once(tmp_path, start, tokenizer, monkeypatch):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths)
    rollout, rows = of_unequal_lengths(one_rollout(trainer)), torch.randperm(16)
    monkeypatch.setitem(PASS, "cpu", 0)
    shares = []
    for rank in (0, 1):
        trainer.updater.accelerator = SimpleNamespace(num_processes=2, process_index=rank, device=torch.device("cpu"))
        shares.append(trainer.updater._micro_batches(rollout, rows, 8))
    assert [len(part) for part in shares[0]] == [len(part) for part in shares[1]] and len(shares[0]) > 1
    assert sorted(torch.cat([*shares[0], *shares[1]]).tolist()) == list(range(16))


def test_advantages_are_whitened(tmp_path, start, tokenizer):
    trainer = make_trainer(
        tmp_path,
        start,
        tokenizer,
        lambda *ids: 10 * lengths(*ids),
        settings=PPOSection(reward_clip=None),
        response_length=40,
    )
    rollout = one_rollout(trainer)
    advantages = rollout.advantages[rollout.mask]
    assert advantages.mean().item() == pytest.approx(0, abs=1e-4)
    assert advantages.std(correction=0).item() == pytest.approx(1, abs=1e-3)
    assert rollout.returns[rollout.mask].abs().mean() > 10


def test_one_optimizer_step_a_minibatch_and_gradients_are_clipped(tmp_path, start, tokenizer):
    trainer = make_trainer(
        tmp_path, start, tokenizer, lengths, per_device_train_batch_size=2, gradient_accumulation_steps=4,
        num_mini_batches=2, num_ppo_epochs=3, max_grad_norm=0.01,
    )  # fmt: skip
    rollout, norms, step = one_rollout(trainer), [], trainer.optimizer.step

    def count():
        gradients = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
        norms.append(torch.cat(gradients).norm().item())
        step()

    trainer.optimizer.step = count
    metrics = trainer.update(rollout, 1)
    assert len(norms) == 6  # 3 epochs of 2 minibatches, of 2 micro-batches each
    assert norms == pytest.approx([0.01] * 6, rel=1e-2)
    assert metrics["policy/grad_norm"] > 0.05  # before clipping


def test_adams_epsilon_is_1e_5_unless_set(tmp_path):
    assert ppo_arguments(tiny_run(tmp_path), "ppo").adam_epsilon == 1e-5
    assert ppo_arguments(tiny_run(tmp_path, ppo={"adam_epsilon": 1e-7}), "ppo").adam_epsilon == 1e-7


def test_gradient_checkpointing_is_switched_on_without_a_warning(tmp_path, start, tokenizer):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*checkpointing_enable")
        trainer = make_trainer(tmp_path, start, tokenizer, lengths, gradient_checkpointing=True)
    assert trainer.policy_model.is_activation_checkpointing
    trainer.update(one_rollout(trainer), 1)


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_learning_rate_and_kl_coefficient_move_and_are_logged_as_used(tmp_path, start, tokenizer):
    trainer = make_trainer(
        tmp_path, start, tokenizer, constant, settings=PPOSection(target_kl=100.0), **SHORT,
        total_episodes=80, response_length=2, kl_coef=0.1, eval_steps=1000,
    )  # fmt: skip
    trainer.eval_dataset = None
    watch = watched(trainer)
    trainer.train()
    # 20 updates of 4 episodes; the default horizon is a tenth of the 80; the KL stays far below its target
    assert watch["objective/kl_coef"] == pytest.approx([0.1 * (1 - 0.2 * 4 / 8) ** i for i in range(20)])
    assert watch["objective/kl_coef"][-1] < 0.1 / 5
    assert watch["lr"] == pytest.approx([1e-3 * (1 - i / 20) for i in range(20)])


def test_the_kl_coefficient_stays_positive_in_a_run_of_one_update(tmp_path, start, tokenizer):
    for horizon in (None, 1):
        settings = PPOSection(target_kl=100.0, kl_horizon=horizon)
        trainer = make_trainer(tmp_path, start, tokenizer, constant, settings=settings, kl_coef=0.1)
        trainer.kl_controller.update(0.0, trainer.args.batch_size)
        assert trainer.kl_controller.coef == pytest.approx(0.08)


@pytest.mark.parametrize(("held_out", "kept"), [([9, 0, 5, 1], 0), ([0, 5, 9, 1], 2), ([0, 1, 5, 9], 3)])
def test_the_policy_with_the_best_held_out_objective_is_kept(tmp_path, start, tokenizer, held_out, kept):
    calls = iter(range(100))

    def score(prompts, replies):  # evaluation and training take turns
        call = next(calls)
        return lengths(prompts, replies) if call % 2 else torch.full((len(replies),), float(held_out[call // 2]))

    trainer = make_trainer(
        tmp_path, start, tokenizer, score, settings=PPOSection(reward_clip=None), **SHORT,
        total_episodes=12, kl_coef=0.0, eval_steps=1,
    )  # fmt: skip
    seen = [weights(trainer)]
    watch = watched(trainer, lambda update, control: seen.append(weights(trainer)))
    trainer.train()
    assert [same(weights(trainer), state) for state in seen] == [update == kept for update in range(4)]
    assert watch["eval/objective"] == held_out
    assert (watch["best/update"], watch["best/objective"]) == ([kept], [max(held_out)])


def test_evaluations_of_an_equal_policy_are_equal_and_leave_training_alone(tmp_path, start, tokenizer):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths)
    first = trainer._evaluation_samples()
    torch.rand(3)  # training goes on
    state = torch.get_rng_state()
    again = trainer._evaluation_samples()
    assert torch.equal(first.sequences, again.sequences)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_callback_can_stop_the_training(tmp_path, start, tokenizer):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths, **SHORT, total_episodes=40, eval_steps=1000)

    def stop(update, control):
        control.should_training_stop = update == 2

    watch = watched(trainer, stop)
    trainer.train()
    assert trainer.state.global_step == 2
    assert watch["episode"] == [0, 4, 8, 8]  # evaluated before the first and behind the last update


@pytest.mark.parametrize(("times", "updates"), [(0, []), (2, [3, 5]), (100, [1, 2, 3, 4, 5])])
def test_samples_are_printed_as_often_as_told(tmp_path, start, tokenizer, capsys, times, updates):
    trainer = make_trainer(
        tmp_path, start, tokenizer, lengths, **SHORT, total_episodes=20, num_sample_generations=times
    )
    trainer.eval_dataset = None
    trainer.train()
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[update ")]
    assert [int(line.split()[1].rstrip(",")) for line in printed[::2]] == updates
    assert len(printed) == 2 * len(updates)


def test_fewer_prompts_than_a_batch_are_refused(tmp_path, start, tokenizer):
    with pytest.raises(UserError, match="too few prompts"):
        make_trainer(tmp_path, start, tokenizer, constant, gradient_accumulation_steps=100)


def test_pad_equal_to_eos_is_refused(tmp_path, start, tokenizer):
    twin = copy.deepcopy(tokenizer)
    twin.pad_token = twin.eos_token
    with pytest.raises(ValueError, match="pad token"):
        make_trainer(tmp_path, start, twin, constant)


@pytest.mark.slow
@pytest.mark.parametrize("phases", [("ppo",), ()], ids=["lora", "full"])
def test_learns_to_prefer_a_token(tmp_path, start, tokenizer, phases):
    wanted = 42

    def score(prompts, replies):
        return torch.tensor([sum(t == wanted for t in reply) / 4 for reply in replies])

    trainer = make_trainer(
        tmp_path, start, tokenizer, score, phases=phases, total_episodes=64 * 25, per_device_train_batch_size=64,
        gradient_accumulation_steps=1, num_mini_batches=2, learning_rate=2e-2 if phases else 3e-3, kl_coef=0.0,
        eval_steps=1000,
    )  # fmt: skip
    before = one_rollout(trainer).scores.mean().item()
    trainer.train()
    after = one_rollout(trainer).scores.mean().item()
    assert before < 0.1
    assert after > 1.0


def test_reference_is_unchanged_and_policy_back_in_place_after_training(tmp_path, start, tokenizer):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths)
    trainer.eval_dataset = None
    rollout = one_rollout(trainer)
    trainer.train()
    reference = trainer.sampler.reference_logprobs(rollout.sequences, rollout.attention_mask, rollout.mask)
    torch.testing.assert_close(reference, rollout.ref_logprobs)
    moved, _ = trainer.sampler.policy_scores(trainer.model, rollout.sequences, rollout.attention_mask, rollout.mask)
    assert not torch.equal(moved, rollout.logprobs)


def test_supervised_term_raises_the_likelihood_of_demonstrations(tmp_path, start, tokenizer):
    trainer = make_trainer(
        tmp_path, start, tokenizer, constant, settings=PPOSection(sft_coef=0.9), total_episodes=160,
        learning_rate=1e-2,
    )  # fmt: skip
    trainer.eval_dataset = None
    sequence = torch.tensor([[10, 11, 20, 21, tokenizer.eos_token_id]])

    def likelihood():
        with torch.no_grad():
            real = torch.ones(1, 3, dtype=torch.bool)
            scores = trainer.model(sequence, torch.ones_like(sequence), real, 1.0, tokenizer.pad_token_id)
        return scores.logprobs.sum().item()

    before = likelihood()
    trainer.train()
    assert likelihood() > before + 1


def test_what_is_foreseen_stands_under_the_values_and_is_not_learned_again(tmp_path, start, tokenizer):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths)
    rollout, asked = one_rollout(trainer), []
    samples = Samples(**{field.name: getattr(rollout, field.name) for field in fields(Samples)})
    with pytest.raises(ValueError, match="features"):
        with_advantages(samples, 0.1, trainer.args, ReturnBaseline())
    samples = replace(samples, features=torch.zeros(*samples.mask.shape, 1))
    foreseen = torch.rand(samples.mask.shape) * samples.mask
    based = with_advantages(samples, 0.1, trainer.args, lambda _, returns, __: asked.append(returns) or foreseen)
    plain = with_advantages(replace(samples, values=samples.values + foreseen), 0.1, trainer.args)
    torch.testing.assert_close(based.advantages, plain.advantages)
    torch.testing.assert_close(based.returns, plain.returns - foreseen)
    assert torch.equal(based.values, samples.values) and based.explained_variance() == pytest.approx(
        plain.explained_variance()
    )
    rewards = shaped_rewards(samples.scores, kl_per_token(samples.logprobs, samples.ref_logprobs, samples.mask),
                             samples.mask, 0.1)  # fmt: skip
    torch.testing.assert_close(asked[0], rewards.flip(1).cumsum(1).flip(1) * samples.mask)


def gradients_of_a_step(tmp_path, start, tokenizer, value, vf_coef):
    settings = PPOSection(value=value)
    torch.manual_seed(0)
    trainer = make_trainer(tmp_path, start, tokenizer, lengths, settings, vf_coef=vf_coef, max_grad_norm=0)
    torch.nn.init.normal_(trainer.value_head.weight, generator=torch.Generator().manual_seed(1))
    rollout = one_rollout(trainer)
    trainer.optimizer.step = trainer.optimizer.zero_grad = lambda: None
    trainer.updater.step(rollout, torch.arange(8), no_picks())
    of = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    return {n: g for n, g in of.items() if "value_head" not in n}, trainer.value_head.weight.grad.clone()


def test_the_loss_of_detached_values_trains_the_head_and_leaves_the_trunk_to_the_policy(tmp_path, start, tokenizer):
    def step(value, vf_coef):
        return gradients_of_a_step(tmp_path, start, tokenizer, value, vf_coef)

    detached, head = step("detached", 1.0)
    shared, same_head = step("shared", 1.0)
    alone, _ = step("shared", 0.0)
    torch.testing.assert_close(head, same_head)
    assert head.abs().max() > 0
    for name, gradient in detached.items():
        torch.testing.assert_close(gradient, alone[name])
    assert any((shared[name] - gradient).abs().max() > 1e-3 for name, gradient in detached.items())


@pytest.mark.parametrize(
    ("value", "foresees", "detached"),
    [("auto", True, True), ("auto", False, False), ("shared", True, False), ("detached", False, True)],
)
def test_a_head_with_a_baseline_under_it_leaves_the_trunk_alone(tmp_path, start, tokenizer, value, foresees, detached):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths, PPOSection(value=value), foresees=foresees)
    assert trainer.model.detached == detached
