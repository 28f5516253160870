"""Roles on one backbone: who answers in which role, and that the policy is always back afterwards."""

import pytest
import torch

from reward_model import RewardModel
from rlhf.actor_critic import ActorCritic
from rlhf.backbone import Backbone, SharedRewardModel
from rlhf.baseline import reader
from rlhf.errors import UserError
from rlhf.logprobs import reply_hidden
from rlhf.models import load_causal_lm, trainable_model
from rlhf.normalisation import Normalisation
from tests.conftest import small_config

CPU = torch.device("cpu")
IDS = torch.tensor([[30, 31, 32, 33]])


def config_with(*phases, **sections):
    return small_config(lora={"r": 4, "alpha": 8, "dropout": 0.0, "phases": list(phases)}, **sections)


@pytest.fixture(params=["adapter on adapter", "adapter on whole", "whole on adapter", "whole"])
def backbone(request, tmp_path, model, tokenizer):
    """A backbone, and the folder it starts from."""
    with torch.no_grad():
        model.transformer.wte.weight.mul_(10)
    model.save_pretrained(tmp_path / "start")
    start = tmp_path / "start"
    if request.param.endswith("on adapter"):
        tuned = trainable_model(str(start), config_with("sft"), "sft", tokenizer, CPU)
        shift(tuned, 0.05)
        start = tmp_path / "adapter"
        tuned.save_pretrained(start)
    phases = () if request.param.startswith("whole") else ("sft", "ppo")
    return Backbone(start, config_with(*phases), tokenizer, CPU), str(start)


def shift(network, amount):
    """Change what is trained."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.requires_grad and "lora_A" not in name:
                parameter.add_(amount)


def logits(network):
    with torch.no_grad():
        return network(IDS).logits


def test_policy_and_reference_begin_as_the_start(backbone, tokenizer):
    roles, start = backbone
    expected = logits(load_causal_lm(start, tokenizer, "fp32", CPU))
    for role in ("policy", "reference"):
        with roles.role(role) as network:
            torch.testing.assert_close(logits(network), expected, atol=1e-5, rtol=1e-5)


def test_the_reference_stays_when_the_policy_moves(backbone, tokenizer):
    roles, start = backbone
    expected = logits(load_causal_lm(start, tokenizer, "fp32", CPU))
    shift(roles.policy, 0.1)
    with roles.role("reference") as network:
        torch.testing.assert_close(logits(network), expected, atol=1e-5, rtol=1e-5)
    with roles.role("policy") as network:
        assert not torch.allclose(logits(network), expected, atol=1e-2)


def test_the_policy_is_back_after_an_exception(backbone):
    roles, _ = backbone
    shift(roles.policy, 0.1)
    before = logits(roles.policy)
    trained = [name for name, p in roles.policy.named_parameters() if p.requires_grad]
    with pytest.raises(RuntimeError, match="inside"), roles.role("reference"):
        raise RuntimeError("inside")
    assert torch.equal(logits(roles.policy), before)
    assert [name for name, p in roles.policy.named_parameters() if p.requires_grad] == trained


def test_only_the_policys_own_weights_are_trained(backbone):
    roles, _ = backbone
    trained = {name for name, p in roles.policy.named_parameters() if p.requires_grad}
    if roles.reference is None:  # adapters on one copy of the base
        assert trained and all("lora_" in name and ".default." in name for name in trained)
        base = [name for name, _ in roles.policy.named_parameters() if "lora_" not in name]
        assert len(base) == len({name.replace(".base_layer", "") for name in base}) < 40
    else:
        assert len(trained) == len(list(roles.policy.parameters()))
        assert not any(p.requires_grad for p in roles.reference.parameters())


@pytest.mark.parametrize("precision", ["8bit", "4bit"])
def test_quantised_weights_are_refused_where_a_phase_would_train_them(precision):
    quantised = {"name": "some/model", "precision": precision}
    with pytest.raises(UserError, match=f"{precision}.*add sft, reward to lora.phases"):
        config_with("ppo", model=quantised)
    assert config_with("sft", "reward", "ppo", model=quantised).model.precision == precision


def test_full_fine_tuning_is_in_the_configured_precision(tmp_path, model, tokenizer):
    model.save_pretrained(tmp_path)
    config = config_with(model={"name": str(tmp_path), "precision": "bf16"})
    roles = Backbone(tmp_path, config, tokenizer, CPU)
    for network in (roles.policy, roles.reference):
        assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert all(p.requires_grad for p in roles.policy.parameters())


# --- the reward model on the same weights -----------------------------------------------------------------------------

SEQUENCES = [[30, 31, 32, 33], [40, 41], [50, 51, 52]]


@pytest.fixture(params=["whole", "adapter"])
def carried(request, tmp_path, lively, tokenizer):
    """A backbone that starts from a whole model or an adapter, and an adapter reward model on the same base."""
    config = config_with("sft", "reward", "ppo")
    lively.save_pretrained(tmp_path / "base")
    start = tmp_path / "base"
    if request.param == "adapter":
        tuned = trainable_model(str(start), config, "sft", tokenizer, CPU)
        shift(tuned, 0.05)
        start = tmp_path / "sft"
        tuned.save_pretrained(start)
    reward = trainable_model(str(start), config, "reward", tokenizer, CPU)
    shift(reward, 0.03)
    reward.save_pretrained(tmp_path / "reward")
    return Backbone(start, config, tokenizer, CPU), tmp_path / "reward"


def test_a_shared_reward_model_scores_like_one_of_its_own(carried, tokenizer):
    backbone, folder = carried
    assert backbone.can_carry(folder)
    own = RewardModel.load(folder, tokenizer, "fp32", CPU)
    shared = RewardModel(SharedRewardModel(backbone, backbone.add_reward_adapter(folder)), tokenizer.pad_token_id)
    torch.testing.assert_close(shared.score_ids(SEQUENCES), own.score_ids(SEQUENCES), atol=1e-5, rtol=1e-5)
    assert own.score_ids(SEQUENCES).std() > 1e-3


def test_a_shared_reward_model_leaves_the_policy_alone(carried, tokenizer):
    backbone, folder = carried
    before, trained = logits(backbone.policy), [n for n, p in backbone.policy.named_parameters() if p.requires_grad]
    shared = RewardModel(SharedRewardModel(backbone, backbone.add_reward_adapter(folder)), tokenizer.pad_token_id)
    first = shared.score_ids(SEQUENCES)
    assert torch.equal(logits(backbone.policy), before)
    assert [n for n, p in backbone.policy.named_parameters() if p.requires_grad] == trained
    shift(backbone.policy, 0.1)
    assert torch.equal(shared.score_ids(SEQUENCES), first)


def test_states_of_a_shared_reward_model_are_those_of_its_own_adapter(carried, tokenizer):
    backbone, folder = carried
    prompts, replies = [[30, 31, 32], [40]], [[20], [21, 22, 23]]
    scores, features = reader(RewardModel.load(folder, tokenizer, "fp32", CPU))(prompts, replies)
    shared = RewardModel(SharedRewardModel(backbone, backbone.add_reward_adapter(folder)), tokenizer.pad_token_id)
    same_scores, same_features = reader(shared)(prompts, replies)
    torch.testing.assert_close(same_scores, scores, atol=1e-5, rtol=1e-5)
    for row, reply in enumerate(replies):
        torch.testing.assert_close(same_features[row, : len(reply)], features[row, : len(reply)], atol=1e-5, rtol=1e-5)
    policy = reply_hidden(backbone.policy, torch.tensor([[40, 21, 22, 23]]), torch.ones(1, 4), torch.ones(1, 3).bool())
    assert (policy - features[1]).abs().max() > 1e-3


def test_a_critic_adapter_starts_as_the_reward_model_and_is_trained(carried, tokenizer):
    backbone, folder = carried
    normalisation = Normalisation(mean=0.3, std=2.0, rows=9)
    reward = RewardModel(
        SharedRewardModel(backbone, backbone.add_reward_adapter(folder)), tokenizer.pad_token_id, normalisation
    )
    head = normalisation.of_head(backbone.add_reward_adapter(folder, "value"))
    actor_critic = ActorCritic(backbone, head, detached=False)
    sequences = torch.tensor([SEQUENCES[0], [60, 61, 62, 63]])
    mask = torch.ones(2, 2, dtype=torch.bool)
    scores = actor_critic(sequences, torch.ones_like(sequences), mask, 1.0, tokenizer.pad_token_id)
    # the value before token 4 is read at token 3: what the reward model says of the first three
    expected = reward.score_ids([row[:3] for row in sequences.tolist()])
    torch.testing.assert_close(scores.values[:, 1], expected, atol=1e-5, rtol=1e-5)
    (scores.values.sum() + scores.logprobs.sum()).backward()
    moved = {name for name, p in actor_critic.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(".value." in name for name in moved) and any(".default." in name for name in moved)
    assert not any(".reward." in name or ".reference." in name for name in moved)


def test_what_does_not_fit_is_not_carried(carried, tmp_path, lively, tokenizer):
    backbone, folder = carried
    lively.save_pretrained(tmp_path / "other")
    other = trainable_model(str(tmp_path / "other"), config_with("sft", "reward"), "reward", tokenizer, CPU)
    other.save_pretrained(tmp_path / "other reward")
    assert not backbone.can_carry(tmp_path / "other reward")  # another base
    assert not backbone.can_carry(tmp_path / "base")  # no adapter
    assert not Backbone(tmp_path / "base", config_with(), tokenizer, CPU).can_carry(folder)  # a policy without LoRA
