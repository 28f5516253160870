from itertools import islice

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments

from rlhf.global_batch import EpochRows, TokenTrainer, global_batch, in_words

counts = st.integers(1, 40)


def rows_of(rows, batch, seed=0, epoch=0, lengths=None):
    return list(EpochRows(rows, batch, seed, lambda: epoch, lengths))


@given(counts, counts)
def test_an_epoch_is_whole_batches_and_every_row_once_before_any_repeats(rows, batch):
    order = rows_of(rows, batch)
    assert len(order) == len(EpochRows(rows, batch, 0, lambda: 0)) and len(order) % batch == 0
    assert len(order) - rows < batch
    assert sorted(order[:rows]) == list(range(rows))
    assert order[rows:] == list(islice(order * batch, len(order) - rows))


def test_seed_and_epoch_alone_decide_the_order():
    torch.manual_seed(1)
    first = rows_of(100, 8)
    torch.manual_seed(2)
    assert rows_of(100, 8) == first
    assert rows_of(100, 8, epoch=1) != first
    assert rows_of(100, 8, seed=1) != first


def test_rows_of_like_length_share_a_global_batch():
    lengths = [(17 * row) % 64 for row in range(64)]
    order = rows_of(64, 4, lengths=lengths)
    spans = [max(part) - min(part) for part in (([lengths[row] for row in order[i : i + 4]]) for i in range(4, 64, 4))]
    assert sum(spans) / len(spans) < 20  # of 64; batches at random span 38
    assert sorted(order) == list(range(64))


def settings(tmp_path, **values):
    return TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True, **values)


def test_the_line_for_the_log(tmp_path):
    args = settings(tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=3)
    assert global_batch(args) == 12
    assert in_words(args) == "global batch 12 = 4 a process x 3 accumulated x 1 processes"


@pytest.fixture
def trainer(model, tmp_path):
    """Sequences of 1 to 5 tokens with a loss, padded; evaluated two at a time, so that the last batch is smaller."""
    rows = [{"input_ids": [30 + i] * 6, "labels": [-100] * (5 - i) + [30 + i] * (i + 1)} for i in range(5)]
    args = settings(tmp_path, per_device_eval_batch_size=2, bf16=False)
    return TokenTrainer(model=model, args=args, eval_dataset=Dataset.from_list(rows))


def test_the_evaluation_loss_is_a_mean_over_tokens_for_any_batch_size(trainer, model):
    sums = []
    for row in trainer.eval_dataset:
        labels = torch.tensor([row["labels"]])
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([row["input_ids"]]), labels=labels).loss
        sums.append(loss * (labels[:, 1:] != -100).sum())
    by_hand = float(sum(sums)) / (1 + 2 + 3 + 4 + 5)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(by_hand, abs=1e-5)
    trainer.args.per_device_eval_batch_size = 5
    assert trainer.evaluate()["eval_loss"] == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize(("process", "kept"), [(0, [True, True]), (1, [True, False])])
def test_repeats_at_the_end_of_an_evaluation_do_not_count(trainer, monkeypatch, process, kept):
    """Seven rows, two at a time, by two processes: the last batch has three rows and one repeat."""

    class State:
        end_of_dataloader, remainder = True, 3

    class Accelerator:
        process_index, gradient_state = process, State

    monkeypatch.setattr(trainer, "accelerator", Accelerator)
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    assert trainer.counts(2).tolist() == kept


def test_a_first_epoch_is_over_before_the_second_begins(trainer):
    trainer.train_dataset = Dataset.from_list([{"input_ids": [30 + i], "labels": [30 + i]} for i in range(20)])
    sampler = trainer._get_train_sampler()
    first = list(sampler)
    trainer.state.epoch = 0.999
    assert list(sampler) == first
    trainer.state.epoch = 1.0
    assert list(sampler) != first
