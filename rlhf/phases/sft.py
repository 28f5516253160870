"""Phase sft: supervised fine-tuning on demonstrations; the loss sees the replies only.

python main.py --phase sft
"""

import operator
from typing import Any

from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from rlhf.encoding import Encoder, data_statistics
from rlhf.fitting import fit
from rlhf.global_batch import TokenTrainer
from rlhf.models import trainable_model
from rlhf.oom import SplittingTrainer
from rlhf.records import Demonstration
from rlhf.run import TRAINED_ON, Run
from rlhf.sharding import whole_state
from rlhf.training import count_trainable, save_result, train, trainer_arguments


def sft_arguments(run: Run) -> SFTConfig:
    """TRL's configuration: our defaults, then what the section `sft` passes through."""
    defaults = {"completion_only_loss": True, "max_length": None, "shuffle_dataset": True}
    return trainer_arguments(SFTConfig, run, "sft", "sft", defaults)


class DemonstrationTrainer(SplittingTrainer, TokenTrainer, SFTTrainer):
    """TRL's SFTTrainer on global batches, in smaller micro-batches when memory runs out."""

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Accuracy and entropy, too, become means over tokens; TRL's are over batches."""
        output = super().evaluation_loop(*args, **kwargs)
        for name in ("mean_token_accuracy", "entropy"):
            batches = self._metrics["eval"].get(name)
            if batches:  # not with every kernel
                batches[:] = [sum(map(operator.mul, batches, self.tokens)) / sum(self.tokens)]
        return output


def run_phase(run: Run) -> dict[str, float]:
    """Fine-tune the base model. Leaves `DIR/sft`, a whole model or a LoRA adapter."""
    set_seed(run.config.seed)
    args = fit(run, "sft", sft_arguments(run))
    start = run.base_model()
    tokenizer = run.tokenizer()
    encoder = Encoder(tokenizer, run.config.data)
    given: dict[str, list[Demonstration]] = {split: run.data.demonstrations(split) for split in TRAINED_ON}
    rows, held_out = (encoder.demonstrations(given[split]) for split in TRAINED_ON)
    model = trainable_model(start, run.config, "sft", tokenizer, run.device)
    data, trained = data_statistics(given, encoder), count_trainable(model)
    trainer = DemonstrationTrainer(
        model=model, args=args, train_dataset=rows, eval_dataset=held_out, processing_class=tokenizer
    )
    trainer.accelerator.print(f"sft: {len(rows):,} demonstrations ({encoder.summary()}); {trained}")
    train(trainer, run, "sft")
    metrics = trainer.evaluate()
    trained_model = trainer.accelerator.unwrap_model(trainer.model)
    weights = whole_state(trained_model)
    if trainer.is_world_process_zero():
        save_result(run, "sft", trained_model, tokenizer, data=data, weights=weights)
    return {"eval_loss": metrics["eval_loss"]}
