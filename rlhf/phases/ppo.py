"""Phase ppo: optimise the policy for its rewards, by default the learned reward model, held near its reference.

    python main.py --phase ppo

The gold judge, where a data source has one, is never seen here.
"""

from pathlib import Path

from datasets import Dataset
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, set_seed
from trl.experimental.ppo import PPOConfig

from reward_model import RewardModel
from rlhf.backbone import Backbone, SharedRewardModel
from rlhf.baseline import ReturnBaseline, reader
from rlhf.config import PPOSection
from rlhf.encoding import Encoder, data_statistics
from rlhf.errors import UserError
from rlhf.fitting import fit
from rlhf.models import check_context, load_merged
from rlhf.normalisation import Normalisation
from rlhf.padding import WIDTH
from rlhf.ppo_trainer import RLHFTrainer
from rlhf.rewards.build import build_rewards
from rlhf.rewards.calibration import run_workshop
from rlhf.rewards.core import ReadFunction, Rewards
from rlhf.rewards.specs import uses_model
from rlhf.rewards.tokens import TokenRewards
from rlhf.run import Run
from rlhf.sharding import whole_state
from rlhf.stop_token import stop_token_id
from rlhf.training import count_trainable, prepare, save_model, save_result, trainer_arguments

MERGED = "rlhf_gpt_neo_model"


def run_phase(run: Run) -> dict[str, float]:
    """SFT then PPO. Leaves `DIR/ppo` and, merged, `DIR/rlhf_gpt_neo_model`."""
    return train_policy(run, _reward_folder(run), str(run.result("sft")), "ppo", MERGED)


def run_phase_from_base(run: Run) -> dict[str, float]:
    """PPO straight from the base model, without SFT: the report's comparison RO. Leaves `DIR/ppo_from_base`."""
    return train_policy(run, _reward_folder(run), run.base_model(), "ppo_from_base")


def _reward_folder(run: Run) -> Path | None:
    """Where the learned reward model is; None where nothing asks for it."""
    settings = run.config.ppo
    return run.result("reward") if uses_model(settings.rewards) or settings.value == "adapter" else None


def ppo_arguments(run: Run, result: str) -> PPOConfig:
    """TRL's configuration: our defaults, then what the section `ppo` passes through."""
    defaults = {
        "response_length": run.config.data.max_response_tokens,
        "stop_token": "eos" if run.config.ppo.trainer_args.get("stop_token_id") is None else None,
        "adam_epsilon": 1e-5,
        "eval_steps": 10,
        "save_steps": run.config.ppo.trainer_args.get("eval_steps", 10),
    }
    return trainer_arguments(PPOConfig, run, result, "ppo", defaults)


def train_policy(
    run: Run, reward_folder: Path | None, start: str, result: str = "ppo", merged: str | None = None
) -> dict[str, float]:
    """The phase, from any model and against any reward model.

    Args:
        run: its `data.prompts` are replied to.
        reward_folder: of the learned reward model; None where nothing asks for it.
        start: hub name or result folder of the policy, which is the reference, too.
        result: name of the folder that it leaves in `DIR`.
        merged: result folder to leave the whole, merged model in, too.
    """
    set_seed(run.config.seed)
    settings, limits = run.config.ppo, run.config.data
    args = fit(run, "ppo", ppo_arguments(run, result))
    args.push_to_hub &= merged is not None  # not the policy that is made for comparison
    tokenizer = run.tokenizer()
    stop_token_id(args, tokenizer)  # refuses a bad one before anything is loaded
    encoder = Encoder(tokenizer, limits)
    backbone = Backbone(start, run.config, tokenizer, run.device)
    widest = limits.max_prompt_tokens + -limits.max_prompt_tokens % WIDTH + args.response_length
    check_context(backbone.policy, widest, "data.max_prompt_tokens + ppo.response_length")
    model = None
    if reward_folder and uses_model(settings.rewards):
        model = _reward_model(run, reward_folder, backbone, tokenizer)
    rows_at_a_time = args.local_rollout_forward_batch_size
    read = reader(model, rows_at_a_time, run.config.seed, settings.baseline) if model else None
    training, held_out = run.data.prompts("train"), run.data.prompts("validation")[: settings.eval_prompts]
    prompts = _numbered(encoder.prompts(training))
    demonstrations: Dataset | None = None
    if settings.sft_coef > 0:
        demonstrations = encoder.prompt_reply_pairs(run.data.demonstrations("train"))

    trainer = RLHFTrainer(
        args,
        settings,
        tokenizer,
        backbone,
        TokenRewards(_rewards(run, encoder, read), [*training, *held_out], tokenizer, read),
        prompts,
        _numbered(encoder.prompts(held_out), len(training)) if held_out else None,
        demonstrations,
        _value_head(settings, backbone, reward_folder),
        ReturnBaseline() if read and settings.baseline else None,
        exact_decoding=run.config.model.precision == "fp32",
    )
    trained = count_trainable(trainer.model)
    trainer.accelerator.print(f"{result}: {len(prompts):,} prompts ({encoder.summary()}); {trained}")
    checkpoint = prepare(trainer, run, result, "ppo")
    trainer.train(str(checkpoint) if checkpoint else None)
    critic = trainer.accelerator.unwrap_model(trainer.model).value_head
    weights, head = whole_state(backbone.policy), whole_state(critic) or critic.state_dict()
    if trainer.is_world_process_zero():
        data = data_statistics({"train": training, "validation": held_out}, encoder)
        folder = save_result(
            run, result, backbone.policy, tokenizer, lambda aside: save_head(head, aside), data=data, weights=weights
        )
        if merged:
            run.publish(merged, lambda aside: save_model(load_merged(str(folder), tokenizer), tokenizer, aside))
    if args.push_to_hub:
        trainer.push_to_hub()
    return {"best/objective": trainer.best[0], "best/update": trainer.best[1]} if trainer.best else {}


def _numbered(prompts: Dataset, first: int = 0) -> Dataset:
    """The prompts with a column `row`: their place among all prompts, where the rewards find their records."""
    return prompts.add_column("row", list(range(first, first + len(prompts))))


def _rewards(run: Run, encoder: Encoder, read: ReadFunction | None) -> Rewards:
    workshop = run_workshop(run.config, run.device, encoder, lambda: run.data.demonstrations("validation"), read)
    return build_rewards(run.config.ppo.rewards, workshop)


def _reward_model(run: Run, folder: Path, backbone: Backbone, tokenizer: PreTrainedTokenizerFast) -> RewardModel:
    """On the policy's own base weights if it is an adapter on them, else as a network of its own."""
    if not backbone.can_carry(folder):
        return RewardModel.load(folder, tokenizer, run.config.model.precision, run.device)
    network = SharedRewardModel(backbone, backbone.add_reward_adapter(folder))
    return RewardModel(network, tokenizer.pad_token_id, Normalisation.load(folder))


def _value_head(settings: PPOSection, backbone: Backbone, reward_folder: Path | None) -> nn.Linear | None:
    """With `value: adapter`, a critic that starts as the reward model; otherwise the trainer's own, on the policy."""
    if settings.value != "adapter" or reward_folder is None:
        return None
    if not backbone.can_carry(reward_folder):
        raise UserError(
            "ppo.value is adapter, but the reward model is no adapter on the policy's base weights.",
            expected=f"ppo and reward in lora.phases, and {reward_folder} trained from the same model",
            remedy="--set ppo.value=auto",
        )
    head = backbone.add_reward_adapter(reward_folder, "value")
    return Normalisation.load(reward_folder).of_head(head)


def save_head(head: dict[str, Tensor], folder: Path) -> None:
    """Keep the value head's weights beside the policy."""
    save_file({name: weight.detach().contiguous() for name, weight in head.items()}, folder / "value_head.safetensors")
