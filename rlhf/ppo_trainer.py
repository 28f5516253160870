"""PPO on a language model: TRL's PPOTrainer with its training loop rewritten as small steps.

    rollout → score → advantages → update

Kept from TRL: its configuration, callbacks, logging keys and saving. Ours: one backbone for all roles, and the
corrections listed in docs/ppo.md. B sequences, P prompt tokens (padded left), R response tokens (padded right).
"""

import math
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerFast, TrainerCallback, TrainerControl
from trl.experimental.ppo import PPOConfig, PPOTrainer

from rlhf.actor_critic import ActorCritic
from rlhf.backbone import Backbone
from rlhf.baseline import ReturnBaseline
from rlhf.config import PPOSection
from rlhf.distributed import gather_samples, share_of
from rlhf.early_stop import reason_to_stop
from rlhf.errors import UserError
from rlhf.padding import prompt_collator
from rlhf.ppo_checkpoint import load_checkpoint, save_checkpoint
from rlhf.ppo_math import KLController, kl_per_token, masked_mean
from rlhf.ppo_update import GAP, Updater
from rlhf.randomness import generator
from rlhf.rewards.core import statistics
from rlhf.rollout import Rollout, Sampler, Samples, ScoreFunction, trusted, with_advantages
from rlhf.sharding import whole_state, whole_weights
from rlhf.stopwatch import Stopwatch
from rlhf.training import save_model

MAX_SKIPPED = 3
"""So many updates in a row with a loss, gradient or reward that is not finite end the run."""


class _NoNetwork(nn.Module):
    """Satisfies the stock constructor, which wants a value and a reward network; ours are not its business."""

    base_model_prefix = "trunk"
    config = SimpleNamespace()

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Identity()


class RLHFTrainer(PPOTrainer):
    """PPO from a score function, with policy, reference and critic on one backbone.

    Args:
        args: TRL's configuration; `kl_coef`, `cliprange`, `temperature` … mean what they mean there.
        settings: our own PPO settings.
        tokenizer: pad and end-of-sequence must differ.
        backbone: policy and reference, perhaps with the role "value".
        score: rewards of prompts and replies.
        prompts: rows {"input_ids": prompt tokens}, perhaps with a number "row" that `score` is told.
        eval_prompts: held-out rows of the same form, or None.
        demonstrations: rows {"prompt_ids", "reply_ids"} for the supervised term; needed if settings.sft_coef > 0.
        value_head: D → 1; by default on the trunk's last hidden state, and zero.
        baseline: foresees returns under the value head, from the features that `score` gives then.
        exact_decoding: as for `Sampler`.
        callbacks: as for any Trainer.
    """

    control: TrainerControl

    def __init__(
        self,
        args: PPOConfig,
        settings: PPOSection,
        tokenizer: PreTrainedTokenizerFast,
        backbone: Backbone,
        score: ScoreFunction,
        prompts: Dataset,
        eval_prompts: Dataset | None = None,
        demonstrations: Dataset | None = None,
        value_head: nn.Linear | None = None,
        baseline: ReturnBaseline | None = None,
        exact_decoding: bool = True,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        if tokenizer.pad_token_id == tokenizer.eos_token_id:
            raise ValueError("PPO needs a pad token that is not the end-of-sequence token")
        if settings.sft_coef > 0 and demonstrations is None:
            raise ValueError("sft_coef > 0 needs demonstrations")
        if settings.patience and not eval_prompts:
            raise UserError("ppo.patience counts evaluations, but there are no held-out prompts.",
                            remedy="raise data.validation_fraction, or --set ppo.patience=null")  # fmt: skip
        self.settings = settings
        self.backbone = backbone
        self.stopwatch = Stopwatch()
        self.sampler = Sampler(args, settings, tokenizer, backbone, score, self.stopwatch, exact_decoding)
        self.rewards: list[str] = list(getattr(score, "names", [getattr(score, "__name__", "score")]))
        self.value_head = value_head or _zero_head(backbone)
        self.baseline = baseline
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        self.skipped = self.skipped_in_a_row = 0
        self.without_a_better = 0
        self.stopped: str | None = None
        self.last_good: Path | None = None
        super().__init__(
            args=args,
            processing_class=tokenizer,
            model=backbone.policy,
            ref_model=backbone.reference,
            reward_model=_NoNetwork(),
            value_model=_NoNetwork(),
            train_dataset=prompts,
            eval_dataset=eval_prompts,
            data_collator=prompt_collator(tokenizer.pad_token_id),
            callbacks=callbacks,
        )
        if len(prompts) < args.batch_size:
            raise UserError(
                "There are too few prompts for one PPO batch.",
                expected=f"at least {args.batch_size} (per_device_train_batch_size x gradient_accumulation_steps)",
                found=f"{len(prompts)} prompts",
                remedy="give more under data.prompts, or lower ppo.per_device_train_batch_size",
            )
        self.updater = Updater(
            args, settings, self.model, self.optimizer, self.accelerator, tokenizer.pad_token_id, demonstrations
        )
        horizon = settings.kl_horizon or args.num_total_batches * args.batch_size / 10
        self.kl_controller = KLController(args.kl_coef, settings.target_kl, max(int(horizon), args.batch_size))

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Called by the stock constructor once the modules stand: the place to put the value head on the trunk."""
        value = self.settings.value
        detached = value == "detached" or (value == "auto" and self.baseline is not None)
        self.model = ActorCritic(self.backbone, self.value_head, detached)
        self.model.config = self.policy_model.config
        if deepspeed := self.accelerator.state.deepspeed_plugin:  # which clips by itself
            deepspeed.deepspeed_config["gradient_clipping"] = self.args.max_grad_norm or 0.0
        if self.args.activation_checkpointing:
            self.policy_model.activation_checkpointing_enable(self.args.activation_checkpointing_kwargs)
        super().create_optimizer_and_scheduler(num_training_steps)

    # --- the loop ---------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | None = None) -> None:
        """Run all updates, or until something stops; then the policy is the best one seen on the held-out prompts.

        Args:
            resume_from_checkpoint: a folder that `save_checkpoint` wrote; the run ends as if it had not been broken.
        """
        started = time.perf_counter()
        self._begin(resume_from_checkpoint)
        last = self.state.global_step if self.stopped else self.args.num_total_batches
        for update in range(self.state.global_step + 1, last + 1):
            self.stopwatch.seconds.clear()
            rollout = self.rollout(update)  # 1. sample, score, advantages
            metrics = self.update(rollout, update)  # 2. several epochs of clipped updates
            kl = _mean_kl(rollout)
            self._log_step(rollout, kl, metrics)
            self.kl_controller.update(kl, self.args.batch_size)
            self.lr_scheduler.step()
            self._print_samples_if_due(rollout, update)
            self.control = self.callback_handler.on_step_end(self.args, self.state, self.control)
            self._stop_early(update, kl=kl)
            self._evaluate_if_due(update, last=self.control.should_training_stop)  # true after the last update, too
            self._stop_early(update)
            self._save_if_due(update, last=self.control.should_training_stop)
            if self.control.should_training_stop:
                break
        self._restore_best(time.perf_counter() - started)
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)

    def _begin(self, checkpoint: str | None) -> None:
        self.state.global_step = 0
        self.state.episode = 0
        self.state.max_steps = self.args.num_total_batches
        self.state.num_train_epochs = self.args.total_episodes / self.train_dataset_len
        self.state.logging_steps = self.args.logging_steps
        if checkpoint:
            load_checkpoint(self, Path(checkpoint))
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        if not checkpoint:
            self._evaluate_if_due(0)

    def _prompts(self, update: int) -> dict[str, Tensor]:
        """The prompts (B, P) of an update: each pass over them all is in a new order, which the seed decides."""
        size = self.args.batch_size
        a_pass, batch = divmod(update - 1, len(self.train_dataset) // size)
        order = torch.randperm(len(self.train_dataset), generator=generator(self.args.seed, "prompts", a_pass))
        return self.data_collator(list(self.train_dataset.select(order[batch * size :][:size].tolist())))

    # --- 1. rollout → score → advantages ----------------------------------------------------------------------

    def rollout(self, update: int) -> Rollout:
        """A response to each prompt of an update, with everything the update needs."""
        samples = self._sample(self._prompts(update), generator(self.args.seed, "rollout", update))
        with self.stopwatch("score"):
            rollout = with_advantages(samples, self.kl_controller.coef, self.args, self.baseline)
        return trusted(rollout, self.settings.max_logprob_gap)

    def _sample(self, prompts: dict[str, Tensor], random: torch.Generator, features: bool = True) -> Samples:
        """Each process answers its share; all of them get all samples, with features only where they are wanted."""
        self.model.eval()
        count = len(prompts["input_ids"])
        luck = torch.rand(count, self.args.response_length, generator=random)
        mine = share_of(self.accelerator, count)
        own = {name: tensor[mine].to(self.accelerator.device) for name, tensor in prompts.items()}
        with whole_weights(self.accelerator, self.model):
            samples = self.sampler(self.model, own, luck[mine])
        if not (features and self.baseline):
            samples = replace(samples, features=None)
        return gather_samples(self.accelerator, samples, count, self.processing_class.pad_token_id)

    # --- 2. update --------------------------------------------------------------------------------------------

    def update(self, rollout: Rollout, update: int) -> dict[str, float]:
        """Optimizer steps on a rollout; returns mean statistics.

        Raises:
            UserError: for some updates in a row, a reward, loss or gradient was not finite.
        """
        if not rollout.scores.isfinite().all() or not rollout.logprobs.isfinite().all():
            self._count_skipped(True, update)
            return {}
        with self.stopwatch("update"):
            metrics = self.updater.run(rollout, update)
        self._count_skipped(self.updater.skipped > 0, update)
        gap, bound = rollout.logprob_gap, self.settings.max_logprob_gap or math.inf
        metrics[GAP] = max(metrics.get(GAP, 0.0), gap.max().item())
        return metrics | {"rollout/left_out": masked_mean((gap > bound).float(), rollout.mask).item()}

    def _count_skipped(self, skipped: bool, update: int) -> None:
        self.skipped += skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0
        if skipped:
            tqdm.write(f"update {update}: a reward, loss or gradient is not finite; what it touches is left out")
        if self.skipped_in_a_row < MAX_SKIPPED:
            return
        good = self.last_good or "none was written: set ppo.save_steps"
        raise UserError(
            f"PPO stops at update {update}: rewards, losses or gradients were not finite {MAX_SKIPPED} times in a row.",
            expected="finite numbers",
            found="NaN or infinity",
            remedy=f"lower ppo.learning_rate or look at the reward; the last good checkpoint: {good}",
        )

    # --- watching ---------------------------------------------------------------------------------------------

    def _log_step(self, rollout: Rollout, kl: float, metrics: dict[str, float]) -> None:
        self.state.episode += self.args.batch_size
        self.state.global_step += 1
        self.state.epoch = self.state.episode / self.train_dataset_len
        penalty = -self.kl_controller.coef * kl
        scores = rollout.scores.mean().item()
        seconds = self.stopwatch.seconds
        self.log(
            {
                "eps": self.args.batch_size / sum(seconds.values()),
                "objective/kl": kl,
                "objective/kl_coef": self.kl_controller.coef,
                "objective/scores": scores,
                **statistics(self.rewards, rollout.parts),
                "objective/non_score_reward": penalty,
                "objective/rlhf_reward": scores + penalty,
                "objective/entropy": (-rollout.logprobs * rollout.mask).sum(1).mean().item(),
                "objective/length": rollout.mask.sum(1).float().mean().item(),
                "objective/eos_rate": rollout.ended.float().mean().item(),
                **metrics,
                "val/explained_variance": rollout.explained_variance(),
                "skipped_updates": self.skipped,
                "lr": self.lr_scheduler.get_last_lr()[0],
                "episode": self.state.episode,
                **{f"time/{part}": value for part, value in seconds.items()},
            }
        )

    def _evaluate_if_due(self, update: int, last: bool = False) -> None:
        """Score the policy on the held-out prompts, remember the best policy."""
        due = last or update % max(1, int(self.args.eval_steps or 10)) == 0
        if not due or self.eval_dataset is None or len(self.eval_dataset) == 0:
            return
        samples = self._evaluation_samples()
        kl, score = _mean_kl(samples), samples.scores.mean().item()
        objective = score - self.args.kl_coef * kl
        parts = statistics(self.rewards, samples.parts, "eval/")
        self.log(
            {"eval/score": score, **parts, "eval/kl": kl, "eval/objective": objective, "episode": self.state.episode}
        )
        if math.isfinite(objective) and (self.best is None or objective > self.best[0]):
            self.best, self.without_a_better = (objective, update, self.trained_policy()), 0
        else:
            self.without_a_better += 1

    def _stop_early(self, update: int, kl: float = 0.0) -> None:
        """End the training if the KL of an update's responses, or the evaluations so far, ask for it; say why."""
        reason = reason_to_stop(self.settings, kl, self.without_a_better)
        if reason is None or self.control.should_training_stop:
            return
        self.control.should_training_stop, self.stopped = True, reason
        if self.accelerator.is_main_process:
            tqdm.write(f"stopped early, after update {update}: {reason}")

    def _evaluation_samples(self) -> Samples:
        """Responses to the same prompts with the same luck each time, so that evaluations compare."""
        return self._sample(self.data_collator(list(self.eval_dataset)), generator(self.args.seed, "evaluation"), False)

    def trained_policy(self) -> dict[str, Tensor]:
        """What is trained of the policy, copied."""
        return {n: p.detach().clone() for n, p in self.policy_model.named_parameters() if p.requires_grad}

    def _restore_best(self, seconds: float) -> None:
        found: dict[str, Any] = {"train_runtime": seconds} | ({"stopped": self.stopped} if self.stopped else {})
        if self.best is not None:
            objective, update, state = self.best
            with torch.no_grad():
                for name, parameter in self.policy_model.named_parameters():
                    if name in state:
                        parameter.copy_(state[name])
            found |= {"best/update": update, "best/objective": objective}
            if self.accelerator.is_main_process:
                tqdm.write(f"kept the policy of update {update}: held-out objective {objective:.3f}")
        self.log(found)

    def _print_samples_if_due(self, rollout: Rollout, update: int, count: int = 2) -> None:
        """Print the first `count` responses, `num_sample_generations` times a run, evenly spread."""
        times, updates = self.args.num_sample_generations, self.args.num_total_batches
        if update * times // updates == (update - 1) * times // updates or not self.accelerator.is_main_process:
            return
        decode = self.processing_class.decode
        width = rollout.prompt_width
        for row in range(min(count, len(rollout.scores))):
            keep = rollout.attention_mask[row].bool()
            prompt = decode(rollout.sequences[row, :width][keep[:width]], skip_special_tokens=True)
            reply = decode(rollout.sequences[row, width:][keep[width:]], skip_special_tokens=True)
            prompt, reply = (" ".join(text.split()) for text in (prompt, reply))
            tqdm.write(f"[update {update}, reward {rollout.scores[row]:+.2f}] {prompt[-120:]!r} → {reply[:160]!r}")

    # --- never lose a run -------------------------------------------------------------------------------------

    def _save_if_due(self, update: int, last: bool = False) -> None:
        due = last or (self.args.save_strategy == "steps" and update % max(1, int(self.args.save_steps)) == 0)
        due = due and not self.is_deepspeed_enabled  # whose optimizer state is in pieces that only it can put together
        if due and self.args.save_strategy != "no" and not self.skipped_in_a_row:  # those from before it stay
            self.last_good = save_checkpoint(self)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the policy, and of an adapter only that: what callbacks and `push_to_hub` take it for."""
        weights = whole_state(self.policy_model)
        if self.accelerator.is_main_process:
            save_model(self.policy_model, self.processing_class, Path(output_dir or self.args.output_dir), weights)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub()


def _zero_head(backbone: Backbone) -> nn.Linear:
    head = nn.Linear(backbone.policy.config.hidden_size, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head.to(backbone.device)


def _mean_kl(samples: Samples) -> float:
    """Mean KL to the reference, in nats a response."""
    return kl_per_token(samples.logprobs, samples.ref_logprobs, samples.mask).sum(1).mean().item()
