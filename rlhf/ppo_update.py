"""The second half of each PPO update: several epochs of clipped steps on one rollout.

    statistics = Updater(args, settings, actor_critic, optimizer, accelerator, pad).run(rollout, update)

Every process holds the whole rollout and takes its share of each minibatch, so that a step is the same for any number
of processes; micro-batches are weighted by their tokens, so that it is the same for any micro-batch size, too.
"""

import math
from collections import defaultdict
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from datasets import Dataset
from torch import Tensor, nn
from trl.experimental.ppo import PPOConfig

from rlhf.config import PPOSection
from rlhf.errors import UserError
from rlhf.oom import RowsThatFit
from rlhf.padding import even_slices, pad_left, pad_right
from rlhf.ppo_math import masked_mean, policy_loss, value_loss
from rlhf.randomness import generator
from rlhf.rollout import Rollout

Statistics = dict[str, float]
GAP = "rollout/logprob_gap"
"""Largest difference between log-probabilities of sampling and of the first step."""


class Updater:
    """Optimizer steps on a rollout.

    Args:
        args: TRL's configuration.
        settings: our own PPO settings.
        actor_critic: policy and value head, perhaps in a wrapper for several processes.
        optimizer: of what is trained.
        accelerator: knows the processes.
        pad_token_id: fills the right of responses.
        demonstrations: rows {"prompt_ids", "reply_ids"} for the supervised term; needed if settings.sft_coef > 0.
    """

    def __init__(
        self,
        args: PPOConfig,
        settings: PPOSection,
        actor_critic: nn.Module,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        pad_token_id: int,
        demonstrations: Dataset | None = None,
    ) -> None:
        self.args = args
        self.settings = settings
        self.model: Any = actor_critic
        self.optimizer = optimizer
        self.accelerator = accelerator
        self.pad = pad_token_id
        self.demonstrations = demonstrations
        self.by_deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
        self.rows = RowsThatFit("the update")
        self.skipped = 0
        """Steps left out because a loss or gradient was not finite, in the last `run`."""

    def run(self, rollout: Rollout, update: int) -> Statistics:
        """`num_ppo_epochs` passes over the rollout, one optimizer step a minibatch.

        Returns:
            Means over the steps that were taken; empty where none was.
        """
        self.skipped = 0
        self.model.train()  # for gradient checkpointing; dropout is 0 in every layer
        steps = []
        for epoch in range(self.args.num_ppo_epochs):
            order = torch.randperm(len(rollout.scores), generator=generator(self.args.seed, "order", update, epoch))
            for number, minibatch in enumerate(order.split(self.args.mini_batch_size)):
                picks = generator(self.args.seed, "demonstrations", update, epoch, number)
                steps.append(self.step(rollout, minibatch, picks))
        taken = [step for step in steps if step is not None]
        means = {name: sum(step[name] for step in taken) / len(taken) for name in (taken[0] if taken else ())}
        return means | ({GAP: steps[0][GAP]} if steps[0] else {})  # later steps differ because they have learned

    def step(self, rollout: Rollout, rows: Tensor, picks: torch.Generator) -> Statistics | None:
        """One optimizer step on some rows of the rollout; none, and None, where a loss or gradient is not finite."""
        found = self._gradients_that_fit(rollout, rows, picks)
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm or math.inf))
        finite = math.isfinite(norm) and all(math.isfinite(value) for value in found.values())
        if finite:
            self.optimizer.step()
        self.skipped += not finite
        if not finite and self.by_deepspeed:
            raise UserError(
                "A loss or gradient is not finite, and DeepSpeed has made the step already.",
                expected="finite numbers",
                found=f"gradient norm {norm}",
                remedy="lower ppo.learning_rate or look at the reward; without DeepSpeed such steps are left out",
            )
        self.optimizer.zero_grad()
        return found | {"policy/grad_norm": norm} if finite else None

    def _gradients_that_fit(self, rollout: Rollout, rows: Tensor, picks: torch.Generator) -> Statistics:
        """`_gradients`, in ever smaller micro-batches while memory runs out: the sum is the same."""
        start = picks.get_state()

        def attempt(micro_batch: int) -> Statistics:
            self.optimizer.zero_grad()  # what a failed attempt has left
            picks.set_state(start)
            return self._gradients(rollout, rows, picks, micro_batch)

        return self.rows.run(self.args.per_device_train_batch_size, attempt)

    def _gradients(self, rollout: Rollout, rows: Tensor, picks: torch.Generator, micro_batch: int) -> Statistics:
        """Adds the gradients of the minibatch up; sequences of like length share a micro-batch: less padding."""
        tokens = rollout.mask[rows].sum()
        micros = self._micro_batches(rollout, rows, micro_batch)
        sums: Statistics = defaultdict(float)
        for number, micro in enumerate(micros):
            part = rollout.rows(micro)
            share = (part.mask.sum() / tokens).item()  # so that micro-batches add up to the minibatch's token mean
            last = number == len(micros) - 1 and self.settings.sft_coef == 0
            with self._synchronised(last):
                self._backward((1 - self.settings.sft_coef) * share * self._ppo_loss(part, sums, share))
        if self.settings.sft_coef > 0:
            self._supervised_gradients(len(rows), picks, micro_batch, sums)
        return self._over_processes(sums)

    def _micro_batches(self, rollout: Rollout, rows: Tensor, most: int) -> list[Tensor]:
        """This process's share of a minibatch, cut where that saves padding; all processes have equally many cuts."""
        lengths, order = rollout.attention_mask[rows].sum(1).cpu().sort(stable=True)
        size = self.accelerator.num_processes
        sizes = even_slices(lengths.view(-1, size).amax(1), most, self.accelerator.device)  # by all processes' longest
        return list(rows[order][self.accelerator.process_index :: size].split(sizes))

    def _synchronised(self, now: bool) -> Any:
        """Processes exchange gradients once a step, with the last backward pass; DeepSpeed then takes the step, too."""
        if self.by_deepspeed:
            self.accelerator.sync_gradients = now
        return self.accelerator.no_sync(self.model) if not now else torch.enable_grad()

    def _backward(self, loss: Tensor) -> None:
        """Accelerate divides by the accumulation steps, wrappers by the processes; our losses are shares already."""
        self.accelerator.backward(loss * self.accelerator.gradient_accumulation_steps * self.accelerator.num_processes)

    def _ppo_loss(self, part: Rollout, sums: Statistics, share: float) -> Tensor:
        new = self.model(part.sequences, part.attention_mask, part.mask, self.args.temperature, self.pad, entropy=True)
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
            sums[GAP] = max(sums[GAP], difference.abs().max().item())
        return actor.loss + self.args.vf_coef * critic.loss

    def _supervised_gradients(self, count: int, picks: torch.Generator, micro_batch: int, sums: Statistics) -> None:
        """α·L_sft on `count` demonstrations: mean negative log-likelihood of their reply tokens, at temperature 1."""
        assert self.demonstrations is not None
        rows = self.demonstrations.select(torch.randint(len(self.demonstrations), (count,), generator=picks).tolist())
        prompts, prompt_mask = pad_left(rows["prompt_ids"], self.pad)
        replies, reply_mask = pad_right(rows["reply_ids"], self.pad)
        device = self.accelerator.device
        sequences = torch.cat([prompts, replies], dim=1).to(device)
        attention_mask = torch.cat([prompt_mask, reply_mask], dim=1).to(device)
        mask = reply_mask.bool().to(device)
        mine = torch.arange(self.accelerator.process_index, count, self.accelerator.num_processes)
        micros = mine.split(micro_batch)
        for number, index in enumerate(micros):
            scores = self.model(sequences[index], attention_mask[index], mask[index], 1.0, self.pad)
            loss = -scores.logprobs.sum() / mask.sum()
            unused = 0 * scores.values.sum()  # several processes wait for a gradient of every weight
            with self._synchronised(number == len(micros) - 1):
                self._backward(self.settings.sft_coef * loss + unused)
            sums["loss/sft_avg"] += loss.item()

    def _over_processes(self, sums: Statistics) -> Statistics:
        """Shares of all processes together; of the gap, the largest."""
        if self.accelerator.num_processes == 1:
            return dict(sums)
        every: Tensor = self.accelerator.gather(torch.tensor([list(sums.values())], device=self.accelerator.device))
        together = dict(zip(sums, every.sum(0).tolist(), strict=True))
        return together | {GAP: every[:, list(sums).index(GAP)].max().item()}
