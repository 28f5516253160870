"""PPO on other architectures than GPT-Neo: the same invariants, a shared reward model, and runs that learn."""

import pytest
import torch

from reward_model import RewardModel
from rlhf.backbone import Backbone, SharedRewardModel
from rlhf.config import PPOSection
from rlhf.models import REWARD_HEAD, load_causal_lm, load_merged, trainable_model
from tests.architectures import tiny_model
from tests.conftest import small_config
from tests.ppo_world import constant, make_trainer, one_rollout, same, watched, weights

CPU = torch.device("cpu")
KINDS = ["gpt2", "llama", "mistral", "qwen3"]
WAYS = pytest.mark.parametrize("phases", [("ppo",), ()], ids=["lora", "full"])


@pytest.fixture(params=KINDS)
def start(request, tmp_path, tokenizer):
    folder = tmp_path / request.param
    tiny_model(request.param, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@WAYS
def test_before_the_first_update_kl_is_0_and_ratio_is_1(tmp_path, start, tokenizer, phases):
    trainer = make_trainer(tmp_path, start, tokenizer, constant, phases=phases)
    rollout = one_rollout(trainer)
    torch.testing.assert_close(rollout.logprobs, rollout.ref_logprobs, atol=1e-4, rtol=0)
    again = trainer.model(rollout.sequences, rollout.attention_mask, rollout.mask, 0.9, tokenizer.pad_token_id)
    ratio = torch.exp(again.logprobs - rollout.logprobs)[rollout.mask]
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-4, rtol=0)
    assert rollout.logprobs[rollout.mask].std() > 0.1


def test_padding_changes_no_logprob_value_or_entropy(tmp_path, start, tokenizer):
    """A sequence alone, padded on both sides, and beside a longer one."""
    trainer = make_trainer(tmp_path, start, tokenizer, constant)
    torch.nn.init.normal_(trainer.value_head.weight)
    pad, ids, longer = tokenizer.pad_token_id, [30, 31, 32, 40, 41], list(range(50, 62))

    def scores(sequences, attention, mask):
        with torch.no_grad():
            found = trainer.model(*map(torch.tensor, (sequences, attention, mask)), 1.0, pad, entropy=True)
        return [part[0, :2] for part in found]

    alone = scores([ids], [[1] * 5], [[True, True]])
    padded = scores([[pad] * 9 + ids + [pad]], [[0] * 9 + [1] * 5 + [0]], [[True, True, False]])
    mixed = scores([[pad] * 7 + ids, longer], [[0] * 7 + [1] * 5, [1] * 12], [[True, True]] * 2)
    for expected, one, other in zip(alone, padded, mixed, strict=True):
        torch.testing.assert_close(one, expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(other, expected, atol=1e-4, rtol=0)


@pytest.fixture
def rewarded(tmp_path, start, tokenizer):
    """A policy's backbone, and an adapter reward model, with a head that is not zero, on the same base."""
    config = small_config(lora={"r": 4, "alpha": 8, "dropout": 0.0, "phases": ["sft", "reward", "ppo"]})
    reward = trainable_model(str(start), config, "reward", tokenizer, CPU)
    with torch.no_grad():
        for name, parameter in reward.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    reward.save_pretrained(tmp_path / "reward")
    return Backbone(start, config, tokenizer, CPU), tmp_path / "reward"


def test_a_shared_reward_model_scores_like_one_of_its_own_in_any_company(rewarded, tokenizer):
    backbone, folder = rewarded
    own = RewardModel.load(folder, tokenizer, "fp32", CPU)
    shared = RewardModel(SharedRewardModel(backbone, backbone.add_reward_adapter(folder)), tokenizer.pad_token_id)
    sequences = [[30, 31, 32, 33], [40, 41], list(range(50, 62))]
    expected = torch.cat([own.score_ids([ids]) for ids in sequences])
    assert expected.std() > 1e-2
    for model in (own, shared):
        torch.testing.assert_close(model.score_ids(sequences), expected, atol=1e-4, rtol=1e-4)


def test_a_merged_reward_model_scores_like_its_adapter(rewarded, tokenizer):
    _, folder = rewarded
    merged = load_merged(str(folder), tokenizer, reward=True)
    assert hasattr(merged, REWARD_HEAD)
    sequences = [[30, 31, 32, 33], [40, 41], list(range(50, 62))]
    expected = RewardModel.load(folder, tokenizer, "fp32", CPU).score_ids(sequences)
    found = RewardModel(merged, tokenizer.pad_token_id).score_ids(sequences)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@WAYS
def test_a_run_moves_the_policy_keeps_the_reference_and_can_be_loaded(tmp_path, start, tokenizer, phases):
    def score(prompts, replies):
        return torch.tensor([float(len(set(reply))) for reply in replies])

    trainer = make_trainer(
        tmp_path, start, tokenizer, score, PPOSection(eval_prompts=0, sft_coef=0.1), phases, total_episodes=48
    )
    trainer.eval_dataset = None
    rollout, before = one_rollout(trainer), weights(trainer)
    watch = watched(trainer)
    trainer.train()
    assert len(watch["objective/kl"]) == 3 and watch["skipped_updates"][-1] == 0
    assert max(watch["rollout/logprob_gap"]) < 1e-3
    assert not same(weights(trainer), before)
    reference = trainer.sampler.reference_logprobs(rollout.sequences, rollout.attention_mask, rollout.mask)
    torch.testing.assert_close(reference, rollout.ref_logprobs, atol=1e-4, rtol=0)
    trainer.backbone.policy.save_pretrained(tmp_path / "result")
    tokenizer.save_pretrained(tmp_path / "result")
    loaded = load_causal_lm(str(tmp_path / "result"), tokenizer, "fp32", CPU)
    ids = torch.tensor([[30, 31, 32, 33]])
    with torch.no_grad():
        found, expected = loaded(ids).logits, trainer.backbone.policy.eval()(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "phases"), [("llama", ("ppo",)), ("qwen3", ())], ids=["llama-lora", "qwen3-full"])
def test_learns_to_prefer_a_token(tmp_path, tokenizer, kind, phases):
    """The token is one of 300, so it takes luck to meet it: learning sets in between the fifth and the 14th update."""

    def score(prompts, replies):
        return torch.tensor([sum(token == 42 for token in reply) / 4 for reply in replies])

    tiny_model(kind, tokenizer).save_pretrained(tmp_path / kind)
    tokenizer.save_pretrained(tmp_path / kind)
    torch.manual_seed(0)
    trainer = make_trainer(
        tmp_path, tmp_path / kind, tokenizer, score, phases=phases, total_episodes=64 * 24, kl_coef=0.0,
        per_device_train_batch_size=64, gradient_accumulation_steps=1, learning_rate=5e-2 if phases else 1e-2,
        eval_steps=1000,
    )  # fmt: skip
    watch = watched(trainer)
    trainer.train()
    assert watch["objective/scores"][0] < 0.05 and watch["objective/scores"][-1] > 0.4
