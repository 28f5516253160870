"""A stop token of one's own: it ends responses in the place of the end of sequence, and its absence is penalised."""

import pytest
import torch
from trl.experimental.ppo import PPOConfig

from rlhf.config import PPOSection
from rlhf.errors import UserError
from rlhf.phases.ppo import ppo_arguments
from rlhf.stop_token import stop_token_id
from tests.phases.helpers import tiny_run
from tests.ppo_world import constant, lengths, make_trainer, one_rollout, watched

LONG = {"response_length": 40, "temperature": 5.0}
"""Responses that hold every token now and then."""


def replies(rollout):
    tokens = rollout.sequences[:, rollout.prompt_width :]
    return [row[real].tolist() for row, real in zip(tokens, rollout.mask, strict=True)]


def up_to(stop, reply):
    return reply[: reply.index(stop) + 1] if stop in reply else reply


@pytest.fixture
def unstopped(tmp_path, start, tokenizer):
    """Responses of the first update if nothing but the limit ended them, and a token that is in several."""
    whole = replies(one_rollout(make_trainer(tmp_path, start, tokenizer, constant, stop_token=None, **LONG)))
    taken = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    often = max(set(sum(whole, [])) - taken, key=lambda token: sum(token in reply for reply in whole))
    assert 1 < sum(often in reply for reply in whole) < len(whole)
    assert any(tokenizer.eos_token_id in reply for reply in whole)
    return whole, often


@pytest.mark.parametrize("custom", [False, True])
def test_responses_end_at_the_stop_token_and_at_no_other(tmp_path, start, tokenizer, unstopped, custom):
    whole, often = unstopped
    stop, wanted = (often, {"stop_token": None, "stop_token_id": often}) if custom else (tokenizer.eos_token_id, {})
    rollout = one_rollout(make_trainer(tmp_path, start, tokenizer, constant, **LONG, **wanted))
    assert replies(rollout) == [up_to(stop, reply) for reply in whole]
    assert rollout.ended.tolist() == [stop in reply for reply in whole]
    if custom:
        assert any(tokenizer.eos_token_id in reply[:-1] for reply in replies(rollout))  # which ends nothing now


def test_what_is_scored_ends_at_the_stop_token_and_its_absence_is_penalised(tmp_path, start, tokenizer, unstopped):
    whole, stop = unstopped
    seen = []

    def score(prompts, answers):
        seen.extend(answers)
        return lengths(prompts, answers)

    trainer = make_trainer(
        tmp_path, start, tokenizer, score, PPOSection(reward_clip=None), stop_token=None, stop_token_id=stop,
        missing_eos_penalty=7.0, kl_coef=0.0, gamma=1.0, **LONG,
    )  # fmt: skip
    rollout = one_rollout(trainer)
    expected = [up_to(stop, reply) for reply in whole]
    assert sorted(seen) == sorted(expected)
    prompts = rollout.attention_mask[:, : rollout.prompt_width].sum(1).tolist()
    raw = [count + len(reply) for count, reply in zip(prompts, expected, strict=True)]
    penalised = [value - 7.0 * (stop not in reply) for value, reply in zip(raw, expected, strict=True)]
    assert rollout.scores.tolist() == penalised
    last = rollout.mask.sum(1) - 1  # with values of 0, the return of the last token is its reward: all of the score
    torch.testing.assert_close(rollout.returns.gather(1, last[:, None]).flatten(), rollout.scores)


@pytest.mark.slow
def test_a_policy_learns_to_end_with_the_stop_token(tmp_path, start, tokenizer):
    trainer = make_trainer(
        tmp_path, start, tokenizer, constant, PPOSection(eval_prompts=0), stop_token=None, stop_token_id=42,
        missing_eos_penalty=1.0, total_episodes=64 * 25, per_device_train_batch_size=64, gradient_accumulation_steps=1,
        learning_rate=2e-2, kl_coef=0.0, eval_steps=1000,
    )  # fmt: skip
    watch = watched(trainer)
    trainer.train()
    assert watch["objective/eos_rate"][0] < 0.1 and watch["objective/eos_rate"][-1] > 0.8
    assert watch["objective/scores"] == pytest.approx([rate - 1 for rate in watch["objective/eos_rate"]], abs=1e-6)
    assert watch["objective/length"][-1] < watch["objective/length"][0]
    ended = [reply for reply in replies(trainer.rollout(1)) if reply[-1] == 42]
    assert len(ended) > 50 and not any(42 in reply[:-1] for reply in ended)


@pytest.mark.parametrize("bad", [-1, 300, 10**9])
def test_a_stop_token_outside_the_vocabulary_is_refused(tmp_path, start, tokenizer, bad):
    with pytest.raises(UserError, match=rf"no token of this tokenizer(?s:.*)0 to {len(tokenizer) - 1}(?s:.*){bad}"):
        make_trainer(tmp_path, start, tokenizer, constant, stop_token=None, stop_token_id=bad)


def test_the_pad_as_stop_token_is_refused(tmp_path, start, tokenizer):
    with pytest.raises(UserError, match="pad token, which is never sampled"):
        make_trainer(tmp_path, start, tokenizer, constant, stop_token=None, stop_token_id=tokenizer.pad_token_id)


def test_two_stop_tokens_are_refused(tmp_path, start, tokenizer):
    with pytest.raises(UserError, match="exclude each other"):
        make_trainer(tmp_path, start, tokenizer, constant, stop_token="eos", stop_token_id=42)


@pytest.mark.parametrize(
    ("given", "stop"),
    [({}, "eos"), ({"stop_token_id": 42}, 42), ({"stop_token_id": 5}, 5), ({"stop_token": None}, None)],
)
def test_the_stop_token_that_the_configuration_asks_for(tmp_path, tokenizer, given, stop):
    args: PPOConfig = ppo_arguments(tiny_run(tmp_path, ppo=given), "ppo")
    assert stop_token_id(args, tokenizer) == (tokenizer.eos_token_id if stop == "eos" else stop)


def test_token_0_can_be_the_stop_token(tmp_path, tokenizer):
    args = ppo_arguments(tiny_run(tmp_path, ppo={"stop_token_id": 0}), "ppo")
    assert args.stop_token is None
    with pytest.raises(UserError, match="pad token"):  # which it is in this tokenizer, and not taken for unset
        stop_token_id(args, tokenizer)
