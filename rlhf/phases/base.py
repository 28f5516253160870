"""Phase base: pretrain a small GPT-Neo on plain text, so that there is a base model to align.

    python main.py --phase base --config configs/tiny.yaml

Only for configurations with `model.shape`; a pretrained model has been through this already.
"""

from collections.abc import Iterable
from itertools import chain

from datasets import Dataset
from transformers import DefaultDataCollator, PreTrainedTokenizerFast, TrainingArguments, set_seed

from rlhf.errors import UserError
from rlhf.fitting import fit
from rlhf.fused import fuse_kernels
from rlhf.global_batch import TokenTrainer
from rlhf.models import check_context, from_scratch
from rlhf.oom import SplittingTrainer
from rlhf.run import Run
from rlhf.sharding import whole_state
from rlhf.training import count_trainable, save_result, train, trainer_arguments


def base_arguments(run: Run) -> TrainingArguments:
    """transformers' configuration: our defaults, then what the section `base` passes through."""
    return trainer_arguments(TrainingArguments, run, "base", "base")


class TextTrainer(SplittingTrainer, TokenTrainer):
    """A Trainer on global batches, in smaller micro-batches when memory runs out."""


def run_phase(run: Run) -> dict[str, float]:
    """Train the tokenizer where the configuration says so, then the model. Leaves `DIR/base`."""
    shape = run.config.model.shape
    if shape is None:
        raise UserError(
            f"Phase base trains a model from scratch, and model.name is {run.config.model.name}.",
            remedy=f"start with: {run.command('sft')}",
        )
    set_seed(run.config.seed)
    args = fit(run, "base", base_arguments(run))
    tokenizer = run.tokenizer()
    model = from_scratch(shape, tokenizer)
    fuse_kernels(model)
    check_context(model, run.config.base.block_tokens, "base.block_tokens")
    documents = run.data.text()
    blocks = blocks_of_text(tokenizer, documents, run.config.base.block_tokens)
    data = {"train": {"documents": len(documents), "blocks": len(blocks)}}
    trainer = TextTrainer(model=model, args=args, train_dataset=blocks, data_collator=DefaultDataCollator())
    trainer.accelerator.print(
        f"base: {len(blocks):,} blocks of {run.config.base.block_tokens} tokens; {count_trainable(model)}"
    )
    train(trainer, run, "base")
    trained = trainer.accelerator.unwrap_model(trainer.model)
    weights = whole_state(trained)
    if trainer.is_world_process_zero():
        save_result(run, "base", trained, tokenizer, data=data, weights=weights)
    return {"loss": trainer.state.log_history[-1].get("train_loss", float("nan"))}


def blocks_of_text(tokenizer: PreTrainedTokenizerFast, documents: Iterable[str], block: int) -> Dataset:
    """Documents joined by the end-of-sequence token and cut into blocks; columns input_ids and labels, (N, block).

    The incomplete last block is dropped. Raises `UserError` where the text does not fill one block.
    """
    eos = tokenizer.eos_token_id
    encoded = tokenizer(list(documents), add_special_tokens=False)["input_ids"]
    stream = list(chain.from_iterable([*ids, eos] for ids in encoded))
    count = len(stream) // block
    if count == 0:
        raise UserError(
            "There is too little text to pretrain on.",
            expected=f"at least {block} tokens (base.block_tokens)",
            found=f"{len(stream)} tokens",
            remedy="give more under data.text, or set base.block_tokens lower",
        )
    rows = [stream[i * block : (i + 1) * block] for i in range(count)]
    return Dataset.from_dict({"input_ids": rows, "labels": rows})
