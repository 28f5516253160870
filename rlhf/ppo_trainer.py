"""PPO on a language model: TRL's PPOTrainer with its training loop rewritten as small steps.

    rollout → score → advantages → update

Kept from TRL: its configuration, callbacks, logging keys and saving. Ours: one backbone for policy and reference,
a value head on the policy's trunk, and the corrections listed in docs/ppo.md. B sequences, P prompt tokens
(padded left), R response tokens (padded right), V vocabulary entries.
"""

import time
from collections import defaultdict
from collections.abc import Iterator

import torch
from datasets import Dataset
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerFast, TrainerCallback, TrainerControl
from trl.experimental.ppo import PPOConfig, PPOTrainer

from rlhf.backbone import Backbone
from rlhf.config import PPOSection
from rlhf.errors import UserError
from rlhf.padding import pad_left, pad_right, prompt_collator
from rlhf.ppo_math import KLController, kl_per_token, masked_mean, policy_loss, value_loss
from rlhf.rollout import ActorCritic, Rollout, RolloutMaker, ScoreFunction


class _NoCritic(nn.Module):
    """Satisfies the stock constructor, which wants a value network of its own; replaced by the head on the trunk."""

    base_model_prefix = "trunk"

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Identity()


class RLHFTrainer(PPOTrainer):
    """PPO from a score function, policy and reference on one backbone.

    Args:
        args: TRL's configuration; `kl_coef`, `cliprange`, `temperature` … mean what they mean there.
        settings: our own PPO settings.
        tokenizer: pad and end-of-sequence must differ.
        backbone: policy and reference.
        score: rewards of whole sequences.
        prompts: rows {"input_ids": prompt tokens}.
        eval_prompts: held-out rows of the same form, or None.
        demonstrations: rows {"prompt_ids", "reply_ids"} for the supervised term; needed if settings.sft_coef > 0.
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
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        if tokenizer.pad_token_id == tokenizer.eos_token_id:
            raise ValueError("PPO needs a pad token that is not the end-of-sequence token")
        if settings.sft_coef > 0 and demonstrations is None:
            raise ValueError("sft_coef > 0 needs demonstrations")
        self.settings = settings
        self.demonstrations = demonstrations
        self.make_rollout = RolloutMaker(args, settings, tokenizer, backbone, score)
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        super().__init__(
            args=args,
            processing_class=tokenizer,
            model=backbone.policy,
            ref_model=backbone.reference,
            reward_model=nn.Identity(),
            value_model=_NoCritic(),
            train_dataset=prompts,
            eval_dataset=eval_prompts,
            data_collator=prompt_collator(tokenizer.pad_token_id),
            callbacks=callbacks,
        )
        if len(self.dataloader) == 0:
            raise UserError(
                "There are too few prompts for one PPO batch.",
                expected=f"at least {args.batch_size} (per_device_train_batch_size x gradient_accumulation_steps)",
                found=f"{len(prompts)} prompts",
                remedy="give more under data.prompts, or lower ppo.per_device_train_batch_size",
            )
        self.generator = torch.Generator().manual_seed(self.local_seed)
        horizon = settings.kl_horizon or args.num_total_batches * args.batch_size / 10
        self.kl_controller = KLController(args.kl_coef, settings.target_kl, max(int(horizon), args.batch_size))

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Called by the stock constructor once the modules stand: the place to put the value head on the trunk."""
        embeddings = self.policy_model.get_input_embeddings().weight
        value_head = nn.Linear(self.policy_model.config.hidden_size, 1).to(embeddings.device)
        nn.init.zeros_(value_head.weight)
        nn.init.zeros_(value_head.bias)
        self.model = ActorCritic(self.policy_model, value_head)
        self.model.config = self.policy_model.config
        if self.args.activation_checkpointing:
            self.policy_model.activation_checkpointing_enable(self.args.activation_checkpointing_kwargs)
        super().create_optimizer_and_scheduler(num_training_steps)

    # --- the loop ---------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Run all updates, or until a callback stops; then the policy is the best one seen on the held-out prompts."""
        self._begin()
        batches = self._prompt_batches()
        for update in range(1, self.args.num_total_batches + 1):
            started = time.perf_counter()
            rollout = self.rollout(next(batches))  # 1. sample, score, advantages
            update_metrics = self.update(rollout)  # 2. several epochs of clipped updates
            kl = self._rollout_kl(rollout)
            self._log_step(rollout, kl, update_metrics, time.perf_counter() - started)
            self.kl_controller.update(kl, self.args.batch_size)
            self.lr_scheduler.step()
            self._print_samples_if_due(rollout, update)
            self.control = self.callback_handler.on_step_end(self.args, self.state, self.control)
            self._evaluate_if_due(update, last=self.control.should_training_stop)  # true after the last update, too
            if self.control.should_training_stop:
                break
        self._restore_best()
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)

    def _begin(self) -> None:
        self.state.global_step = 0
        self.state.episode = 0
        self.state.max_steps = self.args.num_total_batches
        self.state.num_train_epochs = self.args.total_episodes / self.train_dataset_len
        self.state.logging_steps = self.args.logging_steps
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        self._evaluate_if_due(0)

    def _prompt_batches(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield from self.dataloader

    # --- 1. rollout → score → advantages ----------------------------------------------------------------------

    def rollout(self, prompts: dict[str, Tensor]) -> Rollout:
        """A response to each prompt, with everything the update needs; arguments as for `RolloutMaker`."""
        self.model.eval()
        prompts = {name: tensor.to(self.accelerator.device) for name, tensor in prompts.items()}
        return self.make_rollout(self.model, prompts, self.kl_controller.coef)

    # --- 2. update --------------------------------------------------------------------------------------------

    def update(self, rollout: Rollout) -> dict[str, float]:
        """`num_ppo_epochs` passes over the rollout, one optimizer step a minibatch; returns mean statistics."""
        sums: dict[str, float] = defaultdict(float)
        self.model.train()  # for gradient checkpointing; dropout is 0 in every layer
        for _ in range(self.args.num_ppo_epochs):
            order = torch.randperm(len(rollout.scores), generator=self.generator)
            for minibatch in order.split(self.args.local_mini_batch_size):
                self._optimizer_step(rollout, minibatch, sums)
        return {name: total / (self.args.num_ppo_epochs * self.args.num_mini_batches) for name, total in sums.items()}

    def _optimizer_step(self, rollout: Rollout, rows: Tensor, sums: dict[str, float]) -> None:
        """Adds the minibatch's statistics to `sums`. Sequences of like length share a micro-batch: less padding."""
        tokens = rollout.mask[rows].sum()
        rows = rows[rollout.attention_mask[rows].sum(1).argsort(stable=True).cpu()]
        for micro in rows.split(self.args.per_device_train_batch_size):
            part = rollout.rows(micro).without_padding()
            share = (part.mask.sum() / tokens).item()  # so that micro-batches add up to the minibatch's token mean
            loss = self._ppo_loss(part, sums, share)
            self._backward((1 - self.settings.sft_coef) * share * loss)
        if self.settings.sft_coef > 0:
            self._backward_supervised(len(rows), sums)
        if self.args.max_grad_norm:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
            sums["policy/grad_norm"] += float(norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _backward(self, loss: Tensor) -> None:
        """Accelerate divides by the accumulation steps; our micro-batches are weighted already."""
        self.accelerator.backward(loss * self.accelerator.gradient_accumulation_steps)

    def _ppo_loss(self, part: Rollout, sums: dict[str, float], share: float) -> Tensor:
        pad = self.processing_class.pad_token_id
        new = self.model(part.sequences, part.attention_mask, part.prompt_width, self.args.temperature, pad)
        actor = policy_loss(new.logprobs, part.logprobs, part.advantages, part.mask, self.args.cliprange)
        critic = value_loss(new.values, part.values, part.returns, part.mask, self.args.cliprange_value)
        with torch.no_grad():
            difference = (new.logprobs - part.logprobs).masked_fill(~part.mask, 0.0)
            for name, value in {
                "loss/policy_avg": actor.loss,
                "loss/value_avg": critic.loss,
                "policy/clipfrac_avg": actor.clip_fraction,
                "val/clipfrac_avg": critic.clip_fraction,
                "policy/approxkl_avg": 0.5 * masked_mean(difference**2, part.mask),
                "policy/entropy_avg": masked_mean(new.entropy, part.mask),
                "val/ratio": masked_mean(difference.exp(), part.mask),
            }.items():
                sums[name] += share * value.item()
        return actor.loss + self.args.vf_coef * critic.loss

    def _backward_supervised(self, count: int, sums: dict[str, float]) -> None:
        """α·L_sft on `count` demonstrations: mean negative log-likelihood of their reply tokens, at temperature 1."""
        assert self.demonstrations is not None
        picks = torch.randint(len(self.demonstrations), (count,), generator=self.generator).tolist()
        pad = self.processing_class.pad_token_id
        rows = self.demonstrations.select(picks)
        prompts, prompt_mask = pad_left(rows["prompt_ids"], pad)
        replies, reply_mask = pad_right(rows["reply_ids"], pad)
        device = self.accelerator.device
        sequences = torch.cat([prompts, replies], dim=1).to(device)
        mask = torch.cat([prompt_mask, reply_mask], dim=1).to(device)
        reply_mask = reply_mask.to(device)
        for index in torch.arange(count).split(self.args.per_device_train_batch_size):
            part_mask = reply_mask[index]
            scores = self.model(sequences[index], mask[index], prompts.shape[1], 1.0, pad)
            loss = -(scores.logprobs * part_mask).sum() / reply_mask.sum()
            unused = 0 * scores.values.sum()  # several processes wait for a gradient of every weight
            self._backward(self.settings.sft_coef * loss + unused)
            sums["loss/sft_avg"] += loss.item()

    # --- watching ---------------------------------------------------------------------------------------------

    def _rollout_kl(self, rollout: Rollout) -> float:
        """Mean KL to the reference, in nats a response, over all ranks."""
        kl = kl_per_token(rollout.logprobs, rollout.ref_logprobs, rollout.mask).sum(1)
        return self.accelerator.gather_for_metrics(kl).mean().item()

    def _log_step(self, rollout: Rollout, kl: float, metrics: dict[str, float], seconds: float) -> None:
        def mean(values: Tensor) -> float:
            return self.accelerator.gather_for_metrics(values.float()).mean().item()

        self.state.episode += self.args.batch_size
        self.state.global_step += 1
        self.state.epoch = self.state.episode / self.train_dataset_len
        penalty = -self.kl_controller.coef * kl
        scores = mean(rollout.scores)
        self.log(
            {
                "eps": self.args.batch_size / seconds,
                "objective/kl": kl,
                "objective/kl_coef": self.kl_controller.coef,
                "objective/scores": scores,
                "objective/non_score_reward": penalty,
                "objective/rlhf_reward": scores + penalty,
                "objective/entropy": mean((-rollout.logprobs * rollout.mask).sum(1)),
                "objective/length": mean(rollout.mask.sum(1)),
                "objective/eos_rate": mean(rollout.ended),
                **metrics,
                "lr": self.lr_scheduler.get_last_lr()[0],
                "episode": self.state.episode,
            }
        )

    def _evaluate_if_due(self, update: int, last: bool = False) -> None:
        """Score the policy on the held-out prompts, remember the best policy."""
        due = last or update % max(1, int(self.args.eval_steps or 10)) == 0
        if not due or self.eval_dataset is None or len(self.eval_dataset) == 0:
            return
        rollout = self._evaluation_rollout()
        kl = self._rollout_kl(rollout)
        score = self.accelerator.gather_for_metrics(rollout.scores).mean().item()
        objective = score - self.args.kl_coef * kl
        self.log({"eval/score": score, "eval/kl": kl, "eval/objective": objective, "episode": self.state.episode})
        if self.best is None or objective > self.best[0]:
            state = {n: p.detach().clone() for n, p in self.policy_model.named_parameters() if p.requires_grad}
            self.best = (objective, update, state)

    def _evaluation_rollout(self) -> Rollout:
        """The same prompts and random numbers each time, so that evaluations compare; training's stay untouched."""
        with torch.random.fork_rng():
            torch.manual_seed(self.args.seed)
            return self.rollout(self.data_collator(list(self.eval_dataset)))

    def _restore_best(self) -> None:
        if self.best is None:
            return
        objective, update, state = self.best
        with torch.no_grad():
            for name, parameter in self.policy_model.named_parameters():
                if name in state:
                    parameter.copy_(state[name])
        self.log({"best/update": update, "best/objective": objective})
        if self.accelerator.is_main_process:
            tqdm.write(f"kept the policy of update {update}: held-out objective {objective:.3f}")

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
