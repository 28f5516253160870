"""A learning curve, taken while some trainer trains, on a clock that stands still meanwhile.

    trainer.add_callback(Curve(held_out, clock, every=2))

The same prompts, random numbers, reward model and judge measure every policy, whichever trainer it belongs to.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reward_model import RewardModel
from rlhf.data.source import Judge
from rlhf.encoding import Encoder
from rlhf.evaluation.text import distinct_n
from rlhf.generation import sample_replies
from rlhf.logprobs import reply_logprobs
from rlhf.records import Prompt
from rlhf.stopwatch import now

Point = dict[str, float | None]
BATCH = 128
"""Replies at a time."""


class PausingClock:
    """Seconds of training; `with clock.paused("evaluation") as seconds: …` stands still, at `seconds`."""

    def __init__(self) -> None:
        self.pauses: dict[str, float] = defaultdict(float)
        """Seconds left out, by what was done in them."""
        self._ran, self._since = 0.0, now()

    def start(self) -> None:
        self._ran, self._since = 0.0, now()

    @contextmanager
    def paused(self, what: str) -> Iterator[float]:
        stopped = now()
        self._ran += stopped - self._since
        try:
            yield self._ran
        finally:
            self._since = now()
            self.pauses[what] += self._since - stopped


@dataclass(frozen=True)
class HeldOut:
    """What every policy is measured with."""

    encoder: Encoder
    validation: list[Prompt]
    """Sampled, at the temperature of training: what the curve shows."""
    test: list[Prompt]
    """Replied to greedily, once, at the end."""
    reference: Any
    """The model that training starts from."""
    reward_model: RewardModel
    judge: Judge | None
    temperature: float
    kl_coef: float
    clip: float | None
    missing_eos_penalty: float
    seed: int

    def curve_point(self, policy: Any) -> Point:
        return self._measure(policy, self.validation, self.temperature)

    def final_test(self, policy: Any) -> Point:
        return self._measure(policy, self.test, 0.0)

    @torch.no_grad()
    def _measure(self, policy: Any, prompts: list[Prompt], temperature: float) -> Point:
        """Means over the prompts: reward (normalised, clipped, penalised), KL in nats a response, gold, length …"""
        training = policy.training
        policy.eval()
        replies = sample_replies(
            policy, self.encoder, prompts, temperature=temperature, batch_size=BATCH, seed=self.seed, title="held out"
        )
        given = [r.prompt_ids for r in replies], [r.reply_ids for r in replies], self.encoder.tokenizer.pad_token_id
        ours, reference = (
            reply_logprobs(model, *given, temperature=temperature or 1.0, batch_size=BATCH)
            for model in (policy, self.reference)
        )
        policy.train(training)
        scores = self.reward_model.score_ids([r.prompt_ids + r.reply_ids for r in replies], BATCH)
        if self.clip is not None:
            scores = scores.clamp(-self.clip, self.clip)
        scores -= self.missing_eos_penalty * torch.tensor([not r.ended for r in replies])
        kl, reward = fmean(ours) - fmean(reference), scores.mean().item()
        return {
            "reward": reward,
            "kl": kl,
            "objective": reward - self.kl_coef * kl,
            "gold": self._gold(prompts, [r.text for r in replies]),
            "length": fmean(len(r.reply_ids) for r in replies),
            "ended": fmean(r.ended for r in replies),
            "distinct_2": distinct_n([r.text for r in replies], 2),
        }

    def _gold(self, prompts: list[Prompt], texts: list[str]) -> float | None:
        if self.judge is None:
            return None
        found = [self.judge(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        known = [value for value in found if value is not None]
        return fmean(known) if known else None


class Curve(TrainerCallback):
    """Measures the policy of a PPO trainer before the first update, every few updates, and after the last.

    Args:
        held_out: measures.
        clock: of training.
        every: updates from one point to the next.
    """

    def __init__(self, held_out: HeldOut, clock: PausingClock, every: int) -> None:
        self.held_out, self.clock, self.every = held_out, clock, every
        self.points: list[Point] = []
        self.result: dict[str, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        self.clock.start()
        self._add_point(state, given["model"].policy)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        last = state.global_step == state.max_steps
        if last or state.global_step % self.every == 0:
            self._add_point(state, given["model"].policy)
        if last:
            with self.clock.paused("benchmark"):
                self.result["test_last"] = self.held_out.final_test(given["model"].policy)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """The policy that the trainer leaves: the last, or the best if it keeps that.

        Raises:
            RuntimeError: the training stopped early: there are no equal episodes to compare.
        """
        if "test_last" not in self.result:
            raise RuntimeError(f"training stopped at update {state.global_step} of {state.max_steps}")
        policy, optimizer = given["model"].policy, given["optimizer"]
        with self.clock.paused("benchmark"):
            self.result |= {"kept": self.held_out.curve_point(policy), "test_kept": self.held_out.final_test(policy)}
        self.result |= {
            "curve": self.points,
            "updates": state.global_step,
            "optimizer_steps": int(next(iter(optimizer.state.values()))["step"]),
            "trained_policy_weights": sum(p.numel() for p in policy.parameters() if p.requires_grad),
            "left_out_seconds": dict(self.clock.pauses),
        }

    def _add_point(self, state: TrainerState, policy: Any) -> None:
        with self.clock.paused("benchmark") as seconds:
            place = {"update": state.global_step, "episodes": getattr(state, "episode", 0), "seconds": seconds}
            self.points.append(place | self.held_out.curve_point(policy))
