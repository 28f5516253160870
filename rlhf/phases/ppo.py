"""Phase ppo: optimise the policy against the learned reward model, held near its reference.

    python main.py --phase ppo

The gold judge, where a data source has one, is never seen here.
"""

from pathlib import Path

from datasets import Dataset
from transformers import set_seed
from trl.experimental.ppo import PPOConfig

from reward_model import RewardModel
from rlhf.backbone import Backbone
from rlhf.encoding import Encoder, data_statistics
from rlhf.models import check_context, load_merged
from rlhf.ppo_trainer import RLHFTrainer
from rlhf.run import Run
from rlhf.training import count_trainable, save_model, save_result, trainer_arguments, training_folder, watch

MERGED = "rlhf_gpt_neo_model"


def run_phase(run: Run) -> dict[str, float]:
    """SFT then PPO. Leaves `DIR/ppo` and, merged, `DIR/rlhf_gpt_neo_model`."""
    return _train_policy(run, run.result("reward"), str(run.result("sft")), "ppo", MERGED)


def run_phase_from_base(run: Run) -> dict[str, float]:
    """PPO straight from the base model, without SFT: the report's comparison RO. Leaves `DIR/ppo_from_base`."""
    return _train_policy(run, run.result("reward"), run.base_model(), "ppo_from_base")


def ppo_arguments(run: Run, result: str) -> PPOConfig:
    """TRL's configuration: our defaults, then what the section `ppo` passes through."""
    defaults = {
        "response_length": run.config.data.max_response_tokens,
        "stop_token": "eos",
        "adam_epsilon": 1e-5,
        "eval_steps": 10,
    }
    return trainer_arguments(PPOConfig, run, result, "ppo", defaults)


def _train_policy(
    run: Run, reward_folder: Path, start: str, result: str, merged: str | None = None
) -> dict[str, float]:
    set_seed(run.config.seed)
    settings, limits = run.config.ppo, run.config.data
    args = ppo_arguments(run, result)
    tokenizer = run.tokenizer()
    encoder = Encoder(tokenizer, limits)
    backbone = Backbone(start, run.config, tokenizer, run.device)
    check_context(
        backbone.policy, limits.max_prompt_tokens + args.response_length, "data.max_prompt_tokens + ppo.response_length"
    )
    reward_model = RewardModel.load(reward_folder, tokenizer, run.config.model.precision, run.device)
    training, held_out = run.data.prompts("train"), run.data.prompts("validation")[: settings.eval_prompts]
    prompts = encoder.prompts(training)
    demonstrations: Dataset | None = None
    if settings.sft_coef > 0:
        demonstrations = encoder.prompt_reply_pairs(run.data.demonstrations("train"))
    trainer = RLHFTrainer(
        args,
        settings,
        tokenizer,
        backbone,
        lambda sequences: reward_model.score_ids(sequences, args.local_rollout_forward_batch_size),
        prompts,
        encoder.prompts(held_out) if held_out else None,
        demonstrations,
    )
    watch(trainer, training_folder(run, result))
    print(f"{result}: {len(prompts):,} prompts ({encoder.summary()}); {count_trainable(trainer.model)}")
    if run.resume and trainer.is_world_process_zero():
        print(f"{result}: PPO cannot be resumed yet, so --resume starts it from the beginning")
    trainer.train()
    if trainer.is_world_process_zero():
        data = data_statistics({"train": training, "validation": held_out}, encoder)
        folder = save_result(run, result, backbone.policy, tokenizer, data=data)
        if merged:
            run.publish(merged, lambda aside: save_model(load_merged(str(folder), tokenizer), tokenizer, aside))
    return {"best/objective": trainer.best[0], "best/update": trainer.best[1]} if trainer.best else {}
