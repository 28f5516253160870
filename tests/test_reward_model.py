"""The reward model: the loss by hand, scores without padding's influence, normalisation, saving and loading."""

import json
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from peft import get_peft_model
from transformers import GPTNeoForSequenceClassification
from trl import RewardConfig

from reward_model import PairwiseRewardTrainer, RewardModel, bradley_terry_loss
from rlhf.config import LoraSection
from rlhf.errors import UserError
from rlhf.models import init_reward_head, lora_config
from rlhf.normalisation import Normalisation

CPU = torch.device("cpu")
SEQUENCES = [[30, 31, 32, 33, 34, 35], [40], [50, 51, 52], [60, 61]]


@pytest.fixture
def classifier(model, tokenizer):
    """A reward model of the shape of `model`."""
    config = model.config.__class__(**model.config.to_dict() | {"num_labels": 1})
    torch.manual_seed(0)
    network = GPTNeoForSequenceClassification(config)
    with torch.no_grad():
        network.transformer.wte.weight.mul_(10)
    init_reward_head(network)
    return network.eval()


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_loss_by_hand():
    chosen, rejected = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0])
    # -log σ(1) = 0.3132617 and -log σ(-1) = 1.3132617
    assert bradley_terry_loss(chosen, rejected).item() == pytest.approx(0.8132617, abs=1e-6)


def test_loss_with_margin_by_hand():
    chosen, rejected, margin = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.5])
    # -log σ(0) = 0.6931472 and -log σ(-1.5) = 1.7014133
    assert bradley_terry_loss(chosen, rejected, margin).item() == pytest.approx(1.1972802, abs=1e-6)


def test_gradient_by_hand():
    chosen = torch.tensor([2.0, 0.0], requires_grad=True)
    rejected = torch.tensor([1.0, 1.0], requires_grad=True)
    bradley_terry_loss(chosen, rejected).backward()
    # σ(-1)/2 and σ(1)/2, pulling the pair that is the wrong way round harder
    torch.testing.assert_close(chosen.grad, torch.tensor([-0.1344707, -0.3655293]))
    torch.testing.assert_close(rejected.grad, torch.tensor([0.1344707, 0.3655293]))


def test_loss_of_extreme_rewards_is_finite():
    assert bradley_terry_loss(torch.tensor([-500.0]), torch.tensor([500.0])).item() == pytest.approx(1000)
    assert bradley_terry_loss(torch.tensor([500.0]), torch.tensor([-500.0])).item() == 0
    half = bradley_terry_loss(torch.tensor([1.0]).bfloat16(), torch.tensor([0.0]).bfloat16())
    assert half.dtype == torch.float32


@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=1, max_size=8), st.floats(-50, 50))
def test_loss_depends_on_differences_only(pairs, shift):
    chosen, rejected = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    loss = bradley_terry_loss(chosen, rejected)
    assert loss >= 0
    torch.testing.assert_close(bradley_terry_loss(chosen + shift, rejected + shift), loss, atol=1e-4, rtol=1e-4)
    swapped = bradley_terry_loss(rejected, chosen)  # -log σ(-d) = d - log σ(d)
    torch.testing.assert_close(swapped - loss, (chosen - rejected).mean().float(), atol=1e-4, rtol=1e-4)


# --- normalisation ----------------------------------------------------------------------------------------------------


def test_normalisation_by_hand(tmp_path):
    found = Normalisation.of(torch.tensor([1.0, 2.0, 3.0]))
    assert found == (2.0, 1.0, 3)
    found.save(tmp_path)
    assert json.loads((tmp_path / "reward_normalisation.json").read_text()) == {"mean": 2.0, "std": 1.0, "rows": 3}
    assert Normalisation.load(tmp_path) == found


def test_normalisation_of_equal_rewards_divides_by_no_zero():
    assert Normalisation.of(torch.tensor([4.0, 4.0])) == (4.0, pytest.approx(1e-6), 2)


def test_a_folder_without_normalisation_leaves_scores_raw(tmp_path):
    assert Normalisation.load(tmp_path) == (0.0, 1.0, 0)


# --- scores -----------------------------------------------------------------------------------------------------------


def test_the_score_is_read_at_the_last_token(classifier, tokenizer):
    hidden = classifier.transformer(torch.tensor([SEQUENCES[0]])).last_hidden_state[0, -1]
    expected = (hidden @ classifier.score.weight[0]).item()
    scores = RewardModel(classifier, tokenizer.pad_token_id).score_ids(SEQUENCES)
    assert scores[0].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_scores_do_not_depend_on_the_batch(classifier, tokenizer, size):
    reward_model = RewardModel(classifier, tokenizer.pad_token_id)
    alone = torch.cat([reward_model.score_ids([ids]) for ids in SEQUENCES])
    assert alone.unique().numel() == len(SEQUENCES)
    torch.testing.assert_close(reward_model.score_ids(SEQUENCES, size), alone, atol=1e-5, rtol=1e-5)
    back = reward_model.score_ids(SEQUENCES[::-1], size).flip(0)
    torch.testing.assert_close(back, alone, atol=1e-5, rtol=1e-5)


def test_scores_are_normalised_and_plain_numbers(classifier, tokenizer):
    raw = RewardModel(classifier, tokenizer.pad_token_id).score_ids(SEQUENCES)
    scaled = RewardModel(classifier, tokenizer.pad_token_id, Normalisation(2.0, 4.0)).score_ids(SEQUENCES)
    torch.testing.assert_close(scaled, (raw - 2) / 4)
    assert scaled.dtype == torch.float32 and not scaled.requires_grad
    assert RewardModel(classifier, tokenizer.pad_token_id).score_ids([]).shape == (0,)


def test_the_model_is_frozen(classifier, tokenizer):
    RewardModel(classifier.train(), tokenizer.pad_token_id)
    assert not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())


def test_whole_model_and_adapter_load_to_the_same_scores(classifier, tokenizer, tmp_path):
    classifier.save_pretrained(tmp_path / "whole")
    Normalisation(1.0, 2.0, 9).save(tmp_path / "whole")
    classifier.name_or_path = str(tmp_path / "whole")
    adapted = get_peft_model(classifier, lora_config(LoraSection(r=2, alpha=2, dropout=0.0), reward=True))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05)
    adapted.save_pretrained(tmp_path / "adapter")
    pad = tokenizer.pad_token_id
    whole = RewardModel.load(tmp_path / "whole", tokenizer, "fp32", CPU)
    adapter = RewardModel.load(tmp_path / "adapter", tokenizer, "fp32", CPU)
    with adapted.disable_adapter():
        raw = RewardModel(adapted, pad).score_ids(SEQUENCES)
    torch.testing.assert_close(whole.score_ids(SEQUENCES), (raw - 1) / 2, atol=1e-5, rtol=1e-5)
    expected = RewardModel(adapted, pad).score_ids(SEQUENCES)
    torch.testing.assert_close(adapter.score_ids(SEQUENCES), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(expected, raw, atol=1e-3)


def test_a_folder_without_a_model_is_refused(tokenizer, tmp_path):
    with pytest.raises(UserError, match="Could not load a model"):
        RewardModel.load(tmp_path, tokenizer, "fp32", CPU)


# --- training ---------------------------------------------------------------------------------------------------------


def make_trainer(classifier, tokenizer, folder, rows, **settings):
    args = RewardConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", gradient_checkpointing=False,
        save_strategy="no", disable_tqdm=True, max_length=None, **settings,
    )  # fmt: skip
    return PairwiseRewardTrainer(
        model=classifier, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )


def logits_of(values):
    """A network that gives these rewards: those of the chosen first, then those of the rejected."""
    network = torch.nn.Module()
    network.forward = lambda **_: SimpleNamespace(logits=torch.tensor(values).unsqueeze(-1))
    return network


def test_trainer_loss_and_metrics_by_hand(classifier, tokenizer, tmp_path):
    rows = [{"chosen_ids": [30, 31], "rejected_ids": [30, 32], "margin": 1.0}] * 2
    trainer = make_trainer(classifier, tokenizer, tmp_path, rows, center_rewards_coefficient=0.1)
    inputs = {"margin": torch.tensor([1.0, 0.5])}
    loss = trainer.compute_loss(logits_of([2.0, 0.0, 1.0, 1.0]), inputs)
    # the loss with margin by hand (above), and 0.1 · mean((2+1)², (0+1)²)
    assert loss.item() == pytest.approx(1.1972802 + 0.5, abs=1e-6)
    assert trainer._metrics["train"]["accuracy"] == [1.0, 0.0]  # of each pair
    assert trainer._metrics["train"]["reward_gap"] == [1.0, -1.0]


def test_margins_of_the_data_reach_the_loss(classifier, tokenizer, tmp_path):
    rows = [{"chosen_ids": [30, 31], "rejected_ids": [30, 32], "margin": 0.25}] * 2
    trainer = make_trainer(classifier, tokenizer, tmp_path, rows)
    assert next(iter(trainer.get_train_dataloader()))["margin"].tolist() == [0.25] * 8  # a whole batch


def test_the_reward_model_learns_which_token_is_preferred(classifier, tokenizer, tmp_path):
    rows = [{"chosen_ids": [30 + i, 40 + i, 20], "rejected_ids": [30 + i, 40 + i, 21]} for i in range(32)]
    trainer = make_trainer(classifier, tokenizer, tmp_path, rows, max_steps=15, learning_rate=3e-3)
    trainer.train()
    scores = RewardModel(trainer.model, tokenizer.pad_token_id).score_ids([[90, 91, 20], [90, 91, 21]])
    assert scores[0] > scores[1] + 1
