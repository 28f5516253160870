"""Memory that runs out on the way: injected above some number of rows, in the forward pass or in the backward pass."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPTNeoModel

from reward_model import RewardModel
from rlhf.oom import RowsThatFit
from rlhf.phases import base, reward, sft
from tests.phases.helpers import metrics, tiny_run
from tests.ppo_world import SHORT, lengths, make_trainer, one_rollout, weights

FULL = torch.OutOfMemoryError("CUDA out of memory")


def full_above(limit, asked):
    def work(size):
        asked.append(size)
        if size > limit:
            raise FULL
        return size

    return work


def test_halves_until_it_fits_and_remembers(capsys):
    rows, asked = RowsThatFit("the test"), []
    assert rows.run(16, full_above(5, asked)) == 4
    assert rows.run(16, full_above(5, asked)) == 4
    assert rows.run(2, full_above(5, asked)) == 2
    assert asked == [16, 8, 4, 4, 2]
    assert capsys.readouterr().out.count("out of memory in the test") == 2


@pytest.mark.parametrize(("processes", "limit", "asked"), [(2, 4, [16]), (1, 0, [16, 8, 4, 2, 1])])
def test_the_error_stays_where_nothing_smaller_can_be_tried(monkeypatch, processes, limit, asked):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: processes)
    tried = []
    with pytest.raises(torch.OutOfMemoryError):
        RowsThatFit("the test").run(16, full_above(limit, tried))
    assert tried == asked


def test_other_errors_are_not_caught():
    def broken(size):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        RowsThatFit("the test").run(4, broken)


@pytest.fixture
def cramped(monkeypatch):
    """Makes GPT-Neo's trunk run out of memory above some rows: in the backward pass, or else without gradients."""
    forward = GPTNeoModel.forward

    def fail(gradient):
        raise FULL

    def install(limit, *, backward):
        def limited(self, input_ids, **named):
            output = forward(self, input_ids=input_ids, **named)
            if len(input_ids) > limit and backward and output.last_hidden_state.requires_grad:
                output.last_hidden_state.register_hook(fail)  # the head has left its gradient by then
            if len(input_ids) > limit and not backward and not torch.is_grad_enabled():
                raise FULL
            return output

        monkeypatch.setattr(GPTNeoModel, "forward", limited)

    return install


STEPS = {"max_steps": 3, "gradient_accumulation_steps": 2, "optim": "sgd", "learning_rate": 0.05, "max_grad_norm": 0}
"""Plain steps along the gradient: what differs in it, differs in the weights."""


def assert_close(one, other):
    one, other = (load_file(folder / "model.safetensors") for folder in (one, other))
    for name, expected in other.items():
        torch.testing.assert_close(one[name], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("phase", "limit"), [(base, 1), (sft, 2), (reward, 4), (reward, 2)], ids=["base", "sft", "reward", "twice"]
)
def test_training_ends_with_the_same_weights(tmp_path, cramped, phase, limit, capsys):
    name = phase.__name__.rpartition(".")[2]
    sections = {"base": STEPS, "sft": STEPS, "reward": STEPS | {"init": "base"}}
    for folder in ("roomy", "cramped"):
        run = tiny_run(tmp_path / folder, **sections)
        if phase is not base:
            base.run_phase(run)
        capsys.readouterr()
        if folder == "cramped":
            cramped(limit, backward=True)
        phase.run_phase(run)
    assert "out of memory in training: going on with" in capsys.readouterr().out
    assert_close(tmp_path / "cramped" / name, tmp_path / "roomy" / name)
    counts = [[row.get("num_tokens") for row in metrics(tmp_path / f / name)] for f in ("cramped", "roomy")]
    assert counts[0] == counts[1]
    losses = [[row["loss"] for row in metrics(tmp_path / f / name) if "loss" in row] for f in ("cramped", "roomy")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize("exact", [True, False])
def test_sampling_and_scoring_give_the_same_rollout(tmp_path, start, tokenizer, cramped, exact, capsys):
    trainer = make_trainer(tmp_path, start, tokenizer, lengths)
    trainer.sampler.exact_decoding = exact
    expected = one_rollout(trainer)
    cramped(3, backward=False)
    found = one_rollout(trainer)
    assert torch.equal(found.sequences, expected.sequences)
    for name in ("logprobs", "ref_logprobs", "values", "advantages"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-5, rtol=1e-5)
    assert trainer.sampler.rows.limit == 2
    assert capsys.readouterr().out.count("out of memory in sampling") == 3  # 16 rows, 8, 4


def test_a_resumed_run_begins_with_the_size_that_fitted(tmp_path, start, tokenizer, cramped, capsys):
    cramped(2, backward=False)
    settings = SHORT | {"total_episodes": 8, "save_steps": 1}
    make_trainer(tmp_path, start, tokenizer, lengths, **settings).train()
    checkpoint = tmp_path / "out" / "checkpoint-1"
    assert json.loads((checkpoint / "ppo_state.json").read_text())["rollout_batch"] == 2
    capsys.readouterr()
    resumed = make_trainer(tmp_path, start, tokenizer, lengths, **settings)
    resumed.train(str(checkpoint))
    assert "out of memory" not in capsys.readouterr().out
    assert resumed.sampler.rows.limit == 2


def test_ppo_ends_with_the_same_weights(tmp_path, start, tokenizer, cramped):
    def trained(name):
        torch.manual_seed(0)
        trainer = make_trainer(tmp_path / name, start, tokenizer, lengths, **SHORT, optim="sgd")
        trainer.train()
        return weights(trainer)

    roomy = trained("roomy")
    cramped(2, backward=False)
    found = trained("cramped")
    for name, expected in roomy.items():
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-5)


def test_scores_of_a_reward_model_are_the_same(model, cramped):
    from transformers import GPTNeoForSequenceClassification

    model.config.num_labels = 1
    rewards = RewardModel(GPTNeoForSequenceClassification(model.config), pad_token_id=0)
    sequences = [[10 + i] * (3 + i % 4) for i in range(7)]
    expected = rewards.score_ids(sequences, 7)
    cramped(2, backward=False)
    torch.testing.assert_close(rewards.score_ids(sequences, 7), expected, atol=1e-5, rtol=1e-5)
    assert rewards.rows.limit == 1
